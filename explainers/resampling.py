"""Bringing maps and masks from one resolution to another."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def resample(values: Tensor, size: tuple[int, int], how: str) -> Tensor:
    """(h, w) to ``size``. A map that shrinks is averaged over area, so that no value is skipped.

    how: ``nearest`` repeats cells. ``bilinear`` blends them and places a cell's value at the cell's middle. ``corners`` also
    blends them, but places the outer cells' values on the image's corners (PyTorch's ``align_corners``), as methods that
    optimise a mask do.
    """
    shrinks = values.shape[0] > size[0] or values.shape[1] > size[1]
    mode = "area" if shrinks else {"corners": "bilinear"}.get(how, how)
    align = {"align_corners": how == "corners"} if mode == "bilinear" else {}
    return F.interpolate(values[None, None], size=tuple(size), mode=mode, **align)[0, 0]


def enlarge(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, 1, r, r) to (N, 1, H, W), bilinear, with the outer cells' values on the image's corners."""
    return F.interpolate(masks, size=size, mode="bilinear", align_corners=True)


def reduce_channels(native: Tensor, reduction: str) -> Tensor:
    """(C, h, w) to (h, w). reduction: ``sum`` adds the signed values, ``max_abs`` keeps the largest magnitude."""
    if reduction == "sum":
        return native.sum(0)
    if reduction == "max_abs":
        return native.abs().amax(0)
    raise ValueError(f"reduction must be 'sum' or 'max_abs', not {reduction!r}")
