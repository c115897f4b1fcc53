"""The metrics: the folder is the registry.

Every file here that declares ``METRIC`` is found by reading the folder. Adding a metric is adding a file.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace
from functools import cache

from explainers.contract import Metric
from explainers.errors import ExplainerError


def metrics() -> dict[str, Metric]:
    """All metrics by key, ordered by title."""
    return dict(declared())


@cache
def declared() -> dict[str, Metric]:
    """What ``metrics`` copies: the folder is read once."""
    by_key: dict[str, Metric] = {}
    for entry in pkgutil.iter_modules(__path__):
        in_file = getattr(importlib.import_module(f"{__name__}.{entry.name}"), "METRIC", None)
        if in_file:
            by_key[entry.name] = replace(in_file, key=entry.name)
    return dict(sorted(by_key.items(), key=lambda item: item[1].title))


def metric(key: str) -> Metric:
    """The metric with this key. Raises ExplainerError for an unknown one."""
    known = declared()
    if key not in known:
        raise ExplainerError(f"There is no metric {key!r}; there are {', '.join(known)}.")
    return known[key]
