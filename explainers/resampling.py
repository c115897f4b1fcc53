"""Resampling of maps and masks to another resolution, and reduction of their channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor
from torch.nn import functional as F


def size_of(values: Tensor | np.ndarray) -> tuple[int, int]:
    """Rows and columns of a map or of a batch of images: the last two axes."""
    rows, columns = values.shape[-2:]
    return rows, columns


def resample(values: Tensor, size: Sequence[int], how: str) -> Tensor:
    """Resample a map (h, w) to ``size``. A map that shrinks is averaged over areas, so that no value is skipped.

    how: ``nearest`` repeats cells. ``bilinear`` blends them and places a cell's value at the cell's middle. ``corners`` also
    blends them, but places the outer cells' values on the image's corners (PyTorch's ``align_corners``), as methods that
    optimise a mask do.
    """
    shrinks = values.shape[0] > size[0] or values.shape[1] > size[1]
    mode = "area" if shrinks else {"corners": "bilinear"}.get(how, how)
    align = {"align_corners": how == "corners"} if mode == "bilinear" else {}
    return F.interpolate(values[None, None], size=tuple(size), mode=mode, **align)[0, 0]


def enlarge(masks: Tensor, size: Sequence[int]) -> Tensor:
    """Masks (N, 1, r, r) to (N, 1, H, W), bilinear, with the outer cells' values on the image's corners."""
    return F.interpolate(masks, size=tuple(size), mode="bilinear", align_corners=True)


def reduce_channels(native: Tensor, reduction: str) -> Tensor:
    """A map (C, h, w) to (h, w). reduction: ``sum`` adds the signed values, ``max_abs`` keeps the largest magnitude."""
    if reduction == "sum":
        return native.sum(0)
    if reduction == "max_abs":
        return native.abs().amax(0)
    raise ValueError(f"reduction must be 'sum' or 'max_abs', not {reduction!r}")
