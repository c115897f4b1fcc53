"""Turns on one device: one run at a time computes, and a run that takes long gives way to others whenever it reports progress.

    turns = Turns()
    with turns.turn(progress, seconds=40.0):      # waits for the device
        ...                                       # ``progress.report`` may give way here, and returns when the device is back

``line`` decides who is next. Giving way changes no result: a run goes on where it was.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from explainers.line import Line, Run, Sharing, Wait
from explainers.progress import GivesWay, Progress, current_run, report

TICK_SECONDS = 0.1  # how often a run that waits calls its progress callback, by which it can be stopped


@dataclass(frozen=True, eq=False)
class _Turn:
    """The turn that a thread is in. outer: what the thread was in before, such as a turn on another engine's device."""

    turns: Turns
    run: Run
    outer: GivesWay | None

    def give_way(self, progress: Progress | None) -> None:
        """See ``progress.report``, which calls this."""
        self.turns.give_way(self.run, progress)


class Turns:
    """Lets one run at a time use a device. Safe to share between threads; a run belongs to the thread that began it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._line = Line(clock)

    @contextmanager
    def turn(self, progress: Progress | None = None, seconds: float = 0.0, keys: Iterable[str] = ()) -> Iterator[None]:
        """Use the device, and be the only one to compute ``keys``. Within a turn of this thread, it is that turn which goes on.

        progress: called with a total of 0 while the run waits; an exception that it raises ends the wait. seconds: the estimated
        time of the run; 0 for a run of which nothing is known, which counts as quick until it has taken longer.
        """
        run = self._current()
        if run is not None:
            claimed = self._take(run, keys)
            try:
                yield
            finally:
                self._release(run, claimed)
            return
        run = Run(progress, seconds)
        token = current_run.set(_Turn(self, run, current_run.get()))
        try:
            self._take(run, keys)
            yield
        finally:
            current_run.reset(token)
            self._leave(run)

    def claim(self, key: str) -> None:
        """Be the only one to compute ``key``, until it is released or this thread's turn ends. Nothing happens outside a turn."""
        run = self._current()
        if run is not None:
            self._take(run, [key])

    def release(self, key: str) -> None:
        """Other runs may compute this key again."""
        run = self._current()
        if run is not None:
            self._release(run, [key])

    @property
    def waited(self) -> float:
        """The seconds that the run of this thread has waited since it began."""
        run = self._current()
        return run.waited if run is not None else 0.0

    def waiting(self) -> Wait | None:
        """Where the run of this thread stands in the line; None where it does not wait."""
        run = self._current()
        with self._lock:
            return self._line.wait_of(run) if run is not None and run in self._line.waiting else None

    def sharing(self, seconds: float) -> Sharing | None:
        """The long runs that take turns with this thread's run, which has ``seconds`` of its own to go; None where there are none."""
        run = self._current()
        with self._lock:
            return self._line.sharing(run, seconds) if run is not None else None

    def give_way(self, run: Run, progress: Progress | None) -> None:
        """Wait until others had their turn, if that is due. Raises what the progress callback raises."""
        line = self._line
        if run.waiting or (line.holder is run and not line.waiting):  # the usual case costs no lock
            return
        with self._lock:
            if line.holder is run and not line.is_due(run):
                return
            line.join(run)
        self._wait(run, progress)

    def _current(self) -> Run | None:
        """The run of these turns that this thread computes."""
        turn = current_run.get()
        while isinstance(turn, _Turn) and turn.turns is not self:
            turn = turn.outer
        return turn.run if isinstance(turn, _Turn) else None

    def _take(self, run: Run, keys: Iterable[str]) -> list[str]:
        """Go on once the run has the device and the keys are its own. Returns those that were not its own before."""
        with self._lock:
            wanted = [key for key in keys if self._line.claims.get(key) is not run]
            if self._line.holder is run and self._line.are_free(run, wanted):
                self._line.claim(run, wanted)
                return wanted
            self._line.join(run, wanted)
        self._wait(run, None)
        return wanted

    def _wait(self, run: Run, progress: Progress | None) -> None:
        """Wait until the run has the device. An exception, such as that of a closed tab, takes it out of the line."""
        try:
            while not run.granted.wait(TICK_SECONDS):
                report(run.progress or progress, 0, 0)
        except BaseException:
            with self._lock:
                self._line.withdraw(run)
            raise
        finally:
            run.waiting = False

    def _release(self, run: Run, keys: Iterable[str]) -> None:
        with self._lock:
            for key in keys:
                if self._line.claims.get(key) is run:
                    del self._line.claims[key]
            self._line.hand_over()

    def _leave(self, run: Run) -> None:
        """The run has ended: nothing is left in its hands."""
        with self._lock:
            self._line.claims = {key: owner for key, owner in self._line.claims.items() if owner is not run}
            self._line.withdraw(run)
