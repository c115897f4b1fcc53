"""Threads whose exceptions fail the test that started them. A plain ``threading.Thread`` only prints them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE_SECONDS = 60


def run_in_threads(functions: Sequence[Callable[[], T]]) -> list[T]:
    """The results of functions that run at the same time, each in a thread of its own, all begun together.

    Raises the first exception that any of them raised, once all have ended.
    """
    ready = threading.Barrier(len(functions), timeout=PATIENCE_SECONDS)

    def begin(function: Callable[[], T]) -> T:
        ready.wait()
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        waiting = [pool.submit(begin, function) for function in functions]
    return [future.result() for future in waiting]


class Background:
    """One function in a thread beside the test. Leaving ``with Background(f): ...`` waits for it and raises what it raised."""

    def __init__(self, function: Callable[[], Any]):
        self._pool = ThreadPoolExecutor(1)
        self._waiting = self._pool.submit(function)

    def __enter__(self) -> Background:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown(wait=True)
        if kind is None:  # else the test has failed already, by what says more
            self._waiting.result()
