"""Control maps that know nothing of what the network has learned. A useful method has to score better than they do.

All but one do not look at the network. The gradient of random weights needs the network's architecture: it shows how much of a
gradient comes from the architecture and the image alone.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from explainers.context import Context
from explainers.contract import Citation, Method, RawMap
from explainers.methods.gradients import one_pass
from explainers.networks.classifier import Classifier
from explainers.networks.randomised import randomised
from explainers.networks.stages import stages
from explainers.parameters import NoParameters
from explainers.passes import Passes
from explainers.requirements import WEIGHTS
from explainers.target import Target

_DRAWING = 600  # drawing one weight anew takes about as long as this many multiplications of a forward pass


def random(network: Classifier, x: Tensor, target: Target, params: NoParameters, context: Context) -> RawMap:
    return RawMap(torch.randn(1, *x.shape[-2:], generator=context.generator()) / 2)


def center(network: Classifier, x: Tensor, target: Target, params: NoParameters, context: Context) -> RawMap:
    rows, columns = (torch.linspace(-1, 1, side) for side in x.shape[-2:])
    squared = rows[:, None] ** 2 + columns[None] ** 2  # (H, W), 1 at the middle of an edge
    return RawMap(torch.exp(-squared / (2 * 0.5**2))[None])


def sobel(network: Classifier, x: Tensor, target: Target, params: NoParameters, context: Context) -> RawMap:
    grey = network.preprocessing.pixels(x).mean(1, keepdim=True)
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=x.device)
    kernels = torch.stack((across, across.T))[:, None]  # (2, 1, 3, 3)
    edges = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), kernels)
    return RawMap(edges.square().sum(1).sqrt())


def input_magnitude(network: Classifier, x: Tensor, target: Target, params: NoParameters, context: Context) -> RawMap:
    return RawMap(x[0].abs())


def random_weights_gradient(network: Classifier, x: Tensor, target: Target, params: NoParameters, context: Context) -> RawMap:
    untrained = randomised(network, stages(network, 1), seed=context.seed)
    untrained.meter = network.meter  # so that its passes are counted as this map's
    return RawMap(untrained.gradient(x, target)[0])


def _drawing_weights(params: NoParameters, network: Classifier) -> Passes:
    """The forward passes that take about as long as drawing all weights anew."""
    multiplications = sum(shape.macs for shape in network.shapes.values())
    return Passes(forward=_DRAWING * network.weights / multiplications if multiplications else 1)


def _free(params: NoParameters) -> Passes:
    return Passes()


_CONTROL = Citation("Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim", "Sanity checks for saliency maps", "NeurIPS 2018",
                     "section 2")

METHODS = {
    "random": Method(
        title="Random", family="control", attribute=random, passes=_free, citation=_CONTROL,
        idea="Gaussian noise, another for each seed. A method that does not beat it says nothing about the network.",
        equation=r"A_u \sim \mathcal{N}(0, \tfrac{1}{4})", limits="It depends on neither the image nor the network."),
    "center": Method(
        title="Centre", family="control", attribute=center, passes=_free, signed=False, citation=_CONTROL,
        idea="A soft disc in the middle of the image, where photographers put their subject.",
        equation=r"A_u = \exp\!\big(-2\,(r_u / r_{\text{edge}})^2\big)", limits="It depends on neither the image nor the network."),
    "sobel": Method(
        title="Edges (Sobel)", short="Sobel", family="control", attribute=sobel, passes=_free, signed=False, citation=_CONTROL,
        idea="The image's own edges. A map that looks like them may show the picture and not the network.",
        equation=r"A = \sqrt{(S_x * g)^2 + (S_y * g)^2}", limits="It depends on the image but not on the network."),
    "input_magnitude": Method(
        title="Input Magnitude", short="Magnitude", family="control", attribute=input_magnitude, passes=_free, signed=False,
        citation=_CONTROL,
        idea="How far each pixel is from the mean colour. A map that multiplies by the input owes this much to the picture.",
        equation=r"A = |x|", limits="It depends on the image but not on the network, except for how it normalises."),
    "random_weights_gradient": Method(
        title="Gradient of Random Weights", short="Random weights", family="control", attribute=random_weights_gradient,
        linear=True, passes=one_pass, overhead=_drawing_weights, needs=(WEIGHTS,), citation=_CONTROL,
        idea="The gradient of the same network with all weights drawn anew, others for each seed. What a gradient has in "
             "common with it comes from the architecture and the image, not from what was learned.",
        equation=r"A = \frac{\partial f_c(x; \theta_{\text{random}})}{\partial x}, \quad \theta_{\text{random}} \text{ drawn}",
        limits="It depends on the image and on the network's architecture, but not on what the network has learned."),
}
