"""The answer to one question: a map, with its cost and warnings about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explainers.passes import Passes
from explainers.resampling import reduce_channels, resample
from explainers.target import Target

FLAT = 1e-6  # a range below this fraction of the largest magnitude is rounding: the map is the same everywhere
STILL = 0.01  # a trace whose range is below this fraction of its largest magnitude has not moved
IMPROBABLE = 0.01  # a class below this probability is not what the network sees


@dataclass(frozen=True)
class Attribution:
    """One map.

    native: (C, h, w) float32 on the CPU, signed, at the method's own resolution. passes: what this map costs when it is
    computed alone. seconds: how long this run took. flags: sentences that warn about the map (see ``health`` and
    ``unmoved``), if there is reason to. extras: the method's auxiliary outputs by name.
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
    low, high = map(float, native.aminmax())  # both NaN where any value is
    if not (isfinite(low) and isfinite(high)):
        return (f"{int((~torch.isfinite(native)).sum())} of {native.numel()} values are not finite and shown as 0",)
    largest = max(-low, high)
    if largest < torch.finfo(torch.float32).tiny:
        return ("the map is zero everywhere",)
    if high - low <= FLAT * largest:
        return ("the map is the same everywhere",)
    return ()


def unmoved(traces: Mapping[str, Sequence[float]]) -> tuple[str, ...]:
    """A warning where a method that goes in steps ended where it began, so that its map is little more than its start.

    traces: the values of each quantity that the method follows (its loss, a probability) at every step, by title. If one of them
    moved, the method moved.
    """
    followed = {title: values for title, values in traces.items() if len(values) > 1}
    if not followed or any(_moved(values) for values in followed.values()):
        return ()
    steps = max(len(values) for values in followed.values()) - 1
    ends = "; ".join(f"{title}: {values[0]:.3g} before, {values[-1]:.3g} after" for title, values in followed.items())
    return (f"it ended where it began: in {steps} step{'s' if steps > 1 else ''} nothing moved ({ends})".replace("-", "\u2212"),)


def _moved(values: Sequence[float]) -> bool:
    """Whether the range of a trace is more than ``STILL`` of its largest magnitude."""
    return not np.ptp(values) <= STILL * np.abs(values).max()  # NaN, too, has moved


@dataclass(frozen=True)
class Standing:
    """What the network thinks of an explained class: its probability, its rank (1: the most probable) and among how many classes."""

    probability: float
    rank: int
    classes: int

    @classmethod
    def of(cls, index: int, probabilities: np.ndarray) -> Standing:
        """Of the class ``index``. probabilities: (K,). Classes of equal probability rank in their order."""
        order = np.argsort(-probabilities, kind="stable")
        return cls(float(probabilities[index]), int(np.flatnonzero(order == index)[0]) + 1, len(probabilities))

    @property
    def is_doubtful(self) -> bool:
        """Whether a map of the class must be read with care: the class is not the first choice, or has hardly any probability."""
        return self.rank > 1 or self.probability < IMPROBABLE
