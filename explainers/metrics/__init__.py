"""The metrics: the folder is the registry.

Every file here that declares ``METRIC`` is found by reading the folder. Adding a metric is adding a file.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace

from explainers.contract import Metric
from explainers.errors import ExplainerError


def metrics() -> dict[str, Metric]:
    """All metrics by key, ordered by title."""
    declarations: dict[str, Metric] = {}
    for entry in pkgutil.iter_modules(__path__):
        declared = getattr(importlib.import_module(f"{__name__}.{entry.name}"), "METRIC", None)
        if declared:
            declarations[entry.name] = replace(declared, key=entry.name)
    return dict(sorted(declarations.items(), key=lambda item: item[1].title))


def metric(key: str) -> Metric:
    """The metric with this key. Raises ExplainerError for an unknown one."""
    declared = metrics()
    if key not in declared:
        raise ExplainerError(f"There is no metric {key!r}; there are {', '.join(declared)}.")
    return declared[key]
