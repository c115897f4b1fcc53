"""The protocols of insertion and deletion: what each paper replaces pixels by, at which resolution, and how many at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from explainers.baselines import blur, i_gos_blur, rise_blur
from explainers.errors import ParameterError
from explainers.metrics.maps import Map, magnitude_map, signed_map
from explainers.parameters import choice, integer, other, parameters_of
from explainers.passes import Passes

BASELINES = ("zero", "black", "mean", "blur", "noise")
OUTPUTS = ("softmax", "sigmoid")
ORDERS = ("value", "magnitude")
COARSE_STEPS = (8, 16, 32)  # of curves that are measured before the finest one; each takes about twice the passes of the one before
FEWER_STEPS = (4, 2)  # of the first curve, where the coarsest of these takes too long for a first answer

Baseline = str | Tensor


@dataclass(frozen=True)
class Protocol:
    """A paper's way of measuring.

    says: a description for people. insertion, deletion: the names of the baselines. step: the number of cells that change between two
    points, from the rows and columns of the map. smooth: cells are those of the map's own resolution and their mask is enlarged
    bilinearly; else they are pixels.
    """

    title: str
    says: str
    insertion: str
    deletion: str
    blur: Callable[[Tensor], Tensor]
    step: Callable[[int, int], int]
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
class Params:
    """A protocol, and what of it is chosen otherwise. Raises ParameterError for what does not exist."""

    protocol: str = choice("rise", *PROTOCOLS, label="Protocol", help=(
        "Which paper's way of measuring. The order of methods differs between protocols: compare numbers only within one."))
    baseline: Baseline | tuple[Baseline, Baseline] | None = other(
        None, takes=f"one of {', '.join(map(repr, BASELINES))}, a tensor of the image's shape, a pair of those, or None",
        label="Baseline", help=(
            "What takes the place of removed pixels; a pair is for insertion and for deletion. None: the protocol's own. zero: the "
            "training set's mean colour. mean: this image's mean colour. blur: by the protocol's kernel. noise: one seeded draw."))
    step: int | None = integer(None, low=1, high=10**9, label="Cells a step", help=(
        "How many cells change between two points of a curve. None: the protocol's own."))
    resolution: int | None = integer(None, low=1, high=10**5, label="Cells a side", help=(
        "The grid of cells that are added or removed. None: the map's own in the protocol i_gos, every pixel in the others."))
    output: str = choice("softmax", *OUTPUTS, label="Probabilities", help=(
        "softmax: the classes' probabilities add up to 1. sigmoid: each class by itself, for networks trained with several labels."))
    labels: tuple[int, ...] = other((), takes="class indices", label="Other labels", help=(
        "Other classes in the picture, for cIM in the protocol dmbp: their mean insertion AUC, lowest attributions first. They need "
        "the order by value."))
    order_by: str = choice("value", *ORDERS, label="Order by", help=(
        "value: what speaks most for the class comes first. magnitude: what is strongest either way, for maps whose sign is no "
        "evidence for or against the class."))
    most_steps: int | None = integer(None, low=1, high=10**9, label="Steps at most", help=(
        "For a quick, coarse curve: whole multiples of the step are taken, so that a curve has no more steps than this. All its "
        "points are points of the finer curve. None: no limit."))

    def __post_init__(self) -> None:
        for parameter in parameters_of(type(self)):
            parameter.check(getattr(self, parameter.name))
        for name in self.baselines:
            if not isinstance(name, Tensor) and name not in BASELINES:
                raise ParameterError(f"baseline must be one of {', '.join(map(repr, BASELINES))}, not {name!r}.")
        if self.labels and self.protocol != "dmbp":
            raise ParameterError("Other labels belong to cIM, which only the protocol 'dmbp' has.")
        if self.labels and self.order_by != "value":
            raise ParameterError("cIM orders by value: the lowest attributions come first, and a magnitude is never low for what "
                                 "speaks against the class. Choose order_by='value', or leave the labels out.")

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
        total = shape[0] * shape[1]
        step = min(self.step or self.rules.step(*shape), total)
        if self.most_steps is None:
            return step
        steps = -(-total // step)
        return min(step * -(-steps // self.most_steps), total)

    def steps(self, shape: tuple[int, int]) -> int:
        """How many steps a curve of a map of (rows, columns) has."""
        return -(-shape[0] * shape[1] // self.cells_a_step(shape))

    def passes(self, shapes: Sequence[tuple[int, int]]) -> Passes:
        """Of maps of these shapes, measured together: one for the image, one a baseline, and the points in between."""
        curves = 3 if self.labels else 2
        return Passes(1 + len(distinct(self.baselines)) + sum(curves * (len(self.counts(shape)) - 2) for shape in shapes))


def distinct(baselines: tuple[Baseline, Baseline]) -> list[Baseline]:
    """One baseline where insertion and deletion share it, else both."""
    first, second = baselines
    same = first is second or (isinstance(first, str) and isinstance(second, str) and first == second)
    return [first] if same else [first, second]
