"""A value with another gradient than its own: what most rules for the layers of a backward pass are made of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _WithSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, factors: tuple[Tensor | float, ...], *terms: Tensor) -> Tensor:
        ctx.factors = factors
        return value.detach()  # not a view of it, which for one image would lose its memory format, channels last

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(gradient * factor for factor in ctx.factors)


def with_slope(value: Tensor, *terms: tuple[Tensor | float, Tensor]) -> Tensor:
    """``value``, whose gradient is that of the sum of factor * term over the given pairs (factor, term).

    The terms have the shape of ``value``; a factor may also be a number, or a tensor that broadcasts to this shape. The values of the
    terms do not count, and there is no second derivative.
    """
    factors, summands = zip(*terms, strict=True)
    return _WithSlope.apply(value, factors, *summands)
