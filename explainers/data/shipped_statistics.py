"""Fitted statistics in a small file, so that MIP-IN, IBA and InputIBA need no pictures for a network that comes with the app.

The file is a zip archive of numpy arrays, compressed with LZMA; ``<key>/<name>.npy`` is the tensor ``name`` of the statistics with
this ``key`` (see ``Context.fit``), and ``about.json`` says how it was made. Small tensors are stored as float32, because IBA's
optimisation enlarges their rounding; others as float16. Large sparse ones without negative values are stored as 8-bit square
roots, v = s (q / 255)^2 with the maximum s in ``<name>.scale.npy``, so that small values keep their precision and positive ones
stay positive. ``explainers.data.statistics`` makes such a file.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_SMALL = 2**16  # the most numbers of a tensor that is stored as float32
_SPARSE = 2 / 3  # the fraction of zeros from which a tensor is stored as 8-bit square roots
_LEVELS = 255
_ABOUT = "about.json"

Key = tuple[Any, ...]


@dataclass(frozen=True)
class ShippedStatistics:
    """The content of one file. ``identity`` stands for it in cache keys; ``about`` says how it was made."""

    data: bytes
    identity: str
    about: Mapping[str, Any]

    def __contains__(self, key: Key) -> bool:
        """Whether the file has the statistics with this key."""
        with zipfile.ZipFile(BytesIO(self.data)) as archive:
            return any(name.startswith(_entry(key)) for name in archive.namelist())

    def get(self, key: Key) -> dict[str, Tensor] | None:
        """The float32 tensors of the statistics with this key, by name; None where the file does not have them."""
        prefix = _entry(key)
        with zipfile.ZipFile(BytesIO(self.data)) as archive:
            arrays = {name.removeprefix(prefix).removesuffix(".npy"): _read_array(archive.read(name))
                      for name in archive.namelist() if name.startswith(prefix)}
        return {name: _decoded(values, arrays.get(f"{name}.scale")) for name, values in arrays.items()
                if not name.endswith(".scale")} or None


@lru_cache(maxsize=4)
def read(file: Path) -> ShippedStatistics:
    """The statistics in a file that ``write`` made."""
    data = file.read_bytes()
    with zipfile.ZipFile(BytesIO(data)) as archive:
        about = json.loads(archive.read(_ABOUT))
    return ShippedStatistics(data, f"statistics {hashlib.sha256(data).hexdigest()}", about)


def write(file: Path, statistics: Mapping[Key, Mapping[str, Tensor]], about: Mapping[str, Any]) -> None:
    """Write the statistics; the same content gives the same bytes."""
    with zipfile.ZipFile(file, "w") as archive:
        _add(archive, _ABOUT, json.dumps(about, indent=2).encode())
        for key, tensors in statistics.items():
            for name, tensor in tensors.items():
                for suffix, array in _encoded(tensor).items():
                    stream = BytesIO()
                    np.lib.format.write_array(stream, array, allow_pickle=False)
                    _add(archive, f"{_entry(key)}{name}{suffix}.npy", stream.getvalue())


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_LZMA)  # a ZipInfo has a fixed date, unlike a plain name


def _entry(key: Key) -> str:
    return " ".join(map(str, key)) + "/"


def _read_array(data: bytes) -> np.ndarray:
    return np.lib.format.read_array(BytesIO(data), allow_pickle=False)


def _encoded(tensor: Tensor) -> dict[str, np.ndarray]:
    """The arrays of a tensor by the suffix of their names."""
    values = tensor.float()
    if values.numel() <= _SMALL:
        return {"": values.numpy()}
    if values.min() < 0 or (values == 0).float().mean() < _SPARSE:
        return {"": values.half().numpy()}
    scale = values.max().clamp(min=1e-30)
    roots = (values / scale).sqrt().mul(_LEVELS).round().clamp(min=1).where(values > 0, 0)
    return {"": roots.to(torch.uint8).numpy(), ".scale": scale.numpy()}


def _decoded(values: np.ndarray, scale: np.ndarray | None) -> Tensor:
    tensor = torch.from_numpy(values).float()
    return tensor if scale is None else tensor.div_(_LEVELS).square_().mul_(float(scale))
