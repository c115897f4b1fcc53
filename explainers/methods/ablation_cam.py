"""Ablation-CAM: each feature map is weighted by how far the logit falls when that map is set to zero (Desai, Ramaswamy 2020).

Only the part of the network above the layer runs again for each channel. The paper divides the fall by the logit. Here it is
divided by the logit's magnitude, so that a negative logit does not turn evidence for the class into evidence against it.

One set of passes serves every class: the logits of all classes are memoized for the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from explainers.context import Context
from explainers.contract import Citation, Method, RawMap
from explainers.methods.channel_weights import ChannelParams, Channels
from explainers.networks.classifier import Classifier
from explainers.parameters import switch
from explainers.passes import Passes
from explainers.requirements import FEATURE_MAPS, GRAPH
from explainers.resampling import resample
from explainers.target import Target


@dataclass(frozen=True)
class Params(ChannelParams):
    """The layer, its channels, and whether negative evidence is kept."""

    relu: bool = switch(True, label="Keep positive only", help=(
        "As in the paper. Off: also show where the features speak against the class."))


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    channels = Channels.strongest(network, x, params)
    with torch.inference_mode():
        whole = network.walk(channels.value, start=channels.node).cpu()  # (1, classes)

    def attribution(logits: Tensor) -> Tensor:
        """The map (1, h, w) of the channels without which the logits (k, classes) are known."""
        score = target.score(whole)
        falls = (score - target.score(logits)) / torch.where(score == 0, 1.0, score.abs())
        cam = channels.weighted(falls)
        return cam.clamp(min=0) if params.relu else cam

    def ablated_logits() -> Tensor:
        """(K, classes) on the CPU. The preview is the target's map so far."""
        batches: list[Tensor] = []

        @torch.inference_mode()
        def ablated(a: int, b: int) -> Tensor:
            maps = channels.maps.repeat(b - a, 1, 1, 1)
            maps[torch.arange(b - a), channels.order[a:b].cpu()] = 0
            return network.walk(network.put_map(channels.value, channels.node, maps), start=channels.node).cpu()

        def preview() -> Tensor:
            return resample(attribution(torch.cat(batches))[0].cpu(), network.input_size, METHOD.upsample)

        for _, _, logits in context.batches(len(channels.order), ablated, preview):
            batches.append(logits)
        return torch.cat(batches)

    logits = context.memoize(("ablation_cam", channels.node, len(channels.order)), ablated_logits)
    return RawMap(attribution(logits), signed=not params.relu)


def passes_on(params: Params, network: Classifier) -> Passes:
    """A forward pass of the whole network, and one of the part above the layer for each channel."""
    return Passes(forward=1 + params.count(network) * network.cost_fraction(network.feature_layer(params.layer)))


METHOD = Method(
    title="Ablation-CAM", family="activation", attribute=attribute, params=Params, previews=True,
    cheap={"channels": 8}, draft={"channels": 128},
    passes=lambda params: Passes(forward=1 + params.channels), passes_on=passes_on, needs=(GRAPH, FEATURE_MAPS),
    citation=Citation("Desai, Ramaswamy", "Ablation-CAM: visual explanations for deep convolutional network via gradient-free "
                      "localization", "WACV 2020", "section 3"),
    idea="Set one feature map to zero and see how far the logit falls: that is the map's weight. No gradient is needed, so "
         "saturation does not hide a feature.",
    equation=r"A = \max\!\Big(0, \sum_k w_k F_k\Big), \quad w_k = \frac{f_c(F) - f_c(F \text{ without } F_k)}{|f_c(F)|}",
    limits="As coarse as the layer. Two channels that can stand in for each other both get little weight. Before a mean and a "
           "dense layer a map's weight is Grad-CAM's times the map's own mean. Evidence against the class is set to zero, "
           "unless you keep it.",
)
