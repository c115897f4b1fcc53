"""The cache of maps, measurements and fitted statistics: a bounded memory cache over an optional bounded folder.

Both hold the same bytes (see ``encoding``): tensors come back equal to the bit, and every ``get`` decodes a new copy, so that
callers cannot change each other's values. An entry that is truncated, damaged, of another program or of another type than the caller
expects counts as missing. The folder (see ``cache_folder``) is optional, and what is computed from somebody's private pictures never
reaches it, because some results allow computing the picture back: the gradient and gradient x input are two of them. Such results
stay in memory (see ``MapCache.in_memory``), where they can belong to an ``Owner`` and be forgotten with him.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from threading import Lock
from typing import Any

from explainers.cache_folder import SUFFIX, CacheFolder, is_key
from explainers.encoding import decode, encode
from explainers.memory import in_one_sentence, ran_out

_recording: ContextVar[set[str] | None] = ContextVar("recording", default=None)


class Owner:
    """Whoever private results belong to, such as a session of the app. ``MapCache.forget`` removes them when he has gone."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.keys: set[str] = set()
        self.has_gone = False


_NOBODY = Owner()  # of private results that go only when the memory is full
_owner: ContextVar[Owner | None] = ContextVar("owner", default=None)  # None: results are not private
_COPIES = 1 / 8  # of the memory: 32 MiB, or some fifty maps of 224 pixels; more would only save the milliseconds of reading a file


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
    are removed first. Copies of what is on disk have an eighth of the memory, so that it does not grow for hours. With n processes
    on one folder the disk may hold up to n/20 more than its bound for a while. A folder that cannot be used is logged once, and
    the cache goes on in memory.
    """

    def __init__(self, folder: str | Path | None = None, memory_bytes: int = 256 * 2**20, disk_bytes: int = 2**30) -> None:
        copies = 0 if folder is None else int(memory_bytes * _COPIES)
        self._copies, self._memory = _Memory(copies), _Memory(memory_bytes - copies)
        self._disk = CacheFolder(Path(folder), disk_bytes) if folder is not None else None

    @contextmanager
    def recorded(self, keys: set[str]) -> Iterator[None]:
        """While this lasts, every key that this thread gets or puts is added to ``keys``, also those without an entry."""
        token = _recording.set(keys)
        try:
            yield
        finally:
            _recording.reset(token)

    @contextmanager
    def in_memory(self, private: bool = True, owner: Owner | None = None) -> Iterator[None]:
        """While this lasts, what this thread puts is private: it is kept in memory alone, and goes with its owner.

        private: False changes nothing, for callers who decide. owner: whose the results are; by default his who is named outside,
        or nobody's.
        """
        token = _owner.set(owner or _owner.get() or _NOBODY) if private else None
        try:
            yield
        finally:
            if token:
                _owner.reset(token)

    def forget(self, owner: Owner) -> None:
        """Remove all private results of an owner from memory. What is still computed for him is no longer kept."""
        with owner.lock:
            owner.has_gone = True
            for key in owner.keys:
                self._memory.discard(key)
            owner.keys.clear()

    @property
    def unrecorded(self) -> Unrecorded:
        """The same entries, for what also serves other questions, such as fitted statistics: their keys are never recorded."""
        return Unrecorded(self)

    def get(self, key: str, kind: type = object) -> Any:
        """A copy of what was put under ``key``, or None. kind: the type of the value; another one counts as missing and is removed.

        Raises ValueError if the key is not hexadecimal, OutOfMemory where there is too little for the copy; the entry then stays.
        """
        _check(key)
        _record(key)
        with in_one_sentence("a stored result"):
            return self._get(key, kind)

    def _get(self, key: str, kind: type) -> Any:
        payload, is_new = self._memory.get(key) or self._copies.get(key), False
        if payload is None and self._disk:
            payload, is_new = self._disk.read(key), True
        elif self._disk:
            self._disk.touch(key)
        if payload is None:
            return None
        try:
            value = decode(payload, key)
            if not isinstance(value, kind):
                raise ValueError(f"a {type(value).__name__} and no {kind.__name__}")
        except Exception as error:  # undamaged, but of another version or another program: any parser may fail
            if ran_out(error):
                raise
            self._forget(key)
            if self._disk:
                self._disk.discard(key, f"of another format ({type(error).__name__})")
            return None
        if is_new:
            self._copies.put(key, payload)
        return value

    def put(self, key: str, value: Any) -> None:
        """Keep a copy of a value. Raises ValueError if the key is not hexadecimal, TypeError for a value of another kind.

        Values are tensors, arrays, numbers, strings, bools, None, the dataclasses of this package (an ``Attribution``, a metric's
        result), and tuples, lists and dicts of those.
        """
        _check(key)
        _record(key)
        with in_one_sentence("keeping a result"):
            payload, owner = encode(value, key), _owner.get()
        if owner is not None:
            self._put_private(key, payload, owner)
            return
        self._forget(key)
        if self._disk:
            self._disk.write(key, payload)
        is_on_disk = self._disk is not None and key in self._disk  # not where the folder cannot be used
        (self._copies if is_on_disk else self._memory).put(key, payload)

    def _forget(self, key: str) -> None:
        """Remove an entry from memory."""
        self._memory.discard(key)
        self._copies.discard(key)

    def _put_private(self, key: str, payload: bytes, owner: Owner) -> None:
        with owner.lock:  # so that nothing is put after ``forget``
            if owner.has_gone:
                return
            if owner is not _NOBODY:
                owner.keys.add(key)
            self._memory.put(key, payload)

    def __contains__(self, key: object) -> bool:
        """Whether there is an entry. One on disk is not read for this, so ``get`` may still find it damaged and return None."""
        if not is_key(key):
            return False
        return key in self._memory or key in self._copies or (self._disk is not None and key in self._disk)

    def clear(self) -> None:
        """Remove all entries, in memory and on disk, also those of other processes. Other files stay untouched."""
        self._memory.clear()
        self._copies.clear()
        if self._disk:
            self._disk.clear()

    def remove(self, keys: Iterable[str]) -> None:
        """Remove these entries, in memory and on disk; keys without an entry are ignored."""
        for key in keys:
            _check(key)
            self._forget(key)
            if self._disk:
                self._disk.remove(key)

    def contents(self) -> Contents:
        """What is in memory and on disk now. The folder is scanned."""
        entries = list(self._disk.entries()) if self._disk else []
        on_disk = {Path(path).name.removesuffix(SUFFIX) for _, _, path in entries}
        oldest = min((used for used, _, _ in entries), default=None)
        in_memory = self._memory.keys() | self._copies.keys()
        return Contents(len(on_disk | in_memory), self._memory.total + self._copies.total, sum(size for _, size, _ in entries),
                        None if oldest is None else oldest / 1e9)

    def sizes(self) -> tuple[int, int]:
        """Bytes in memory and on disk; the latter are those of the last scan plus what this cache has written since."""
        return self._memory.total + self._copies.total, self._disk.total if self._disk else 0


class Unrecorded:
    """A cache's entries, whose ``get`` and ``put`` add nothing to the keys of ``MapCache.recorded``."""

    def __init__(self, cache: MapCache) -> None:
        self._cache = cache

    def get(self, key: str, kind: type = object) -> Any:
        with self._cache.recorded(set()):
            return self._cache.get(key, kind)

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


def _record(key: str) -> None:
    keys = _recording.get()
    if keys is not None:
        keys.add(key)


def _check(key: str) -> None:
    if not is_key(key):
        raise ValueError(f"a cache key is 4 to 128 lower-case hex digits, not {key!r}")
