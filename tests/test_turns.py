"""Turns on the device: who is next, on a clock that the test turns; and that threads get, give and leave their turns."""

from __future__ import annotations

import threading
import time

import pytest
from support.threads import Background, run_in_threads

from explainers.line import LEAST_SECONDS, MOST_BEGUN, PATIENCE_SECONDS, SLICE_SECONDS, Line, Run, Sharing, Wait
from explainers.progress import MOST_STEPS, Cancelled, report
from explainers.turns import Turns


class Clock:
    """Seconds, set by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture()
def clock() -> Clock:
    return Clock()


@pytest.fixture()
def line(clock) -> Line:
    return Line(clock)


def joined(line: Line, *expected: float) -> list[Run]:
    """Runs with these estimates, which joined the line in this order."""
    runs = [Run(expected=seconds) for seconds in expected]
    for run in runs:
        line.join(run)
    return runs


def work(line: Line, clock: Clock, seconds: float, step: float = 0.1) -> None:
    """Time goes on: the run that has the device reports every ``step``, gives way where that is due, and ends after its estimate."""
    for _ in range(round(seconds / step)):
        clock.now += step
        run = line.holder
        if run is None:
            continue
        if 0 < run.expected <= run.used + clock.now - run.since + 1e-6:
            line.withdraw(run)
        elif line.is_due(run):
            line.join(run)


# Who is next


def test_the_first_that_comes_has_the_device_at_once(line):
    first, second = joined(line, 5.0, 0.1)
    assert line.holder is first and first.granted.is_set() and line.waiting == [second] and not second.granted.is_set()


def test_a_quick_run_is_next_at_the_first_report_after_the_least_time(line, clock):
    long, quick = joined(line, 300.0, 0.5)
    clock.now += LEAST_SECONDS * 0.9
    assert not line.is_due(long)
    clock.now += LEAST_SECONDS
    assert line.is_due(long)
    line.join(long)
    assert line.holder is quick and line.waiting == [long]


def test_a_run_is_not_interrupted_where_nobody_waits_or_the_run_is_quick(line, clock):
    alone, = joined(line, 300.0)
    clock.now += 100
    assert not line.is_due(alone)
    line.withdraw(alone)
    quick, _, _ = joined(line, 0.9, 0.1, 300.0)
    clock.now += 0.9
    assert line.holder is quick and not line.is_due(quick)


def test_what_took_longer_than_its_estimate_is_not_quick_any_more(line, clock):
    unknown, quick = joined(line, 0.0, 0.1)
    clock.now += 0.9
    assert not line.is_due(unknown)
    clock.now += 0.2
    assert line.is_due(unknown)
    line.join(unknown)
    assert line.holder is quick


def test_long_runs_share_the_device_in_equal_turns(line, clock):
    runs = joined(line, *[300.0] * 3)
    work(line, clock, 60.0)
    used = [run.used + (clock.now - run.since if run is line.holder else 0) for run in runs]
    assert used == pytest.approx([20.0] * 3, abs=SLICE_SECONDS)


def test_long_runs_end_one_after_another_and_none_is_lost(line, clock):
    short, middle, dear = joined(line, 4.0, 10.0, 30.0)
    for ended, seconds in ((short, 13), (middle, 15), (dear, 18)):
        work(line, clock, seconds)
        assert line.holder is not ended and ended not in line.waiting
    assert line.holder is None and not line.waiting


def test_a_stream_of_quick_runs_leaves_long_ones_a_share_of_the_device(line, clock):
    long, other = joined(line, 300.0, 300.0)
    for _ in range(200):  # two sessions that always want a quick map
        for _ in range(2 - sum(run.expected < 1 for run in [line.holder, *line.waiting])):
            joined(line, 0.5)
        work(line, clock, 0.5)
    share = (long.used + other.used) / 100
    assert 0.5 * LEAST_SECONDS / PATIENCE_SECONDS < share < 0.5 and min(long.used, other.used) > 4


def test_a_quick_run_never_waits_for_more_than_the_quick_before_it_and_a_short_turn(line, clock):
    joined(line, *[300.0] * 8)
    work(line, clock, 30.0)
    for _ in range(50):
        quick, = joined(line, 0.1)
        begin = clock.now
        while line.holder is not quick:
            work(line, clock, 0.1)
        assert clock.now - begin <= LEAST_SECONDS + 0.1 + 1e-6
        work(line, clock, 0.7)


def test_only_a_few_long_runs_are_begun_and_the_next_begins_when_one_of_them_ends(line, clock):
    runs = joined(line, *[300.0] * (MOST_BEGUN + 2))
    work(line, clock, 60.0)
    assert [run.begun for run in runs] == [True] * MOST_BEGUN + [False] * 2
    line.withdraw(runs[0])
    work(line, clock, 20.0)
    assert runs[MOST_BEGUN].begun and not runs[-1].begun
    quick, = joined(line, 0.1)
    work(line, clock, 1.0)
    assert quick.begun


def test_who_needs_what_another_run_computes_waits_for_that_alone(line, clock):
    owner = Run(expected=50.0)
    line.join(owner, ["a"])
    same = Run(expected=50.0)
    line.join(same, ["a", "b"])
    other, = joined(line, 50.0)
    work(line, clock, 20.0)
    assert not same.begun and other.begun and set(line.claims) == {"a"}
    line.claims.clear()
    line.withdraw(owner)
    work(line, clock, 10.0)
    assert same.begun and line.claims == {"a": same, "b": same}


# What a person is told


def test_the_place_and_the_seconds_are_those_that_come_true(line, clock):
    joined(line, 300.0, 300.0, 300.0)
    work(line, clock, 7.0)
    last = line.waiting[-1]
    wait, begin = line.wait_of(last), clock.now
    assert wait.place == 2 and not wait.for_same and wait.begun
    while line.holder is not last:
        work(line, clock, 0.1)
    assert clock.now - begin == pytest.approx(wait.seconds, abs=0.3)


def test_a_quick_run_is_before_the_long_ones_and_one_without_room_after_them(line, clock):
    runs = joined(line, *[40.0] * (MOST_BEGUN + 1), 0.3)
    assert line.wait_of(runs[-1]) == Wait(1, pytest.approx(LEAST_SECONDS), False, False)
    work(line, clock, 40.0)
    without_room = line.wait_of(runs[MOST_BEGUN])
    assert without_room.place == MOST_BEGUN and without_room.seconds == pytest.approx(120, abs=10)


def test_who_waits_for_the_same_result_is_told_so(line, clock):
    owner = Run(expected=50.0)
    line.join(owner, ["a"])
    same = Run(expected=50.0)
    line.join(same, ["a"])
    clock.now += 20
    assert line.wait_of(same) == Wait(1, pytest.approx(30), True, False)


def test_sharing_counts_what_the_others_still_need_while_the_run_lasts(line, clock):
    mine, other, _ = joined(line, 100.0, 10.0, 100.0)
    assert line.sharing(mine, 100.0) is None
    work(line, clock, 6.0)
    assert line.sharing(mine, 98.0) == Sharing(2, pytest.approx(8 + 98, abs=0.3))
    line.withdraw(other)
    assert line.sharing(mine, 5.0) == Sharing(1, pytest.approx(5))


# Threads


def steps(count: int, seconds: float, progress=None) -> None:
    """Work that reports after each of its steps."""
    for step in range(count):
        time.sleep(seconds)
        report(progress, step + 1, count)


def test_a_quick_run_comes_between_the_steps_of_a_long_one_which_then_goes_on():
    turns, begun, events = Turns(), threading.Event(), []

    def long():
        with turns.turn(seconds=60):
            begun.set()
            for _ in range(40):
                events.append("long")
                steps(1, 0.02)
            assert turns.waited > 0

    with Background(long):
        assert begun.wait(10)
        begin = time.monotonic()
        with turns.turn(seconds=0.1):
            assert time.monotonic() - begin < LEAST_SECONDS + 1
            between = len(events)
            steps(3, 0.02)
            assert len(events) == between < 40  # the long run stands still meanwhile
    assert len(events) == 40 and turns.waited == 0  # outside a turn


def test_nobody_computes_beside_another():
    turns, inside = Turns(), []

    def run(number):
        for _ in range(5):
            with turns.turn(seconds=number):
                for _ in range(5):
                    inside.append(number)
                    assert inside == [number]
                    time.sleep(0.002)
                    assert inside.pop() == number
                    report(None, 1, 2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("explainers.line.LEAST_SECONDS", 0.0)
        patch.setattr("explainers.line.SLICE_SECONDS", 0.0)
        run_in_threads([lambda number=number: run(number) for number in range(8)])
    assert turns._line.holder is None and not turns._line.waiting


def test_all_levels_of_a_nested_turn_give_way_together():
    turns, begun = Turns(), threading.Event()

    def nested():
        with turns.turn(seconds=60), turns.turn(seconds=60), turns.turn():
            begun.set()
            steps(30, 0.02)

    with Background(nested):
        assert begun.wait(10)
        with turns.turn(seconds=0.1):
            pass
        assert turns._line.holder is not None  # it came in between
    assert turns._line.holder is None


class Closed(BaseException):
    """What Streamlit raises in a script whose tab was closed is no Exception either."""


@pytest.mark.parametrize("error", [Closed, KeyboardInterrupt, ValueError, SystemExit, Cancelled, MemoryError])
@pytest.mark.parametrize("when", ["before it begins", "when it gave way", "when it computes", "when it waits for the same"])
def test_whatever_ends_a_run_leaves_the_device_to_the_others(error, when):
    turns, begun, leave = Turns(), threading.Event(), threading.Event()

    def refuse(done, total, preview):
        if total == 0 or when == "when it computes":
            raise error

    def occupy():
        with turns.turn(seconds=0.1 if when == "when it gave way" else 60, keys=["a"]):
            begun.set()
            assert leave.wait(10)

    def run():
        keys = ["a"] if when == "when it waits for the same" else ["b"]
        with turns.turn(refuse, 60, keys), Background(occupy) if when == "when it gave way" else turns.turn(keys=["c"]):
            if when == "when it gave way":
                assert begun.wait(0) or wait_for(lambda: turns._line.waiting)
                turns._line.holder.since -= 60
            try:
                report(refuse, 1, 2)
            finally:
                leave.set()

    if when in ("before it begins", "when it waits for the same"):
        with Background(occupy):
            assert begun.wait(10)
            with pytest.raises(error):
                run()
            leave.set()
    else:
        with pytest.raises(error):
            run()
    line = turns._line
    assert line.holder is None and not line.waiting and not line.claims
    with turns.turn(keys=["a", "b", "c"]):
        report(None, 1, 2)


def wait_for(condition) -> bool:
    """Whether the condition comes true within 10 s."""
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(condition())


@pytest.mark.parametrize("error", [Cancelled, Closed])
def test_a_run_that_goes_on_after_a_stopped_wait_takes_its_turn_again(error):
    turns, begun, leave = Turns(), threading.Event(), threading.Event()

    def occupy():
        with turns.turn(seconds=0.1):
            begun.set()
            assert leave.wait(10)

    def refuse(done, total, preview):
        if not total:
            raise error

    with turns.turn(seconds=60):
        with Background(occupy):
            assert wait_for(lambda: turns._line.waiting)
            turns._line.holder.since -= 60
            with pytest.raises(error):
                report(refuse, 1, 2)
            assert not turns._line.waiting
            leave.set()
        report(refuse, 1, 2)
        assert turns._line.holder is not None


def test_two_that_claim_the_same_compute_it_once_also_in_the_middle_of_their_runs():
    turns, made = Turns(), []

    def run():
        with turns.turn(seconds=60):
            steps(2, 0.01)
            turns.claim("statistics")
            if not made:
                steps(5, 0.01)
                made.append(1)
            turns.release("statistics")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("explainers.line.LEAST_SECONDS", 0.0)
        patch.setattr("explainers.line.SLICE_SECONDS", 0.0)
        run_in_threads([run] * 4)
    assert made == [1] and not turns._line.claims


def test_two_engines_turns_do_not_disturb_each_other():
    one, other = Turns(), Turns()
    with one.turn(seconds=60):
        with other.turn(seconds=60):
            assert one._line.holder is not other._line.holder
            report(None, 1, 2)
        assert other._line.holder is None and one._line.holder is not None


# The reports


def test_totals_of_runs_within_runs_are_told_in_small_numbers():
    reports = []
    for done in (0, 1, 488562432, 2270338559, 2270338560):
        report(lambda *args: reports.append(args[:2]), done, 2270338560)
    assert reports == [(0, MOST_STEPS), (0, MOST_STEPS), (2151, MOST_STEPS), (9999, MOST_STEPS), (MOST_STEPS, MOST_STEPS)]
    with pytest.raises(Cancelled, match="^stopped after 21 % of the run$"):
        report(lambda *_: False, 488562432, 2270338560)
    with pytest.raises(Cancelled, match="^stopped while it waited for the device$"):
        report(lambda *_: False, 0, 0)


def test_a_report_costs_nothing_measurable_where_nobody_waits():
    turns = Turns()
    with turns.turn(seconds=60):
        begin = time.thread_time()
        for _ in range(10_000):
            report(None, 1, 2)
        assert time.thread_time() - begin < 0.1  # 10 microseconds each
