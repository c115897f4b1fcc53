"""What every metric must hold: the folder is walked, so a new metric is tested by being there."""

from __future__ import annotations

import dataclasses
import inspect
import math

import numpy as np
import pytest
import torch
from support.counting import counted_walks
from support.equality import same

import explainers as ex
from explainers.context import RunOptions
from explainers.data.labelled import LabelledInputs
from explainers.data.reference import ReferenceSet
from explainers.encoding import decode, encode
from explainers.measurement import Measurement

METRICS = ex.metrics()
JUDGED = {"map", "class maps", "randomised maps", "labelled set"}
LEFT = np.zeros((32, 32), bool)
LEFT[:, :16] = True
REQUIRED = {"localisation": {"region": LEFT}}  # settings without a default that works
OTHER_VALUES = {  # another value of each parameter that only its settings dataclass can check, with what it needs beside it
    ("insertion_deletion", "baseline"): {"baseline": "black"},
    ("insertion_deletion", "labels"): {"labels": (1,), "protocol": "dmbp"},
    ("localisation", "region"): {"region": ~LEFT},
    ("class_sensitivity", "classes"): {"classes": (0, 3)},
    ("sensitivity_n", "counts"): {"counts": (2, 5, 20)},
}
every_metric = pytest.mark.parametrize("key", list(METRICS))


def drawn(count, seed):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def reference(seed=7):
    images = drawn(40, seed)
    return ReferenceSet("drawn", f"drawn {seed}", 40, lambda start, stop: images[start:stop])


def labelled(network, seed=0, images=None, labels=None, reference_set=None):
    images = drawn(11, 5) if images is None else images
    labels = torch.arange(11) % 4 if labels is None else labels
    return LabelledInputs.given(network, images, labels, seed, reference_set or reference())


def subject(key, network, image, **more):
    """A question, or labelled images for a metric that judges those."""
    if METRICS[key].judges == "labelled set":
        return labelled(network, **more)
    return ex.ask(network, image, **{"method": "gradient", "target": 2, **more})


def judged(key, network, image, **settings):
    return ex.judge(key, subject(key, network, image), **{**METRICS[key].cheap, **REQUIRED.get(key, {}), **settings})


@pytest.fixture()
def kept_maps():
    """Makes each map once and hands it out from then on: the ``explain`` of ``RunOptions``."""
    maps = {}

    def explain(question, progress=None):
        if question.key not in maps:
            maps[question.key] = question.run()
        return maps[question.key]

    return explain


@every_metric
def test_the_same_measurement_gives_the_same_bytes(key, toy, image):
    first, second = judged(key, toy, image).run(), judged(key, toy, image).run()
    assert same(first, second)


@every_metric
def test_a_result_survives_the_cache(key, toy, image):
    result = judged(key, toy, image).run()
    again = decode(encode(result))
    assert same(again, result)
    assert METRICS[key].numbers(again) == METRICS[key].numbers(result)


@every_metric
def test_every_declared_score_is_a_number_of_the_result(key, toy, image):
    metric = METRICS[key]
    numbers = metric.numbers(judged(key, toy, image).run())
    assert list(numbers) == [score.name for score in metric.scores]
    assert all(isinstance(number, float) and math.isfinite(number) for number in numbers.values())


@every_metric
def test_the_declared_passes_are_the_counted_ones(key, toy, image, kept_maps, monkeypatch):
    """Of a run beside its maps and its fits, which are there from a run before."""
    measurement, fits = judged(key, toy, image), ex.MapCache()
    measurement.run(RunOptions(fits=fits, explain=kept_maps))
    maps = [kept_maps(measurement.subject)] if measurement.metric.judges == "map" else []
    declared = measurement.passes(maps[0] if maps else None)
    kept = fits if measurement.metric.judges == "labelled set" else None  # the other metrics keep results there, not fits
    with counted_walks(monkeypatch) as counted:
        measurement.run(RunOptions(fits=kept, explain=kept_maps))
    assert (counted.passes.forward, counted.passes.backward) == pytest.approx((declared.forward, declared.backward), rel=1e-9)


@every_metric
def test_the_declared_number_of_maps_is_what_it_asks_for(key, toy, image, kept_maps):
    measurement, asked = judged(key, toy, image), []
    measurement.run(RunOptions(explain=lambda question, progress: asked.append(question.key) or kept_maps(question)))
    if measurement.metric.judges == "labelled set":
        assert not asked
    else:
        assert len(set(asked)) == measurement.metric.questions(measurement.settings, measurement.subject)


@every_metric
def test_network_and_inputs_are_left_untouched(key, toy, image):
    measurement = judged(key, toy, image)
    inputs = measurement.subject.load(None)[0] if measurement.metric.judges == "labelled set" else measurement.subject.x
    weights = {name: tensor.clone() for name, tensor in toy.module.state_dict().items()}
    before = inputs.clone()
    measurement.run()
    assert torch.equal(before, inputs) and inputs.grad is None and not inputs.requires_grad
    assert all(torch.equal(weights[name], tensor) for name, tensor in toy.module.state_dict().items())
    assert toy.meter is None and not toy.module.training
    assert all(p.grad is None and not p.requires_grad for p in toy.module.parameters())
    assert not any(part._forward_hooks or part._backward_hooks for part in toy.module.modules())


@every_metric
def test_the_global_generators_are_neither_used_nor_moved(key, toy, image):
    torch.manual_seed(1), np.random.seed(1)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = judged(key, toy, image).run()
    assert torch.equal(states[0], torch.get_rng_state()) and np.array_equal(states[1], np.random.get_state()[1])
    torch.manual_seed(2), np.random.seed(2)
    assert same(judged(key, toy, image).run(), first)


@every_metric
def test_progress_rises_to_one(key, toy, image):
    heard = []
    judged(key, toy, image).run(RunOptions(lambda done, total, preview: heard.append(done / total)))
    assert heard[0] == 0 and heard[-1] == 1 and heard == sorted(heard)


@every_metric
def test_a_stop_stops_at_the_next_report(key, toy, image):
    heard = []

    def stop_at_second(done, total, preview):
        heard.append(done)
        return len(heard) < 2

    with pytest.raises(ex.Cancelled):
        judged(key, toy, image).run(RunOptions(stop_at_second))
    assert len(heard) == 2


@every_metric
def test_a_stopped_measurement_is_not_kept(key, toy, image):
    engine, measurement = ex.Engine(), judged(key, toy, image)
    with pytest.raises(ex.Cancelled):
        engine.measure(measurement, progress=lambda done, total, preview: done == 0)
    assert engine.lookup(measurement) is None
    assert same(engine.measure(measurement), measurement.run())


@every_metric
def test_an_exception_of_the_callback_passes_through(key, toy, image):
    class Abandoned(BaseException):
        pass

    def abandon(done, total, preview):
        if done:
            raise Abandoned

    with pytest.raises(Abandoned):
        judged(key, toy, image).run(RunOptions(abandon))


@every_metric
def test_the_batch_size_does_not_change_the_numbers(key, toy, image, monkeypatch):
    expected = METRICS[key].numbers(judged(key, toy, image).run())
    monkeypatch.setattr("explainers.context.fitting_batch", lambda network: 3)
    assert METRICS[key].numbers(judged(key, toy, image).run()) == pytest.approx(expected, abs=1e-5)


@every_metric
def test_measurements_together_are_those_one_by_one(key, toy, image):
    """Methods of one image, or labelled sets of one network."""
    changes = [{"labels": torch.arange(11) % 3}, {}] if METRICS[key].judges == "labelled set" else [
        {"method": "gradient_x_input"}, {"method": "gradient"}]
    settings = METRICS[key].settings(**{**METRICS[key].cheap, **REQUIRED.get(key, {})})
    measurements = [Measurement(METRICS[key], subject(key, toy, image, **more), settings) for more in changes]
    together = ex.Engine().measure_together(measurements)
    for measurement, result in zip(measurements, together, strict=True):
        assert METRICS[key].numbers(result) == pytest.approx(METRICS[key].numbers(measurement.run()), abs=1e-6)
    assert METRICS[key].numbers(together[0]) != METRICS[key].numbers(together[1])


# The key


def other_settings(key, parameter):
    """Settings that differ from the cheap ones in this parameter."""
    if parameter.kind == "other":
        return OTHER_VALUES[key, parameter.name]
    if parameter.kind == "choice":
        return {parameter.name: next(option for option in parameter.options if option != parameter.default)}
    if parameter.kind == "switch":
        return {parameter.name: not parameter.default}
    used = METRICS[key].cheap.get(parameter.name, parameter.default)
    return {parameter.name: next(value for n in (1, 2) if (value := parameter.low + n * parameter.step) != used)}


@every_metric
def test_the_key_follows_every_setting(key, toy, image):
    variants = [{}] + [other_settings(key, parameter) for parameter in METRICS[key].parameters]
    assert len({judged(key, toy, image, **settings).key for settings in variants}) == len(variants)
    assert judged(key, toy, image).key == judged(key, toy, image).key


@every_metric
def test_the_key_follows_the_version_and_the_metric(key, toy, image):
    measurement = judged(key, toy, image)
    newer = dataclasses.replace(measurement.metric, version=measurement.metric.version + 1)
    other = dataclasses.replace(measurement.metric, key="another")
    assert len({dataclasses.replace(measurement, metric=metric).key for metric in (measurement.metric, newer, other)}) == 3


@every_metric
def test_the_key_follows_the_subject(key, toy, bias_free, image):
    settings = METRICS[key].settings(**{**METRICS[key].cheap, **REQUIRED.get(key, {})})
    if METRICS[key].judges == "labelled set":
        changes = [{}, {"seed": 1}, {"images": drawn(11, 6)}, {"labels": torch.arange(11) % 3}, {"reference_set": reference(8)}]
        subjects = [labelled(toy, **change) for change in changes] + [labelled(bias_free)]
    else:
        changes = [{}, {"target": 1}, {"target": (2, 1)}, {"seed": 1}, {"method": "gradient_x_input"}]
        subjects = [ex.ask(toy, image, **{"method": "gradient", "target": 2, **change}) for change in changes]
        subjects += [ex.ask(toy, image, "smoothgrad", target=2, samples=samples) for samples in (3, 4)]
        subjects += [ex.ask(bias_free, image, "gradient", target=2), ex.ask(toy, image.flip(-1), "gradient", target=2)]
    keys = {Measurement(METRICS[key], subject, settings).key for subject in subjects}
    assert len(keys) == len(subjects)


# The engine


@every_metric
def test_an_engine_measures_once_and_finds_it_again(key, toy, image, tmp_path):
    engine, measurement = ex.Engine(ex.MapCache(tmp_path)), judged(key, toy, image)
    assert engine.lookup(measurement) is None and engine.cost_together([measurement]).seconds >= 0
    result = engine.measure(measurement)
    runs = engine.runs
    assert same(engine.measure(judged(key, toy, image)), result) and same(engine.lookup(measurement), result)
    assert engine.runs == runs and not engine.cost_together([measurement]).passes
    later = ex.Engine(ex.MapCache(tmp_path))
    assert same(later.measure(measurement), result) and later.runs == 0 and same(measurement.run(), result)


@every_metric
def test_the_wrong_kind_of_subject_is_refused(key, toy, image):
    wrong = ex.ask(toy, image, "gradient", target=2) if METRICS[key].judges == "labelled set" else labelled(toy)
    with pytest.raises(ex.ExplainerError, match=METRICS[key].title):
        ex.judge(key, wrong)


@every_metric
def test_an_unknown_setting_is_refused(key, toy, image):
    with pytest.raises(ex.ParameterError, match="no parameter 'nonsense'"):
        judged(key, toy, image, nonsense=1)


# The card


@every_metric
def test_the_declaration_is_complete(key):
    metric = METRICS[key]
    assert metric.key == key and metric.title and metric.equation and metric.judges in JUDGED
    assert metric.idea.endswith(".") and metric.limits.endswith(".")
    assert metric.citation.authors and metric.citation.title and metric.citation.venue
    assert metric.scores and metric.better == metric.scores[0].better
    assert len({score.name for score in metric.scores}) == len(metric.scores)
    assert all(score.title and score.better in {"higher", "lower"} for score in metric.scores)
    assert list(inspect.signature(metric.evaluate).parameters)[1:] == ["params", "context"]
    assert [p.name for p in metric.parameters] == [f.name for f in dataclasses.fields(metric.params)]
    for parameter in metric.parameters:
        assert parameter.label and parameter.help.endswith(".") and parameter.range_in_words()
        assert parameter.check(parameter.default) == parameter.default
    assert dataclasses.is_dataclass(metric.params) and metric.params.__dataclass_params__.frozen
    assert metric.settings(**metric.cheap) is not None


def test_titles_are_unique():
    assert len({metric.title for metric in METRICS.values()}) == len(METRICS)


def test_an_unknown_metric_is_refused_with_those_there_are(toy, image):
    with pytest.raises(ex.ExplainerError, match="no metric 'insertion'; there are .*insertion_deletion"):
        ex.judge("insertion", ex.ask(toy, image, "gradient", target=2))
