r"""Attribution mask: let the network see only what its own map calls important, look again, and again.

From the image x and a mask P of ones, each iteration takes a gradient method's map A of the masked image x P, brings every
colour channel of A to [0, 1] by its own smallest and largest value, and multiplies the mask by that:

    P <- P * (A - min A) / (max A - min A),   a channel whose A is the same everywhere becoming 0.

Attribution 0 thus becomes -min / (max - min), a grey, and not 0: what speaks against the class is what disappears. The
published algorithm multiplies masks that are already cumulative; the authors' code keeps the one product, and so do we.
The sign and the input of a base method are those of the masked image, as it is what the network sees; while P > 0 its signs
are the image's.

In a network without biases ("no implicit bias", Lee, Kim, Ko 2021) f(a x) = a f(x), so dimming costs no certainty of
direction: with Gradient x Sign the class gets easier to see at every iteration. With biases the image fades against them and
sooner or later the class is lost.

When it misleads: the mask is made for the class that it is asked about, so a class that rises under its own mask proves
nothing about the image (the label leaks in).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from explainers.context import Context
from explainers.contract import Extra, Method, Passes, RawMap, Reference, Target, UnsupportedError, choice, integer
from explainers.methods import integrated_gradients
from explainers.methods.gradients import PRODUCTS
from explainers.methods.guided import GUIDED
from explainers.methods.guided import METHODS as GUIDED_METHODS
from explainers.networks.classifier import Classifier
from explainers.networks.graph import PLAIN

ONE_PASS_BASES = ("gradient_x_sign", "gradient_x_input", "positive_gradient_x_input", "guided_backprop")
"""The base methods whose map comes with the masked image's logits, from one pass forward and one back."""


@dataclass(frozen=True)
class Params:
    """Whose map becomes the mask, and how often."""

    base: str = choice("gradient_x_sign", *ONE_PASS_BASES, "integrated_gradients", label="Base method", help=(
        "The method whose map becomes the mask. Integrated Gradients takes 50 times as long, and in a network without biases is "
        "the same as Gradient x Input."))
    iterations: int = integer(3, low=1, high=50, label="Iterations", help=(
        "How often the masked image is looked at again. The paper's tables show 1 to 3, and follow them to 19."))


def passes(params: Params) -> Passes:
    """One pass an iteration, and one forward to see what the last mask leaves."""
    if params.base in ONE_PASS_BASES:
        return Passes(forward=params.iterations + 1, backward=params.iterations)
    inner = integrated_gradients.METHOD.passes(integrated_gradients.Params())
    return Passes(params.iterations * (inner.forward + 1) + 1, params.iterations * inner.backward)


def between_0_and_1(maps: Tensor) -> Tensor:
    """(N, C, H, W): each channel of each image from its smallest value at 0 to its largest at 1; a flat one becomes 0."""
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    span = high - low
    return (maps - low) / torch.where(span == 0, torch.ones_like(span), span)


def check_base(network: Classifier, base: str) -> None:
    """Raises UnsupportedError where the base method cannot explain this network."""
    reason = network.lacks(GUIDED_METHODS[base]) if base in GUIDED_METHODS else None
    if reason:
        raise UnsupportedError(reason)


def look(network: Classifier, x: Tensor, score: Callable[[Tensor], Tensor], base: str) -> tuple[Tensor, Tensor]:
    """Logits (N, K) of a batch and its base maps (N, C, H, W), from one pass. ``score`` picks (N,) from the logits."""
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = network.logits(x, GUIDED if base == "guided_backprop" else PLAIN)
        gradient = torch.autograd.grad(score(logits).sum(), x)[0]
    return logits.detach(), PRODUCTS[base](gradient, x.detach()) if base in PRODUCTS else gradient


def masked_inputs(x: Tensor, masks: Tensor) -> Tensor:
    """(n + 1, C, H, W): the image and what each of ``extras["masks"]`` leaves of it. Made on demand, so that no cache holds it."""
    return torch.cat((x, x * masks.to(x.device)))


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    check_base(network, params.base)
    mask = torch.ones_like(x)
    masks, outputs = [], []

    def seen(logits: Tensor) -> None:
        probabilities = logits.softmax(-1)
        first, prediction = probabilities.max(1)
        outputs.append(torch.stack([*(network.score(v, target)[0] for v in (logits, probabilities)), prediction[0], first[0]]))

    def integrated(masked: Tensor, i: int) -> tuple[Tensor, Tensor]:
        stretch = context.part(i, i + 1, params.iterations, lambda: mask[0])
        settings = integrated_gradients.Params()
        with torch.inference_mode():
            logits = network.logits(masked)
        return logits, integrated_gradients.attribute(network, masked, target, settings, stretch).native[None]

    for i in range(params.iterations):
        if params.base in ONE_PASS_BASES:
            logits, found = look(network, x * mask, lambda logits: network.score(logits, target), params.base)
        else:
            logits, found = integrated(x * mask, i)
        seen(logits)
        mask = mask * between_0_and_1(found)
        masks.append(mask)
        context.progress(i + 1, params.iterations, mask[0])
    with torch.inference_mode():
        seen(network.logits(x * mask))
    logit, probability, prediction, first = torch.stack(outputs).T.tolist()
    return RawMap(mask[0], extras={
        "masks": torch.cat(masks).cpu(), "logit": logit, "probability": probability,
        "prediction": [int(index) for index in prediction], "prediction_probability": first})


METHOD = Method(
    title="Attribution mask", family="gradient", attribute=attribute, passes=passes, params=Params, signed=False, version=2,
    reference=Reference("Lee, Kim, Ko", "Attribution Mask: filtering out irrelevant features by recursively focusing attention on "
                        "inputs of DNNs", "arXiv 2102.07332, 2021", "section 3.1"),
    idea="Turn a map into a mask between 0 and 1, show the network the masked image, and explain that: what survives several "
         "rounds is what the class was read from.",
    equation=r"P_i = P_{i-1} \odot \frac{A_i - \min A_i}{\max A_i - \min A_i}, \quad A_i = \operatorname{Expl}(f_c, x \odot P_{i-1})",
    limits="Where the base map is 0 the mask is grey, not black, so empty regions are dimmed and not removed. In a network with "
           "biases the class is lost after a few iterations. A class that gets surer under its own mask proves nothing: the mask "
           "was made for it.",
    shows=(
        Extra("masks", "Masked input", "pictures", make=lambda x, extras: masked_inputs(x, extras["masks"]),
              numbers=("logit", "probability"), help=(
                  "The image, and what each iteration leaves of it for the network to see. Hidden pixels take the mean colour.")),
        Extra("logit", "Logit", "trace", "The class's logit for the image, and after each iteration.", unit="logit"),
        Extra("probability", "Probability", "trace", "The class's probability for the image, and after each iteration.",
              unit="probability"),
    ),
)
