"""Values as bytes: a safetensors file with the tensors, and everything else as JSON in its header. There is no pickle."""

from __future__ import annotations

import dataclasses
import json
import struct
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

FORMAT = "attribution explorer 2"
PACKAGE = "explainers."


def encode(value: Any, key: str = "") -> bytes:
    """A value as the bytes of a safetensors file. Raises TypeError for a value that it cannot hold."""
    tensors: dict[str, Tensor] = {}
    metadata = {"format": FORMAT, "key": key, "value": json.dumps(_pack(value, tensors))}
    return safetensors.torch.save(tensors, metadata=metadata)


def decode(payload: bytes, key: str = "") -> Any:
    """The value that ``encode`` was given, with new tensors. Raises an error of any kind for other bytes."""
    (length,) = struct.unpack("<Q", payload[:8])
    metadata = json.loads(payload[8 : 8 + length])["__metadata__"]
    if metadata["format"] != FORMAT or metadata["key"] != key:
        raise ValueError("another format, or the entry of another key")
    return _unpack(json.loads(metadata["value"]), safetensors.torch.load(payload))


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON for ``value``; its tensors are added to ``tensors``. What JSON does not know becomes a dict of one key, its kind."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (Tensor, np.ndarray)):
        name, kind = str(len(tensors)), "tensor" if isinstance(value, Tensor) else "array"
        tensor = value if isinstance(value, Tensor) else torch.from_numpy(value)
        tensors[name] = tensor.detach().cpu().contiguous().clone()  # safetensors refuses tensors that share memory
        return {kind: name}
    if dataclasses.is_dataclass(value) and type(value).__module__.startswith(PACKAGE):
        fields = {field.name: _pack(getattr(value, field.name), tensors) for field in dataclasses.fields(value)}
        return {"dataclass": [type(value).__module__, type(value).__qualname__, fields]}
    if isinstance(value, Mapping):
        return {"dict": [[_pack(k, tensors), _pack(v, tensors)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        items = [_pack(item, tensors) for item in value]
        return {"tuple": items} if isinstance(value, tuple) else items
    raise TypeError(f"a cached value cannot hold a {type(value).__name__}")


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "array":
        return tensors[content].numpy()
    if kind == "tuple":
        return tuple(_unpack(item, tensors) for item in content)
    if kind == "dict":
        return {_unpack(k, tensors): _unpack(v, tensors) for k, v in content}
    if kind == "dataclass":
        module, name, fields = content
        result, values = _dataclass(module, name), {field: _unpack(item, tensors) for field, item in fields.items()}
        _check_fields(result, values)
        return result(**values)
    raise ValueError(f"unknown kind {kind!r}")


def _check_fields(result: type, values: Mapping[str, Any]) -> None:
    """Raise ValueError for a value of another type than the dataclass declares: such an entry was not written by this program."""
    hints = _hints(result)
    for name, value in values.items():
        if not is_of(value, hints.get(name, Any)):
            raise ValueError(f"{name} of {result.__name__} is a {type(value).__name__}")


@lru_cache(maxsize=64)
def _hints(result: type) -> dict[str, Any]:
    return get_type_hints(result)


def is_of(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type, such as ``tuple[int, ...] | None``, and so are the items of a container. A whole
    number may stand for a float; what is no type and no container of types, such as ``Any``, holds everything."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(is_of(value, part) for part in parts)
    if hint is float:
        return isinstance(value, (float, int))
    if origin is None:
        return not isinstance(hint, type) or isinstance(value, hint)
    if not isinstance(origin, type):
        return True
    return isinstance(value, origin) and _holds(value, parts)


def _holds(container: Any, parts: tuple[Any, ...]) -> bool:
    """Whether the items of a container are of the annotated types."""
    if isinstance(container, Mapping):
        return all(is_of(name, parts[0]) and is_of(item, parts[1]) for name, item in container.items())
    if isinstance(container, tuple) and Ellipsis not in parts:
        return len(container) == len(parts) and all(is_of(item, part) for item, part in zip(container, parts, strict=True))
    return not isinstance(container, Sequence) or all(is_of(item, parts[0]) for item in container)


def _dataclass(module: str, name: str) -> type:
    """A dataclass of this package that is already imported: a file on disk can create no other object and cause no import."""
    result = getattr(sys.modules.get(module), name, None) if module.startswith(PACKAGE) else None
    if not (isinstance(result, type) and dataclasses.is_dataclass(result) and result.__module__ == module):
        raise ValueError(f"{module}.{name} is no result of this package")
    return result
