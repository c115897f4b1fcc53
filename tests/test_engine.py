"""The engine: one key one map, bit for bit; stop, failure and waiting leave it whole."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
import torch
from support.networks import classifier, residual_module

import explainers as ex
from explainers.keys import array_digest
from explainers.question import Request


@pytest.fixture()
def request_made():
    return Request("net", "image", 3, "gradient", 1, (("steps", 5),), 0, "cpu")


def test_the_key_follows_every_field(request_made):
    changed = {"network": "other", "image": "other", "target": (3, 1), "method": "rise", "version": 2, "params": (("steps", 6),),
               "seed": 1, "device": "cuda", "reference": "set", "precision": "bfloat16"}
    assert set(changed) == set(Request.__dataclass_fields__)
    keys = {request_made.key} | {replace(request_made, **{name: value}).key for name, value in changed.items()}
    assert len(keys) == 1 + len(changed)


def test_a_single_pixel_changes_the_array_digest(image):
    other = image.clone()
    other[0, 0, 0, 0] += 1e-6
    assert array_digest(image) != array_digest(other) and array_digest(image) == array_digest(image.clone())


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


def test_the_gradient_family_shares_one_backward(toy, image):
    engine, walks = ex.Engine(), []
    real = toy.__class__.walk
    toy.__class__.walk = lambda self, *a, **k: walks.append(1) or real(self, *a, **k)
    try:
        found = [engine.explain(toy, image, key, target=1) for key in ("gradient", "gradient_x_input", "gradient_x_sign")]
    finally:
        toy.__class__.walk = real
    assert len(walks) == 1 and [f.passes for f in found] == [ex.Passes(1, 1)] * 3


def test_a_waiting_run_that_is_abandoned_leaves_the_queue(toy, image):
    engine, leave = ex.Engine(), threading.Event()
    busy = threading.Thread(target=engine.get_or_compute, args=("m", (), lambda: {"left": leave.wait(10)}))
    busy.start()
    begin = time.perf_counter()
    with pytest.raises(ex.Cancelled):
        engine.explain(toy, image, "gradient", target=1, progress=lambda *_: time.perf_counter() - begin < 0.3)
    assert time.perf_counter() - begin < 1.5
    leave.set()
    busy.join()
    assert engine.explain(toy, image, "gradient", target=1).flags == ()


def test_threads_that_ask_the_same_compute_it_once(toy, image):
    engine, found = ex.Engine(), []
    threads = [threading.Thread(target=lambda: found.append(engine.explain(toy, image, "smoothgrad", target=1))) for _ in range(4)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert engine.runs == 1 and all(torch.equal(f.native, found[0].native) for f in found)


def test_the_cost_is_known_before_the_run(toy):
    cost = ex.Engine().cost(toy, "integrated_gradients", steps=20)
    assert cost.passes == ex.Passes(20, 20) and 0 < cost.seconds < 5
    assert ex.Engine().cost(toy, "random").seconds == 0


@pytest.mark.parametrize("wrong", [torch.zeros(2, 3, 32, 32), torch.zeros(3, 32, 32), torch.full((1, 3, 32, 32), float("nan"))])
def test_wrong_images_are_refused(toy, wrong):
    with pytest.raises(ex.ExplainerError):
        ex.explain(toy, wrong, "gradient", target=0)


def test_a_measurement_is_computed_once_and_found_on_disk(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return {"curve": torch.arange(3.0), "auc": 0.5}

    first = ex.Engine(ex.MapCache(tmp_path))
    assert first.lookup_computed("m", (1, "a")) is None
    assert first.get_or_compute("m", (1, "a"), compute)["auc"] == 0.5
    again = ex.Engine(ex.MapCache(tmp_path)).get_or_compute("m", (1, "a"), compute)
    assert torch.equal(again["curve"], torch.arange(3.0)) and len(calls) == 1
    first.get_or_compute("m", (1, "b"), compute)
    first.get_or_compute("n", (1, "a"), compute)
    assert len(calls) == 3


def test_a_measurement_may_explain(toy, image):
    engine = ex.Engine(ex.MapCache(None))
    found = engine.get_or_compute("m", ("x",), lambda: {"map": engine.explain(toy, image, "gradient", target=0).native})
    assert torch.equal(found["map"], engine.explain(toy, image, "gradient", target=0).native)


def test_a_request_names_the_map_that_explain_keeps(toy, image):
    engine = ex.Engine(ex.MapCache(None))
    asked = engine.request(toy, image, "smoothgrad", target=1, samples=3)
    assert asked.key not in engine.cache
    engine.explain(toy, image, "smoothgrad", target=1, samples=3)
    assert asked.key in engine.cache
