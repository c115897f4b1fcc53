"""The methods: the folder is the registry.

Every file or folder here that declares ``METHOD``, or several methods in ``METHODS`` (key to method), is registered when the
folder is read. To add a method, add its file.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace
from functools import cache

from explainers.contract import Method
from explainers.errors import ExplainerError

FAMILIES = ("gradient", "activation", "attention", "perturbation", "optimisation", "decomposition", "control")


def methods() -> dict[str, Method]:
    """All methods by key, ordered by family and then by title."""
    return dict(declared())


@cache
def declared() -> dict[str, Method]:
    """What ``methods`` copies: the folder is read once, because pages ask for the methods many times in each run."""
    by_key: dict[str, Method] = {}
    for entry in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{entry.name}")
        in_file = getattr(module, "METHODS", None) or {entry.name: getattr(module, "METHOD", None)}
        by_key.update({key: replace(method, key=key) for key, method in in_file.items() if method})
    return dict(sorted(by_key.items(), key=lambda item: (FAMILIES.index(item[1].family), item[1].title.lower())))


def method(key: str) -> Method:
    """The method with this key. Raises ExplainerError where there is none."""
    known = declared()
    if key not in known:
        raise ExplainerError(f"There is no method {key!r}; there are {', '.join(known)}.")
    return known[key]
