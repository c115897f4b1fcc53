"""A question is one immutable value: equal by its key, asked again with a change, and run."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest
import torch
from support.equality import same
from support.networks import drawn_images

import explainers as ex
from explainers.data.reference import ReferenceSet
from explainers.question import Question, Request
from explainers.target import Target


def reference(name):
    images = drawn_images(16, seed=len(name))
    return ReferenceSet(name, name, 16, lambda start, stop: images[start:stop])


@pytest.fixture()
def question(toy, image):
    """It fits statistics, so that every field decides its map."""
    return ex.ask(toy, image, "iba", target=1, seed=2, reference=reference("one"), images=16)


def test_its_map_is_that_of_explain(toy, image):
    asked = ex.ask(toy, image, "smoothgrad", target=1, seed=2, samples=3)
    attribution = asked.run()
    assert torch.equal(attribution.native, ex.explain(toy, image, "smoothgrad", target=1, seed=2, samples=3).native)
    assert (attribution.target, attribution.seed, attribution.params["samples"]) == (Target((1,)), 2, 3)
    assert attribution.passes == asked.passes == ex.Passes(3, 3)


def test_without_a_target_it_is_the_top_class(toy, image):
    top = int(toy.predict(image).argmax())
    assert ex.ask(toy, image, "gradient").target == Target((top,)) and ex.ask(toy, image, "gradient") == ex.ask(
        toy, image, "gradient", target=top)


def test_the_key_follows_every_field(question, toy, bias_free, image):
    other = ex.methods()["input_iba"]
    changes = {"network": bias_free, "x": image.flip(-1), "method": replace(question.method, version=question.method.version + 1),
               "target": (1, 0), "settings": question.method.settings(images=17), "seed": 3, "reference": reference("another"),
               "ensemble": ex.Ensemble("flips")}
    assert set(changes) == {field.name for field in dataclasses.fields(Question)} - {"private"}  # which changes no map
    keys = [replace(question, **{name: value}).key for name, value in changes.items()]
    keys += [replace(question, method=other, settings=other.settings(**other.cheap)).key, question.key]
    assert len(set(keys)) == len(changes) + 2


def test_the_requests_key_follows_every_field():
    request = Request("net", "image", Target((3,)), "gradient", 1, (("steps", 5),), 0, "cpu")
    changes = {"network": "other", "image": "other", "target": Target((3, 1)), "method": "rise", "version": 2,
               "params": (("steps", 6),), "seed": 1, "device": "cuda", "reference_id": "set", "precision": "bfloat16"}
    assert set(changes) == {field.name for field in dataclasses.fields(Request)}
    keys = {request.key} | {replace(request, **{name: value}).key for name, value in changes.items()}
    assert len(keys) == 1 + len(changes)


def test_questions_with_one_key_are_equal(question, toy, image):
    again = ex.ask(toy, image.clone(), "iba", target=Target((1,)), seed=2, reference=reference("one"), images=16.0)
    assert again == question and hash(again) == hash(question) and len({again, question, replace(question, seed=3)}) == 2
    assert question != question.key and question != replace(question, target=2)


def test_defaults_that_are_named_change_nothing(toy, image):
    assert ex.ask(toy, image, "rise", target=1) == ex.ask(toy, image, "rise", target=1, **dataclasses.asdict(
        ex.methods()["rise"].settings()))


def test_a_reference_set_counts_only_where_statistics_are_fitted(toy, image):
    one, other = (ex.ask(toy, image, "gradient", target=1, reference=reference(name)) for name in ("one", "another"))
    assert one == other and one.reference_set is None


def test_asking_again_with_a_change_leaves_the_first_as_it_was(question):
    key = question.key
    other = replace(question, target=(2, 0))
    assert other.target == Target((2, 0)) and question.target == Target((1,)) and question.key == key != other.key
    assert replace(other, target=1) == question and replace(question, target=None).target.contrast is None


@pytest.mark.parametrize("change", [
    {"target": 99}, {"target": (1, 1)}, {"x": torch.zeros(2, 3, 32, 32)}, {"x": torch.zeros(3, 32, 32)},
    {"x": torch.full((1, 3, 32, 32), float("nan"))}])
def test_a_change_is_checked_as_the_first_question_was(question, toy, change):
    with pytest.raises(ex.ExplainerError):
        replace(question, **change)
    with pytest.raises(ex.ExplainerError):
        ex.ask(toy, **{"x": question.x, "method": "gradient", "target": 1, **change})


def test_unknown_methods_and_settings_are_refused(toy, image):
    with pytest.raises(ex.ExplainerError, match="no method 'grad_kam'"):
        ex.ask(toy, image, "grad_kam", target=1)
    with pytest.raises(ex.ParameterError, match="no parameter 'nonsense'"):
        ex.ask(toy, image, "rise", target=1, nonsense=1)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Question)])
def test_its_fields_cannot_be_set(question, name):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(question, name, None)


def test_who_changes_the_image_afterwards_changes_no_question(toy, image):
    mine = image.clone()
    asked, same_before = (ex.ask(toy, mine, "gradient", target=1) for _ in range(2))
    key, native = same_before.key, same_before.run().native
    mine.zero_()
    assert asked.key == key and torch.equal(asked.run().native, native)


def test_what_the_network_lacks_is_known_before_the_run_and_refused_by_it(linear, image):
    asked = ex.ask(linear, image, "grad_cam", target=1)
    assert "spatial feature map" in asked.lacks
    with pytest.raises(ex.UnsupportedError) as refused:
        asked.run()
    assert str(refused.value) == asked.lacks


def test_an_engine_takes_a_question_or_its_parts(toy, image):
    engine, asked = ex.Engine(), ex.ask(toy, image, "smoothgrad", target=1, samples=3)
    assert engine.request(asked) == engine.request(toy, image, "smoothgrad", target=1, samples=3) == asked.request
    assert engine.cost(asked).passes == engine.cost(toy, "smoothgrad", samples=3).passes
    attribution = engine.explain(asked)
    assert same(engine.cached(toy, image, "smoothgrad", target=1, samples=3), attribution) and engine.runs == 1


@pytest.mark.parametrize("values", [(float("nan"),), (float("inf"),), (-float("inf"),), (float("inf"), -float("inf"))])
def test_an_image_that_is_not_finite_is_refused_wherever_the_values_stand(toy, image, values):
    wrong = image.clone()
    for place, value in enumerate(values):
        wrong.view(-1)[1000 * place + 7] = value
    with pytest.raises(ex.UnsupportedError, match="not finite"):
        ex.ask(toy, wrong, "gradient", target=1)


def test_a_finite_image_whose_sum_is_not_is_taken(toy, image):
    bright = torch.full_like(image, 3e38)
    assert not torch.isfinite(bright.sum())
    assert torch.equal(ex.ask(toy, bright, "gradient", target=1).x, bright)
