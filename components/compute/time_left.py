"""How long a run still takes, estimated from its own speed so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

TRUSTED = 0.05  # fraction of the work after which the run's own speed counts instead of the estimates made before it


class TimeLeft:
    """The seconds that several tasks, one after another, still take.

    estimates: seconds of each task as estimated before the run. Their ratios say how much of the work is done; the speed is that of
    the run itself, so a machine that is busy, or an estimate that was wrong by a factor, is corrected as the run goes on.
    """

    def __init__(self, estimates: Sequence[float], clock: Callable[[], float] = time.monotonic) -> None:
        self._estimates = [max(seconds, 1e-3) for seconds in estimates]
        self._clock = clock
        self._begin = clock()
        self._finished = 0.0
        self._current = 0.0

    def running(self, place: int, fraction: float) -> None:
        """The task at ``place`` has done this fraction of its work."""
        self._current = self._estimates[place] * min(max(fraction, 0.0), 1.0)

    def finished(self, place: int) -> None:
        """The task at ``place`` has ended."""
        self._finished += self._estimates[place]
        self._current = 0.0

    @property
    def fraction(self) -> float:
        """How much of the work is done, 0 to 1."""
        return min((self._finished + self._current) / sum(self._estimates), 1.0)

    @property
    def seconds(self) -> float:
        """What is still to come."""
        done, total = self._finished + self._current, sum(self._estimates)
        pace = (self._clock() - self._begin) / done if done > TRUSTED * total else 1.0
        return max(total - done, 0.0) * pace
