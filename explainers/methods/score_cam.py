r"""Score-CAM: each enlarged feature map masks the image; its weight is what the network says of the rest (Wang et al. 2020).

A map is scaled to [0, 1] by its own lowest and highest value. The paper's algorithm 1 turns the logits f(x * mask_k) of the class
into weights by a softmax over the channels; the logit of a baseline image, which it subtracts from each, cancels there and is not
computed. The authors' program instead takes the probability of the class (a softmax over the classes) as the weight. Both are
here.

One set of passes serves every class: the logits of all classes are memoized for the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from explainers.context import Context
from explainers.contract import Citation, Method, RawMap
from explainers.methods.channel_weights import ChannelParams, Channels
from explainers.networks.classifier import Classifier
from explainers.parameters import choice
from explainers.passes import Passes
from explainers.requirements import FEATURE_MAPS, GRAPH
from explainers.resampling import resample
from explainers.target import Target


@dataclass(frozen=True)
class Params(ChannelParams):
    """The layer, its channels, and what becomes their weight."""

    score: str = choice("channel_softmax", "channel_softmax", "probability", label="Weight", help=(
        "channel_softmax: the class's logit under each mask, by a softmax over the channels (the paper's algorithm 1): mostly "
        "a few channels get all the weight. probability: the class's probability under each mask (the authors' program)."))

    def weights(self, target: Target, logits: Tensor) -> Tensor:
        """The weights (K,) of channels from the logits (K, classes) under their masks."""
        if self.score == "probability":
            return target.score(logits.softmax(-1))
        return target.score(logits).softmax(0)


def masks(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(K, 1, H, W) in [0, 1]: maps (K, h, w), enlarged and each scaled to the whole range. A flat map hides everything."""
    enlarged = F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)
    low, high = enlarged.amin((2, 3), keepdim=True), enlarged.amax((2, 3), keepdim=True)
    return torch.where(high > low, (enlarged - low) / (high - low), 0.0)


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    channels = Channels.strongest(network, x, params)
    ordered = channels.maps[0, channels.order]  # (K, h, w)

    def attribution(logits: Tensor) -> Tensor:
        """The map (1, h, w) of the channels whose logits are known."""
        return channels.weighted(params.weights(target, logits)).clamp(min=0)

    def masked_logits() -> Tensor:
        """(K, classes) on the CPU. The preview is the target's map so far."""
        batches: list[Tensor] = []

        @torch.inference_mode()
        def masked(a: int, b: int) -> Tensor:
            return network.logits(x * masks(ordered[a:b], network.input_size)).cpu()

        def preview() -> Tensor:
            return resample(attribution(torch.cat(batches))[0].cpu(), network.input_size, METHOD.upsample)

        for _, _, logits in context.batches(len(ordered), masked, preview):
            batches.append(logits)
        return torch.cat(batches)

    return RawMap(attribution(context.memoize(("score_cam", channels.node, len(ordered)), masked_logits)))


def passes_on(params: Params, network: Classifier) -> Passes:
    """A forward pass up to the layer, and one of the whole network for each channel."""
    return Passes(forward=network.cost_fraction(stop=network.feature_layer(params.layer)) + params.count(network))


METHOD = Method(
    title="Score-CAM", family="activation", attribute=attribute, params=Params, signed=False, previews=True,
    cheap={"channels": 8}, draft={"channels": 64},
    passes=lambda params: Passes(forward=1 + params.channels), passes_on=passes_on, needs=(GRAPH, FEATURE_MAPS),
    citation=Citation("Wang, Wang, Du, Yang, Zhang, Ding, Mardziel, Hu", "Score-CAM: score-weighted visual explanations for "
                      "convolutional neural networks", "CVPR workshops 2020", "algorithm 1"),
    idea="Weight each feature map by how much of the class the network still sees where the map is strong: the image is masked "
         "by the enlarged map. No gradient is needed.",
    equation=r"A = \max\!\Big(0, \sum_k \alpha_k F_k\Big), \quad \alpha = \operatorname{softmax}_k f_c\big(x \odot "
             r"\operatorname{scale}(\operatorname{up}(F_k))\big)",
    limits="As coarse as the layer. One pass for each channel makes it slow. The softmax over channels gives nearly all the "
           "weight to the few channels with the highest logits, and no channel can speak against the class. Masked images are "
           "unlike any that the network was trained on.",
)
