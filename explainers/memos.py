"""What runs share: the intermediate results of one network and image, bounded for all images together, and fitted statistics."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from torch import Tensor

from explainers.context import FitStore, Memo
from explainers.passes import Passes
from explainers.turns import Turns

Key = tuple[Any, ...]
Entry = tuple[Any, Passes]


class Memos:
    """Intermediate results with their passes, by subject (a network and an image) and key; safe to share between threads.

    limit: the bytes of tensors that are kept. most: the number of results that are kept. The least recently used go first.
    """

    def __init__(self, limit: int = 32 * 2**20, most: int = 1000) -> None:
        self.limit, self.most = limit, most
        self.total = 0  # bytes
        self._entries: OrderedDict[tuple[Hashable, Key], tuple[Entry, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def of(self, subject: Hashable) -> Memo:
        """The results of one subject, as one run sees them: ``hits`` counts what this run reused."""
        return _Subject(self, subject)

    def get(self, subject: Hashable, key: Key) -> Entry | None:
        """The result, which is now the last to go; None where there is none."""
        with self._lock:
            if (subject, key) not in self._entries:
                return None
            self._entries.move_to_end((subject, key))
            return self._entries[subject, key][0]

    def put(self, subject: Hashable, key: Key, entry: Entry) -> None:
        """Keep a result, unless it alone is larger than the limit."""
        size = held_bytes(entry[0])
        with self._lock:
            self._remove((subject, key))
            self._entries[subject, key] = entry, size
            self.total += size
            while self.total > self.limit or len(self._entries) > self.most:
                self._remove(next(iter(self._entries)) if size <= self.limit else (subject, key))

    def clear(self) -> None:
        """Forget all results. Runs that are under way compute anew what they still need."""
        with self._lock:
            self._entries.clear()
            self.total = 0

    def _remove(self, place: tuple[Hashable, Key]) -> None:
        _, size = self._entries.pop(place, (None, 0))
        self.total -= size


class _Subject(Memo):
    """The results of one subject, for one run, which are in ``Memos``."""

    def __init__(self, memos: Memos, subject: Hashable) -> None:
        super().__init__()
        self._memos, self._subject = memos, subject

    def find(self, key: Key) -> Entry | None:
        return self._memos.get(self._subject, key)

    def keep(self, key: Key, entry: Entry) -> None:
        self._memos.put(self._subject, key, entry)


class SharedFits:
    """Where runs keep fitted statistics: what a run does not find it fits, and others that need the same wait for it."""

    def __init__(self, store: FitStore, turns: Turns) -> None:
        self._store, self._turns = store, turns

    def get(self, key: str, kind: type = object) -> Any:
        value = self._store.get(key, kind)
        if value is None:
            self._turns.claim(key)
            value = self._store.get(key, kind)  # another run may have fitted it meanwhile
            if value is not None:
                self._turns.release(key)
        return value

    def put(self, key: str, value: Any) -> None:
        self._store.put(key, value)
        self._turns.release(key)

    def __contains__(self, key: object) -> bool:
        return key in self._store


def held_bytes(value: Any) -> int:
    """The bytes that the tensors and arrays in a value keep in memory; those that share one storage count once."""
    return sum(dict(_storages(value)).values())


def _storages(value: Any) -> Iterator[tuple[int, int]]:
    """The address and the bytes of everything in a value that holds numbers."""
    if isinstance(value, Tensor):
        storage = value.untyped_storage()
        yield storage.data_ptr(), storage.nbytes()
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _storages(part)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _storages(part)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _storages(getattr(value, field.name))
    elif hasattr(value, "nbytes"):
        yield id(value), int(value.nbytes)
