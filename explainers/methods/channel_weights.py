"""What Score-CAM and Ablation-CAM share: they weight a layer's channels by what the network says without a gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from explainers.methods.grad_cam import LayerParams
from explainers.networks.classifier import Classifier
from explainers.parameters import integer


@dataclass(frozen=True)
class ChannelParams(LayerParams):
    """The layer, and how many of its channels are weighted."""

    channels: int = integer(2048, low=1, high=4096, label="Channels", help=(
        "At most so many channels of the layer get a weight, those with the largest mean magnitude first; the others count "
        "nothing. Each costs a pass. Few networks have more than 2048, so the default is all of them."))

    def count(self, network: Classifier) -> int:
        """How many channels are weighted."""
        return min(self.channels, network.features.sizes[network.feature_layer(self.layer)][0])


@dataclass(frozen=True)
class Channels:
    """A layer's value for one image, its feature maps (1, C, h, w), and the indices (K,) of the channels that get a weight."""

    node: str
    value: Tensor
    maps: Tensor
    order: Tensor

    @classmethod
    def strongest(cls, network: Classifier, x: Tensor, params: ChannelParams) -> Channels:
        """Those with the largest mean magnitude first. Costs a forward pass of the part below the layer."""
        node = network.feature_layer(params.layer)
        with torch.inference_mode():
            value = network.walk(x, stop=node)
            maps = network.take_map(value, node)
            strength = maps.abs().mean((0, 2, 3))
            return cls(node, value, maps, strength.argsort(descending=True, stable=True)[:params.count(network)])

    def weighted(self, weights: Tensor) -> Tensor:
        """(1, h, w): the sum of the first channels in ``order``, as many as there are ``weights`` (k,)."""
        chosen = self.maps[:, self.order[:len(weights)]]
        return (weights.to(chosen.device)[:, None, None] * chosen).sum(1)
