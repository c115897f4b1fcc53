"""The cache of maps, measurements and fitted statistics: a bounded memory cache over an optional bounded folder.

Both hold the same bytes (see ``encoding``): tensors come back equal to the bit, and every ``get`` decodes a new copy, so that
callers cannot change each other's values. On disk a sha256 precedes the bytes: an entry that is truncated, damaged or of another
program counts as missing. Several processes may share a folder: an entry is written to a temporary file and renamed, and one that
was deleted meanwhile counts as missing. Results are stored, uploaded pictures never.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import re
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from threading import Lock
from typing import Any, TypeGuard

from explainers.encoding import decode, encode

DIGEST_BYTES = 32
SUFFIX = ".map"
STALE_SECONDS = 600  # a temporary file this old was left behind by a process that died
ROOM = 0.9  # an eviction goes down to this fraction of the bound, so that the next put does not evict again
SCANS_PER_FILL = 20  # the folder is scanned for other processes' entries whenever 1/20 of the bound has been written

log = logging.getLogger(__name__)
_recording: ContextVar[set[str] | None] = ContextVar("recording", default=None)


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a cache holds: how many entries, their bytes in memory and on disk, and when the oldest was last used (seconds since 1970;
    None where nothing is on disk)."""

    entries: int
    memory_bytes: int
    disk_bytes: int
    oldest: float | None


class MapCache:
    """Values by a lower-case hexadecimal key; safe to share between threads, its folder also between processes.

    folder: where entries are kept, or None for memory alone. memory_bytes, disk_bytes: the bounds; the least recently used entries
    are removed first. With n processes on one folder the disk may hold up to n/20 more than its bound for a while. A folder that
    cannot be used is logged once, and the cache goes on in memory.
    """

    def __init__(self, folder: str | Path | None = None, memory_bytes: int = 256 * 2**20, disk_bytes: int = 2**30) -> None:
        self._memory = _Memory(memory_bytes)
        self._disk = _Disk(Path(folder), disk_bytes) if folder is not None else None

    @contextmanager
    def recorded(self, keys: set[str]) -> Iterator[None]:
        """While this lasts, every key that this thread gets or puts is added to ``keys``, also those without an entry."""
        token = _recording.set(keys)
        try:
            yield
        finally:
            _recording.reset(token)

    @property
    def unrecorded(self) -> Unrecorded:
        """The same entries, for what also serves other questions, such as fitted statistics: their keys are never recorded."""
        return Unrecorded(self)

    def get(self, key: str) -> Any:
        """A copy of what was put under ``key``, or None. Raises ValueError if the key is not hexadecimal."""
        _check(key)
        _record(key)
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
        except Exception as error:  # undamaged, but of another version or another program: any parser may fail
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
        _record(key)
        payload = encode(value, key)
        self._memory.put(key, payload)
        if self._disk:
            self._disk.write(key, payload)

    def __contains__(self, key: object) -> bool:
        """Whether there is an entry. One on disk is not read for this, so ``get`` may still find it damaged and return None."""
        if not _is_key(key):
            return False
        return key in self._memory or (self._disk is not None and os.path.isfile(self._disk.path(key)))

    def clear(self) -> None:
        """Remove all entries, in memory and on disk, also those of other processes. Other files stay untouched."""
        self._memory.clear()
        if self._disk:
            self._disk.clear()

    def remove(self, keys: Iterable[str]) -> None:
        """Remove these entries, in memory and on disk; keys without an entry are ignored."""
        for key in keys:
            _check(key)
            self._memory.discard(key)
            if self._disk:
                self._disk.remove(key)

    def contents(self) -> Contents:
        """What is in memory and on disk now. The folder is scanned."""
        entries = list(self._disk.entries()) if self._disk else []
        on_disk = {Path(path).name.removesuffix(SUFFIX) for _, _, path in entries}
        oldest = min((used for used, _, _ in entries), default=None)
        return Contents(len(on_disk | self._memory.keys()), self._memory.total, sum(size for _, size, _ in entries),
                        None if oldest is None else oldest / 1e9)

    def sizes(self) -> tuple[int, int]:
        """Bytes in memory and on disk; the latter are those of the last scan plus what this cache has written since."""
        return self._memory.total, self._disk.total if self._disk else 0


class Unrecorded:
    """A cache's entries, whose ``get`` and ``put`` add nothing to the keys of ``MapCache.recorded``."""

    def __init__(self, cache: MapCache) -> None:
        self._cache = cache

    def get(self, key: str) -> Any:
        with self._cache.recorded(set()):
            return self._cache.get(key)

    def put(self, key: str, value: Any) -> None:
        with self._cache.recorded(set()):
            self._cache.put(key, value)

    def __contains__(self, key: object) -> bool:
        return key in self._cache


class _Memory:
    """Payloads in order of last use, the oldest first, at most ``limit`` bytes in all."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self._payloads: OrderedDict[str, bytes] = OrderedDict()
        self._lock = Lock()

    def __contains__(self, key: str) -> bool:
        return key in self._payloads

    def keys(self) -> set[str]:
        with self._lock:
            return set(self._payloads)

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
    """One file for each entry, ``folder/ab/abcdef....map``; its modification time is the time of last use."""

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
        """The payload if its sha256 is right, else None; a damaged entry is removed."""
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
        """Write an entry atomically. A disk that is full or read-only is logged once and otherwise ignored."""
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
        now = time.time_ns()  # set explicitly, because a file system's own clock may advance only every few milliseconds
        with suppress(OSError):
            os.utime(self.path(key), ns=(now, now))

    def discard(self, key: str, fault: str) -> None:
        log.warning("Cached map %s is %s; it is removed and will be computed again.", key[:12], fault)
        self.remove(key)

    def remove(self, key: str) -> None:
        with suppress(OSError):  # there may be none, and another process may have removed it
            size = self.path(key).stat().st_size
            self.path(key).unlink()
            with self._lock:
                self.total -= size

    def sweep(self) -> None:
        """Count the entries, remove old temporary files, and evict entries down to the bound."""
        with self._sweeping:  # a writer that waited here sweeps again, because the sweep before may have missed its entry
            with self._lock:
                self._unscanned = 0
            entries = sorted(self.entries())  # oldest first
            total = sum(size for _, size, _ in entries)
            goal = self.limit * ROOM if total > self.limit else total
            for _, size, path in entries:
                if total <= goal:
                    break
                with suppress(OSError):  # another process may have removed it
                    os.unlink(path)
                total -= size
            with self._lock:
                self.total = total

    def clear(self) -> None:
        """Remove all entries. Temporary files stay, unless they are old: another process may be about to rename its own."""
        with self._sweeping:
            for _, _, path in self.entries():
                with suppress(OSError):
                    os.unlink(path)
        self.sweep()

    def entries(self) -> Iterator[tuple[int, int, str]]:
        """(last use in ns, bytes, path) of each entry; temporary files that a dead process left behind are removed."""
        for subfolder in self._list(self.folder):
            path = subfolder.path
            if not re.fullmatch("[0-9a-f]{2}", subfolder.name) or os.path.islink(path) or not os.path.isdir(path):
                continue
            for file in self._list(path):
                kind = _kind(file.name)
                with suppress(OSError):
                    status = file.stat(follow_symlinks=False)
                    if kind == "entry":
                        yield status.st_mtime_ns, status.st_size, file.path
                    elif kind == "temporary" and time.time() - status.st_mtime >= STALE_SECONDS:
                        os.unlink(file.path)

    def _list(self, folder: str | Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                return list(entries)
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
    except BaseException:  # also KeyboardInterrupt and the like
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _kind(name: str) -> str:
    """The kind of a file: "entry", "temporary" or "foreign". Foreign files are never touched."""
    if name.endswith(SUFFIX) and _is_key(name.removesuffix(SUFFIX)):
        return "entry"
    return "temporary" if re.fullmatch(r"\.\w+\.tmp", name) else "foreign"


def _is_key(key: object) -> TypeGuard[str]:
    return isinstance(key, str) and re.fullmatch("[0-9a-f]{4,128}", key) is not None


def _record(key: str) -> None:
    keys = _recording.get()
    if keys is not None:
        keys.add(key)


def _check(key: str) -> None:
    if not _is_key(key):
        raise ValueError(f"a cache key is 4 to 128 lower-case hex digits, not {key!r}")
