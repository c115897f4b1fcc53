r"""IBA: how many bits about each place of a feature map the network needs to name the class.

One layer's features R are replaced by noise, element by element, as far as the class survives it (see ``bottleneck``). The
noise has each element's own mean and deviation over the reference set, so a noisy element says only what it says about any
image. What still has to be told of R, summed over the channels, is the map:

    A_u = sum_k KL_ku / ln 2 bits, times (h w) / (H W),

so that the enlarged map is in bits a pixel and sums to the capacity of the whole layer (``extras["bits"]``).

The layer. The paper cuts VGG16 at the output of conv4_1, before its ReLU: 66 % of the multiplications lie below. ``auto`` takes
the layer of any network whose share is closest to two thirds, among those that all of the network's evidence passes, whose
values are not yet cut off by a ReLU, and that have at least 4 x 4 places. A layer after a ReLU can be chosen too: noise then
stays at 0 or above, and elements that are 0 in 99 of 100 reference images are left out.

After Schulz, Sixt, Tombari, Landgraf 2020, and InputIBA's settings (beta 10, 10 copies, 10 steps of Adam at rate 1). The
capacity is that of the mask before the last step, as in the authors' code; their map's minimum and maximum are not rescaled
here, because bits mean something.

When it misleads: it gives what suffices for the decision, not what would speak against it, and the noise takes elements one
by one, though features come together. Bits depend on the layer, beta and the reference set, so compare them only where these
agree. The map is as coarse as the layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from explainers.context import Context
from explainers.contract import ExplainerError, Extra, Method, Passes, RawMap, Reference, Target, integer, layer, real, resample
from explainers.methods.bottleneck import Descent, Found, Signal, draws, squeeze
from explainers.networks.classifier import Classifier
from explainers.networks.graph import Graph

SHARE_BELOW = 2 / 3
LEAST_SIDE = 4
LEAST_DEVIATION = 0.01
ACTIVE_IN = 0.01  # of the reference images

LAYER = layer(label="Layer", help=(
    "Where noise is let in. auto: the layer with two thirds of the network's multiplications below it, before a ReLU. "
    "Later layers give coarser, more class-specific maps."))
BETA = real(10.0, low=0.0, high=1000.0, step=1.0, label="Price of information (beta)", help=(
    "How much the class may suffer for an element that is replaced by noise. Higher keeps fewer regions."))
COPIES = integer(10, low=1, high=100, label="Noisy copies", help="Draws of the noise that each step looks at.")
IMAGES = integer(1000, low=2, high=10000, label="Reference images", help=(
    "How many images of the reference set the noise is fitted on, once; all, if there are fewer."))


@dataclass(frozen=True)
class Params:
    """The layer, its noise, and the descent."""

    layer: str = LAYER
    beta: float = BETA
    steps: int = integer(10, low=1, high=200, label="Steps", help="Steps of the optimiser. The authors take 10.")
    rate: float = real(1.0, low=0.0, high=10.0, step=0.1, label="Step size", help="Learning rate of Adam.")
    copies: int = COPIES
    sigma: float = real(1.0, low=0.0, high=5.0, step=0.25, label="Smoothing of the mask", help=(
        "Standard deviation, in places of the feature map. It keeps the mask from becoming an adversarial pattern; 0 is off."))
    images: int = IMAGES

    @property
    def descent(self) -> Descent:
        return Descent(self.beta, self.steps, self.copies, self.rate, self.sigma)


def passes(params: Params) -> Passes:
    runs = params.steps * params.copies
    return Passes(forward=1 + runs, backward=runs)


def passes_on(params: Params, network: Classifier) -> Passes:
    """The part below the layer once, the part above it for every copy at every step."""
    node = bottleneck_layer(network, params.layer)
    above = network.share(node) * params.steps * params.copies
    return Passes(forward=network.share(None, node) + above, backward=above)


def is_rectified(graph: Graph, name: str) -> bool:
    """Whether a ReLU stands before this node, so that it is never negative."""
    kind = graph.kinds[name]
    inputs = graph.nodes[name].all_input_nodes
    return kind in {"relu", "relu6"} or (
        kind in {"max_pool", "avg_pool", "identity", "cat", "add"} and all(is_rectified(graph, node.name) for node in inputs))


def bottleneck_layer(network: Classifier, name: str) -> str:
    """The node for a ``layer`` parameter; ``auto`` follows the rule above. Raises ExplainerError."""
    if name != "auto":
        return network.feature_layer(name)
    sizes = {node: size for node, size in network.features.sizes.items() if size[1] >= LEAST_SIDE}
    unbent = [node for node in sizes if not is_rectified(network.graph, node) and network.share(node) > 0]
    if not (unbent or sizes):
        raise ExplainerError(f"{network.title} has no layer of {LEAST_SIDE} x {LEAST_SIDE} places or more to put a bottleneck in.")
    shares = {node: network.share(None, node) for node in unbent or sizes}
    return min(shares, key=lambda node: (round(abs(shares[node] - SHARE_BELOW), 9), -list(sizes).index(node)))


def statistics(network: Classifier, node: str, images: int, context: Context) -> Mapping[str, Any]:
    """Each element's mean, deviation (n - 1) and the share of images where it is not 0, over the reference set.

    In float64 and in chunks whose moments are merged, so that no digits cancel.
    """
    reference = context.reference
    count = min(images, reference.size)

    @torch.no_grad()
    def moments(a: int, b: int) -> tuple[Tensor, Tensor, Tensor]:
        values = network.walk(reference.draw(a, b).to(network.device), stop=node).cpu().double()
        mean = values.mean(0)
        return mean, (values - mean).square().sum(0), (values != 0).double().sum(0)

    def compute() -> dict[str, Tensor]:
        mean, spread, active = torch.zeros((), dtype=torch.float64), 0.0, 0.0
        for start, stop, (part_mean, part_spread, part_active) in context.batches(count, moments):
            step = part_mean - mean
            spread = spread + part_spread + step.square() * (start * (stop - start) / stop)
            mean = mean + step * ((stop - start) / stop)
            active = active + part_active
        return {"mean": mean.float(), "deviation": (spread / (count - 1)).sqrt().float(), "active": (active / count).float()}

    return context.fit(("iba", node, count), compute)


def feature_signal(network: Classifier, x: Tensor, node: str, images: int, context: Context) -> Signal:
    """The layer's features of the image, and their noise."""
    fitted = {name: value.to(x.device)[None] for name, value in statistics(network, node, images, context).items()}
    with torch.no_grad():
        value = network.walk(x, stop=node)
    rectified = is_rectified(network.graph, node)
    active = (fitted["active"] > ACTIVE_IN).to(x.dtype) if rectified else None
    return Signal(value, fitted["mean"], fitted["deviation"].clamp(min=LEAST_DEVIATION), active, rectified, node)


def bits_a_pixel(nats: Tensor, size: tuple[int, int]) -> Tensor:
    """(1, h, w) from nats (1, C, h, w): enlarged to ``size``, it sums to about the bits of the whole layer."""
    return nats.nan_to_num(0).sum(1) / math.log(2) * (nats.shape[-2] * nats.shape[-1] / (size[0] * size[1]))


def facts(found: Found) -> dict[str, Any]:
    """What there is to tell beside the map."""
    return {"bits": float(found.nats.nan_to_num(0).sum() / math.log(2)), "evidence": found.evidence,
            "information": found.information}


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    node, size = bottleneck_layer(network, params.layer), tuple(x.shape[-2:])

    def shown(found: Found) -> Tensor:
        return resample(bits_a_pixel(found.nats, size)[0].cpu(), size, "bilinear")

    stages = (context.part(0, 1, 3), context.part(1, 3, 3))
    signal = feature_signal(network, x, node, params.images, stages[0])
    context.progress(1, 3)
    found = squeeze(network, signal, target, params.descent, stages[1], draws(network, context, 0), preview=shown)
    return RawMap(bits_a_pixel(found.nats, size), extras={
        "layer": node, "kept": found.mask.through.mean(1).cpu(), **facts(found)})


METHOD = Method(
    title="Information Bottleneck (IBA)", family="activation", attribute=attribute, params=Params, passes=passes,
    passes_on=passes_on, needs=("graph", "features", "reference"), signed=False,
    reference=Reference("Schulz, Sixt, Tombari, Landgraf", "Restricting the flow: information bottlenecks for attribution",
                        "ICLR 2020", "section 3"),
    idea="Replace a layer's features by noise wherever the class survives it. A place is worth the bits about it that still have to "
         "pass.",
    equation=r"\min_\lambda\; -\log p_c(Z) + \beta\, \overline{D_{\mathrm{KL}}[P(Z|R)\,\|\,\mathcal{N}(\mu_R, \sigma_R^2)]},"
             r"\quad Z = \lambda R + (1 - \lambda)\,\varepsilon",
    limits="It shows what suffices for the class, never what speaks against it. As coarse as the layer, and its bits depend on "
           "layer, beta and reference images.",
    shows=(
        Extra("bits", "Capacity", "number", "The information that passes the layer, over all of its elements.", unit="bits"),
        Extra("layer", "Layer", "text", "Where the bottleneck stands."),
        Extra("kept", "Share that passes", "share", "The mask, averaged over the channels: 1 keeps the feature, 0 replaces it."),
        Extra("evidence", "Evidence lost", "trace", "\u2212log p of the class behind the bottleneck, before each step.", unit="nats"),
        Extra("information", "Information", "trace", "The mean information of an element, before each step.", unit="nats an element"),
    ),
)
