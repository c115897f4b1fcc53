"""The parameter-randomisation test on networks and maps whose answer is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.networks import classifier, seeded
from torch import nn

import explainers as ex
from explainers.metrics.map_distances import Distances
from explainers.metrics.sanity_checks import (
    MODES,
    SIMILARITIES,
    STEP,
    Predictions,
    Step,
    StepQuestion,
    measure,
    predictions,
    schedule,
    steps,
    verdict,
)
from explainers.networks.randomised import WAYS, randomised
from explainers.networks.stages import stages
from explainers.target import Target


def by(method: str, **params):
    return lambda network, x, target: ex.explain(network, x, method, target=target, **params)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", WAYS)
def test_a_method_that_ignores_the_weights_stays_the_same_at_every_stage(toy, image, mode, how):
    found = measure(toy, image, by("sobel"), mode=mode, how=how)
    assert len(found.steps) == (1 if mode == "last_layer" else 4)
    for step in found.steps:
        assert [getattr(step.distances, name) for name in SIMILARITIES] == pytest.approx([1, 1, 1, 1])
        assert step.distances.l2_unit == pytest.approx(0, abs=1e-6) and np.array_equal(step.heatmap, found.heatmap)
        assert step.predictions.rank < 1 and step.predictions.probability != step.predictions.probability_before


def test_the_gradient_of_a_linear_network_is_the_new_weights(linear, image):
    step = measure(linear, image, by("gradient"), target=2, seed=5).steps[0]
    weight = randomised(linear, stages(linear), seed=5).module.get_submodule("1").weight[2]
    assert np.allclose(step.heatmap, weight.view(3, 32, 32).sum(0).numpy(), atol=1e-6)
    assert abs(step.distances.rank) < 0.15  # of 1024 independent numbers it is within 0.1 almost surely


def test_the_network_is_untouched(toy, image):
    before = {name: tensor.clone() for name, tensor in toy.module.state_dict().items()}
    fingerprint, logits = toy.fingerprint, toy.logits(image)
    for mode in MODES:
        measure(toy, image, by("guided_backprop"), mode=mode)
    assert all(torch.equal(tensor, before[name]) for name, tensor in toy.module.state_dict().items())
    assert toy.fingerprint == fingerprint and torch.equal(toy.logits(image), logits)


def test_one_seed_repeats_and_two_differ(toy, image):
    one, again, other = (measure(toy, image, by("gradient"), seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a.heatmap, b.heatmap) for a, b in zip(one.steps, again.steps, strict=True))
    assert not any(np.array_equal(a.heatmap, b.heatmap) for a, b in zip(one.steps, other.steps, strict=True))
    assert np.array_equal(one.heatmap, other.heatmap)


def test_a_cascade_grows_and_independent_changes_are_alone(toy):
    found = stages(toy)
    cascade, alone = schedule(toy, "cascading"), schedule(toy, "independent")
    assert [change.stages for change in cascade] == [found[:1], found[:2], found[:3], found]
    assert [change.stages for change in alone] == [(stage,) for stage in found]
    assert schedule(toy, "last_layer", wanted=1) == (cascade[0],) == (alone[0],)


def test_the_class_stays_the_one_that_the_intact_network_predicts(toy, image):
    seen = []

    def explain(network, x, target):
        seen.append((network.fingerprint, target))
        return ex.explain(network, x, "gradient", target=target)

    measure(toy, image, explain)
    top = int(toy.predict(image).argmax())
    assert {target for _, target in seen} == {Target.of(top)} and len({fingerprint for fingerprint, _ in seen}) == 5


def test_predictions_are_compared_with_the_intact_networks(toy, image):
    assert predictions(toy, toy, image, Target.of(1)).rank == pytest.approx(1)
    assert not predictions(toy, toy, image, Target.of(1)).changed
    other = randomised(toy, stages(toy)[:1])
    found = predictions(toy, other, image, Target.of((3, 1)))
    assert found.probability_before == pytest.approx(float(toy.predict(image)[0, 3]))
    assert found.probability == pytest.approx(float(other.predict(image)[0, 3]))
    assert found.changed == (int(toy.predict(image).argmax()) != int(other.predict(image).argmax()))


def test_steps_come_one_by_one(toy, image):
    calls = []

    def explain(network, x, target):
        calls.append(network)
        return ex.explain(network, x, "gradient", target=target)

    coming = steps(toy, image, explain, schedule(toy))
    next(coming)
    assert len(calls) == 2


def test_progress_ends_at_the_last_map_and_can_stop(toy, image):
    heard = []
    measure(toy, image, by("gradient"), progress=lambda done, total, preview: heard.append((done, total)))
    assert heard == [(step, 5) for step in range(6)]
    with pytest.raises(ex.Cancelled):
        measure(toy, image, by("gradient"), progress=lambda done, total, preview: done < 2)


def test_guided_backpropagation_hardly_depends_on_the_head_and_the_gradient_does():
    """With one wide convolution under a pooled head, guided maps are sums of the same rectified columns, whatever the head."""
    network = classifier(seeded(lambda: nn.Sequential(
        nn.Conv2d(3, 64, 5, padding=2), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(64, 5)), 4))
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(7))
    ranks = {key: np.mean([measure(network, x, by(key), mode="last_layer", how="normal", seed=seed).steps[0].distances.rank
                           for seed in range(3)]) for key in ("guided_backprop", "gradient")}
    assert ranks["guided_backprop"] > ranks["gradient"] + 0.2


def test_a_map_that_turns_constant_is_flagged_and_not_scored(image):
    network = classifier(nn.Sequential(nn.Flatten(), nn.Linear(3072, 5)))

    def explain(net, x, target):
        found = ex.explain(net, x, "gradient", target=target)
        if net.fingerprint == network.fingerprint:
            return found
        return ex.Attribution(**{**vars(found), "native": torch.zeros_like(found.native), "flags": ("the map is zero everywhere",)})

    found = measure(network, image, explain)
    assert all(math.isnan(getattr(found.steps[0].distances, name)) for name in SIMILARITIES)
    assert found.steps[0].flags == ("the map is zero everywhere",)
    assert "cannot be compared: the map is zero everywhere" in verdict(found.steps)


def test_a_step_can_be_kept(toy, image, tmp_path):
    """Through the disk and back, its numbers that cannot be told as well."""
    found = measure(toy, image, by("gradient"), mode="last_layer").steps[0]
    lost = replace(found, distances=replace(found.distances, ssim=math.nan), flags=("empty",))
    ex.MapCache(tmp_path).put("ab" * 32, lost)
    again = ex.MapCache(tmp_path).get("ab" * 32)
    assert np.array_equal(again.heatmap, found.heatmap) and again.predictions == found.predictions and again.flags == ("empty",)
    assert math.isnan(again.distances.ssim) and again.distances.rank == found.distances.rank and again.title == found.title


def step(title="Last layer (fc)", alike=0.5, rank=0.0, logits=0.1):
    return Step(title, Distances(1, 1, rank, alike, alike, alike), Predictions(0.8, 0.001, logits, 1, 2), np.zeros((4, 4)))


@pytest.mark.parametrize(("found", "mode", "told"), [
    ([step(alike=0.97, rank=0.98)], "last_layer", "does not follow the last layer's weights"),
    ([step(alike=0.97, rank=0.98)], "last_layer", "from 80.0 % to 0.1 %"),
    ([step(alike=0.97, rank=0.98, logits=0.99)], "last_layer", "so do the predictions"),
    ([step(alike=0.8, rank=0.95)], "last_layer", "hardly follows"),
    ([step(alike=0.2, rank=-0.3)], "last_layer", "It follows the last layer's weights: without them the map changes (SSIM 0.20, "
                                                  "rank \u22120.30, |rank| 0.20)"),
    ([step(alike=0.7, rank=0.5)], "last_layer", "follows in part"),
    ([step(alike=0.97, rank=0.97), step(alike=0.95, rank=0.95)], "cascading", "still the same map"),
    ([step(alike=0.97, rank=0.97), step(alike=0.1)], "cascading", "little of it is left"),
    ([step(alike=0.2), step(alike=0.7, rank=0.6)], "cascading", "much of it is still there"),
    ([step(alike=0.2), step(alike=0.8, rank=0.95)], "cascading", "most of it is still there"),
    ([step("A", 0.97, 0.97), step("B", 0.3)], "independent", "without the weights of: B (SSIM 0.30, rank 0.00, |rank| 0.30). It does "
                                                             "not follow the weights of: A."),
    ([step("A", 0.6), step("B", 0.3)], "independent", "No stage leaves it as it was"),
])
def test_the_verdict_says_it_with_numbers(found, mode, told):
    assert told in verdict(found, mode)


def test_what_does_not_exist_is_refused(toy, image):
    with pytest.raises(ex.ParameterError, match="'cascading', 'independent', 'last_layer', not 'all'"):
        measure(toy, image, by("gradient"), mode="all")
    with pytest.raises(ex.ExplainerError, match="no step to judge"):
        verdict([])


def test_a_check_is_made_of_steps_that_are_cached_by_themselves(toy, image):
    """By question, weights and seed, never by title: stages that are grouped otherwise may hold the same weights."""
    engine, question = ex.Engine(), ex.ask(toy, image, "gradient")
    check = engine.measure(ex.judge("sanity_checks", question, draw_seed=3))
    changes = schedule(toy)
    for change, made in zip(changes, check.steps, strict=True):
        kept = engine.lookup_computed(STEP, StepQuestion(question, replace(change, title="Another title"), seed=3).parts)
        assert np.array_equal(kept.heatmap, made.heatmap) and kept.distances == made.distances
    runs = engine.runs
    again = StepQuestion(question, replace(changes[0], title="Another title"), seed=3).run(engine.explain, engine.get_or_compute)
    assert engine.runs == runs and again.title == "Another title" and again.predictions == check.steps[0].predictions
    first = StepQuestion(question, changes[0], seed=3)
    others = [replace(first, seed=4), replace(first, how="permute"), replace(first, change=schedule(toy, "independent")[1]),
              replace(first, question=replace(question, target=(int(question.target.first) + 1) % 5))]
    assert all(engine.lookup_computed(STEP, other.parts) is None for other in others)


def test_a_step_by_itself_is_the_step_of_the_check(toy, image):
    check = measure(toy, image, by("gradient"), mode="last_layer", seed=3)
    engine = ex.Engine()
    alone = StepQuestion(ex.ask(toy, image, "gradient"), schedule(toy)[0], seed=3).run(engine.explain, engine.get_or_compute)
    assert np.array_equal(alone.heatmap, check.steps[0].heatmap) and alone.distances == check.steps[0].distances
    assert alone.predictions == check.steps[0].predictions and alone.title == check.steps[0].title
