"""What is on disk of a private picture: nothing. The same attempts to compute a picture back succeed with a public one's entries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from metrics.test_every_metric import REQUIRED
from support.architectures import suited
from support.networks import drawn_images
from support.recovering import entries, holds_bytes, recovered

import explainers as ex
from explainers.cache import Owner
from explainers.data.labelled import LabelledInputs
from explainers.data.reference import ReferenceSet, from_pictures
from explainers.keys import is_private
from explainers.metrics import sanity_checks

PRIVATE, PUBLIC, NOISE = (drawn_images(1, seed) for seed in (21, 22, 23))
WITHOUT_ERROR, NOTHING = 0.999, 0.9


def engine_on(folder: Path) -> ex.Engine:
    return ex.Engine(ex.MapCache(folder))


def own_pictures(count: int = 3, private: bool = True) -> ReferenceSet:
    """A few pictures of a person."""
    images = drawn_images(count, seed=31)
    return ReferenceSet("own", f"own {private}", count, lambda start, stop: images[start:stop], private=private)


def explain_all(engine: ex.Engine, x: torch.Tensor, private: bool, reference: ReferenceSet | None = None) -> int:
    """The maps of every method, each on a network that it can explain; how many there are."""
    questions = [ex.ask(suited(method), x, key, target=1, private=private, reference=reference, **method.cheap)
                 for key, method in ex.methods().items()]
    questions = [question for question in questions if not reference or question.reference_set]
    for question in questions:
        engine.explain(question)
    return len(questions)


def measure_all(engine: ex.Engine, x: torch.Tensor, private: bool) -> None:
    """The results of every metric, about a question or about a labelled set that the picture is in."""
    for key, metric in ex.metrics().items():
        network = suited(ex.methods()["gradient"])
        subject = ex.ask(network, x, "gradient", target=1, private=private)
        if metric.judges == "labelled set":
            subject = LabelledInputs.given(network, x.repeat(3, 1, 1, 1), torch.tensor([0, 1, 2]), private=private,
                                           reference_set=own_pictures(12, private))
        engine.measure(ex.judge(key, subject, **{**metric.cheap, **REQUIRED.get(key, {})}))


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory):
    """The folder of an engine that ran every method and metric on a private picture, and then some methods on a public one."""
    folder = tmp_path_factory.mktemp("maps")
    engine = engine_on(folder)
    count = explain_all(engine, PRIVATE, private=True)
    measure_all(engine, PRIVATE, private=True)
    assert count == len(ex.methods()) and engine.cache.contents().entries >= count
    assert entries(folder) == {}
    for key in ("gradient", "gradient_x_input", "integrated_gradients", "dmbp", "rise"):
        engine.explain(ex.ask(suited(ex.methods()[key]), PUBLIC, key, target=1, **ex.methods()[key].cheap))
    return folder


def test_a_public_picture_can_be_computed_back_so_these_attempts_can_succeed(shared_folder):
    attempt = recovered(shared_folder, PUBLIC[0])
    assert attempt.correlation > WITHOUT_ERROR, attempt


@pytest.mark.parametrize("stored", [
    {"it": PUBLIC}, {"positive": PUBLIC * NOISE, "mapping": NOISE}, {"sum": PUBLIC + 3 * NOISE, "noise": NOISE},
    {"stack": torch.cat([NOISE, PUBLIC])}, {"grey": 2 - 5 * PUBLIC.mean(1)}])
def test_every_attempt_finds_what_is_planted(tmp_path, stored):
    engine_on(tmp_path).cache.put("abcd", stored)
    assert recovered(tmp_path, PUBLIC[0]).correlation > WITHOUT_ERROR and recovered(tmp_path, PRIVATE[0]).correlation < 0.2


def as_pixels(x):
    return ((x * 0.25 + 0.5) * 255).round().clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("form", [torch.Tensor.float, torch.Tensor.double, as_pixels])
def test_the_bytes_of_a_picture_are_recognised(tmp_path, form):
    engine_on(tmp_path).cache.put("abcd", [NOISE, form(PUBLIC)])
    assert holds_bytes(tmp_path, PUBLIC[0]) and not holds_bytes(tmp_path, PRIVATE[0])


def test_a_private_picture_cannot_be_computed_back(shared_folder):
    attempt = recovered(shared_folder, PRIVATE[0])
    assert attempt.correlation < NOTHING, attempt
    assert not holds_bytes(shared_folder, PRIVATE[0])


@pytest.mark.parametrize(("first", "second"), [
    ("gradient", "gradient_x_input"), ("dmbp", "dmbp"), ("integrated_gradients", "gradient"), ("i_gos", "attribution_mask")])
def test_each_known_way_is_closed(tmp_path, first, second):
    engine = engine_on(tmp_path)
    for key in (first, second):
        method = ex.methods()[key]
        engine.explain(ex.ask(suited(method), PRIVATE, key, target=1, private=True, **method.cheap))
    assert entries(tmp_path) == {}
    assert engine.cache.contents().entries >= len({first, second})  # but they are cached


def test_statistics_fitted_on_private_reference_pictures_stay_in_memory(tmp_path):
    engine = engine_on(tmp_path)
    assert explain_all(engine, PUBLIC, private=False, reference=own_pictures()) >= 5
    assert entries(tmp_path) == {} and engine.cache.contents().entries > 5
    explain_all(engine, PUBLIC, private=False, reference=own_pictures(private=False))
    assert entries(tmp_path)


def test_pictures_of_a_folder_are_a_private_set(toy):
    pictures = [ex.samples()[0].load(), ex.samples()[1].load()]
    assert from_pictures(toy, pictures).private


def test_a_measurement_and_its_maps_and_stored_parts_are_as_private_as_its_question(tmp_path, toy):
    for key, metric in ex.metrics().items():
        if metric.judges != "labelled set":
            question = ex.ask(toy, PRIVATE, "gradient", target=1, private=True)
            engine_on(tmp_path).measure(ex.judge(key, question, **{**metric.cheap, **REQUIRED.get(key, {})}))
            assert entries(tmp_path) == {}, key


def test_other_computations_are_as_private_as_their_parts(tmp_path, toy):
    engine = engine_on(tmp_path)
    question = ex.ask(toy, PRIVATE, "gradient", target=1, private=True)
    change = sanity_checks.schedule(toy, "cascading", 2)[0]
    step = sanity_checks.StepQuestion(question, change)
    step.run(engine.explain, engine.get_or_compute)
    engine.get_or_compute("other", (1, {"about": [question]}), lambda: 5)
    assert entries(tmp_path) == {} and engine.lookup_computed("other", (1, {"about": [question]})) == 5
    engine.get_or_compute("other", (1, {"about": [replace(question, private=False)]}), lambda: 5)
    assert entries(tmp_path) == {}  # it has the same key, so it is in memory already
    engine.get_or_compute("another", (1,), lambda: 5)
    assert len(entries(tmp_path)) == 1


def test_what_holds_something_private_is_private(toy):
    question = ex.ask(toy, PRIVATE, "iba", target=1, private=True)
    public = replace(question, private=False)
    assert is_private(question) and is_private((1, [question])) and is_private({"a": question}) and is_private("name", question)
    assert not is_private(public) and not is_private(public, 1, "x", PRIVATE, toy, {"a": (None, public)})
    assert is_private(replace(public, reference=own_pictures()))
    assert not is_private(replace(public, reference=own_pictures(private=False)))
    gradient = ex.ask(toy, PRIVATE, "gradient", target=1, reference=own_pictures())
    assert not is_private(gradient)  # it fits nothing on the set


def test_the_private_and_the_public_question_share_their_key_and_map(tmp_path, toy):
    private = ex.ask(toy, PRIVATE, "gradient", target=1, private=True)
    public = replace(private, private=False)
    assert private.key == public.key and private == public
    engine = engine_on(tmp_path)
    first = engine.explain(private)
    assert torch.equal(engine.explain(public).native, first.native) and engine.runs == 1
    other = engine_on(tmp_path)
    other.explain(public)
    assert other.runs == 1 and len(entries(tmp_path)) == 1
    again = engine_on(tmp_path)
    again.explain(private)
    assert again.runs == 0 and len(entries(tmp_path)) == 1  # what is public may be read for a private question


# Whose private results are


def test_private_results_go_with_their_owner(tmp_path):
    cache, mine, yours = ex.MapCache(tmp_path), Owner(), Owner()
    for key, owner in (("aaaa", mine), ("bbbb", yours)):
        with cache.in_memory(owner=owner):
            cache.put(key, 1)
            with cache.in_memory():  # inside, results are still the owner's
                cache.unrecorded.put(key + "00", 2)
    with cache.in_memory(False, mine):
        cache.put("cccc", 3)
    cache.forget(mine)
    assert [key in cache for key in ("aaaa", "aaaa00", "bbbb", "bbbb00", "cccc")] == [False, False, True, True, True]
    with cache.in_memory(owner=mine):
        cache.put("dddd", 4)  # a run that goes on after its session has ended
    assert "dddd" not in cache and len(entries(tmp_path)) == 1


def test_an_engine_forgets_the_intermediate_results_too(toy):
    engine, owner = ex.Engine(), Owner()
    with engine.cache.in_memory(owner=owner):
        engine.explain(ex.ask(toy, PRIVATE, "gradient", target=1, private=True))
    assert len(engine._memos) and engine.cache.contents().entries
    engine.forget(owner)
    assert not len(engine._memos) and engine._memos.total == 0 and not engine.cache.contents().entries
