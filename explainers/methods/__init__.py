"""The methods: the folder is the registry.

Every file here that declares ``METHOD``, or a family in ``METHODS`` (key to method), is found by reading the folder.
Adding a method is adding a file.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace

from explainers.contract import ExplainerError, Method

FAMILIES = ("gradient", "activation", "perturbation", "optimisation", "decomposition", "control")


def methods() -> dict[str, Method]:
    """All methods by key, ordered by family and then by title."""
    found: dict[str, Method] = {}
    for entry in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{entry.name}")
        declared = getattr(module, "METHODS", None) or {entry.name: getattr(module, "METHOD", None)}
        found.update({key: replace(method, key=key) for key, method in declared.items() if method})
    return dict(sorted(found.items(), key=lambda item: (FAMILIES.index(item[1].family), item[1].title)))


def method(key: str) -> Method:
    """The method with this key. Raises ExplainerError for an unknown one."""
    known = methods()
    if key not in known:
        raise ExplainerError(f"There is no method {key!r}; there are {', '.join(known)}.")
    return known[key]
