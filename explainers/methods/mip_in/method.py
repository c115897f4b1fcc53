r"""MIP-IN: invert the network layer by layer, and see what of the input the target logit alone can reconstruct.

From the logit z_c of one class alone, each layer in turn is inverted by the linear map that best reconstructs the layer's input,
by least squares over a reference set (``inverse``). After each step, in the fit as well, the signal is set to 0 where the
image's own activation is 0 ("forward ReLU", equation 9). With these gates m_l and the inverses W_l, b_l, which include the
max-pool switches,

    S_L = z_c,  S_l = m_l * (W_l S_{l+1} + b_l)        the source signal: the part of x that the logit determines
    A = W_1 (m_1 * W_2 (m_2 * ... W_L z_c))            the map: the same without the biases

The map is the change of the source signal as the logit goes from 0 to z_c; start "one" leaves out the factor z_c. The map has no
sum that means anything. The source signal can be tested: passed through the network, it should give z_c again. Its relative
error is in the extras, and averaged over a set in ``metrics.average_percentage_change``.

Small networks that are one chain of dense, convolution, ReLU and pooling layers are inverted down to the pixels, which are not
gated. Where a network branches (a residual sum), the inversion stops at the feature map above. Of large networks only the
classifier is inverted, as in the paper: VGG's dense layers, ResNet's pooling and dense layer, SqueezeNet's last convolution
and pooling. The map is then that of the top features, gated, averaged over channels and clamped at 0.

Departures from the paper. Convolutions are fitted by normal equations, instead of 20 epochs of an unnamed optimiser, with every
k-th pixel where all pixels would take too long. Average pooling, which the paper does not treat, is inverted cell by cell. Batch
norm after a convolution, or a factor for each channel, is inverted together with it, since the inverse is learned anyway. Where the
top layer is a pooling, only the target's own channels are inverted. A contrast is fitted on z_a - z_b, from which such networks
first reconstruct both channels; its map starts from |z_a - z_b|, so that a positive value always speaks for a.

When it misleads: see ``limits`` below. With a small or unrepresentative reference set the ridge decides. A negative logit flips
the sign of the map, and a flag says so. Where only positive values are kept, the map starts from the logit's magnitude instead, so
that it always keeps what goes with a higher logit; with the paper's sign it would keep what goes with a lower one.

Figures of the paper: ``gates=False`` is its global view (figure 3), in which max-pooling still uses the image's switches. The
signals S_l of all layers (figure 2) are in the extras.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from explainers.context import Context
from explainers.contract import AuxiliaryOutput, Citation, Method, RawMap
from explainers.data.reference import ReferenceSet
from explainers.errors import ExplainerError
from explainers.methods.mip_in import inverse
from explainers.methods.mip_in.inverse import Operator
from explainers.methods.mip_in.layers import Layer, invert_layers, layers_of, record_inputs, signals_of
from explainers.networks.classifier import Classifier
from explainers.parameters import choice, integer, switch
from explainers.passes import Passes
from explainers.requirements import GRAPH, INVERTIBLE, REFERENCE_SET
from explainers.target import Target

PAPER_RIDGE = 0.001
_RECORD_VERSION = 1  # part of the key of the recorded inputs, which are also in files of shipped statistics
_MAP_NUMBERS, _VECTOR_NUMBERS = 2**26, 2**28  # the most activations of one layer that a fit uses: of a map, of a vector
_CELL_NUMBERS = 2**24  # the same of a map below average pooling, where each cell has one unknown and needs few images
_FITTED = {"linear", "conv", "avg_pool"}  # the kinds of layers whose inverses are fitted
_SOLVING = 20  # forward passes that take as long as solving for the inverses of one target, roughly
_KEPT_BYTES = 128 * 2**20  # activations up to this size are stored on disk, for other classes of the same network


@dataclass(frozen=True)
class Params:
    """The depth and start of the inversion, and how the inverses are fitted."""

    depth: str = choice("auto", "auto", "features", label="Depth", help=(
        "How far the network is inverted. auto: a small network as far as possible, mostly to the pixels, a large one to its top "
        "features. features: always to the top features."))
    start: str = choice("logit", "logit", "one", label="Start from", help=(
        "logit: the inversion starts from the class's logit, as in the paper, so a negative logit flips the map's sign. one: from 1."))
    positive: bool = switch(True, label="Keep positive only", help=(
        "Set negative values of a feature map's attribution to 0, as in the paper. Of a negative logit the map then shows what goes "
        "with a higher logit, as of a positive one. Maps of pixels always keep both signs."))
    gates: bool = switch(True, label="Forward ReLU gates", help=(
        "Set the signal to 0 where the image's own activation is 0, in the fit and in the map. Without these gates the inverses are "
        "global, as in the paper's figure 3: maps of different images differ only by the logit and by where max-pooling looked."))
    images: int = integer(1000, low=10, high=10000, step=10, label="Reference images", help=(
        "How many images of the reference set the inverses are fitted on, once for each class. If the set is smaller, all of it. "
        "\"Fitted on\" below the map says how many each layer used."))
    ridge: str = choice("fitted", "fitted", "paper", label="Ridge", help=(
        "The regularisation of the dense layers' inverses. fitted: the lambda of least cross-validation error, layer by layer. "
        "paper: lambda = 0.001, which is so small that it needs many times more reference images than units."))


def _images_of(layers: tuple[Layer, ...], images: int) -> Iterator[tuple[Layer, int]]:
    """How many images each layer is fitted on: fewer from a layer with large activations down, because they are kept in memory."""
    for layer in layers:
        most = {"linear": _VECTOR_NUMBERS, "avg_pool": _CELL_NUMBERS}.get(layer.kind, _MAP_NUMBERS)
        images = min(images, max(2, most // prod(layer.size)))
        yield layer, images


def record(network: Classifier, layers: tuple[Layer, ...], target: Target, images: int,
           context: Context) -> Mapping[str, Tensor]:
    """The logits of the reference images and each layer's inputs, on the CPU: one pass over the set serves all classes."""
    reference = context.reference
    counts = {layer.link.name: n for layer, n in _images_of(layers, images) if layer.kind != "flatten"}
    channels = target.classes if layers[0].kind != "linear" else ()

    def part(start: int, stop: int) -> dict[str, Tensor]:
        logits, kept = record_inputs(network, layers, reference.draw(start, stop).to(network.device), channels)
        first = {name: value[:max(0, counts[name] - start)].to("cpu", copy=True) for name, value in kept.items()}
        return {"logits": logits.cpu(), **first}

    def run() -> dict[str, Tensor]:
        parts = [batch for _, _, batch in context.batches(images, part)]
        return {name: torch.cat([batch[name] for batch in parts]) for name in parts[0]}

    size = 4 * sum(counts[layer.link.name] * prod(layer.size) for layer in layers if layer.kind != "flatten")
    holds_pictures = reference.private and _bottom(network, layers) is None
    if size > _KEPT_BYTES or holds_pictures:
        return run()
    return context.fit(_record_key(layers, target, images), run)


def fitted(network: Classifier, layers: tuple[Layer, ...], target: Target, params: Params, context: Context) -> Mapping[str, Any]:
    """The inverses of all layers for one target, from disk if they were fitted before. Raises ExplainerError without images."""
    images = context.reference.count(params.images)
    if images < 2:
        raise ExplainerError("MIP-IN needs at least two reference images.")
    key = _fit_key(layers, target, images, params)
    ridge = PAPER_RIDGE if params.ridge == "paper" else None
    return context.fit(key, lambda: _fit(network, layers, target, images, ridge, context))


def _fit_key(layers: tuple[Layer, ...], target: Target, images: int, params: Params) -> tuple[Any, ...]:
    return "mip_in", METHOD.version, target, layers[-1].link.name, images, params.ridge, params.gates


def _record_key(layers: tuple[Layer, ...], target: Target, images: int) -> tuple[Any, ...]:
    channels = target.classes if layers[0].kind != "linear" else ()
    return "mip_in images", _RECORD_VERSION, layers[-1].link.name, channels, images


def fit_of(params: Params, network: Classifier, target: Target, reference: ReferenceSet) -> tuple[Sequence[tuple[Any, ...]], Passes]:
    """The keys of the inverses and of the layers' inputs, and the passes of recording these and solving for the inverses.

    Where solving takes longer than recording, recorded inputs alone are not enough to have a map quickly, so their key is left out.
    """
    images, layers = reference.count(params.images), layers_of(network, params.depth, target, params.gates)
    solving, key = _solving(network, layers, images), _fit_key(layers, target, images, params)
    keys = (key,) if solving > images else (key, _record_key(layers, target, images))
    return keys, Passes(forward=images + solving)


def _solving(network: Classifier, layers: tuple[Layer, ...], images: int) -> float:
    """Forward passes of the network with as many multiplications as the inverses of its convolutions take, for one target."""
    multiplications, channels = 0.0, 1
    for layer, count in _images_of(layers, images):
        multiplications += layer.work(count, channels)
        channels = layer.size[0]
    return multiplications / sum(shape.macs for shape in network.shapes.values())


def _fit(network: Classifier, layers: tuple[Layer, ...], target: Target, images: int, ridge: float | None,
         context: Context) -> dict[str, Any]:
    recording = 0 if context.is_fitted(_record_key(layers, target, images)) else 8  # tenths of the time, for the progress
    recorded = record(network, layers, target, images, context.part(0, recording, recording + 2))
    device = network.device if network.device.type != "mps" else torch.device("cpu")  # mps has no float64
    score = target.score(recorded["logits"].double()).to(device)
    signal = score[:, None]
    top: Operator = {}
    if layers[0].kind != "linear" and target.contrast is not None:
        top = inverse.fit_dense(signal, recorded["logits"][:, list(target.classes)].to(device), ridge)
        signal = inverse.invert_dense(top, signal, bias=True)
    operators: list[Operator] = []
    used = []
    for number, (layer, count) in enumerate(_images_of(layers, images)):
        kept = recorded.get(layer.link.name)  # of shipped statistics it may be fewer
        signal = signal[:count if kept is None else min(count, len(kept))]
        entered = None if kept is None else kept[:len(signal)].to(device)
        if layer.kind in _FITTED:
            used.append(_used(layer, signal, images))
        operators.append(layer.fit(signal, entered, ridge))
        if layer is not layers[-1]:
            signal = _invert_in_blocks(layer, operators[-1], signal, entered)
        context.progress(recording * len(layers) + 2 * number + 2, (recording + 2) * len(layers))
    return {"top": top, "operators": operators, "used": used}


def _used(layer: Layer, signal: Tensor, images: int) -> str:
    """What the inverse of a layer is fitted on: "conv 1: 1000 of 1000, 1 pixel in 13"."""
    step = layer.pixel_step(len(signal), signal.shape[1])
    return f"{layer.title}: {len(signal)} of {images}" + (f", 1 pixel in {step}" if step > 1 else "")


def _invert_in_blocks(layer: Layer, operator: Operator, signal: Tensor, entered: Tensor | None) -> Tensor:
    if entered is None:
        return layer.invert(operator, signal, None, bias=True)
    step = max(1, 2**21 // prod(layer.size))
    precision = torch.float32 if len(layer.size) == 3 else torch.float64  # of maps to save memory
    return torch.cat([layer.invert(operator, above.double(), below, bias=True).to(precision)
                      for above, below in zip(signal.split(step), entered.split(step), strict=True)])


def _bottom(network: Classifier, layers: tuple[Layer, ...]) -> str | None:
    """The node whose value the map belongs to; None for the image."""
    return None if layers[-1].link.source == network.walkable.input else layers[-1].link.source


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    layers = layers_of(network, params.depth, target, params.gates)
    fit = fitted(network, layers, target, params, context)
    bottom = _bottom(network, layers)
    positive = params.positive and bottom is not None
    logits, entered = record_inputs(network, layers, x, target.classes)
    score = target.score(logits)  # (1,)
    signals = signals_of(layers, fit, score, entered, bias=True)
    native = invert_layers(layers, fit, _map_start(score, target, params.start, positive), entered, bias=False)[0]  # (C, h, w)
    with torch.no_grad():
        source_score = target.score(network.walk(signals[-1], start=bottom))
    by_layer = _signals_by_layer(layers, signals)
    extras = {
        "source": signals[-1][0].cpu(), "logit": score.item(), "source_logit": source_score.item(), "layer": bottom or "pixels",
        "signals": list(by_layer.values()),
        "signal_names": [*(f"input of {title}" for title in list(by_layer)[:-1]), "pixels" if bottom is None else "top features"],
        "fitted_on": "; ".join(fit["used"])}
    if score.item() != 0:
        extras["percentage_change"] = 100 * (source_score - score).item() / abs(score.item())
    flags = _sign_flags(score.item(), target, params.start, positive)
    if bottom is None:
        return RawMap(native, extras, flags=flags)
    mean = native.mean(0, keepdim=True)
    return RawMap(mean.clamp(min=0) if positive else mean, extras, signed=not positive, flags=flags)


def _signals_by_layer(layers: Sequence[Layer], signals: Sequence[Tensor]) -> dict[str, Tensor]:
    """The signal of one image at each layer's input, by the layer's title; a vector that was flattened in its shape as a map."""
    by_layer, title = {}, ""
    for layer, signal in zip(layers, signals, strict=True):
        title = title if layer.kind == "flatten" else layer.title
        if title:
            by_layer[title] = signal[0].cpu()
    return by_layer


def _map_start(score: Tensor, target: Target, start: str, positive: bool) -> Tensor:
    """What the map starts from, by ``Params.start``: 1, or the logit.

    Instead of the logit it is its magnitude for a contrast, so that the map of "a rather than b" is minus the map of "b rather than
    a", and where only positive values are kept. There the sign of a negative logit would keep the evidence against the class.
    """
    if start == "one":
        return torch.ones_like(score)
    return score if target.contrast is None and not positive else score.abs()


def _sign_flags(score: float, target: Target, start: str, positive: bool) -> tuple[str, ...]:
    """A warning where a negative logit decides what the map's sign means."""
    if score >= 0 or target.contrast is not None:
        return ()
    logit = f"{score:.3g}".replace("-", "\u2212")
    if positive or start == "one":
        return (f"the logit is negative ({logit}): the map shows what goes with a higher logit, not what makes up this one",)
    return (f"the logit is negative ({logit}): the map's sign is flipped, so positive values speak against the class",)


def source_signals(network: Classifier, images: Tensor, target: Target, params: Params, context: Context) -> tuple[Tensor, Tensor]:
    """The logits (N,) of images (N, C, H, W) and of their source signals. One fit serves all images."""
    layers = layers_of(network, params.depth, target, params.gates)
    fit = fitted(network, layers, target, params, context.part(0, 1, 2))

    def both(start: int, stop: int) -> Tensor:
        logits, entered = record_inputs(network, layers, images[start:stop].to(network.device), target.classes)
        before = target.score(logits)
        source = invert_layers(layers, fit, before, entered, bias=True)
        with torch.no_grad():
            after = target.score(network.walk(source, start=_bottom(network, layers)))
        return torch.stack([before, after]).cpu()

    before, after = torch.cat([batch for _, _, batch in context.part(1, 2, 2).batches(len(images), both)], 1)
    return before, after


def passes_on(params: Params, network: Classifier) -> Passes:
    """One pass of the image, and one of the source signal from its layer on."""
    if not network.invertible:
        return METHOD.passes(params)
    return Passes(forward=1 + network.cost_fraction(_bottom(network, layers_of(network, params.depth, Target.of(0)))))


METHOD = Method(
    title="MIP-IN", family="decomposition", cheap={"images": 40}, attribute=attribute, params=Params,
    passes=lambda params: Passes(forward=2), passes_on=passes_on, needs=(GRAPH, INVERTIBLE, REFERENCE_SET),
    draft={"images": 100}, fit=fit_of, overhead=lambda params, network: Passes(forward=_SOLVING),
    citation=Citation("Deng, Zou, Chen, Feng, Du, Hu", "Mutual information preserving back-propagation: learn to invert for "
                        "faithful attribution", "KDD 2021", "section 4"),
    idea="Invert the network layer by layer, by linear maps fitted on reference images, and see what of the input the class's logit "
         "alone can reconstruct.",
    equation=r"A = W_1 \big( m_1 \odot W_2 ( m_2 \odot \cdots W_L\, z_c ) \big), \quad "
             r"W_l = \arg\min_W \lVert T_{l-1} - W S_l - b \rVert^2 + \lambda \lVert W \rVert^2",
    limits="It shows what usually accompanies the logit in the reference images, which need not be what causes it. Only a chain of "
           "layers can be inverted: in large or branching networks the map is as coarse as the top features.",
    version=2,
    auxiliary_outputs=(
        AuxiliaryOutput("signals", "Source signal, layer by layer", "signals", "What the logit alone reconstructs of each layer's "
                        "input, from the top down (the paper's figure 2).", labels="signal_names"),
        AuxiliaryOutput("source", "Source signal", "signal", "What the logit alone reconstructs: an image, or top features."),
        AuxiliaryOutput("layer", "Inverted down to", "text", "The layer whose features are reconstructed, or the pixels."),
        AuxiliaryOutput("fitted_on", "Fitted on", "text", "How many reference images each layer's inverse used, and of each image of "
                        "a convolution's input every how many pixels."),
        AuxiliaryOutput("logit", "Logit of the image", "number", "The explained logit, or the difference of two, at the image."),
        AuxiliaryOutput("source_logit", "Logit of the source signal", "number", "The same logit at the source signal."),
        AuxiliaryOutput("percentage_change", "Change of the logit", "number", "From the image to its source signal. Near 0, the "
                        "signal holds what the network uses for the class.", unit="%"),
    ),
)
