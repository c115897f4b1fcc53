"""Several sessions at one engine: equal maps, turns and places in the line, shared passes within bounds."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from support.equality import same
from support.threads import Background, run_in_threads

import explainers as ex
from explainers.context import Context, RunOptions
from explainers.line import Run
from explainers.memos import Memos, SharedFits, held_bytes
from explainers.progress import report

# Two at once


def test_a_waiting_run_that_is_abandoned_leaves_the_queue(toy, image):
    engine, has_the_device, leave = ex.Engine(), threading.Event(), threading.Event()

    def occupy():
        has_the_device.set()
        return leave.wait(10)

    with Background(lambda: engine.get_or_compute("m", (), occupy)):
        assert has_the_device.wait(10)
        begin = time.perf_counter()
        with pytest.raises(ex.Cancelled):
            engine.explain(toy, image, "gradient", target=1, progress=lambda *_: time.perf_counter() - begin < 0.3)
        assert time.perf_counter() - begin < 1.5
        leave.set()
    assert engine.explain(toy, image, "gradient", target=1).flags == ()


def test_a_run_that_waits_for_another_one_says_so_and_then_what_it_does(toy, image):
    engine, has_the_device, leave, reports = ex.Engine(), threading.Event(), threading.Event(), []

    def occupy():
        has_the_device.set()
        return leave.wait(10)

    def progress(done, total, preview):
        reports.append((done, total))
        leave.set()

    with Background(lambda: engine.get_or_compute("m", (), occupy)):
        assert has_the_device.wait(10)
        engine.explain(toy, image, "gradient", target=1, progress=progress)
    assert reports[0] == (0, 0) and all(total for _, total in reports[-2:])


def test_threads_that_ask_the_same_compute_it_once(toy, image, restless):
    engine = ex.Engine()
    maps = run_in_threads([lambda: engine.explain(toy, image, "rise", target=1, masks=2000)] * 4)
    assert engine.runs == 1 and all(torch.equal(attribution.native, maps[0].native) for attribution in maps)


def test_threads_that_measure_the_same_measure_it_once(toy, image, restless):
    engine, measurement = ex.Engine(), ex.judge("insertion_deletion", ex.ask(toy, image, "gradient", target=1), step=200)
    results = run_in_threads([lambda: engine.measure(measurement)] * 4)
    assert engine.runs == 2 and all(same(result, results[0]) for result in results)  # the map, and its measurement


# Many sessions at once

SLOW = ("iba", "input_iba", "xrai")  # even with their cheap settings; IBA fits its statistics in tests of its own


@pytest.fixture()
def restless(monkeypatch):
    """Every run counts as long, and gives way at every report."""
    for name, seconds in (("QUICK_SECONDS", -1.0), ("LEAST_SECONDS", 0.0), ("SLICE_SECONDS", 0.0)):
        monkeypatch.setattr(f"explainers.line.{name}", seconds)


def test_eight_sessions_get_the_maps_that_they_would_get_alone(toy, image, restless):
    """Methods of every kind that give way at every report, on two images, with shared passes and statistics."""
    keys = [key for key, method in ex.methods().items() if not method.lacks(toy) and key not in SLOW]
    questions = [ex.ask(toy, x, key, target=target, **ex.methods()[key].cheap)
                 for key in keys for x, target in ((image, 1), (image.flip(-1), 2))]
    alone = [question.run() for question in questions]
    engine, sessions = ex.Engine(), 8

    def session(number):
        mine = questions[number::sessions] + questions[(number + 1) % sessions::sessions][:3]  # some are asked for by two
        return {question.key: engine.explain(question, progress=lambda *_: None) for question in mine}

    maps = {}
    for of_session in run_in_threads([lambda number=number: session(number) for number in range(sessions)]):
        maps.update(of_session)
    assert engine.runs == len(questions)
    for question, expected in zip(questions, alone, strict=True):
        assert torch.equal(maps[question.key].native, expected.native), question.method.key
        assert maps[question.key].passes == expected.passes, question.method.key


def test_measurements_and_fits_that_give_way_give_the_same_numbers(toy, image, restless):
    questions = [ex.ask(toy, image, key, target=1, **ex.methods()[key].cheap) for key in ("gradient", "iba")]
    measurements = [ex.judge(key, question, **ex.metrics()[key].cheap) for question in questions
                    for key in ("insertion_deletion", "sensitivity_n", "class_sensitivity")]
    alone = [measurement.run() for measurement in measurements]
    engine = ex.Engine()
    results = run_in_threads([lambda measurement=measurement: engine.measure(measurement) for measurement in measurements])
    for measurement, expected, result in zip(measurements, alone, results, strict=True):
        assert same(result, expected), (measurement.metric.key, measurement.subject.method.key)


def test_statistics_that_two_need_at_the_same_time_are_fitted_once(toy, image, restless, monkeypatch):
    kept, real = [], SharedFits.put

    def put(self, key, value):
        kept.append(key)
        real(self, key, value)

    monkeypatch.setattr(SharedFits, "put", put)
    engine = ex.Engine()
    run_in_threads([lambda target=target: engine.explain(toy, image, "iba", target=target, images=40) for target in range(3)])
    assert engine.runs == 3 and kept and len(kept) == len(set(kept))


def test_a_cheap_map_is_there_while_another_session_runs_for_long(toy, image):
    engine, begun, leave = ex.Engine(), threading.Event(), threading.Event()
    engine.cost(toy, "gradient")  # times the network

    def progress(done, total, preview):
        begun.set()
        return not leave.is_set()

    def long():
        with pytest.raises(ex.Cancelled):
            engine.explain(toy, image, "rise", target=1, masks=20_000, progress=progress)

    with Background(long):
        assert begun.wait(10)
        for target in range(3):
            begin = time.monotonic()
            assert engine.explain(toy, image, "gradient", target=target).native.shape == (3, 32, 32)
            assert time.monotonic() - begin < 3
        leave.set()


@pytest.mark.parametrize("first", [True, False], ids=["in the middle", "at the last report"])
def test_the_time_of_a_map_and_the_learned_pace_leave_out_the_time_that_it_waited(toy, image, restless, first):
    engine, other = ex.Engine(), Run()
    engine.cost(toy, "gradient")  # times the network
    alone = ex.explain(toy, image, "smoothgrad", target=1, samples=50).seconds

    def progress(done, total, preview):
        if total and not other.begun and (first or done == total == 1):  # another run comes, and takes 2 s
            engine._turns._line.join(other)
            threading.Timer(2.0, lambda: engine._turns._leave(other)).start()

    begin = time.monotonic()
    seconds = engine.explain(toy, image, "smoothgrad", target=1, samples=50, progress=progress).seconds
    assert other.begun and time.monotonic() - begin >= 2 and 0 < seconds < alone + 1.5
    assert engine.cost(toy, "smoothgrad", samples=50).seconds < alone + 1.5


def test_a_waiting_run_knows_its_place_in_the_line(toy, image):
    engine, begun, leave, waits = ex.Engine(), threading.Event(), threading.Event(), []

    def occupy():
        begun.set()
        return leave.wait(10)

    def progress(done, total, preview):
        if not total:
            waits.append(engine.waiting())
            leave.set()

    with Background(lambda: engine.get_or_compute("m", (), occupy, seconds=60)):
        assert begun.wait(10)
        engine.explain(toy, image, "gradient", target=1, progress=progress)
    assert waits[0].place == 1 and 0 <= waits[0].seconds < 3 and not waits[0].for_same and engine.waiting() is None


def test_a_computation_that_is_not_cached_has_the_device_to_itself_and_gives_way(toy, image):
    engine, begun, leave = ex.Engine(), threading.Event(), threading.Event()
    engine.cost(toy, "gradient")

    def attack():
        while not leave.is_set():
            begun.set()
            time.sleep(0.01)
            report(None, 1, 2)
        return "attacked"

    with Background(lambda: engine.compute(attack, seconds=60)):
        assert begun.wait(10)
        engine.explain(toy, image, "gradient", target=1)
        leave.set()
    assert engine.runs == 1 and engine.compute(lambda: 7) == 7


# What is kept of shared passes


def test_shared_passes_are_kept_within_a_bound_the_least_recently_used_go_first():
    memos = Memos(limit=10 * 4 * 100, most=6)
    of_image, of_other = memos.of("image"), memos.of("other")
    for number in range(1000):
        of_image.keep(("gradient", number), (torch.zeros(100), ex.Passes(1, 1)))
        if number == 3:
            of_other.keep(("gradient", 0), (torch.ones(100), ex.Passes(1, 1)))
        assert of_image.find(("gradient", 0))  # used again and again
        assert len(memos) <= 6 and memos.total <= memos.limit
    assert of_image.find(("gradient", 999)) and not of_image.find(("gradient", 994)) and not of_other.find(("gradient", 0))
    of_image.keep(("gradient", 0), (torch.zeros(900), ex.Passes()))
    assert len(memos) == 2 and memos.total == 4 * 1000
    of_image.keep(("too", "large"), ([torch.zeros(600), {"also": torch.zeros(600)}], ex.Passes()))
    assert not of_image.find(("too", "large")) and len(memos) == 2
    memos.clear()  # by a session that ends meanwhile
    assert not of_image.find(("gradient", 0)) and memos.total == 0


def test_results_that_another_session_removes_meanwhile_are_computed_anew(toy, monkeypatch):
    """Between any two looks at what is kept, everything may have gone; a run then takes what it was given, or computes."""
    memos = Memos()
    look = memos.get

    def look_and_lose(*place):
        entry = look(*place)
        memos.clear()
        return entry

    monkeypatch.setattr(memos, "get", look_and_lose)
    context = Context(toy, options=RunOptions(memo=memos.of("image")))
    assert [context.memoize(("test",), lambda number=number: number) for number in range(4)] == [0, 0, 2, 2]


def test_a_slice_counts_with_all_that_it_keeps_in_memory():
    whole = torch.zeros(1000)
    assert held_bytes((whole[:2], [whole[2:4]], {"a": torch.zeros(10)})) == 4 * 1010


def test_a_gradient_of_every_class_does_not_fill_the_memory(toy, image):
    engine = ex.Engine()
    engine._memos.most = 3
    for target in range(6):
        engine.explain(toy, image, "gradient", target=target % len(toy.categories))
    assert len(engine._memos) <= 3 and 0 < engine._memos.total <= engine._memos.limit
