r"""MIP-IN: turn the network round, layer by layer, and ask what of the input the target logit alone can rebuild.

From the logit z_c of one class, and nothing else, each layer in turn is inverted by the linear map that best rebuilds what
entered it, in the least-squares sense over a reference set (``mip_in_inverse``). What a ReLU had shut stays shut: after each
step the signal is kept only where the image's own activation is not zero, in the fit as well. With m_l for those gates, the
operators W_l, and the switches of max-pooling among them,

    S_L = z_c,  S_l = m_l * (W_l S_{l+1} + b_l)        the source signal: the part of x that the logit knows of
    A = W_1 (m_1 * W_2 (m_2 * ... W_L z_c))            the map: the same way without the biases

The map is what moves in the source signal as the logit moves from 0 to z_c; start "one" leaves the factor z_c out. It sums
to nothing in particular. The source signal can be judged: sent through the network, it should give z_c again; by how much
it does not is in the extras, and on average over a set in ``metrics.average_percentage_change``.

Down to the pixels go small networks that are one chain of dense, convolution, ReLU and pooling layers. Pixels are not
gated. A branch (a residual sum) stops the way down at the feature map above it. In large networks, as in the paper, only
the classifier is inverted: VGG's dense layers, ResNet's pooling and dense layer, SqueezeNet's last convolution and pooling.
The map is then the top features', gated, averaged over the channels, and cut at zero.

Where it departs from the letter of the paper. Convolutions are fitted exactly, by normal equations, and not by 20 epochs of
an unnamed optimiser. Average pooling, which the paper does not treat, is inverted cell by cell. Batch norm behind a
convolution belongs to that convolution: the inverse is learned anew anyway. Where pooling stands on top, only the target's
own channel is followed down. A contrast is fitted on z_a - z_b, which there rebuilds both channels; its map starts from the
size |z_a - z_b|, so that it always speaks for a.

It misleads where the reference set is small or strange (the ridge then decides), and always shows what usually comes with
the logit, which need not be what causes it. A negative logit turns the map's sign.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from explainers.context import Context
from explainers.contract import ExplainerError, Extra, Method, Passes, RawMap, Reference, Target, choice, integer, switch
from explainers.methods import mip_in_inverse as inverse
from explainers.methods.mip_in_inverse import Operator
from explainers.methods.mip_in_layers import Layer, descend, entering, layers_of
from explainers.networks.classifier import Classifier

PAPER_RIDGE = 0.001
_MAP_NUMBERS, _VECTOR_NUMBERS = 2**24, 2**28  # of one layer's activations that are kept for a fit
_KERNEL_WORK, _KERNEL_IMAGES = 1e10, 16  # what one convolution's normal equations may cost, and the fewest images they see
_KEPT_BYTES = 128 * 2**20  # activations up to this size are kept on disk, for the next class of the same network


@dataclass(frozen=True)
class Params:
    """How deep, from what, and what the inverses are fitted on."""

    depth: str = choice("auto", "auto", "features", label="Depth", help=(
        "How far down the network is inverted. auto: in a small network as far as its layers can be, mostly down to the pixels, "
        "in a large one to the top features. features: always the top features."))
    start: str = choice("logit", "logit", "one", label="Start from", help=(
        "logit: the map starts from the class's logit, as in the paper, and turns its sign with it. one: from 1."))
    positive: bool = switch(True, label="Keep positive only", help=(
        "Of a map of features keep what speaks for the class, as in the paper. Maps of pixels always keep both signs."))
    images: int = integer(1000, low=10, high=10000, step=10, label="Reference images", help=(
        "How many images of the reference set the inverses are fitted on, if it has as many; once for each class."))
    ridge: str = choice("fitted", "fitted", "paper", label="Ridge", help=(
        "How strongly the dense layers' inverses are smoothed. fitted: as rebuilds unseen images best, layer by layer. paper: "
        "lambda = 0.001, next to nothing, which needs many times more reference images than units."))


def _channels(target: Target) -> tuple[int, ...]:
    return target if isinstance(target, tuple) else (target,)


def _images_of(layers: tuple[Layer, ...], images: int) -> Iterator[tuple[Layer, int]]:
    """How many images each layer is fitted on: fewer further down, where activations are large and unknowns few."""
    above = 1
    for layer in layers:
        room = _VECTOR_NUMBERS if layer.kind == "linear" else _MAP_NUMBERS
        images = min(images, max(2, room // prod(layer.size)))
        if layer.kind == "conv":
            work = layer.geometry.work(above, layer.entered[1:])
            images = min(images, max(_KERNEL_IMAGES, int(_KERNEL_WORK / work)))
        above = layer.size[0]
        yield layer, images


def _record(network: Classifier, layers: tuple[Layer, ...], target: Target, images: int,
            context: Context) -> Mapping[str, Tensor]:
    """The logits of the reference images and what entered each layer, on the CPU: one run through the set for all classes."""
    reference = context.reference
    counts = {layer.link.name: n for layer, n in _images_of(layers, images) if layer.kind != "flatten"}
    channels = _channels(target) if layers[0].kind != "linear" else ()

    def part(start: int, stop: int) -> dict[str, Tensor]:
        logits, kept = entering(network, layers, reference.draw(start, stop).to(network.device), channels)
        first = {name: value[:max(0, counts[name] - start)].to("cpu", copy=True) for name, value in kept.items()}
        return {"logits": logits.cpu(), **first}

    def run() -> dict[str, Tensor]:
        parts = [found for _, _, found in context.batches(images, part)]
        return {name: torch.cat([found[name] for found in parts]) for name in parts[0]}

    size = 4 * sum(counts[layer.link.name] * prod(layer.size) for layer in layers if layer.kind != "flatten")
    holds_pictures = reference.private and _bottom(network, layers) is None
    if size > _KEPT_BYTES or holds_pictures:
        return run()
    return context.fit(("mip_in images", METHOD.version, layers[-1].link.name, channels, images), run)


def fitted(network: Classifier, layers: tuple[Layer, ...], target: Target, params: Params, context: Context) -> Mapping[str, Any]:
    """The inverses of all layers for one target, from disk if they were fitted before."""
    if context.reference is None:
        raise ExplainerError("MIP-IN needs a reference set: give a folder or a list of pictures.")
    images = min(params.images, context.reference.size)
    if images < 2:
        raise ExplainerError("MIP-IN needs at least two reference images.")
    key = ("mip_in", METHOD.version, target, layers[-1].link.name, images, params.ridge)
    ridge = PAPER_RIDGE if params.ridge == "paper" else None
    return context.fit(key, lambda: _fit(network, layers, target, images, ridge, context))


def _fit(network: Classifier, layers: tuple[Layer, ...], target: Target, images: int, ridge: float | None,
         context: Context) -> dict[str, Any]:
    record = _record(network, layers, target, images, context.part(0, 8, 10))
    room = network.device if network.device.type != "mps" else torch.device("cpu")  # which has float64
    score = network.score(record["logits"].double(), target).to(room)
    signal, top = score[:, None], {}
    if layers[0].kind != "linear" and isinstance(target, tuple):
        top = inverse.fit_dense(signal, record["logits"][:, list(target)].to(room), ridge)
        signal = inverse.invert_dense(top, signal, bias=True)
    operators = []
    for number, (layer, count) in enumerate(_images_of(layers, images)):
        signal = signal[:count]
        entered = record[layer.link.name][:count].to(room) if layer.kind != "flatten" else None
        operators.append(layer.fit(signal, entered, ridge))
        if layer is not layers[-1]:
            signal = _in_blocks(layer, operators[-1], signal, entered)
        context.progress(8 * len(layers) + 2 * number + 2, 10 * len(layers))
    return {"top": top, "operators": operators}


def _in_blocks(layer: Layer, operator: Operator, signal: Tensor, entered: Tensor | None) -> Tensor:
    if entered is None:
        return layer.invert(operator, signal, None, bias=True)
    step = max(1, 2**21 // prod(layer.size))
    return torch.cat([layer.invert(operator, above, below, bias=True)
                      for above, below in zip(signal.split(step), entered.split(step), strict=True)])


def _bottom(network: Classifier, layers: tuple[Layer, ...]) -> str | None:
    """The node at which the map is; None for the image."""
    return None if layers[-1].link.source == network.graph.input else layers[-1].link.source


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    layers = layers_of(network, params.depth, target)
    fit = fitted(network, layers, target, params, context)
    bottom = _bottom(network, layers)
    logits, entered = entering(network, layers, x, _channels(target))
    score = network.score(logits, target)  # (1,)
    source = descend(layers, fit, score, entered, bias=True)
    start = _size_of(score, target) if params.start == "logit" else torch.ones_like(score)
    native = descend(layers, fit, start, entered, bias=False)[0]  # (C, h, w)
    with torch.no_grad():
        again = network.score(network.walk(source, start=bottom), target)
    extras = {"source": source[0].cpu(), "logit": score.item(), "source_logit": again.item(), "layer": bottom or "pixels"}
    if score.item() != 0:
        extras["percentage_change"] = 100 * (again - score).item() / abs(score.item())
    if bottom is None:
        return RawMap(native, extras)
    mean = native.mean(0, keepdim=True)
    return RawMap(mean.clamp(min=0) if params.positive else mean, extras, signed=not params.positive)


def _size_of(score: Tensor, target: Target) -> Tensor:
    """What the map starts from: the logit as it is, but a contrast's size, so that "a rather than b" is minus "b rather than a"."""
    return score.abs() if isinstance(target, tuple) else score


def source_signals(network: Classifier, images: Tensor, target: Target, params: Params, context: Context) -> tuple[Tensor, Tensor]:
    """The logits (N,) of images (N, C, H, W), and of their source signals, with one fit for them all."""
    layers = layers_of(network, params.depth, target)
    fit = fitted(network, layers, target, params, context.part(0, 1, 2))

    def both(start: int, stop: int) -> Tensor:
        logits, entered = entering(network, layers, images[start:stop].to(network.device), _channels(target))
        before = network.score(logits, target)
        source = descend(layers, fit, before, entered, bias=True)
        with torch.no_grad():
            after = network.score(network.walk(source, start=_bottom(network, layers)), target)
        return torch.stack([before, after]).cpu()

    before, after = torch.cat([found for _, _, found in context.part(1, 2, 2).batches(len(images), both)], 1)
    return before, after


def passes_on(params: Params, network: Classifier) -> Passes:
    """The image, and the source signal from where it lies."""
    if not network.invertible:
        return METHOD.passes(params)
    return Passes(forward=1 + network.share(_bottom(network, layers_of(network, params.depth, 0))))


METHOD = Method(
    title="MIP-IN", family="decomposition", attribute=attribute, params=Params,
    passes=lambda params: Passes(forward=2), passes_on=passes_on, needs=("graph", "invertible", "reference"),
    reference=Reference("Deng, Zou, Du, Chen, Feng, Hu", "Mutual information preserving back-propagation: learn to invert for "
                        "faithful attribution", "KDD 2021", "section 4"),
    idea="Turn the network round, layer by layer, by linear inverses fitted on reference images, and see what of the input "
         "the class's logit alone can rebuild.",
    equation=r"A = W_1 \big( m_1 \odot W_2 ( m_2 \odot \cdots W_L\, z_c ) \big), \quad "
             r"W_l = \arg\min_W \lVert T_{l-1} - W S_l - b \rVert^2 + \lambda \lVert W \rVert^2",
    limits="It shows what usually comes with the logit in the reference images, which need not be what causes it. Only one chain "
           "of layers can be turned round: in large or branching networks the map is as coarse as the top features.",
    shows=(
        Extra("source", "Source signal", "signal", "What the logit alone rebuilds of the image, or of the top features."),
        Extra("layer", "Rebuilt", "text", "How far down the network is turned round."),
        Extra("logit", "Logit of the image", "number", "The explained logit, or difference of two, that the signal is made from."),
        Extra("source_logit", "Logit of the source signal", "number", "The logit when the source signal is sent through the network."),
        Extra("percentage_change", "Change of the logit", "number", "Near 0 where the signal holds what the class is read from.",
              unit="%"),
    ),
)
