"""The engine: one key one map, bit for bit; stop, failure and waiting leave it whole."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from support.counting import counted_walks
from support.equality import same
from support.networks import classifier, residual_module
from support.threads import Background, run_in_threads

import explainers as ex
from explainers.context import Context, RunOptions
from explainers.line import Run
from explainers.memos import Memos, SharedFits, held_bytes
from explainers.methods.iba import bottleneck_layer
from explainers.networks.classifier import Classifier
from explainers.progress import report


def test_the_second_call_comes_from_the_cache_bit_for_bit(toy, image, tmp_path):
    engine = ex.Engine(ex.MapCache(tmp_path))
    first = engine.explain(toy, image, "smoothgrad", target=1, samples=4)
    again = engine.explain(toy, image, "smoothgrad", target=1, samples=4)
    assert engine.runs == 1 and torch.equal(first.native, again.native)
    assert engine.explain(toy, image, "smoothgrad", target=1, samples=4, seed=1) is not None and engine.runs == 2


def test_another_process_finds_it_on_disk(toy, image, tmp_path):
    first = ex.Engine(ex.MapCache(tmp_path)).explain(toy, image, "occlusion", target=1, tiles=4)
    later = ex.Engine(ex.MapCache(tmp_path))
    found = later.cached(toy, image, "occlusion", target=1, tiles=4)
    assert later.runs == 0 and torch.equal(found.native, first.native) and found.passes == first.passes


def test_a_corrupt_entry_is_computed_again(toy, image, tmp_path):
    first = ex.Engine(ex.MapCache(tmp_path)).explain(toy, image, "gradient", target=1)
    for file in tmp_path.rglob("*"):
        if file.is_file():
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 1
            file.write_bytes(data)
    engine = ex.Engine(ex.MapCache(tmp_path))
    assert torch.equal(engine.explain(toy, image, "gradient", target=1).native, first.native) and engine.runs == 1


def test_other_weights_are_another_network(image):
    engine, module = ex.Engine(), residual_module()
    engine.explain(classifier(module), image, "gradient", target=1)
    with torch.no_grad():
        module[0].weight += 0.1
    assert engine.cached(classifier(module), image, "gradient", target=1) is None


def test_a_cancelled_run_stores_nothing_and_frees_the_device(toy, image):
    engine = ex.Engine()
    with pytest.raises(ex.Cancelled):
        engine.explain(toy, image, "rise", target=1, masks=500, progress=lambda done, total, preview: done == 0)
    assert engine.cached(toy, image, "rise", target=1, masks=500) is None
    assert engine.explain(toy, image, "gradient", target=1).native.shape == (3, 32, 32)


def test_a_cancel_is_heard_within_a_batch(toy, image):
    """The callback turns False after a moment; the run must end after one more batch, long before its last."""
    heard = []

    def stop(done, total, preview):
        heard.append(done)
        return done < 1

    with pytest.raises(ex.Cancelled):
        ex.explain(toy, image, "rise", target=1, masks=20000, progress=stop)
    assert heard[-1] <= 256


def test_a_failing_method_leaves_the_engine_whole(toy, linear, image):
    engine = ex.Engine()
    with pytest.raises(ex.UnsupportedError, match="spatial feature map"):
        engine.explain(linear, image, "grad_cam", target=1)
    with pytest.raises(ex.ExplainerError, match="no method 'grad_kam'"):
        engine.explain(toy, image, "grad_kam", target=1)
    assert engine.explain(toy, image, "grad_cam", target=1).native.shape == (1, 8, 8)


def test_the_gradient_family_shares_one_backward(toy, image, monkeypatch):
    engine = ex.Engine()
    with counted_walks(monkeypatch) as counted:
        maps = [engine.explain(toy, image, key, target=1) for key in ("gradient", "gradient_x_input", "gradient_x_sign")]
    assert counted.passes == ex.Passes(1, 1) and [attribution.passes for attribution in maps] == [ex.Passes(1, 1)] * 3


@pytest.mark.parametrize("wrong", [torch.zeros(2, 3, 32, 32), torch.zeros(3, 32, 32), torch.full((1, 3, 32, 32), float("nan"))])
def test_wrong_images_are_refused(toy, wrong):
    with pytest.raises(ex.ExplainerError):
        ex.explain(toy, wrong, "gradient", target=0)

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


# What a run is going to take


@pytest.fixture()
def slow_clock(monkeypatch):
    """Every pass is estimated at 10 ms, and the engine's clock moves only when ``taking`` moves it."""
    monkeypatch.setattr(Classifier, "pass_seconds", lambda self: ex.Passes(0.01, 0.01))
    monkeypatch.setattr("explainers.engine.time", SimpleNamespace(perf_counter=lambda: CLOCK[0]))


CLOCK = [0.0]


def taking(seconds):
    """A progress callback that makes a run take so long."""
    def progress(done, total, preview):
        if done == 0:
            CLOCK[0] += seconds
    return progress


def test_the_cost_is_known_before_the_run(toy):
    cost = ex.Engine().cost(toy, "integrated_gradients", steps=20)
    assert cost.passes == ex.Passes(20, 20) and 0 < cost.seconds < 5
    assert ex.Engine().cost(toy, "random").seconds == 0


def test_the_cost_includes_statistics_until_they_are_fitted(toy, image, slow_clock):
    engine, question = ex.Engine(), ex.ask(toy, image, "iba", target=1, images=40)
    below = toy.cost_fraction(None, bottleneck_layer(toy, "auto"))
    passes = question.passes
    assert engine.must_fit(question) and not engine.must_fit(ex.ask(toy, image, "gradient", target=1))
    of_map = 0.01 * (passes.forward + passes.backward)
    assert engine.cost(question) == ex.Cost(passes, pytest.approx(of_map + 0.01 * 40 * below))
    engine.explain(question)
    assert not engine.must_fit(question) and engine.must_fit(ex.ask(toy, image, "iba", target=1, images=41))
    assert engine.cost(question) == ex.Cost(passes, pytest.approx(of_map))
    assert engine.fit_seconds(question) == 0 and engine.fit_seconds(question, anew=True) == pytest.approx(0.01 * 40 * below)
    assert not engine.must_fit(ex.ask(toy, image, "iba", target=2, images=40))  # the statistics serve all classes


def test_the_time_counts_what_a_method_computes_beside_its_passes(toy, image, slow_clock):
    question = ex.ask(toy, image, "dmbp", target=1, iterations=20)
    passes = question.passes
    assert ex.Engine().cost(question) == ex.Cost(passes, pytest.approx(0.01 * (passes.forward + passes.backward + 40)))


def test_the_cost_learns_from_the_last_run(toy, bias_free, image, slow_clock):
    engine, question = ex.Engine(), ex.ask(toy, image, "smoothgrad", target=1, samples=5)
    assert engine.cost(question) == ex.Cost(ex.Passes(5, 5), pytest.approx(0.1))
    engine.explain(question, progress=taking(0.4))
    learned = engine.cost(question)
    assert learned == ex.Cost(ex.Passes(5, 5), pytest.approx(0.4))
    assert engine.cost(toy, "smoothgrad", samples=10).seconds == pytest.approx(2 * learned.seconds)
    engine.explain(question, progress=taking(0.4))  # from the cache, which takes no time and teaches nothing
    assert engine.cost(question) == learned
    assert engine.cost(toy, "gradient").seconds == pytest.approx(0.02)  # another method, another network: as before
    assert engine.cost(bias_free, "smoothgrad", samples=5).seconds == pytest.approx(0.1)
    engine.explain(replace(question, seed=1), progress=taking(0.2))
    assert engine.cost(question).seconds == pytest.approx(0.2)  # the last run counts


def test_a_stalled_machine_and_a_quick_one_are_believed_only_so_far(toy, image, slow_clock):
    engine = ex.Engine()
    engine.explain(toy, image, "gradient", target=1, progress=taking(0.5))
    assert engine.cost(toy, "gradient").seconds == pytest.approx(20 * 0.02)
    engine.explain(toy, image, "gradient", target=2)
    assert engine.cost(toy, "gradient").seconds < 0.4
    engine.explain(toy, image, "rise", target=2, masks=400)
    assert engine.cost(toy, "rise", masks=400).seconds == pytest.approx(0.2 * 4)


def test_what_was_reused_or_fitted_teaches_nothing(toy, image, slow_clock):
    engine = ex.Engine()
    engine.explain(toy, image, "gradient", target=1)
    engine.explain(toy, image, "gradient_x_input", target=1, progress=taking(0.2))  # uses the gradient again
    assert engine.cost(toy, "gradient_x_input").seconds == pytest.approx(0.02)
    before = engine.cost(toy, "iba")
    engine.explain(toy, image, "iba", target=1, images=4)
    assert engine.cost(toy, "iba") == before


def test_a_measurements_cost_learns_as_well_and_not_from_the_maps(toy, image, slow_clock):
    engine, question = ex.Engine(), ex.ask(toy, image, "gradient", target=1)
    engine.explain(question)
    one, other = (ex.judge("sensitivity_n", question, counts=(1, 5), masks=masks) for masks in (5, 6))
    assert engine.cost_together([one]).seconds == pytest.approx(0.1)
    engine.measure(one, progress=taking(0.3))
    assert 12 * 0.03 * 0.99 <= engine.cost_together([other]).seconds < 1
    unmade = ex.judge("insertion_deletion", replace(question, target=2), step=200)
    expected = engine.cost_together([unmade]).passes
    engine.measure(unmade, progress=taking(0.3))  # its map had to be made in between
    again = engine.cost_together([ex.judge("insertion_deletion", question, step=200)])
    assert again.passes == expected - ex.Passes(1, 1) and again.seconds == pytest.approx(0.01 * again.passes.forward)


def test_the_cost_of_measurements_is_what_they_send_through_the_network(toy, image, monkeypatch):
    """Of several methods together, each time less of what is there already."""
    engine = ex.Engine()
    keys = ("smoothgrad", "occlusion", "guided_backprop")
    questions = [ex.ask(toy, image, key, target=1, **ex.methods()[key].cheap) for key in keys]
    judged = [ex.judge("insertion_deletion", question, step=100) for question in questions]
    engine.explain(questions[0])
    engine.measure(judged[1])
    cost = engine.cost_together(judged).passes
    with counted_walks(monkeypatch) as counted:
        engine.measure_together(judged)
    assert counted.passes == cost and cost.forward > 20
    assert engine.cost_together(judged) == ex.Cost(ex.Passes(), 0.0)


# Measurements


@pytest.fixture()
def evaluations(monkeypatch):
    """How many subjects each evaluation was given."""
    counts, metric = [], ex.metrics()["insertion_deletion"]

    def evaluate(subjects, settings, context):
        counts.append(len(subjects))
        return metric.evaluate(subjects, settings, context)

    monkeypatch.setattr("explainers.measurement.find_metric", lambda key: replace(metric, evaluate=evaluate))
    return counts


def test_measured_together_they_share_batches_and_each_is_kept(toy, image, evaluations, monkeypatch):
    engine = ex.Engine()
    questions = [ex.ask(toy, image, key, target=1) for key in ("gradient", "gradient_x_input", "guided_backprop")]
    judged = [ex.judge("insertion_deletion", question, step=100) for question in questions]
    alone = [ex.Engine().measure(measurement) for measurement in judged]
    [engine.explain(question) for question in questions]
    evaluations.clear()
    with counted_walks(monkeypatch) as counted:
        together = engine.measure_together([*judged, judged[0]])
    assert evaluations == [3] and same(together[3], together[0])
    assert counted.passes.forward < sum(result.passes.forward for result in alone)  # the image and its baselines go through once
    for one, result, kept in zip(judged, alone, together, strict=False):
        assert one.metric.numbers(kept) == pytest.approx(one.metric.numbers(result), abs=1e-6)
        assert same(engine.lookup(one), kept)
    assert same(engine.measure_together(judged[::-1]), together[2::-1]) and evaluations == [3]


def test_only_what_is_missing_is_measured(toy, image, evaluations):
    engine = ex.Engine()
    judged = [ex.judge("insertion_deletion", ex.ask(toy, image, key, target=1), step=100) for key in ("gradient", "sobel", "center")]
    engine.measure(judged[1])
    engine.measure_together(judged)
    assert evaluations == [1, 2] and engine.runs == 3 + 3  # maps and measurements


def test_the_removals_of_sensitivity_n_serve_a_later_map_without_a_pass(toy, image, tmp_path, monkeypatch):
    engine = ex.Engine(ex.MapCache(tmp_path))
    first, second = (ex.ask(toy, image, key, target=1) for key in ("gradient", "gradient_x_input"))
    settings = {"counts": (1, 5, 20), "masks": 5}
    engine.measure(ex.judge("sensitivity_n", first, **settings))
    engine.explain(second)
    later = ex.judge("sensitivity_n", second, **settings)
    assert not engine.cost_together([later]).passes
    with counted_walks(monkeypatch) as counted:
        result = ex.Engine(ex.MapCache(tmp_path)).measure(later)  # also from the disk
    assert not counted.passes and same(result, later.run())
    changed = [ex.judge("sensitivity_n", replace(second, **change), **settings) for change in ({"target": 2}, {"seed": 1})]
    for other in [*changed, ex.judge("sensitivity_n", second, **{**settings, "masks": 6})]:
        assert engine.cost_together([other]).passes.forward >= 15  # what decides the removals is another


def test_a_computation_is_computed_once_and_found_on_disk(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return {"curve": torch.arange(3.0), "auc": 0.5}

    first = ex.Engine(ex.MapCache(tmp_path))
    assert first.lookup_computed("m", (1, "a")) is None
    assert first.get_or_compute("m", (1, "a"), compute)["auc"] == 0.5
    assert torch.equal(first.lookup_computed("m", (1, "a"))["curve"], torch.arange(3.0))
    again = ex.Engine(ex.MapCache(tmp_path)).get_or_compute("m", (1, "a"), compute)
    assert torch.equal(again["curve"], torch.arange(3.0)) and len(calls) == 1
    first.get_or_compute("m", (1, "b"), compute)
    first.get_or_compute("n", (1, "a"), compute)
    assert len(calls) == 3


def test_a_computation_may_explain(toy, image):
    engine, question = ex.Engine(), ex.ask(toy, image, "gradient", target=0)
    result = engine.get_or_compute("m", (question,), lambda: {"map": engine.explain(question).native})
    assert torch.equal(result["map"], engine.cached(question).native) and engine.runs == 2


def test_a_request_names_the_map_that_explain_keeps(toy, image):
    engine = ex.Engine(ex.MapCache(None))
    asked = engine.request(toy, image, "smoothgrad", target=1, samples=3)
    assert asked.key not in engine.cache
    engine.explain(toy, image, "smoothgrad", target=1, samples=3)
    assert asked.key in engine.cache


def test_a_run_goes_on_while_the_cache_is_cleared_and_its_result_is_kept(tmp_path):
    engine = ex.Engine(ex.MapCache(tmp_path))
    begun, cleared = threading.Event(), threading.Event()

    def compute() -> int:
        begun.set()
        assert cleared.wait(10)
        return 7

    def clear() -> None:
        assert begun.wait(10)
        engine.cache.clear()
        cleared.set()

    assert run_in_threads([lambda: engine.get_or_compute("slow", (), compute), clear])[0] == 7
    assert engine.lookup_computed("slow", ()) == 7 and ex.MapCache(tmp_path).contents().entries == 1


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
