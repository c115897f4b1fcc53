"""What a method declares, what it is given and what it returns.

A method is one file in ``explainers/methods``: a typed parameter dataclass, a function ``attribute`` and a
``Method`` that declares the rest. Its widgets, card, cost line, colour map and tests follow from that declaration.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from explainers.context import Context
    from explainers.networks.classifier import Classifier

Target = int | tuple[int, int]
"""A class index, or ``(a, b)`` for the contrast logit a - logit b."""


class ExplainerError(Exception):
    """Something a person can mend; the message is one sentence that says how."""


class ParameterError(ExplainerError, ValueError):
    """A parameter that the method does not take, or a value outside its range."""


class UnsupportedError(ExplainerError):
    """The method cannot explain this network; the message says what is missing."""


class Cancelled(Exception):
    """The progress callback asked to stop. Nothing was stored."""


@dataclass(frozen=True)
class Passes:
    """Images sent forward through the network and gradients sent back. One image is 1."""

    forward: float = 0
    backward: float = 0

    def __add__(self, other: Passes) -> Passes:
        return Passes(self.forward + other.forward, self.backward + other.backward)

    def __sub__(self, other: Passes) -> Passes:
        return Passes(self.forward - other.forward, self.backward - other.backward)

    def __mul__(self, times: float) -> Passes:
        return Passes(self.forward * times, self.backward * times)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method, as its widget, its card and its check need it."""

    name: str
    kind: str  # "integer", "real", "choice", "switch" or "layer"
    label: str
    help: str
    default: Any
    low: float | None = None
    high: float | None = None
    step: float | None = None
    options: tuple[str, ...] = ()

    def check(self, value: Any) -> Any:
        """The value in the declared type; a number may name an option (28 is '28'). Raises ParameterError outside the range."""
        if self.kind == "choice" and _is_number(value):
            value = f"{value:g}"
        allowed = {
            "switch": lambda: isinstance(value, bool),
            "choice": lambda: value in self.options,
            "layer": lambda: isinstance(value, str),
            "integer": lambda: _is_number(value) and float(value).is_integer() and self.low <= value <= self.high,
            "real": lambda: _is_number(value) and self.low <= value <= self.high,
        }[self.kind]()
        if not allowed:
            raise ParameterError(f"{self.name} must be {self.range_in_words()}, not {value!r}.")
        return {"integer": int, "real": float}.get(self.kind, lambda same: same)(value)

    def range_in_words(self) -> str:
        if self.kind == "choice":
            return "one of " + ", ".join(map(repr, self.options))
        if self.kind == "switch":
            return "True or False"
        if self.kind == "layer":
            return "'auto' or the name of a feature layer"
        return f"{'a whole number' if self.kind == 'integer' else 'a number'} from {self.low:g} to {self.high:g}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and math.isfinite(value)


def _declare(kind: str, default: Any, **facts: Any) -> Any:
    return field(default=default, metadata={"kind": kind, **facts})


def integer(default: int, *, low: int, high: int, label: str, help: str, step: int = 1) -> Any:
    """A whole-number field of a parameter dataclass, with its range."""
    return _declare("integer", default, low=low, high=high, step=step, label=label, help=help)


def real(default: float, *, low: float, high: float, label: str, help: str, step: float = 0.01) -> Any:
    """A real-number field of a parameter dataclass, with its range."""
    return _declare("real", default, low=low, high=high, step=step, label=label, help=help)


def choice(default: str, *options: str, label: str, help: str) -> Any:
    """A field that takes one of a few words."""
    return _declare("choice", default, options=options, label=label, help=help)


def switch(default: bool, *, label: str, help: str) -> Any:
    """A yes-or-no field."""
    return _declare("switch", default, label=label, help=help)


def layer(*, label: str, help: str, default: str = "auto") -> Any:
    """A field that names a feature layer of the network; ``auto`` is the network's own default."""
    return _declare("layer", default, label=label, help=help)


@dataclass(frozen=True)
class NoParameters:
    """The parameters of a method that has none."""


@dataclass(frozen=True)
class Reference:
    """Where a method comes from."""

    authors: str
    title: str
    venue: str
    section: str = ""

    def __str__(self) -> str:
        return f"{self.authors}: {self.title}. {self.venue}" + (f", {self.section}." if self.section else ".")


@dataclass(frozen=True)
class RawMap:
    """What a method computes: the runner adds who asked, for what, and what it cost.

    ``native`` is (C, h, w), signed, at the method's own resolution. ``extras`` hold tensors, numbers, strings and
    lists of them. ``reduction`` says how channels become one map: ``sum`` or ``max_abs`` (the largest magnitude).
    ``signed`` is False where these parameters make a signed method's map non-negative.
    """

    native: Tensor
    extras: dict[str, Any] = field(default_factory=dict)
    reduction: str = "sum"
    signed: bool = True


@dataclass(frozen=True)
class Extra:
    """Something beside the map that explains it: the entry ``name`` of ``extras``, and how it is to be drawn.

    kind: "map" (signed) and "strength" (non-negative), tensors (h, w) or (C, h, w) whose channels add up; "share", (h, w) from 0
    to 1; "pictures", (N, C, H, W) in the network's own scale, one picture, or the image itself and one for each iteration;
    "signal", (C, h, w), a picture where it has the input's shape and a map, its channels averaged, where it lies deeper;
    "trace", a list of numbers, one a step; "number"; "text". make: computes it from the image (1, C, H, W) and the extras, where
    only its parts are kept. numbers: of pictures, the names of lists in the extras with one number for each. unit: of a trace or
    a number; traces of one unit share a chart. Settings may leave an extra out.
    """

    name: str
    title: str
    kind: str
    help: str
    unit: str = ""
    make: Callable[[Tensor, Mapping[str, Any]], Tensor] | None = None
    numbers: tuple[str, ...] = ()

    def of(self, x: Tensor, extras: Mapping[str, Any]) -> Any:
        """Its value, or None where these settings leave it out. x: the explained image."""
        if self.name not in extras:
            return None
        return self.make(x, extras) if self.make else extras[self.name]


@dataclass(frozen=True)
class Method:
    """A method's declaration. ``key`` is its name in Python and in links; ``title`` is its name for people."""

    title: str
    reference: Reference
    idea: str  # one or two sentences
    equation: str  # LaTeX, without dollar signs
    limits: str  # when the map misleads
    attribute: Callable[[Classifier, Tensor, Target, Any, Context], RawMap]
    passes: Callable[[Any], Passes]
    family: str  # "gradient", "activation", "perturbation", "optimisation" or "control"
    passes_on: Callable[[Any, Classifier], Passes] | None = None  # of a method that runs parts of the network: ``passes`` at most
    params: type = NoParameters
    needs: tuple[str, ...] = ()  # of "graph", "relu", "piecewise_linear", "invertible", "features", "reference": see Classifier.lacks
    signed: bool = True
    upsample: str = "bilinear"  # or "nearest", "corners": how the native map is brought to the input's resolution
    shows: tuple[Extra, ...] = ()  # what beside the map explains something
    version: int = 1  # part of the cache key: raise it when the same request would give another map
    key: str = ""  # filled from the file's name by explainers.methods

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The declared parameters, in the order of the dataclass."""
        return tuple(Parameter(name=f.name, default=f.default, **f.metadata) for f in dataclasses.fields(self.params))

    def cost(self, settings: Any, network: Classifier) -> Passes:
        """The passes of one map of this network. What is fitted once on the reference set is not among them."""
        return self.passes_on(settings, network) if self.passes_on else self.passes(settings)

    def settings(self, **values: Any) -> Any:
        """A checked instance of the parameter dataclass. Raises ParameterError."""
        declared = {p.name: p for p in self.parameters}
        for name in values:
            if name not in declared:
                takes = ", ".join(declared) or "no parameters"
                raise ParameterError(f"{self.title} has no parameter {name!r}; it takes {takes}.")
        return self.params(**{name: declared[name].check(value) for name, value in values.items()})


@dataclass(frozen=True)
class Metric:
    """A metric's declaration, as its card shows it. ``key`` is its name in Python."""

    title: str
    reference: Reference
    idea: str  # one or two sentences: what it measures, and which way is better
    equation: str  # LaTeX, without dollar signs
    limits: str  # when the number misleads
    key: str = ""  # filled from the file's name by explainers.metrics


@dataclass(frozen=True)
class Attribution:
    """The answer to one request.

    native: (C, h, w) float32 on the CPU, signed. passes: what this map costs when it is computed alone. seconds: what it
    took this time. flags: sentences about the map's health, empty when all is well. extras: what else the method shows.
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

    def heatmap(self, size: tuple[int, int] | None = None) -> np.ndarray:
        """The signed map as float32 (H, W), by default at the input's resolution; never NaN.

        Channels become one by ``reduction``; then the map is resampled by ``upsample``.
        """
        size = size or self.input_size
        flat = reduce_channels(torch.nan_to_num(self.native, nan=0.0, posinf=0.0, neginf=0.0), self.reduction)
        if tuple(flat.shape) != tuple(size):
            flat = resample(flat, size, self.upsample)
        return flat.numpy().astype(np.float32, copy=True)


def reduce_channels(native: Tensor, reduction: str) -> Tensor:
    """(C, h, w) to (h, w): the signed sum, or the magnitude of the strongest channel."""
    if reduction == "sum":
        return native.sum(0)
    if reduction == "max_abs":
        return native.abs().amax(0)
    raise ValueError(f"unknown reduction {reduction!r}")


def resample(flat: Tensor, size: tuple[int, int], how: str) -> Tensor:
    """(h, w) to ``size``; a map that shrinks is averaged over area, so that no evidence is skipped.

    ``nearest`` repeats cells; ``bilinear`` blends them, each cell's value at its middle; ``corners`` blends them with the
    outer cells' values on the image's corners, as methods that optimise a mask enlarge it (PyTorch's ``align_corners``).
    """
    shrinks = flat.shape[0] > size[0] or flat.shape[1] > size[1]
    mode = "area" if shrinks else {"corners": "bilinear"}.get(how, how)
    options = {"align_corners": how == "corners"} if mode == "bilinear" else {}
    return F.interpolate(flat[None, None], size=tuple(size), mode=mode, **options)[0, 0]


def health(native: Tensor) -> tuple[str, ...]:
    """What a person must know before trusting the map: it is empty, flat or not finite."""
    if not torch.isfinite(native).all():
        return (f"{int((~torch.isfinite(native)).sum())} of {native.numel()} values are not finite and shown as 0",)
    if native.abs().max() == 0:
        return ("the map is zero everywhere",)
    if native.max() == native.min():
        return ("the map is the same everywhere",)
    return ()
