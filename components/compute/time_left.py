"""How long a run still takes, estimated from its own speed so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

TRUSTED = 0.05  # fraction of the work after which the run's own speed counts instead of the estimates made before it
APART = 0.005  # fractions of a task between two reports that are kept
SOON, SOON_TRUSTED = 1.0, 0.01  # seconds between two reports after which a smaller fraction is enough


class TimeLeft:
    """The seconds that several tasks, one after another, still take.

    estimates: seconds of each task as estimated before the run. The task that runs is extrapolated from its own speed in the later
    half of what it has done, because its beginning, such as reading statistics, can be quicker or slower than the rest. The tasks
    after it take their estimates times the run's seconds so far over what was estimated for the work done in them, so a machine that
    is busy is taken into account for them too.
    """

    def __init__(self, estimates: Sequence[float], clock: Callable[[], float] = time.monotonic) -> None:
        self._estimates = [max(seconds, 1e-3) for seconds in estimates]
        self._clock = clock
        self._begin = self._task_begin = self._last = clock()
        self._finished = 0.0  # estimated seconds of the tasks that have ended
        self._estimate = self._estimates[0] if self._estimates else 0.0  # of the task that runs
        self._done = 0.0  # fraction of it
        self._reports: list[tuple[float, float]] = []  # of the task that runs: times and fractions

    def running(self, place: int, fraction: float) -> None:
        """The task at ``place`` has done this fraction of its work."""
        self._last = self._clock()
        self._estimate, self._done = self._estimates[place], min(max(fraction, 0.0), 1.0)
        if self._done and (not self._reports or self._done >= self._reports[-1][1] + APART):
            self._reports.append((self._last, self._done))

    def wait(self) -> None:
        """The run waits for another one. The time since the last report does not count for its speed."""
        now = self._clock()
        waited, self._last = now - self._last, now
        self._begin, self._task_begin = self._begin + waited, self._task_begin + waited
        self._reports = [(at + waited, done) for at, done in self._reports]

    def finished(self, place: int) -> None:
        """The task at ``place`` has ended."""
        self._last = self._task_begin = self._clock()
        self._finished += self._estimates[place]
        self._estimate = self._done = 0.0
        self._reports = []

    @property
    def _work(self) -> float:
        """The estimated seconds of the work that is done."""
        return self._finished + self._estimate * self._done

    @property
    def fraction(self) -> float:
        """How much of the work is done, 0 to 1."""
        return min(self._work / sum(self._estimates), 1.0)

    @property
    def seconds(self) -> float:
        """What is still to come."""
        now, total = self._clock(), sum(self._estimates)
        pace = _pace(now - self._begin, self._work, total)
        own = _pace(now - self._task_begin, self._estimate * self._done, self._estimate, pace)
        if self._reports:
            begin, done = max(report for report in self._reports if report[1] <= max(self._done / 2, self._reports[0][1]))
            trusted = SOON_TRUSTED if now - begin >= SOON else TRUSTED
            own = _pace(now - begin, self._estimate * (self._done - done), self._estimate, own, trusted)
        later = max(total - self._finished - self._estimate, 0.0)
        return self._estimate * (1 - self._done) * own + later * pace


def _pace(seconds: float, work: float, total: float, otherwise: float = 1.0, trusted: float = TRUSTED) -> float:
    """``seconds`` over the ``work`` done in them, of which there are ``total``; ``otherwise`` below the ``trusted`` fraction."""
    return seconds / work if work > trusted * total else otherwise
