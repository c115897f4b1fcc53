"""The protocols of insertion and deletion: what each paper replaces pixels by, at which resolution, and how many at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from explainers.baselines import blur, i_gos_blur, rise_blur
from explainers.contract import ParameterError, Passes
from explainers.metrics.maps import Map, magnitude_map, signed_map

BASELINES = ("zero", "black", "mean", "blur", "noise")
OUTPUTS = ("softmax", "sigmoid")
ORDERS = ("value", "magnitude")

Baseline = str | Tensor


@dataclass(frozen=True)
class Protocol:
    """A paper's way of measuring. ``smooth``: at the map's own resolution, each cell enlarged bilinearly; else pixel by pixel."""

    title: str
    says: str  # for people, in plain words
    insertion: str  # the baselines
    deletion: str
    blur: Callable[[Tensor], Tensor]
    step: Callable[[int, int], int]  # cells a step, from rows and columns
    smooth: bool = False


PROTOCOLS = {
    "rise": Protocol(
        "RISE", "Pixel by pixel, one image row's worth at a time. Deletion paints pixels in the training set's mean colour; "
        "insertion starts from a lightly blurred picture.",
        "blur", "zero", rise_blur, lambda rows, columns: columns),
    "dmbp": Protocol(
        "DMBP", "RISE's protocol, for the labelled class (its insertion curve is that paper's IM). With other labels in the picture "
        "it adds cIM: their probability while the lowest attributions come first.",
        "blur", "zero", rise_blur, lambda rows, columns: columns),
    "i_gos": Protocol(
        "I-GOS", "Each map at its own resolution, cell by cell, the cells' edges softened. Both curves blend with a strongly "
        "blurred picture, which has no hard borders that the network could mistake for something.",
        "blur", "blur", i_gos_blur, lambda rows, columns: max(1, rows * columns // 200), smooth=True),
    "input_iba": Protocol(
        "InputIBA", "Pixel by pixel. Deletion paints pixels black; insertion starts from a blurred picture.",
        "blur", "black", lambda x: blur(x, sigma=15, radius=14), lambda rows, columns: columns),
}


@dataclass(frozen=True)
class Terms:
    """A protocol with what was chosen otherwise. Raises ParameterError for what does not exist."""

    protocol: str = "rise"
    baseline: Baseline | tuple[Baseline, Baseline] | None = None
    step: int | None = None
    resolution: int | None = None
    output: str = "softmax"
    labels: tuple[int, ...] = ()
    order_by: str = "value"

    def __post_init__(self) -> None:
        _one_of("protocol", self.protocol, tuple(PROTOCOLS))
        _one_of("output", self.output, OUTPUTS)
        _one_of("order_by", self.order_by, ORDERS)
        for name in self.baselines:
            if not isinstance(name, Tensor):
                _one_of("baseline", name, BASELINES)
        for name in ("step", "resolution"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1):
                raise ParameterError(f"{name} must be a whole number from 1 on, or None for the protocol's own, not {value!r}.")
        if self.labels and self.protocol != "dmbp":
            raise ParameterError("Other labels belong to cIM, which only the protocol 'dmbp' has.")

    @property
    def rules(self) -> Protocol:
        """The protocol itself."""
        return PROTOCOLS[self.protocol]

    @property
    def baselines(self) -> tuple[Baseline, Baseline]:
        """For insertion and for deletion."""
        if self.baseline is None:
            return self.rules.insertion, self.rules.deletion
        return self.baseline if isinstance(self.baseline, tuple) else (self.baseline, self.baseline)

    def cells(self, given: Map, size: tuple[int, int]) -> np.ndarray:
        """The map at the resolution in which it is ordered, never finer than the image."""
        resampled = signed_map if self.order_by == "value" else magnitude_map
        if self.resolution is not None:
            if self.resolution > min(size):
                raise ParameterError(f"resolution must be at most the image's {min(size)} pixels, not {self.resolution}.")
            return resampled(given, (self.resolution, self.resolution))
        if not self.rules.smooth:
            return resampled(given, size)
        own = resampled(given)
        return own if own.shape[0] <= size[0] and own.shape[1] <= size[1] else resampled(given, size)

    def counts(self, shape: tuple[int, int]) -> np.ndarray:
        """How many cells are changed at each point, from none to all."""
        total, step = shape[0] * shape[1], self.cells_a_step(shape)
        return np.append(np.arange(0, total, step), total)

    def cells_a_step(self, shape: tuple[int, int]) -> int:
        """How many cells of a map of (rows, columns) change between two points."""
        return min(self.step or self.rules.step(*shape), shape[0] * shape[1])

    def passes(self, shapes: Sequence[tuple[int, int]]) -> Passes:
        """Of maps of these shapes, measured together: one for the image, one a baseline, and the points in between."""
        curves = 3 if self.labels else 2
        return Passes(1 + len(distinct(self.baselines)) + sum(curves * (len(self.counts(shape)) - 2) for shape in shapes))


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ParameterError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}.")


def distinct(baselines: tuple[Baseline, Baseline]) -> list[Baseline]:
    """One baseline where insertion and deletion share it, else both."""
    first, second = baselines
    same = first is second or (isinstance(first, str) and isinstance(second, str) and first == second)
    return [first] if same else [first, second]
