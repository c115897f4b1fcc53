"""RMSProp on the logits of the masks: three objectives of the paper's table 1, two ways to keep its state, two ways to stop.

The paper's objective is max(y - 2 y+, 2 y- - y), so each step pulls one branch only: y+ while y+ + y- < y, then y-. RMSProp divides
a gradient by the root of a running mean of its squares, and the paper's one optimiser has one such mean for both branches. Where
the gradients of y+ were much larger than those of y-, steps of y- are divided by the size of y+'s gradients, which takes hundreds
of steps to fade: the descent freezes once y+ + y- exceeds y. With a mean of its own a branch moves at its own scale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from explainers.methods.dmbp.masked import MaskedNetwork

DECAY, EPSILON = 0.99, 1e-8  # the defaults of torch.optim.RMSprop


class Settings(Protocol):
    """What the descent takes from the method's settings."""

    @property
    def iterations(self) -> int: ...
    @property
    def variant(self) -> str: ...
    @property
    def optimiser(self) -> str: ...
    @property
    def stop(self) -> str: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def rows(self) -> int: ...


@dataclass(frozen=True)
class Descent:
    """The course of an optimisation.

    trace: [y+, y-], or [y+] alone, before each step and after the last. vanishing: the fraction of mask values whose gradient was
    smaller than RMSProp's epsilon in the last step, so that the step hardly moved them; None where no step was made.
    """

    trace: list[list[float]]
    vanishing: float | None


def branches(y: float, variant: str, outputs: list[float]) -> dict[int, float]:
    """The outputs that the objective pulls at ``outputs``, with the factor of dL / d(sigma): -1 raises y+, and lowers y-.

    Output 1 is a function of 1 - sigma, so its derivative by sigma has the other sign. At y = y+ + y- the gradient of the branch
    y - 2 y+ is taken, which is a subgradient.
    """
    if variant == "dmbp_plus":
        return {0: -1.0}
    if variant == "dmbp_plus_minus":
        return {0: -1.0, 1: -1.0}
    return {0 if y >= sum(outputs) else 1: -2.0}


def branch_gradients(masked: MaskedNetwork, variant: str, outputs: list[float]) -> dict[int, Tensor]:
    """The summands of dL / d(sigma) at ``outputs``, each (count,), by the output that they pull."""
    return {row: masked.mask_gradient(row).mul_(factor) for row, factor in branches(masked.y, variant, outputs).items()}


def loss_gradient(masked: MaskedNetwork, variant: str, outputs: list[float]) -> Tensor:
    """dL / d(sigma) at ``outputs``, (count,)."""
    first, *others = branch_gradients(masked, variant, outputs).values()
    for other in others:
        first.add_(other)
    return first


def descend(masked: MaskedNetwork, params: Settings, report: Callable[[int], None]) -> Descent:
    """Optimise the masks from their initial values. ``report`` is called after each step with the number of steps made."""
    logits = masked.start.clone()
    sigma = logits.sigmoid()
    squares: dict[int, Tensor] = {}
    gradients: dict[int, Tensor] = {}
    masked.set(sigma)
    trace = [masked.outputs(params.rows)]
    for done in range(1, params.iterations + 1):
        if params.stop == "at_logit" and trace[-1][0] >= masked.y:
            break
        if params.optimiser == "per_branch":
            gradients = branch_gradients(masked, params.variant, trace[-1])
        else:
            gradients = {0: loss_gradient(masked, params.variant, trace[-1])}
        for branch, gradient in gradients.items():
            gradient.mul_(sigma).addcmul_(gradient, sigma, value=-1)  # times sigma (1 - sigma): the gradient by the logits
            if branch not in squares:
                squares[branch] = torch.zeros_like(logits)
            squares[branch].mul_(DECAY).addcmul_(gradient, gradient, value=1 - DECAY)
            logits.addcdiv_(gradient, squares[branch].sqrt().add_(EPSILON), value=-params.learning_rate)
        torch.sigmoid(logits, out=sigma)
        masked.set(sigma)
        report(done)
        trace.append(masked.outputs(params.rows))
    return Descent(trace, _vanishing(list(gradients.values())) if gradients else None)


def _vanishing(gradients: Sequence[Tensor]) -> float:
    """The fraction of entries that are smaller than epsilon in all of the gradients."""
    if not len(gradients[0]):
        return 1.0
    return float((torch.stack([gradient.abs() for gradient in gradients]).amax(0) < EPSILON).float().mean())
