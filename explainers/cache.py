"""Maps, measurements and fitted statistics that were computed once: a bounded memory cache over an optional bounded folder.

Both hold the same bytes, a safetensors file with the tensors, and all else as JSON in its header: no pickle, bit-identical
tensors, and every ``get`` decodes a copy of its own, so no caller can change what another gets. On disk a
sha256 stands before them: an entry that is cut off, flipped or somebody else's is a miss and never a wrong map.
Several processes may share a folder: entries appear whole (written aside, then renamed), and one that is gone when
we look for it is a miss as well. Only maps come here; uploaded pictures are never written.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import re
import struct
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

FORMAT = "attribution explorer 2"
PACKAGE = "explainers."
DIGEST_BYTES = 32
SUFFIX = ".map"
STALE_SECONDS = 600  # a temporary file this old was left behind by a process that died
ROOM = 0.9  # an eviction goes down to this share of the bound, so that the next put does not evict again
SCANS_PER_FILL = 20  # other processes' entries are counted this often while we write one whole bound

log = logging.getLogger(__name__)


class MapCache:
    """Values by a lower-case hexadecimal key; safe to share between threads, its folder also between processes.

    folder: where entries are kept, or None for memory alone. memory_bytes, disk_bytes: the bounds; what was used
    least recently goes first. With n processes on one folder the disk bound may be passed by n/20 for a while.
    A folder that cannot be used is logged once, and the cache goes on in memory.
    """

    def __init__(
        self, folder: str | Path | None = None, memory_bytes: int = 256 * 2**20, disk_bytes: int = 2**30
    ) -> None:
        self._memory = _Memory(memory_bytes)
        self._disk = _Disk(Path(folder), disk_bytes) if folder is not None else None

    def get(self, key: str) -> Any:
        """A copy of what was put under ``key``, or None. Raises ValueError if the key is not hexadecimal."""
        _check(key)
        payload = self._memory.get(key)
        if payload is not None:
            if self._disk:
                self._disk.touch(key)
            return decode(payload, key)
        payload = self._disk.read(key) if self._disk else None
        if payload is None:
            return None
        try:
            value = decode(payload, key)
        except Exception as error:  # whole, but from another version or another program: any parser may fail
            self._memory.discard(key)
            if self._disk:
                self._disk.discard(key, f"of another format ({type(error).__name__})")
            return None
        self._memory.put(key, payload)
        return value

    def put(self, key: str, value: Any) -> None:
        """Keep a copy of a value. Raises ValueError if the key is not hexadecimal, TypeError for a value of another kind.

        Values are tensors, arrays, numbers, strings, bools, None, the dataclasses of this package (an ``Attribution``, a metric's
        result), and tuples, lists and dicts of those.
        """
        _check(key)
        payload = encode(value, key)
        self._memory.put(key, payload)
        if self._disk:
            self._disk.write(key, payload)

    def __contains__(self, key: object) -> bool:
        """Whether ``get`` is likely to hit: an entry on disk is not read, so it may yet prove damaged."""
        if not _is_key(key):
            return False
        return key in self._memory or (self._disk is not None and os.path.isfile(self._disk.path(key)))

    def clear(self) -> None:
        """Forget everything, in memory and on disk, other processes' entries too. Other files stay untouched."""
        self._memory.clear()
        if self._disk:
            self._disk.clear()

    def sizes(self) -> tuple[int, int]:
        """Bytes in memory and on disk; the latter as of the last scan plus what this cache wrote since."""
        return self._memory.total, self._disk.total if self._disk else 0


class _Memory:
    """Payloads, least recently used first, never more than ``limit`` bytes of them."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self._payloads: OrderedDict[str, bytes] = OrderedDict()
        self._lock = Lock()

    def __contains__(self, key: str) -> bool:
        return key in self._payloads

    def get(self, key: str) -> bytes | None:
        with self._lock:
            if key in self._payloads:
                self._payloads.move_to_end(key)
            return self._payloads.get(key)

    def put(self, key: str, payload: bytes) -> None:
        with self._lock:
            self.total -= len(self._payloads.pop(key, b""))
            if len(payload) > self.limit:
                return
            self._payloads[key] = payload
            self.total += len(payload)
            while self.total > self.limit:
                self.total -= len(self._payloads.popitem(last=False)[1])

    def discard(self, key: str) -> None:
        with self._lock:
            self.total -= len(self._payloads.pop(key, b""))

    def clear(self) -> None:
        with self._lock:
            self._payloads.clear()
            self.total = 0


class _Disk:
    """One file an entry, ``folder/ab/abcdef....map``; the time of last use is the file's modification time."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self.total = 0
        self._unscanned = 0  # bytes written since the last scan
        self._lock = Lock()
        self._sweeping = Lock()
        self._warned = False
        self.sweep()

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}{SUFFIX}"

    def read(self, key: str) -> bytes | None:
        """The checked payload, or None; what fails the check is removed."""
        try:
            with open(self.path(key), "rb") as file:
                if os.fstat(file.fileno()).st_size > self.limit:
                    self.discard(key, "larger than the whole cache may be")
                    return None
                content = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(error)
            return None
        payload = content[DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != content[:DIGEST_BYTES]:
            self.discard(key, "damaged")
            return None
        self.touch(key)
        return payload

    def write(self, key: str, payload: bytes) -> None:
        """Whole or not at all; a disk that is full or read-only is logged once and otherwise ignored."""
        size = DIGEST_BYTES + len(payload)
        if size > self.limit:
            return
        path = self.path(key)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replaced = path.stat().st_size if path.exists() else 0
            _write_atomically(path, hashlib.sha256(payload).digest() + payload)
        except OSError as error:
            self._warn(error)
            return
        with self._lock:
            self.total += size - replaced
            self._unscanned += size
            due = self.total > self.limit or self._unscanned > self.limit / SCANS_PER_FILL
        if due:
            self.sweep()

    def touch(self, key: str) -> None:
        now = time.time_ns()  # given outright: a file system's own clock may tick only every few milliseconds
        with suppress(OSError):
            os.utime(self.path(key), ns=(now, now))

    def discard(self, key: str, fault: str) -> None:
        log.warning("Cached map %s is %s; it is removed and will be computed again.", key[:12], fault)
        with suppress(OSError):
            self.path(key).unlink()

    def sweep(self) -> None:
        """Count what is there, remove leftovers, and evict down to the bound."""
        with self._sweeping:  # a writer that waits here sweeps again: its own entry may have come too late to be seen
            with self._lock:
                self._unscanned = 0
            entries = sorted(self._entries())  # oldest first
            total = sum(size for _, size, _ in entries)
            goal = self.limit * ROOM if total > self.limit else total
            for _, size, path in entries:
                if total <= goal:
                    break
                with suppress(OSError):  # another process may have been quicker
                    os.unlink(path)
                total -= size
            with self._lock:
                self.total = total

    def clear(self) -> None:
        with self._sweeping:
            for _, _, path in self._entries(stale_seconds=0):
                with suppress(OSError):
                    os.unlink(path)
        self.sweep()

    def _entries(self, stale_seconds: float = STALE_SECONDS) -> Iterator[tuple[int, int, str]]:
        """(last use in ns, bytes, path) of each entry; temporary files older than ``stale_seconds`` are removed."""
        for room in self._list(self.folder):
            if not re.fullmatch("[0-9a-f]{2}", room.name) or os.path.islink(room.path) or not os.path.isdir(room.path):
                continue
            for file in self._list(room.path):
                kind = _kind(file.name)
                with suppress(OSError):
                    facts = file.stat(follow_symlinks=False)
                    if kind == "entry":
                        yield facts.st_mtime_ns, facts.st_size, file.path
                    elif kind == "temporary" and time.time() - facts.st_mtime >= stale_seconds:
                        os.unlink(file.path)

    def _list(self, folder: str | Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as found:
                return list(found)
        except FileNotFoundError:
            return []
        except OSError as error:
            self._warn(error)
            return []

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            log.warning("The folder of cached maps cannot be used (%s); maps are kept in memory.", error.strerror)


def _write_atomically(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        now = time.time_ns()
        os.utime(temporary, ns=(now, now))
        os.replace(temporary, path)
    except BaseException:  # also when the run is stopped in the middle
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _kind(name: str) -> str:
    """Which of our files this is; all others are never touched, whatever folder a person chose."""
    if name.endswith(SUFFIX) and _is_key(name.removesuffix(SUFFIX)):
        return "entry"
    return "temporary" if re.fullmatch(r"\.\w+\.tmp", name) else "foreign"


def _is_key(key: object) -> bool:
    return isinstance(key, str) and re.fullmatch("[0-9a-f]{4,128}", key) is not None


def _check(key: str) -> None:
    if not _is_key(key):
        raise ValueError(f"a cache key is 4 to 128 lower-case hex digits, not {key!r}")


def encode(value: Any, key: str = "") -> bytes:
    """A value as the bytes of a safetensors file. Raises TypeError for a value that it cannot hold."""
    tensors: dict[str, Tensor] = {}
    about = {"format": FORMAT, "key": key, "value": json.dumps(_pack(value, tensors))}
    return safetensors.torch.save(tensors, metadata=about)


def decode(payload: bytes, key: str = "") -> Any:
    """The value that ``encode`` was given, its tensors fresh. Raises an error of any kind for other bytes."""
    (length,) = struct.unpack("<Q", payload[:8])
    about = json.loads(payload[8 : 8 + length])["__metadata__"]
    if about["format"] != FORMAT or about["key"] != key:
        raise ValueError("another format, or the entry of another key")
    return _unpack(json.loads(about["value"]), safetensors.torch.load(payload))


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON for ``value``; tensors go aside. What JSON does not know becomes a dict of one key, its kind."""
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
        return _dataclass(module, name)(**{field: _unpack(item, tensors) for field, item in fields.items()})
    raise ValueError(f"unknown kind {kind!r}")


def _dataclass(module: str, name: str) -> type:
    """A dataclass of this package that is loaded already: an entry on disk can make no other object, and import nothing."""
    found = getattr(sys.modules.get(module), name, None) if module.startswith(PACKAGE) else None
    if not (isinstance(found, type) and dataclasses.is_dataclass(found) and found.__module__ == module):
        raise ValueError(f"{module}.{name} is no result of this package")
    return found
