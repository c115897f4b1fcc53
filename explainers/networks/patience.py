"""Waiting for a person's own code, which may never return: it runs in a thread of its own, and others wait a limited time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_running: ContextVar[tuple[Any, ...]] = ContextVar("running", default=())


class StillRunning(Exception):
    """The call has not returned within its time. It goes on, and a later ``result`` may have it."""


class Patient(Generic[T]):
    """A call that begins now in a thread of its own. ``result`` waits until ``seconds`` after the beginning, and then no more.

    The thread is a daemon: one that never ends does not keep the program from ending.
    """

    def __init__(self, call: Callable[[], T], seconds: float) -> None:
        self._call = call
        self._until = time.monotonic() + seconds
        self._value: list[T] = []
        self._error: BaseException | None = None
        context = copy_context()  # so that the thread knows the calls that it is part of
        self._thread = threading.Thread(target=context.run, args=(self._run,), daemon=True)
        self._thread.start()

    def _run(self) -> None:
        _running.set((*_running.get(), self))
        try:
            self._value.append(self._call())
        except BaseException as error:  # it is raised again by ``result``, in the thread that asks
            self._error = error

    @property
    def is_caller(self) -> bool:
        """Whether the code that asks is itself part of the call, so that waiting for it would never end."""
        return self in _running.get()

    def result(self) -> T:
        """What the call returned. Raises what it raised, or StillRunning."""
        self._thread.join(max(0.0, self._until - time.monotonic()))
        if self._thread.is_alive():
            raise StillRunning
        if self._error is not None:
            raise self._error
        return self._value[0]
