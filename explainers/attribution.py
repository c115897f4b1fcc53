"""The answer to one question: a map, with its cost and warnings about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explainers.passes import Passes
from explainers.resampling import reduce_channels, resample
from explainers.target import Target


@dataclass(frozen=True)
class Attribution:
    """One map.

    native: (C, h, w) float32 on the CPU, signed, at the method's own resolution. passes: what this map costs when it is
    computed alone. seconds: how long this run took. flags: sentences that warn about the map (see ``health``), if there is
    reason to. extras: the method's auxiliary outputs by name.
    """

    native: Tensor
    method: str
    target: Target
    params: Mapping[str, Any]
    seed: int
    network: str
    input_size: tuple[int, int]
    signed: bool
    reduction: str
    upsample: str
    passes: Passes
    seconds: float
    flags: tuple[str, ...] = ()
    extras: dict[str, Any] = field(default_factory=dict)

    def heatmap(self, size: Sequence[int] | None = None) -> np.ndarray:
        """The signed map as float32 (H, W), by default at the input's resolution. Values that are not finite become 0.

        The channels are reduced to one by ``reduction``; then the map is resampled by ``upsample``.
        """
        size = size or self.input_size
        flat = reduce_channels(torch.nan_to_num(self.native, nan=0.0, posinf=0.0, neginf=0.0), self.reduction)
        if tuple(flat.shape) != tuple(size):
            flat = resample(flat, size, self.upsample)
        return flat.numpy().astype(np.float32, copy=True)


def health(native: Tensor) -> tuple[str, ...]:
    """Warnings for whoever reads the map: it has values that are not finite, is zero or is constant."""
    if not torch.isfinite(native).all():
        return (f"{int((~torch.isfinite(native)).sum())} of {native.numel()} values are not finite and shown as 0",)
    if native.abs().max() == 0:
        return ("the map is zero everywhere",)
    if native.max() == native.min():
        return ("the map is the same everywhere",)
    return ()
