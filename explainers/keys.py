"""Cache keys: a digest of everything that decides a result."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor


def key_of(*parts: Any) -> str:
    """A sha256 hex digest: equal parts, and only they, share it.

    Parts are numbers, strings, None, tensors, arrays, dataclasses, tuples, lists and dicts of them, and objects that have an
    ``identity``, a string that stands for all that decides them (a classifier, a question, a reference set). Raises TypeError for
    anything else, because a ``repr`` may hide what decides a result.
    """
    return hashlib.sha256(json.dumps([_plain(part) for part in parts]).encode()).hexdigest()


def is_private(*parts: Any) -> bool:
    """Whether any of the parts of a key, or what they hold, is private: results that depend on it stay off the disk.

    Parts are those of ``key_of``. Questions, labelled sets and reference sets say of themselves whether they are private; an array
    of pixels cannot, so whoever passes that of a private picture computes inside ``MapCache.in_memory``.
    """
    return any(_is_private(part) for part in parts)


def _is_private(part: Any) -> bool:
    for name in ("stays_in_memory", "private"):
        if isinstance(getattr(part, name, None), bool):
            return bool(getattr(part, name))
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        return is_private(*(getattr(part, f.name) for f in dataclasses.fields(part)))
    if isinstance(part, Mapping):
        return is_private(*part.values())
    return isinstance(part, (tuple, list)) and is_private(*part)


def array_digest(values: Tensor | np.ndarray) -> str:
    """sha256 of the shape, type and bytes of a tensor on any device, or of an array."""
    array = np.ascontiguousarray(values.detach().cpu().numpy() if isinstance(values, Tensor) else values)
    digest = hashlib.sha256(f"{array.shape} {array.dtype}".encode())
    digest.update(array.reshape(-1).view(np.uint8).data)  # the bytes where they lie: copies of them take as long as the digest
    return digest.hexdigest()


def _plain(part: Any) -> Any:
    """JSON that differs wherever parts differ: it keeps apart 1, 1.0 and True, a tuple and a list, and different dataclasses."""
    if part is None or isinstance(part, (bool, str, int)):
        return part
    if isinstance(part, (float, np.floating)):
        return {"float": repr(float(part))}
    if isinstance(part, np.integer):
        return int(part)
    if isinstance(part, (Tensor, np.ndarray)):
        return {"array": array_digest(part)}
    identity = getattr(part, "identity", None)
    if isinstance(identity, str):
        return {type(part).__name__: identity}
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        fields = {f.name: _plain(getattr(part, f.name)) for f in dataclasses.fields(part)}
        return {type(part).__qualname__: fields}
    if isinstance(part, Mapping):
        return {"dict": sorted([json.dumps(_plain(name)), _plain(value)] for name, value in part.items())}
    if isinstance(part, (tuple, list)):
        return {type(part).__name__: [_plain(item) for item in part]}
    raise TypeError(f"a cache key cannot be made of a {type(part).__name__}")
