"""Declared parameters: the fields of a method's or a metric's settings, with their ranges, labels and help texts.

A settings dataclass declares each field by one of the functions below. The field's widget, its row on the method's card and its
check are made from that declaration.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from explainers.errors import ParameterError


@dataclass(frozen=True)
class Parameter:
    """The declaration of one parameter.

    kind: "integer", "real", "choice", "switch", "layer", or "other" for a value that the settings dataclass checks in its
    ``__post_init__``; ``takes`` then describes the allowed values. optional: None is allowed and leaves the choice to the method
    or the metric.
    """

    name: str
    kind: str
    label: str
    help: str
    default: Any
    low: float = 0
    high: float = 0
    step: float = 1
    options: tuple[str, ...] = ()
    optional: bool = False
    takes: str = ""

    def check(self, value: Any) -> Any:
        """The value in the declared type; a number stands for the option of that name (28 for '28'). Raises ParameterError."""
        if self.kind == "other" or (self.optional and value is None):
            return tuple(value) if isinstance(value, list) else value
        if self.kind == "choice" and _is_number(value):
            value = f"{value:g}"
        if not self._allows(value):
            raise ParameterError(f"{self.name} must be {self.range_in_words()}, not {value!r}.")
        if self.kind == "integer":
            return int(value)
        return float(value) if self.kind == "real" else value

    def _allows(self, value: Any) -> bool:
        if self.kind == "switch":
            return isinstance(value, bool)
        if self.kind == "choice":
            return value in self.options
        if self.kind == "layer":
            return isinstance(value, str)
        whole = self.kind == "real" or (_is_number(value) and float(value).is_integer())
        return _is_number(value) and whole and self.low <= value <= self.high

    def range_in_words(self) -> str:
        """The values that ``check`` accepts, as words for a message."""
        words = self.takes or {
            "choice": "one of " + ", ".join(map(repr, self.options)),
            "switch": "True or False",
            "layer": "'auto' or the name of a feature layer",
            "integer": f"a whole number from {self.low:g} to {self.high:g}",
            "real": f"a number from {self.low:g} to {self.high:g}",
        }[self.kind]
        return f"{words}, or None" if self.optional else words


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and math.isfinite(value)


def _declare(kind: str, default: Any, **facts: Any) -> Any:
    return field(default=default, metadata={"kind": kind, **facts})


def integer(default: int | None, *, low: int, high: int, label: str, help: str, step: int = 1) -> Any:
    """A whole-number field of a settings dataclass, with its range. A default of None makes it optional."""
    return _declare("integer", default, low=low, high=high, step=step, label=label, help=help, optional=default is None)


def real(default: float, *, low: float, high: float, label: str, help: str, step: float = 0.01) -> Any:
    """A real-number field of a settings dataclass, with its range."""
    return _declare("real", default, low=low, high=high, step=step, label=label, help=help)


def choice(default: str, *options: str, label: str, help: str) -> Any:
    """A field that takes one of the given strings."""
    return _declare("choice", default, options=options, label=label, help=help)


def switch(default: bool, *, label: str, help: str) -> Any:
    """A field that is True or False."""
    return _declare("switch", default, label=label, help=help)


def layer(*, label: str, help: str, default: str = "auto") -> Any:
    """A field that names a feature layer of the network; ``auto`` is the network's own default."""
    return _declare("layer", default, label=label, help=help)


def other(default: Any, *, takes: str, label: str, help: str) -> Any:
    """A field that the settings dataclass checks in ``__post_init__``; ``takes`` describes the allowed values."""
    return _declare("other", default, takes=takes, label=label, help=help)


@dataclass(frozen=True)
class NoParameters:
    """The settings of a method or a metric that has none."""


def parameters_of(settings: type) -> tuple[Parameter, ...]:
    """The parameters that a settings dataclass declares, in its order."""
    return tuple(Parameter(name=f.name, default=f.default, **f.metadata) for f in dataclasses.fields(settings))


def checked(settings: type, title: str, values: dict[str, Any]) -> Any:
    """An instance of the settings dataclass with these values. ``title`` names its owner in messages. Raises ParameterError."""
    declared = {parameter.name: parameter for parameter in parameters_of(settings)}
    for name in values:
        if name not in declared:
            takes = ", ".join(declared) or "no parameters"
            raise ParameterError(f"{title} has no parameter {name!r}; it takes {takes}.")
    return settings(**{name: declared[name].check(value) for name, value in values.items()})
