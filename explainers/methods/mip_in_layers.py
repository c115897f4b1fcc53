"""The layers that MIP-IN turns round: which they are, what enters them, and the way down through their inverses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from explainers.contract import Target, UnsupportedError
from explainers.methods import mip_in_inverse as inverse
from explainers.methods.mip_in_inverse import Geometry, Operator
from explainers.networks.classifier import Classifier
from explainers.networks.graph import Call, Link

SMALL_MACS = 1e8  # multiplications per image up to which a network is inverted as deep as it goes
CELL_RIDGE = 0.001  # a cell under average pooling has one unknown, so the paper's ridge will always do


@dataclass(frozen=True)
class Layer:
    """One layer to be turned round, from the top down. ``entered``: the size (C, h, w) or (d,) of what enters it.

    ``narrow`` is how many of its input's channels are followed, where only the targets' own are. ``gated``: what entered it
    was behind a ReLU, or may have been, and is not the image.
    """

    link: Link
    entered: tuple[int, ...]
    gated: bool
    narrow: int
    geometry: Geometry | None
    pool: Callable[[Tensor], Tensor]

    @property
    def kind(self) -> str:
        return self.link.kind

    def fit(self, signal: Tensor, entered: Tensor, ridge: float | None) -> Operator:
        """The inverse of this layer, fitted on images (n, ...) of which it sees both sides."""
        if self.kind == "linear":
            return inverse.fit_dense(signal, entered, ridge)
        if self.kind == "conv":
            return inverse.fit_kernel(signal, entered, self.geometry)
        if self.kind == "avg_pool":
            return inverse.fit_cells(inverse.spread(self.pool, entered, signal), entered, CELL_RIDGE)
        return {}

    def invert(self, operator: Operator, signal: Tensor, entered: Tensor, bias: bool) -> Tensor:
        """The signal below this layer, (n, ...) to (n, *entered), with this layer's gates of the same images."""
        if self.kind == "flatten":
            return signal.reshape(len(signal), *self.size)
        if self.kind == "linear":
            signal = inverse.invert_dense(operator, signal, bias)
        elif self.kind == "conv":
            signal = inverse.invert_kernel(operator, signal, self.entered[1:], self.geometry)
        else:
            signal = inverse.spread(self.pool, entered, signal)
            signal = inverse.invert_cells(operator, signal, bias) if self.kind == "avg_pool" else signal
        return signal * (entered != 0) if self.gated else signal

    @property
    def size(self) -> tuple[int, ...]:
        return (self.narrow, *self.entered[1:]) if self.narrow else self.entered


def layers_of(network: Classifier, depth: str, target: Target) -> tuple[Layer, ...]:
    """The layers that are inverted, from the logits down."""
    links = _links(network, depth)
    to_pixels = links[-1].source == network.graph.input
    active = [link for link in links if link.kind in {"linear", "conv", "max_pool", "avg_pool", "flatten"}]
    found, narrow = [], 2 if isinstance(target, tuple) else 1
    for number, link in enumerate(active):
        if link.kind in {"linear", "conv"}:
            narrow = 0
        gated = not (to_pixels and all(below.kind == "flatten" for below in active[number + 1:]))
        module = network.graph.module.get_submodule(network.graph.nodes[link.name].target) if link.kind == "conv" else None
        found.append(Layer(link, network.shapes[link.source].size, gated, narrow, Geometry.of(module) if module else None,
                           _alone(network, link)))
    if found[0].kind != "linear" and prod(network.shapes[found[0].link.name].size[1:]) != 1:
        raise UnsupportedError(f"MIP-IN needs one logit per class; {network.title} makes them from several cells of a channel.")
    return tuple(found)


def _links(network: Classifier, depth: str) -> tuple[Link, ...]:
    """The whole chain in a small network, else the classifier: the dense layers, or the last convolution, and their pooling."""
    chain = network.invertible
    if not chain:
        raise UnsupportedError(f"MIP-IN needs a chain of layers from the logits down to a map, and {network.title} has none.")
    if depth == "auto" and sum(shape.macs for shape in network.shapes.values()) <= SMALL_MACS:
        return chain
    dense = [i for i, link in enumerate(chain) if link.kind == "linear"]
    classifier = dense[-1] if dense else next(i for i, link in enumerate(chain) if link.kind == "conv")
    last = next(i for i, link in enumerate(chain) if i >= classifier and network.is_map(link.source))
    return chain[:last + 1]


def _alone(network: Classifier, link: Link) -> Callable[[Tensor], Tensor]:
    return lambda value: network.graph.run(value, start=link.source, stop=link.name)


def entering(network: Classifier, layers: tuple[Layer, ...], x: Tensor, channels: tuple[int, ...]) -> tuple[Tensor, dict[str, Tensor]]:
    """The logits of (N, C, H, W) and, by layer, what entered each; one pass."""
    kept: dict[str, Tensor] = {}
    wanted = {layer.link.name: layer.narrow for layer in layers if layer.kind != "flatten"}

    def listen(call: Call, value: Tensor, *more: Any) -> Any:
        if call.name in wanted:
            kept[call.name] = value[:, list(channels)] if wanted[call.name] else value
        return call.plain(value, *more)

    with torch.no_grad():
        logits = network.walk(x, {layer.kind: listen for layer in layers if layer.kind != "flatten"})
    return logits, kept


def descend(layers: tuple[Layer, ...], fit: Mapping[str, Any], start: Tensor, entered: Mapping[str, Tensor], bias: bool) -> Tensor:
    """(N,) scores to (N, C, h, w) at the bottom, with the gates and switches of the N images whose ``entered`` these are."""
    signal = start[:, None]
    if fit["top"]:
        signal = inverse.invert_dense(_on(start, fit["top"]), signal, bias)
    for layer, operator in zip(layers, fit["operators"], strict=True):
        signal = layer.invert(_on(start, operator), signal, entered.get(layer.link.name), bias)
    return signal


def _on(start: Tensor, operator: Operator) -> Operator:
    return {name: tensor.to(start.device) for name, tensor in operator.items()}
