r"""Attribution mask (Lee, Chang 2021, section 3.1): a map becomes a mask on the image, and the masked image is explained again.

From the image x and a mask P of ones, each iteration computes a gradient method's map A of the masked image x P, scales each
colour channel of A to [0, 1] by its own minimum and maximum (equation 11), and multiplies the mask by the result:

    P <- P * (A - min A) / (max A - min A),   and by 0 in a channel where A is constant.

An attribution of 0 becomes -min / (max - min), a grey, and not 0: only what speaks most against the class is removed.

Where paper and code differ. The paper's formula multiplies masks that are already cumulative; the authors' code keeps one
product, and so does this. The sign and the input of a base method are taken of the masked image, as in the code, and not of the
original, as in equation 13; the signs agree while P > 0.

In a network without biases (section 2.2, "no implicit bias") f(a x) = a f(x) for a > 0, so dimming the whole image does not
change the ranking of the classes. With biases, the dimmed image counts less and less against them, and sooner or later the
class is lost (section 5.5). The map misleads where the label leaks in: see ``limits`` below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explainers.context import Context
from explainers.contract import AuxiliaryOutput, Citation, Method, RawMap
from explainers.errors import UnsupportedError
from explainers.methods import integrated_gradients
from explainers.methods.gradients import PRODUCTS
from explainers.methods.guided import GUIDED
from explainers.methods.guided import METHODS as GUIDED_METHODS
from explainers.networks.classifier import Classifier
from explainers.networks.graph import PLAIN
from explainers.parameters import choice, integer
from explainers.passes import Passes
from explainers.target import Target

ONE_PASS_BASES = ("gradient_x_sign", "gradient_x_input", "positive_gradient_x_input", "guided_backprop")
"""The base methods that need one forward and one backward pass; the forward pass also gives the masked image's logits."""

STRETCH_PERCENTILE = 99.5  # the percentile of the mask that stretching scales to 1


@dataclass(frozen=True)
class Params:
    """The base method and the number of masks."""

    base: str = choice("gradient_x_sign", *ONE_PASS_BASES, "integrated_gradients", label="Base method", help=(
        "The method whose map becomes the mask. Integrated Gradients takes 50 times as long, and in a network without biases is "
        "the same as Gradient x Input."))
    iterations: int = integer(3, low=1, high=50, label="Iterations", help=(
        "How many masks are multiplied, each made from the masked image. The paper's tables show 1 to 3, its appendix up to 19."))


def passes(params: Params) -> Passes:
    """The base method's passes for each iteration, and one forward pass to score the image under the last mask."""
    if params.base in ONE_PASS_BASES:
        return Passes(forward=params.iterations + 1, backward=params.iterations)
    inner = integrated_gradients.METHOD.passes(integrated_gradients.Params())
    return Passes(params.iterations * (inner.forward + 1) + 1, params.iterations * inner.backward)


def between_0_and_1(maps: Tensor) -> Tensor:
    """(N, C, H, W): each channel of each map scaled from its minimum, 0, to its maximum, 1. A constant channel becomes 0."""
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    span = high - low
    return (maps - low) / torch.where(span == 0, torch.ones_like(span), span)


def check_base(network: Classifier, base: str) -> None:
    """Raises UnsupportedError where the base method cannot explain this network."""
    reason = GUIDED_METHODS[base].lacks(network) if base in GUIDED_METHODS else None
    if reason:
        raise UnsupportedError(reason)


def logits_and_map(network: Classifier, x: Tensor, score: Callable[[Tensor], Tensor], base: str) -> tuple[Tensor, Tensor]:
    """Logits (N, K) and base maps (N, C, H, W) of a batch, from one pass forward and back. ``score``: logits to values (N,)."""
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = network.logits(x, GUIDED if base == "guided_backprop" else PLAIN)
        gradient = torch.autograd.grad(score(logits).sum(), x)[0]
    return logits.detach(), PRODUCTS[base](gradient, x.detach()) if base in PRODUCTS else gradient


def masked_inputs(x: Tensor, masks: Tensor) -> Tensor:
    """(n + 1, C, H, W): the image and its product with each of the n ``masks``. Made on demand, so that no cache holds it."""
    return torch.cat((x, x * masks.to(x.device)))


@dataclass(frozen=True)
class MaskedView:
    """An image under a mask, for display. Both are multiplied by ``factor``; what the network sees has factor 1."""

    picture: Tensor  # (C, H, W), normalised
    mask: np.ndarray  # (H, W), the mean over channels, above 1 where stretched further
    factor: float


def masked_view(x: Tensor, extras: Mapping[str, Any], step: int, stretch: bool) -> MaskedView:
    """x (1, C, H, W) after ``step`` masks of its map's ``extras``. ``stretch``: scale the mask's ``STRETCH_PERCENTILE`` to 1."""
    x = x[0].cpu()
    mask = extras["masks"][step - 1] if step else torch.ones_like(x)
    grey = mask.mean(0).numpy()
    strongest = float(np.percentile(grey, STRETCH_PERCENTILE))
    factor = 1 / strongest if stretch and strongest > 0 else 1.0
    return MaskedView(x * mask * factor, grey * factor, factor)


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    check_base(network, params.base)
    mask = torch.ones_like(x)
    masks, outputs = [], []

    def record(logits: Tensor) -> None:
        probabilities = logits.softmax(-1)
        highest, prediction = probabilities.max(1)
        outputs.append(torch.stack([*(target.score(v)[0] for v in (logits, probabilities)), prediction[0], highest[0]]))

    def logits_and_integrated(masked: Tensor, i: int) -> tuple[Tensor, Tensor]:
        part = context.part(i, i + 1, params.iterations, lambda: mask[0])
        settings = integrated_gradients.Params()
        with torch.inference_mode():
            logits = network.logits(masked)
        return logits, integrated_gradients.attribute(network, masked, target, settings, part).native[None]

    for i in range(params.iterations):
        if params.base in ONE_PASS_BASES:
            logits, base_map = logits_and_map(network, x * mask, lambda logits: target.score(logits), params.base)
        else:
            logits, base_map = logits_and_integrated(x * mask, i)
        record(logits)
        mask = mask * between_0_and_1(base_map)
        masks.append(mask)
        context.progress(i + 1, params.iterations, mask[0])
    with torch.inference_mode():
        record(network.logits(x * mask))
    logit, probability, prediction, highest = torch.stack(outputs).T.tolist()
    return RawMap(mask[0], extras={
        "masks": torch.cat(masks).cpu(), "logit": logit, "probability": probability,
        "prediction": [int(index) for index in prediction], "prediction_probability": highest})


METHOD = Method(
    title="Attribution mask", family="gradient", attribute=attribute, passes=passes, params=Params, signed=False, version=2,
    previews=True,
    citation=Citation("Lee, Chang", "Attribution Mask: filtering out irrelevant features by recursively focusing attention on "
                        "inputs of DNNs", "arXiv 2102.07332, 2021", "section 3.1"),
    idea="Turn a map into a mask between 0 and 1, show the network the masked image, explain that again, and multiply the masks. "
         "What is still bright after several iterations is what the network uses for the class.",
    equation=r"P_i = P_{i-1} \odot \frac{A_i - \min A_i}{\max A_i - \min A_i}, \quad A_i = \operatorname{Expl}(f_c, x \odot P_{i-1})",
    limits="Where the base map is 0 the mask is grey, not black, so empty regions are dimmed and not removed. In a network with "
           "biases the class is lost after a few iterations. A probability that rises under the class's own mask proves nothing: "
           "the mask was made for that class.",
    auxiliary_outputs=(
        AuxiliaryOutput("masks", "Masked input", "pictures", make=lambda x, extras: masked_inputs(x, extras["masks"]),
                        numbers=("logit", "probability"), help=(
                            "The image, then the masked image after each iteration. Hidden pixels take the mean colour.")),
        AuxiliaryOutput("logit", "Logit", "trace", "The class's logit for the image, and after each iteration.", unit="logit"),
        AuxiliaryOutput("probability", "Probability", "trace", "The class's probability for the image, and after each iteration.",
                        unit="probability"),
    ),
)
