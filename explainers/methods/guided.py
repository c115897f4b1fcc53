"""Guided backpropagation and Deconvnet: the gradient with another rule for the backward pass through each ReLU.

Both are known to follow the image more than the class or the weights (Nie et al. 2018, Adebayo et al. 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from explainers.context import Context
from explainers.contract import Citation, Method, RawMap
from explainers.methods.gradients import one_pass
from explainers.networks.classifier import Classifier
from explainers.networks.graph import Call, Rule
from explainers.parameters import switch
from explainers.requirements import GRAPH, RELU
from explainers.target import Target


class _PositiveGradient(torch.autograd.Function):
    """Returns ``output``, and hands the positive gradients on to ``x``, whatever function of it ``output`` is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, output: Tensor) -> Tensor:
        return output.detach()  # a view of one image would lose its memory format, channels last

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.clamp(min=0), None


def _guided(call: Call, x: Tensor) -> Tensor:
    output: Tensor = call.plain(x)
    output.register_hook(lambda gradient: gradient.clamp(min=0))  # of this tensor alone; the ReLU's own backward pass follows
    return output


def _deconvnet(call: Call, x: Tensor) -> Tensor:
    return _PositiveGradient.apply(x, call.plain(x.detach()))


GUIDED: Mapping[str, Rule] = {"relu": _guided, "relu6": _guided}
DECONVNET: Mapping[str, Rule] = {"relu": _deconvnet, "relu6": _deconvnet}


TIMES_INPUT_HELP = (
    "Multiply by the image, as the DMBP paper does in its tables. Where a pixel is darker than the mean colour, the sign flips.")


@dataclass(frozen=True)
class Params:
    """How the gradient becomes a map."""

    times_input: bool = switch(False, label="Times input", help=TIMES_INPUT_HELP)


def _attribute_with(rules: Mapping[str, Rule]) -> Callable[..., RawMap]:
    def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
        gradient = network.gradient(x, target, rules)[0]
        return RawMap(gradient * x[0] if params.times_input else gradient)
    return attribute


METHODS = {
    "guided_backprop": Method(
        title="Guided Backpropagation", short="Guided BP", family="gradient", version=2, attribute=_attribute_with(GUIDED),
        passes=one_pass, params=Params, needs=(GRAPH, RELU),
        citation=Citation("Springenberg, Dosovitskiy, Brox, Riedmiller", "Striving for simplicity: the all convolutional "
                            "net", "ICLR workshop 2015", "section 3.4"),
        idea="The gradient, with negative values set to zero at each ReLU of the backward pass. It shows crisp edges of what excited "
             "the units.",
        equation=r"R^{l} = \mathbb{1}[h^{l} > 0]\; \mathbb{1}[R^{l+1} > 0]\; R^{l+1}",
        limits="Nearly the same for every class, and nearly unchanged when the last layers are re-initialised: it mostly restores the "
               "image's edges."),
    "deconvnet": Method(
        title="Deconvnet", family="gradient", version=2, attribute=_attribute_with(DECONVNET), passes=one_pass, params=Params,
        needs=(GRAPH, RELU),
        citation=Citation("Zeiler, Fergus", "Visualizing and understanding convolutional networks", "ECCV 2014", "section 2.1"),
        idea="The logit sent back through the transposed filters, with negative values set to zero at every ReLU. The forward ReLU "
             "gates are ignored; the max-pool switches are kept.",
        equation=r"R^{l} = \mathbb{1}[R^{l+1} > 0]\; R^{l+1}",
        limits="Follows the image more than the class. Without max-pooling it hardly depends on the image at all."),
}
