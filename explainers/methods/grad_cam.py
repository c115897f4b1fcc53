"""Grad-CAM: the feature maps of one layer, weighted by the mean gradient of the target logit; and Guided Grad-CAM.

Grad-CAM's map has the layer's resolution. It is upsampled for viewing only: nothing in it is finer than one cell of the layer.
The gradient by the layer is computed once for all methods that weight a layer's maps by it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from explainers.context import Context
from explainers.contract import Citation, Method, RawMap
from explainers.methods.guided import GUIDED, TIMES_INPUT_HELP
from explainers.networks.classifier import Classifier
from explainers.parameters import choice, layer, switch
from explainers.passes import Passes
from explainers.requirements import FEATURE_MAPS, GRAPH, RELU
from explainers.target import Target

LAYER_HELP = ("The feature maps that are weighted. auto: the last ones before the head. Earlier layers give finer but less "
              "class-specific maps.")


@dataclass(frozen=True)
class LayerParams:
    """The layer."""

    layer: str = layer(label="Layer", help=LAYER_HELP)


@dataclass(frozen=True)
class Params(LayerParams):
    """The layer, and whether negative evidence is kept."""

    relu: bool = switch(True, label="Keep positive only", help=(
        "As in the paper. Off: also show where the features speak against the class."))


def layer_gradient(network: Classifier, x: Tensor, target: Target, layer_name: str, context: Context) -> tuple[Tensor, Tensor]:
    """A layer's feature maps (1, C, h, w), and the gradient of the target logit by them."""
    node = network.feature_layer(layer_name)

    def compute() -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            value = network.walk(x, stop=node)
        maps = network.take_map(value, node).requires_grad_(True)
        with torch.enable_grad():
            score = target.score(network.walk(network.put_map(value, node, maps), start=node)).sum()
            gradient = torch.autograd.grad(score, maps)[0]
        return maps.detach(), gradient

    return context.memoize(("layer gradient", node, target), compute)


def class_activation(network: Classifier, x: Tensor, target: Target, layer_name: str, context: Context,
                     relu: bool = True) -> Tensor:
    """Grad-CAM's map (1, h, w) at the layer's resolution. ``relu`` sets negative values to 0."""
    maps, gradient = layer_gradient(network, x, target, layer_name, context)
    cam = (gradient.mean((2, 3), keepdim=True) * maps).sum(1)  # (1, h, w)
    return cam.clamp(min=0) if relu else cam


def passes_on(params: LayerParams, network: Classifier) -> Passes:
    """One forward pass of the whole network, and a backward pass of the part above the layer."""
    return Passes(forward=1, backward=network.cost_fraction(network.feature_layer(params.layer)))


def grad_cam(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    return RawMap(class_activation(network, x, target, params.layer, context, params.relu), signed=not params.relu)


@dataclass(frozen=True)
class GuidedParams(LayerParams):
    """The layer, how its map is upsampled, and whether the image is a factor."""

    upsampling: str = choice("nearest", "nearest", "bilinear", label="Upsampling", help=(
        "How the class activation map is upsampled: nearest keeps its cells visible, bilinear blends them."))
    times_input: bool = switch(False, label="Times input", help=TIMES_INPUT_HELP)


def guided_grad_cam(network: Classifier, x: Tensor, target: Target, params: GuidedParams, context: Context) -> RawMap:
    cam = class_activation(network, x, target, params.layer, context)[None]
    options = {"align_corners": False} if params.upsampling == "bilinear" else {}
    enlarged = F.interpolate(cam, size=x.shape[-2:], mode=params.upsampling, **options)[0]
    native = network.gradient(x, target, GUIDED)[0] * enlarged
    return RawMap(native * x[0] if params.times_input else native)


_SELVARAJU = Citation("Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra", "Grad-CAM: visual explanations from deep networks via "
                       "gradient-based localization", "ICCV 2017", "section 3")

METHODS = {
    "grad_cam": Method(
        title="Grad-CAM", family="activation", attribute=grad_cam, params=Params,
        passes=lambda params: Passes(forward=1, backward=1), passes_on=passes_on, needs=(GRAPH, FEATURE_MAPS),
        citation=_SELVARAJU,
        idea="Which regions of the last feature maps speak for the class: the sum of the maps, each weighted by its mean gradient.",
        equation=r"A = \max\!\Big(0, \sum_k \alpha_k F_k\Big), \quad \alpha_k = \frac{1}{hw} \sum_{i,j} "
                 r"\frac{\partial f_c}{\partial F_{k,ij}}",
        limits="As coarse as the layer. Evidence against the class is set to zero, unless you keep it."),
    "guided_grad_cam": Method(
        title="Guided Grad-CAM", short="Guided CAM", family="activation", version=2, attribute=guided_grad_cam, params=GuidedParams,
        passes=lambda params: Passes(forward=2, backward=2),
        passes_on=lambda params, network: passes_on(params, network) + Passes(forward=1, backward=1),
        needs=(GRAPH, RELU, FEATURE_MAPS), citation=_SELVARAJU,
        idea="The map of guided backpropagation, kept only where Grad-CAM finds the class.",
        equation=r"A = A_{\text{guided}} \odot \operatorname{up}(A_{\text{Grad-CAM}})",
        limits="The detail comes from guided backpropagation and hardly depends on the class; only the region does."),
}
