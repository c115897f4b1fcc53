r"""IBA: how many bits about each place of a feature map the network needs to recognise the class.

The features R of one layer are replaced by noise, element by element, as far as the class survives (see ``bottleneck``). The
noise has each element's own mean and deviation over the other images of the reference set (see ``feature_statistics``), so it says
about the element only what holds for any image. The map is the information that still passes, summed over the channels k:

    A_u = sum_k KL_ku / ln 2 bits, times (h w) / (H W).

With the last factor the upsampled map is in bits per pixel and sums to the layer's capacity in bits (``extras["bits"]``).

The layer. The paper cuts VGG16 at the output of conv4_1, before its ReLU, with 66 % of the network's multiplications below it.
In any network ``auto`` takes the layer for which this fraction is closest to two thirds, among the layers of at least 4 x 4
places whose values are not those of a ReLU and that every path to the logits passes. A layer with at most a quarter of its channels
and a fraction within 0.04 of two thirds is preferred: EfficientNet expands sums of 112 channels to 672, which hold no more, and
InputIBA's critic costs the square of the channels. A layer after a ReLU can be chosen too: the mixture is then clamped at 0, and
elements that are 0 in 99 % of the reference images are set to 0.

Source: Schulz, Sixt, Tombari, Landgraf 2020, with InputIBA's settings (beta 10, 10 copies, 10 steps of Adam at rate 1). As in the
authors' code, the information is that of the mask before the last step. Unlike there, the map is not scaled to [0, 1], so that
it stays in bits.

Vision transformers. The map of a layer of tokens is made of the tokens of the patches. The class token and other tokens without a
place are held at their mean over the reference set, so that the logits depend on the image through the bottleneck alone.

When it misleads: see ``limits`` below. The noise also treats elements as independent, which features are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from explainers.context import Context
from explainers.contract import AuxiliaryOutput, Citation, Method, RawMap
from explainers.data.reference import ReferenceSet
from explainers.errors import ExplainerError
from explainers.methods.bottleneck import Descent, MaskOptimum, Signal, device_generator, optimise_mask
from explainers.methods.feature_statistics import FeatureStatistics, fit_key, statistics_without
from explainers.networks.classifier import Classifier
from explainers.networks.graph import Graph
from explainers.parameters import integer, layer, real
from explainers.passes import Passes
from explainers.requirements import FEATURE_MAPS, GRAPH, REFERENCE_SET
from explainers.resampling import resample, size_of
from explainers.target import Target

FRACTION_BELOW = 2 / 3  # of the network's multiplications, below the layer of ``auto``
CLOSE, NARROW = 0.04, 1 / 4  # how near to two thirds, with how few of the nearest layer's channels, a narrow layer is preferred
LEAST_SIDE = 4  # places per side of the layer of ``auto``
LEAST_DEVIATION = 0.01  # smaller deviations of the noise are raised to this
LEAST_ACTIVE = 0.01  # the fraction of reference images in which an element after a ReLU must be above 0 to be used

LAYER = layer(label="Layer", help=(
    "The features that are mixed with noise. auto: a layer before a ReLU, two thirds of the way through the network. "
    "Later layers give coarser, more class-specific maps."))
BETA = real(10.0, low=0.0, high=1000.0, step=1.0, label="Beta", help=(
    "Weight of the information against the class's cross-entropy. Higher values keep fewer regions."))
COPIES = integer(10, low=1, high=100, label="Noisy copies", help="Draws of the noise that each step averages over.")
IMAGES = integer(1000, low=2, high=10000, label="Reference images", help=(
    "How many images of the reference set the noise is fitted on, once. If the set is smaller, all of it."))
REFERENCE_IMAGES = AuxiliaryOutput("reference_images", "Reference images", "number", (
    "How many images the noise was fitted on. The explained picture is left out where it is in the reference set, but not where the "
    "set's statistics come without its pictures."))


@dataclass(frozen=True)
class Params:
    """The layer, its noise, and the optimisation of the mask."""

    layer: str = LAYER
    beta: float = BETA
    steps: int = integer(10, low=1, high=200, label="Steps", help="Steps of the optimiser. The authors take 10.")
    rate: float = real(1.0, low=0.0, high=10.0, step=0.1, label="Learning rate", help="Learning rate of Adam.")
    copies: int = COPIES
    sigma: float = real(1.0, low=0.0, high=5.0, step=0.25, label="Smoothing of the mask", help=(
        "Standard deviation, in places of the feature map. Smoothing prevents adversarial patterns; 0 turns it off."))
    images: int = IMAGES

    @property
    def descent(self) -> Descent:
        return Descent(self.beta, self.steps, self.copies, self.rate, self.sigma)


def passes(params: Params) -> Passes:
    runs = params.steps * params.copies
    return Passes(forward=1 + runs, backward=runs)


def passes_on(params: Params, network: Classifier) -> Passes:
    """One pass of the part below the layer, and a pass of the part above it for every copy at every step."""
    node = bottleneck_layer(network, params.layer)
    above = network.cost_fraction(node) * params.steps * params.copies
    return Passes(forward=network.cost_fraction(None, node) + above, backward=above)


def is_rectified(graph: Graph, name: str) -> bool:
    """Whether all values of this node come from ReLUs, through layers that keep the sign, so that none is negative."""
    kind = graph.kinds[name]
    inputs = graph.nodes[name].all_input_nodes
    return kind in {"relu", "relu6"} or (
        kind in {"max_pool", "avg_pool", "identity", "cat", "add"} and all(is_rectified(graph, node.name) for node in inputs))


def bottleneck_layer(network: Classifier, name: str) -> str:
    """The node for the ``layer`` parameter ``name``. Raises ExplainerError for an unknown layer, or where ``auto`` finds none."""
    if name != "auto":
        return network.feature_layer(name)
    sizes = {node: size for node, size in network.features.sizes.items() if size[1] >= LEAST_SIDE}
    unrectified = [node for node in sizes if not is_rectified(network.walkable, node) and network.cost_fraction(node) > 0]
    if not (unrectified or sizes):
        raise ExplainerError(f"{network.title} has no layer of {LEAST_SIDE} x {LEAST_SIDE} places or more to put a bottleneck in.")
    order = list(sizes)
    distance = {node: round(abs(network.cost_fraction(None, node) - FRACTION_BELOW), 9) for node in unrectified or sizes}
    nearest = min(distance, key=lambda node: (distance[node], -order.index(node)))
    narrow = [node for node in distance if distance[node] <= CLOSE and sizes[node][0] <= NARROW * sizes[nearest][0]]
    return min(narrow, key=lambda node: (sizes[node][0], distance[node], -order.index(node))) if narrow else nearest


def fit_of(layer: str, images: int, network: Classifier, reference: ReferenceSet) -> tuple[Sequence[tuple[Any, ...]], Passes]:
    """The key of the statistics, and their passes: of each image through the part of the network below the layer."""
    node, count = bottleneck_layer(network, layer), reference.count(images)
    return (fit_key(node, count),), Passes(forward=count * network.cost_fraction(None, node))


def fit_work(layer: str, images: int, network: Classifier, context: Context) -> Passes:
    """The passes of the statistics that this run must fit; none where they are there."""
    (key,), work = fit_of(layer, images, network, context.reference)
    return Passes() if context.is_fitted(key) else work


def stages(work: Sequence[Passes]) -> tuple[int, ...]:
    """Where each stage of a run ends, in hundredths of a pass, for the progress; a stage without passes takes one of them."""
    return tuple(accumulate(round(100 * (passes.forward + passes.backward)) + 1 for passes in work))


def feature_signal(network: Classifier, x: Tensor, node: str, images: int, context: Context) -> tuple[Signal, FeatureStatistics]:
    """The image's features at ``node``, with the noise fitted on the reference set, and what it was fitted on.

    Tokens that stand for no place, such as the class token, are replaced by their mean: else they would carry the image past the
    bottleneck.
    """
    with torch.no_grad():
        value = network.walk(x, stop=node)
    fitted = statistics_without(network, x, value, node, images, context)
    around = fitted.mean.to(x.device)[None]
    features, mean, deviation, often = (network.take_map(each.to(x.device), node) for each in (
        value, around, fitted.deviation[None], fitted.active[None]))
    rectified = is_rectified(network.walkable, node)
    active = (often > LEAST_ACTIVE).to(x.dtype) if rectified else None
    return Signal(features, mean, deviation.clamp(min=LEAST_DEVIATION), active, rectified, node, around), fitted


def flags_of(fitted: FeatureStatistics) -> tuple[str, ...]:
    """A warning where the noise knows the explained image."""
    if not fitted.unavoidable:
        return ()
    return ("the noise was fitted on the explained picture too, because the reference set has too few others",)


def bits_a_pixel(nats: Tensor, size: tuple[int, int]) -> Tensor:
    """(1, h, w) from nats (1, C, h, w): upsampled to ``size`` it is in bits per pixel, and sums to about the layer's bits."""
    return nats.nan_to_num(0).sum(1) / math.log(2) * (nats.shape[-2] * nats.shape[-1] / (size[0] * size[1]))


def preview(optimum: MaskOptimum, size: tuple[int, int]) -> Tensor:
    """(H, W): the map so far at the input's size."""
    return resample(bits_a_pixel(optimum.nats, size)[0].cpu(), size, "bilinear")


def bottleneck_extras(optimum: MaskOptimum) -> dict[str, Any]:
    """The auxiliary outputs of one bottleneck: its capacity in bits, and both terms of the loss before each step."""
    return {"bits": float(optimum.nats.nan_to_num(0).sum() / math.log(2)), "evidence": optimum.cross_entropy,
            "information": optimum.information}


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    node, size = bottleneck_layer(network, params.layer), size_of(x)
    fit_end, end = stages([fit_work(params.layer, params.images, network, context), passes_on(params, network)])
    signal, fitted = feature_signal(network, x, node, params.images, context.part(0, fit_end, end))
    context.progress(fit_end, end)
    optimum = optimise_mask(network, signal, target, params.descent, context.part(fit_end, end, end),
                            device_generator(network, context, 0), preview=lambda optimum: preview(optimum, size))
    return RawMap(bits_a_pixel(optimum.nats, size), extras={
        "layer": node, "kept": optimum.mask.keep.mean(1).cpu(), "reference_images": fitted.images, **bottleneck_extras(optimum)},
        flags=flags_of(fitted))


METHOD = Method(
    title="Information Bottleneck (IBA)", short="IBA", family="activation", attribute=attribute, params=Params, passes=passes,
    previews=True, cheap={"images": 16}, version=3,
    passes_on=passes_on, needs=(GRAPH, FEATURE_MAPS, REFERENCE_SET), signed=False, draft={"images": 100},
    fit=lambda params, network, target, reference: fit_of(params.layer, params.images, network, reference),
    citation=Citation("Schulz, Sixt, Tombari, Landgraf", "Restricting the flow: information bottlenecks for attribution",
                        "ICLR 2020", "section 3"),
    idea="Replace a layer's features by noise wherever the class survives it. A place's value is the number of bits about it that "
         "must still pass.",
    equation=r"\min_\lambda\; -\log p_c(Z) + \beta\, \overline{D_{\mathrm{KL}}[P(Z|R)\,\|\,\mathcal{N}(\mu_R, \sigma_R^2)]},"
             r"\quad Z = \lambda R + (1 - \lambda)\,\varepsilon",
    limits="It shows what suffices for the class, never what speaks against it. It is as coarse as the layer, and its bits depend "
           "on layer, beta and reference images, so compare bits only where these agree.",
    auxiliary_outputs=(
        AuxiliaryOutput("bits", "Capacity", "number", "The information that passes the layer, summed over all of its elements.",
                        unit="bits"),
        AuxiliaryOutput("layer", "Layer", "text", "The layer whose features are mixed with noise."),
        REFERENCE_IMAGES,
        AuxiliaryOutput("kept", "Mask", "fraction", "The mask, averaged over channels: 1 keeps the feature, 0 replaces it by noise."),
        AuxiliaryOutput("evidence", "Cross-entropy", "trace", "\u2212log p of the class behind the bottleneck, before each step.",
                        unit="nats"),
        AuxiliaryOutput("information", "Information", "trace", "The mean information of an element, before each step.",
                        unit="nats per element"),
    ),
)
