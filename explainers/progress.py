"""The callback by which a long run reports its progress and is stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

Progress = Callable[[int, int, Tensor | None], Any]
"""``progress(done, total, preview)``: ``preview`` is the map so far, (h, w) or (C, h, w), or None.

``done`` rises to ``total``. A ``total`` of 0 says that the run waits for the device, which another run of the engine uses.
Returning False, or raising an exception, stops the run.
"""


class Cancelled(Exception):
    """Raised when the progress callback asks to stop. The unfinished result is not cached."""


def report(progress: Progress | None, done: int, total: int, preview: Tensor | None = None) -> None:
    """Call the callback, if there is one. Raises Cancelled when it returns False."""
    if progress is not None and progress(done, total, preview) is False:
        raise Cancelled(f"stopped after {done} of {total}")
