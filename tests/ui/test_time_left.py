"""The time left of a run, against closed forms on a clock that the test turns."""

from __future__ import annotations

import pytest

from components.compute.time_left import SOON, SOON_TRUSTED, TRUSTED, TimeLeft


class Clock:
    """Seconds, set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture()
def clock() -> Clock:
    return Clock()


def test_before_anything_is_known_the_estimates_count(clock):
    left = TimeLeft([10, 30], clock)
    assert left.seconds == 40 and left.fraction == 0
    clock.now += 7  # nothing was reported meanwhile
    assert left.seconds == 40


def test_a_run_as_fast_as_estimated_needs_what_is_left_of_the_estimate(clock):
    left = TimeLeft([10, 30], clock)
    clock.now += 5
    left.running(0, 0.5)
    assert left.seconds == pytest.approx(35) and left.fraction == pytest.approx(5 / 40)


@pytest.mark.parametrize("factor", [0.25, 2.0, 10.0])
def test_a_wrong_estimate_is_corrected_by_the_runs_own_speed(clock, factor):
    left = TimeLeft([10, 30], clock)
    clock.now += 5 * factor
    left.running(0, 0.5)
    assert left.seconds == pytest.approx(35 * factor)
    clock.now += 5 * factor
    left.finished(0)
    assert left.seconds == pytest.approx(30 * factor) and left.fraction == pytest.approx(0.25)
    clock.now += 15 * factor
    left.running(1, 0.5)
    assert left.seconds == pytest.approx(15 * factor) and left.fraction == pytest.approx(25 / 40)


def test_the_first_few_percent_prove_no_speed(clock):
    left = TimeLeft([100], clock)
    clock.now += 60
    left.running(0, TRUSTED)
    assert left.seconds == pytest.approx(100 * (1 - TRUSTED))


def test_from_the_first_second_on_one_percent_proves_it(clock):
    left = TimeLeft([100], clock)
    clock.now += 0.5
    left.running(0, 0.005)
    assert left.seconds == pytest.approx(99.5)
    clock.now += SOON
    left.running(0, 0.005 + SOON_TRUSTED)
    assert left.seconds == pytest.approx(98.5)
    clock.now += SOON
    left.running(0, 0.03)
    assert left.seconds == pytest.approx(97 * SOON / 1.5)


def test_the_speed_is_that_of_the_later_half(clock):
    left = TimeLeft([10], clock)
    for second, fraction in ((0, 0.01), (50, 0.1), (51, 0.2), (52, 0.3), (53, 0.4)):
        clock.now = 100 + second
        left.running(0, fraction)
    assert left.seconds == pytest.approx(6)  # 0.1 a second since the report at 0.2


@pytest.mark.parametrize(("begin", "jump"), [(5, 0.01), (0.1, 0.4)])
def test_a_slow_or_skipped_beginning_does_not_count_for_the_speed_of_the_rest(clock, begin, jump):
    left = TimeLeft([10], clock)
    clock.now += begin
    left.running(0, jump)
    clock.now += 3
    left.running(0, jump + 0.3)
    assert left.seconds == pytest.approx(10 * (0.7 - jump))


def test_a_task_is_judged_by_its_own_speed_and_those_after_it_by_that_of_the_run(clock):
    left = TimeLeft([10, 10, 10], clock)
    clock.now += 10
    left.finished(0)
    clock.now += 20  # the second takes four times as long as estimated
    left.running(1, 0.5)
    assert left.seconds == pytest.approx(20 + 10 * 30 / 15)
    left.running(1, 0.0)  # nothing is known of its own speed
    assert left.seconds == pytest.approx((10 + 10) * 3)


def test_the_time_of_waiting_for_another_run_does_not_count(clock):
    left = TimeLeft([10], clock)
    clock.now += 2
    left.running(0, 0.2)
    for _ in range(50):
        clock.now += 0.1
        left.wait()
    assert left.seconds == pytest.approx(8)
    clock.now += 3
    left.running(0, 0.5)
    assert left.seconds == pytest.approx(5)


def test_a_run_that_slows_down_is_followed(clock):
    left, estimates = TimeLeft([10], clock), []
    for fraction, seconds in ((0.25, 2.5), (0.5, 7.5), (0.75, 15.0)):
        clock.now = 100 + seconds
        left.running(0, fraction)
        estimates.append(left.seconds)
    assert estimates == pytest.approx([7.5, 10.0, 6.25])  # by the speed since the first report


def test_it_ends_at_nothing_and_one(clock):
    left = TimeLeft([1, 2], clock)
    clock.now += 9
    left.finished(0)
    left.finished(1)
    assert left.seconds == 0 and left.fraction == 1


def test_fractions_out_of_range_and_estimates_of_nothing_do_no_harm(clock):
    left = TimeLeft([0, 0], clock)
    left.running(0, 7.0)
    assert left.fraction == pytest.approx(0.5) and left.seconds >= 0
    left.running(0, -1.0)
    assert left.fraction == 0
