"""The layers that MIP-IN inverts: which they are, their inputs, and the application of their inverses from the logits down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from explainers.errors import UnsupportedError
from explainers.methods.mip_in import inverse
from explainers.methods.mip_in.inverse import Geometry, Operator
from explainers.networks.classifier import Classifier
from explainers.networks.graph import Call, Link
from explainers.target import Target

SMALL_MACS = 1e8  # networks of at most so many multiplications per image are inverted as deep as possible
CELL_RIDGE = 0.001  # the paper's; it suffices for a cell under average pooling, which has one unknown


@dataclass(frozen=True)
class Layer:
    """One layer to be inverted.

    entered: the size (C, h, w) or (d,) of its input. gated: the inverted signal is set to 0 where the input is 0, as behind a
    ReLU; False where the input is the image, and where the gates are switched off. channels: how many channels of the input are
    reconstructed, where these are only the target's own classes; 0 for all. pool: the layer's own function. title: what a person
    reads, such as "conv 2", counted from the image.
    """

    link: Link
    entered: tuple[int, ...]
    gated: bool
    channels: int
    geometry: Geometry | None
    pool: Callable[[Tensor], Tensor]
    title: str

    @property
    def kind(self) -> str:
        """"linear", "conv", "max_pool", "avg_pool" or "flatten"."""
        return self.link.kind

    def pixel_step(self, images: int, channels: int) -> int:
        """Every how many pixels of ``images`` images the fit uses, from a signal of ``channels`` channels; 1 but for convolutions."""
        return self.geometry.pixel_step(images, channels, self.entered[1:]) if self.geometry else 1

    def work(self, images: int, channels: int) -> float:
        """The multiplications of fitting a convolution's inverse on ``images`` images and applying it to them; 0 for other kinds.

        channels: those of the signal at the output.
        """
        if self.geometry is None:
            return 0.0
        fitting = self.geometry.fit_work(images, channels, self.entered[1:]) / self.pixel_step(images, channels)
        return fitting + images * prod(self.size) * channels * prod(self.geometry.kernel) / prod(self.geometry.stride)

    def fit(self, signal: Tensor, entered: Tensor | None, ridge: float | None) -> Operator:
        """Fit the inverse on n images, from the signal (n, ...) at the output to the true inputs ``entered`` (n, ...).

        Inputs of "flatten" are not recorded: there ``entered`` is None, here and in ``invert``, and the inverse is a reshape.
        """
        if entered is None:
            return {}
        if self.kind == "linear":
            return inverse.fit_dense(signal.double(), entered, ridge)
        if self.geometry:
            return inverse.fit_kernel(signal, entered, self.geometry, self.pixel_step(len(signal), signal.shape[1]))
        if self.kind == "avg_pool":
            return inverse.fit_cells(inverse.spread(self.pool, entered, signal.double()), entered, CELL_RIDGE)
        return {}

    def invert(self, operator: Operator, signal: Tensor, entered: Tensor | None, bias: bool) -> Tensor:
        """The signal at the output to the signal at the input, (n, ...) to (n, *size), with the gates of the same n images."""
        if entered is None:
            return signal.reshape(len(signal), *self.size)
        if self.kind == "linear":
            signal = inverse.invert_dense(operator, signal, bias)
        elif self.geometry:
            signal = inverse.invert_kernel(operator, signal, self.entered[1:], self.geometry)
        else:
            signal = inverse.spread(self.pool, entered, signal)
            signal = inverse.invert_cells(operator, signal, bias) if self.kind == "avg_pool" else signal
        return signal * (entered != 0) if self.gated else signal

    @property
    def size(self) -> tuple[int, ...]:
        """The size of the reconstructed input."""
        return (self.channels, *self.entered[1:]) if self.channels else self.entered


def layers_of(network: Classifier, depth: str, target: Target, gates: bool = True) -> tuple[Layer, ...]:
    """The layers that are inverted, from the logits down. Raises UnsupportedError for a network that cannot be inverted.

    gates: False switches off the gates of all layers.
    """
    links = _links(network, depth)
    to_pixels = links[-1].source == network.walkable.input
    inverted = [link for link in links if link.kind in {"linear", "conv", "max_pool", "avg_pool", "flatten"}]
    layers, channels = [], len(target.classes)
    for number, link in enumerate(inverted):
        if link.kind in {"linear", "conv"}:
            channels = 0
        gated = gates and not (to_pixels and all(below.kind == "flatten" for below in inverted[number + 1:]))
        module = network.walkable.layer(link.name)
        geometry = Geometry.of(module) if isinstance(module, nn.Conv2d) else None
        layers.append(Layer(link, network.shapes[link.source].size, gated, channels, geometry, _layer_function(network, link),
                            _title(link.kind, sum(below.kind == link.kind for below in inverted[number:]))))
    if layers[0].kind != "linear" and prod(network.shapes[layers[0].link.name].size[1:]) != 1:
        raise UnsupportedError(f"MIP-IN needs one logit per class; {network.title} makes them from several cells of a channel.")
    return tuple(layers)


def _title(kind: str, number: int) -> str:
    return f"{ {'linear': 'dense', 'max_pool': 'max-pool', 'avg_pool': 'average pool'}.get(kind, kind)} {number}"


def _links(network: Classifier, depth: str) -> tuple[Link, ...]:
    """The whole chain of a small network; else the head: its dense layers or last convolution, and the pooling before it."""
    chain = network.invertible
    if not chain:
        raise UnsupportedError(f"MIP-IN needs a chain of layers from the logits down to a map, and {network.title} has none.")
    if depth == "auto" and sum(shape.macs for shape in network.shapes.values()) <= SMALL_MACS:
        return chain
    dense = [i for i, link in enumerate(chain) if link.kind == "linear"]
    classifier = dense[-1] if dense else next(i for i, link in enumerate(chain) if link.kind == "conv")
    last = next(i for i, link in enumerate(chain) if i >= classifier and network.is_map(link.source))
    return chain[:last + 1]


def _layer_function(network: Classifier, link: Link) -> Callable[[Tensor], Tensor]:
    return lambda value: network.walkable.run(value, start=link.source, stop=link.name)


def record_inputs(network: Classifier, layers: tuple[Layer, ...], x: Tensor,
                  channels: tuple[int, ...]) -> tuple[Tensor, dict[str, Tensor]]:
    """The logits of x (N, C, H, W) and each layer's input, from one pass. ``channels``: those of layers with a few channels only."""
    kept: dict[str, Tensor] = {}
    wanted = {layer.link.name: layer.channels for layer in layers if layer.kind != "flatten"}

    def record(call: Call, value: Tensor, *more: Any) -> Any:
        if call.name in wanted:
            kept[call.name] = value[:, list(channels)] if wanted[call.name] else value
        return call.plain(value, *more)

    with torch.no_grad():
        logits = network.walk(x, {layer.kind: record for layer in layers if layer.kind != "flatten"})
    return logits, kept


def invert_layers(layers: tuple[Layer, ...], fit: Mapping[str, Any], start: Tensor, entered: Mapping[str, Tensor],
                  bias: bool) -> Tensor:
    """Invert all layers: scores ``start`` (N,) to a signal (N, C, h, w), with gates and switches of the N images' ``entered``."""
    return signals_of(layers, fit, start, entered, bias)[-1]


def signals_of(layers: tuple[Layer, ...], fit: Mapping[str, Any], start: Tensor, entered: Mapping[str, Tensor],
               bias: bool) -> list[Tensor]:
    """As ``invert_layers``, with the signal at the input of each layer, from the logits down."""
    signal, signals = start[:, None], []
    if fit["top"]:
        signal = inverse.invert_dense(_on(start, fit["top"]), signal, bias)
    for layer, operator in zip(layers, fit["operators"], strict=True):
        signal = layer.invert(_on(start, operator), signal, entered.get(layer.link.name), bias)
        signals.append(signal)
    return signals


def _on(start: Tensor, operator: Operator) -> Operator:
    return {name: tensor.to(start.device) for name, tensor in operator.items()}
