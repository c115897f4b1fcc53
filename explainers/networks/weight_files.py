"""The compact files of the embedded networks' weights: ``packed`` for writing, ``unpacked`` for reading.

A tensor is stored in one of three forms, which its type tells apart:

* float16, for small tensors;
* int8, whole levels from -127 to 127, with one float32 scale for each row (of a kernel: for each output channel);
* uint8, whole levels from -31 to 31 in 6 bits, four of them in three bytes, with one scale for each row. Only dense matrices have
  this form, because they are by far the largest tensors and their outputs add up many small errors of rounding.

The scales of the tensor ``name`` are stored as ``name + SCALE``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE = ".row_scale"
SIX_BITS_FROM = 30_000  # a dense matrix with at least this many weights is stored in 6 bits
INT8_FROM = 2_000  # any other tensor with at least this many weights, and at least two axes, is stored as int8
_MOST = 31  # the largest level of 6 bits; stored as level + 31, from 0 to 62


def packed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A compact state dict. Counters of batches are left out, because nothing in evaluation uses them."""
    small: dict[str, Tensor] = {}
    for key, value in weights.items():
        if key.endswith("num_batches_tracked"):
            continue
        if value.dim() == 2 and value.numel() >= SIX_BITS_FROM and value.shape[1] % 4 == 0:
            levels, small[key + SCALE] = _levels(value, _MOST)
            small[key] = six_bits(levels)
        elif value.dim() >= 2 and value.numel() >= INT8_FROM:
            small[key], small[key + SCALE] = _levels(value, 127)
        else:
            small[key] = value.half().contiguous()
    return small


def unpacked(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict as float32 that ``packed`` stored."""
    weights = {}
    for key, value in stored.items():
        if key.endswith(SCALE):
            continue
        if value.dtype == torch.uint8:
            value = levels_of(value)
        weights[key] = value.float()
        if value.dtype == torch.int8:
            weights[key] *= _by_row(stored[key + SCALE].float(), value)
    return weights


def six_bits(levels: Tensor) -> Tensor:
    """Levels from -31 to 31, int8 (rows, columns), columns a multiple of 4, as bytes: uint8 (rows, columns * 3 / 4)."""
    a, b, c, d = (levels.to(torch.int16) + _MOST).unflatten(1, (-1, 4)).unbind(2)
    three = torch.stack((a << 2 | b >> 4, (b & 15) << 4 | c >> 2, (c & 3) << 6 | d), 2)
    return three.flatten(1).to(torch.uint8)


def levels_of(packed_bytes: Tensor) -> Tensor:
    """The int8 levels that ``six_bits`` has packed."""
    first, second, third = packed_bytes.to(torch.int16).unflatten(1, (-1, 3)).unbind(2)
    four = (first >> 2, (first & 3) << 4 | second >> 4, (second & 15) << 2 | third >> 6, third & 63)
    return (torch.stack(four, 2).flatten(1) - _MOST).to(torch.int8)


def _levels(value: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """int8 levels from -most to most of the tensor's shape, and the scale of each row, which makes its largest weight ``most``."""
    scale = value.abs().flatten(1).amax(1).clamp(min=1e-12) / most
    return (value / _by_row(scale, value)).round().to(torch.int8).contiguous(), scale


def _by_row(scale: Tensor, like: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (like.dim() - 1))
