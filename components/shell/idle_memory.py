"""Give memory back while nobody uses the app.

What a run frees is kept for the next one (see ``explainers.memory``), which saves much of its time. So it is returned to the system
when the server has been at rest for a moment: then nobody waits for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

REST_SECONDS = 3.0
_AT_REST = 0.1  # the part of a core that a server without work uses at most


def return_when_idle(stop: threading.Event, give_back: Callable[[], None], clock: Callable[[], float] = time.process_time,
                     rest_seconds: float = REST_SECONDS) -> None:
    """Call ``give_back`` once after each time of work, when the process has rested for ``rest_seconds``; ends with ``stop``.

    clock: the process's seconds on the processor.
    """
    worked, before = False, clock()
    while not stop.wait(rest_seconds):
        now = clock()
        at_rest, before = now - before <= _AT_REST * rest_seconds, now
        if at_rest and worked:
            give_back()
        worked = not at_rest
