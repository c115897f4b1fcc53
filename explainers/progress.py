"""The callback by which a long run reports its progress and is stopped."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol

from torch import Tensor

Progress = Callable[[int, int, Tensor | None], Any]
"""``progress(done, total, preview)``: ``preview`` is the map so far, (h, w) or (C, h, w), or None.

``done`` rises to ``total``. A ``total`` of 0 says that the run waits for the device, which another run of the engine uses; then
``Engine.waiting`` knows the place in the line. Returning False, or raising an exception, stops the run.
"""

MOST_STEPS = 10_000  # a larger total is scaled down: a run within a run multiplies the totals of both


class Cancelled(Exception):
    """Raised when the progress callback asks to stop. The unfinished result is not cached."""


class GivesWay(Protocol):
    """A run that shares the device with others."""

    def give_way(self, progress: Progress | None) -> None:
        """Let another run use the device first, if that is due; ``progress`` is called while this one waits."""


current_run: ContextVar[GivesWay | None] = ContextVar("current_run", default=None)
"""The run that this thread computes, where an engine runs it (see ``turns``). It is asked at every report to give way."""


def report(progress: Progress | None, done: int, total: int, preview: Tensor | None = None) -> None:
    """Call the callback, if there is one, and give way where other runs wait. Raises Cancelled when the callback returns False."""
    if total > MOST_STEPS:
        done, total = done * MOST_STEPS // total, MOST_STEPS
    if progress is not None and progress(done, total, preview) is False:
        raise Cancelled(f"stopped after {100 * done // total} % of the run" if total else "stopped while it waited for the device")
    run = current_run.get()
    if run is not None:
        run.give_way(progress)
