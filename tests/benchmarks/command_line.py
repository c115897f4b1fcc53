"""How benchmarks name methods and measures on their command lines."""

from __future__ import annotations

import ast
from typing import Any


def parse_method(spec: str, resolution: int | None, side: int) -> tuple[str, dict[str, Any]]:
    """``name:parameter=value,...`` into the method's key and its settings.

    ``{r}`` among them is the ``resolution``, and ``input`` where that is the ``side`` of the network's input.
    """
    name, _, settings = spec.partition(":")
    r = "" if resolution is None else "input" if resolution == side else str(resolution)
    values = {}
    for pair in filter(None, settings.replace("{r}", repr(r)).split(",")):
        key, _, value = pair.partition("=")
        try:
            values[key] = ast.literal_eval(value)
        except ValueError:
            values[key] = value
    return name, values


def parse_measure(spec: str) -> tuple[str, int | None, str]:
    """``protocol[@resolution][/magnitude]`` into the protocol, its resolution, and what the maps are ordered by."""
    rest, _, order_by = spec.partition("/")
    protocol, _, resolution = rest.partition("@")
    return protocol, int(resolution) if resolution else None, order_by or "value"
