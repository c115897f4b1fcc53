"""Guided backpropagation and Deconvnet: two other rules for the way back through a ReLU.

Both are known to follow the image more than the class or the weights (Nie et al. 2018, Adebayo et al. 2018).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from explainers.context import Context
from explainers.contract import Method, RawMap, Reference, Target, switch
from explainers.methods.gradients import one_pass
from explainers.networks.classifier import Classifier
from explainers.networks.graph import Call, Rule


class _PositiveGradient(torch.autograd.Function):
    """The layer's own output; on the way back only positive gradients pass, where ``gate`` is open."""

    @staticmethod
    def forward(ctx, x: Tensor, output: Tensor, gate: Tensor | None) -> Tensor:
        ctx.gate = gate
        return output.view_as(output)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        passed = gradient.clamp(min=0)
        return (passed if ctx.gate is None else passed * ctx.gate), None, None


def _guided(call: Call, x: Tensor) -> Tensor:
    output = call.plain(x.detach())
    return _PositiveGradient.apply(x, output, output.eq(x.detach()) & (output > 0))


def _deconvnet(call: Call, x: Tensor) -> Tensor:
    return _PositiveGradient.apply(x, call.plain(x.detach()), None)


GUIDED: Mapping[str, Rule] = {"relu": _guided, "relu6": _guided}
DECONVNET: Mapping[str, Rule] = {"relu": _deconvnet, "relu6": _deconvnet}


@dataclass(frozen=True)
class Params:
    """How the map is shown."""

    times_input: bool = switch(False, label="Times input", help=(
        "Multiply by the image, as the DMBP paper does in its tables. Darker than mean pixels flip sign."))


def _along(rules: Mapping[str, Rule]):
    def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
        found = network.gradient(x, target, rules)[0]
        return RawMap(found * x[0] if params.times_input else found)
    return attribute


METHODS = {
    "guided_backprop": Method(
        title="Guided Backpropagation", family="gradient", attribute=_along(GUIDED), passes=one_pass, params=Params,
        needs=("graph", "relu"),
        reference=Reference("Springenberg, Dosovitskiy, Brox, Riedmiller", "Striving for simplicity: the all convolutional "
                            "net", "ICLR workshop 2015", "section 3.4"),
        idea="The gradient, with everything negative cut off at each ReLU on the way back: crisp edges of what excited the units.",
        equation=r"R^{l} = \mathbb{1}[h^{l} > 0]\; \mathbb{1}[R^{l+1} > 0]\; R^{l+1}",
        limits="Nearly the same for every class, and nearly unchanged when the weights of the last layers are re-drawn: it mostly "
               "restores the image's edges."),
    "deconvnet": Method(
        title="Deconvnet", family="gradient", attribute=_along(DECONVNET), passes=one_pass, params=Params,
        needs=("graph", "relu"),
        reference=Reference("Zeiler, Fergus", "Visualizing and understanding convolutional networks", "ECCV 2014", "section 2.1"),
        idea="The signal sent back through the transposed filters, rectified at every ReLU; the forward gates are ignored, the "
             "max-pool switches kept.",
        equation=r"R^{l} = \mathbb{1}[R^{l+1} > 0]\; R^{l+1}",
        limits="Follows the image more than the class. Without max-pooling it hardly depends on the image at all."),
}
