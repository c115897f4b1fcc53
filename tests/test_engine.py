"""The engine: one key one map, bit for bit; stop, failure and waiting leave it whole."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch
from support.counting import counted_walks
from support.equality import same
from support.networks import classifier, residual_module
from support.threads import run_in_threads

import explainers as ex


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
