"""The line for one device: who uses it, who is next, and how long a run that waits still has to wait.

A quick run, one of a second or less, goes before long ones, so that a cheap map waits only for the next report of a long run. Long
runs have the device for two seconds each, one after another. So that a stream of quick runs cannot keep long ones waiting for ever, a
long run gets a short turn whenever quick ones have had the device for a second. A run that gave way keeps its tensors, so only
a few long runs are begun at a time, and the others wait until one of those ends.

A run claims the keys of what it computes. Another run that needs the same result waits for it instead of computing it again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from explainers.progress import Progress

QUICK_SECONDS = 1.0  # a run that is estimated to take, and has taken, no longer than this is quick
SLICE_SECONDS = 2.0  # how long a long run has the device while other long ones wait
LEAST_SECONDS = 0.2  # how long every run has the device before it gives way, so that switching costs little
PATIENCE_SECONDS = 1.0  # how long quick runs go before a long one that waits
MOST_BEGUN = 4  # how many long runs take turns; more wait until one of these ends, without holding memory


@dataclass(frozen=True)
class Wait:
    """Where a run stands that waits. place: 1 for the next in line. seconds: estimated, until it has the device.

    for_same: it waits because another run computes the same result. begun: it had the device before, and has it again in its turn.
    """

    place: int
    seconds: float
    for_same: bool
    begun: bool


@dataclass(frozen=True)
class Sharing:
    """The other long runs that take turns with a run: how many, and the seconds that they use the device until the run ends."""

    runs: int
    seconds: float


@dataclass(eq=False)
class Run:
    """One run and its use of the device.

    progress: its callback. expected: estimated seconds on the device, 0 where nothing is known. used, waited: seconds on the device
    and in the line, without the present turn or wait, which began at ``since``. begun: whether it ever had the device. needs: the
    keys that it must claim before it goes on. granted: set when it gets the device.
    """

    progress: Progress | None = None
    expected: float = 0.0
    used: float = 0.0
    waited: float = 0.0
    since: float = 0.0
    begun: bool = False
    waiting: bool = False
    needs: frozenset[str] = frozenset()
    granted: threading.Event = field(default_factory=threading.Event)


class Line:
    """The run that has the device, those that wait, and what is claimed. ``Turns`` holds a lock around every use of it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.holder: Run | None = None
        self.waiting: list[Run] = []  # in the order in which they came, or gave way
        self.claims: dict[str, Run] = {}  # what is being computed, and by which run
        self._clock = clock
        self._long_ended = 0.0  # when a long run last had the device

    def join(self, run: Run, needs: Iterable[str] = ()) -> None:
        """The run waits for the device, and for the keys that it ``needs``; where nobody is before it, it has both at once."""
        self._give_up(run)
        run.since, run.waiting, run.needs = self._clock(), True, frozenset(needs)
        run.granted.clear()
        self.waiting.append(run)
        self.hand_over()

    def withdraw(self, run: Run) -> None:
        """The run neither has the device nor waits for it."""
        self._give_up(run)
        if run in self.waiting:
            self.waiting.remove(run)
        self.hand_over()

    def hand_over(self) -> None:
        """Give the device, if nobody has it, to the run that is next."""
        run = self.next() if self.holder is None else None
        if run is not None:
            now = self._clock()
            run.waited, run.since, run.begun = run.waited + now - run.since, now, True
            self.waiting.remove(run)
            self.holder = run
            self.claim(run, run.needs)
            run.granted.set()

    def claim(self, run: Run, keys: Iterable[str]) -> None:
        """The keys are this run's own."""
        self.claims.update(dict.fromkeys(keys, run))

    def are_free(self, run: Run, keys: Iterable[str]) -> bool:
        """Whether no other run has claimed one of the keys."""
        return all(self.claims.get(key, run) is run for key in keys)

    def next(self) -> Run | None:
        """The run that gets the device next; None where all that wait, wait for something else."""
        quick = [run for run in self._ready() if self.is_quick(run)]
        room = len(self._begun()) < MOST_BEGUN
        long = [run for run in self._ready() if run not in quick and (run.begun or room)]
        if quick and long and self._has_been_patient(long[0]):
            return long[0]
        return next(iter([*quick, *long]), None)

    def is_due(self, run: Run) -> bool:
        """Whether the run that has the device gives way now."""
        held = self._clock() - run.since
        other = self.next() if held >= LEAST_SECONDS and not self.is_quick(run) else None
        return other is not None and (self.is_quick(other) or held >= SLICE_SECONDS)

    def is_quick(self, run: Run) -> bool:
        """Whether a run goes before long ones."""
        return max(run.expected, self._used(run)) <= QUICK_SECONDS

    def wait_of(self, run: Run) -> Wait:
        """Where a run that waits stands."""
        before = self._before(run)
        owners = [self.claims[key] for key in run.needs if not self.are_free(run, [key])]
        begun = self._begun()
        if owners:
            seconds = max(self._remaining(owner) for owner in owners) * max(len(begun), 1)
        elif not self.is_quick(run) and not run.begun and len(begun) >= MOST_BEGUN:
            seconds = min(self._remaining(other) for other in begun) * len(begun)
        else:
            seconds = self._rest_of_turn(run) + sum(min(self._remaining(other), SLICE_SECONDS) for other in before)
        return Wait(len(before) + 1, seconds, bool(owners), run.begun)

    def sharing(self, run: Run, seconds: float) -> Sharing | None:
        """The long runs that take turns with this one, which has ``seconds`` of its own to go; None where there are none."""
        others = [other for other in self._begun() if other is not run]
        return Sharing(len(others), sum(min(seconds, self._remaining(other)) for other in others)) if others else None

    def _give_up(self, run: Run) -> None:
        if self.holder is run:
            now = self._clock()
            if not self.is_quick(run):
                self._long_ended = now
            run.used += now - run.since
            self.holder = None

    def _ready(self) -> list[Run]:
        """The runs that wait for nothing but the device."""
        return [run for run in self.waiting if self.are_free(run, run.needs)]

    def _begun(self) -> list[Run]:
        """The long runs that have begun and not ended."""
        holder = [self.holder] if self.holder is not None else []
        return [run for run in [*holder, *self.waiting] if run.begun and not self.is_quick(run)]

    def _has_been_patient(self, run: Run) -> bool:
        """Whether this long run has waited while quick ones had the device for long enough."""
        if self.holder is not None and not self.is_quick(self.holder):
            return False
        return self._clock() - max(self._long_ended, run.since) >= PATIENCE_SECONDS

    def _used(self, run: Run) -> float:
        return run.used + (self._clock() - run.since if run is self.holder else 0.0)

    def _remaining(self, run: Run) -> float:
        """The seconds that a run still needs: by its estimate, or as many again as it has used where that was too low."""
        used = self._used(run)
        return run.expected - used if run.expected > used else used

    def _before(self, run: Run) -> list[Run]:
        """The runs that come before this one: quick before long, long that are begun before those that are not, then as they came."""
        def rank(other: Run) -> tuple[bool, bool, int]:
            quick = self.is_quick(other)
            return not quick, not quick and not other.begun, self.waiting.index(other)

        return [other for other in self.waiting if rank(other) < rank(run)]

    def _rest_of_turn(self, waiting: Run) -> float:
        """How long the run that has the device keeps it before this one can have it."""
        if self.holder is None:
            return 0.0
        rest = self._remaining(self.holder)
        if self.is_quick(self.holder):
            return rest
        turn = LEAST_SECONDS if self.is_quick(waiting) else SLICE_SECONDS
        return max(min(turn - (self._clock() - self.holder.since), rest), 0.0)
