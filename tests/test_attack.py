"""Attacks on pictures: closed forms on linear networks, bounds that hold for every pixel, and networks that stay as they are."""

from __future__ import annotations

import math

import pytest
import torch
from support.networks import classifier, drawn_images
from torch import nn

import explainers as ex
from explainers.attack import Attack, attack, margin, passes


class Differs(nn.Module):
    """Class 0's logit minus class 1's is <w, x>."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(8)) * 0.01)

    def forward(self, x):
        score = (x * self.weight).sum((1, 2, 3))
        return torch.stack((score, torch.zeros_like(score)), 1)


@pytest.fixture(scope="module")
def differs():
    return classifier(Differs(), classes=2)


def valid(seed: int = 1) -> torch.Tensor:
    """(1, 3, 32, 32) normalised, of pixels from 0 to 1; some are black and some are white."""
    pixels = (1.5 * torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) - 0.25).clamp(0, 1)
    return (pixels - 0.5) / 0.25


def pixels(x: torch.Tensor) -> torch.Tensor:
    return x * 0.25 + 0.5  # the preprocessing of the tests' networks


@pytest.mark.parametrize("momentum", [0.0, 1.0])
@pytest.mark.parametrize("steps", [1, 4, 10])
def test_on_a_linear_network_every_pixel_moves_by_epsilon_against_its_weight(differs, steps, momentum):
    x, epsilon = valid(), 8 / 255
    attacked = attack(differs, x, 0, epsilon=epsilon, steps=steps, momentum=momentum)
    expected = (pixels(x) - epsilon * differs.module.weight.sign()).clamp(0, 1)
    assert torch.allclose(pixels(attacked.x), expected, atol=1e-6)
    score = float((attacked.x * differs.module.weight).sum())
    assert attacked.trace[-1] == pytest.approx(1 / (1 + math.exp(-score)), abs=1e-6)


def test_towards_a_class_is_away_from_the_only_other(differs):
    x = valid()
    assert torch.equal(attack(differs, x, 0, towards=1).x, attack(differs, x, 0).x)
    assert torch.allclose(pixels(attack(differs, x, 1, towards=0).x),
                          (pixels(x) + 8 / 255 * differs.module.weight.sign()).clamp(0, 1), atol=1e-6)


def test_momentum_keeps_the_direction_of_former_steps():
    """The slope turns round at x = 0. Without momentum a step beyond it goes back; with momentum 1 it goes on until both slopes are
    even, because gradients are divided by their sums of magnitudes."""
    class Valley(nn.Module):
        def forward(self, x):
            score = x[:, 0, 0, 0].abs() * 4
            return torch.stack((score, torch.zeros_like(score)), 1)

    network = classifier(Valley(), classes=2)
    x = torch.zeros(1, 3, 32, 32)
    x[0, 0, 0, 0] = 0.1  # 0.025 of a pixel from the turn
    epsilon = 0.08  # four steps of 0.02: 0.005, -0.015, then with momentum -0.015, without it 0.005
    last = [float(attack(network, x, 0, epsilon=epsilon, steps=3 + 1, momentum=m).x[0, 0, 0, 0]) * 0.25 for m in (0.0, 1.0)]
    assert last[0] == pytest.approx(-0.015, abs=1e-6) and last[1] == pytest.approx(-0.035, abs=1e-6)


@pytest.mark.parametrize("towards", [None, 3])
@pytest.mark.parametrize("epsilon", [1 / 255, 16 / 255, 1.0])
def test_no_pixel_goes_beyond_epsilon_or_out_of_range(toy, epsilon, towards):
    x = valid()
    attacked = attack(toy, x, 1, epsilon=epsilon, towards=towards)
    change = pixels(attacked.x) - pixels(x)
    assert change.abs().max() <= epsilon + 1e-6 and change.abs().max() > 0.9 * min(epsilon, 0.5)
    assert pixels(attacked.x).min() >= -1e-6 and pixels(attacked.x).max() <= 1 + 1e-6


def test_pixels_outside_the_range_move_only_inwards(toy):
    x = drawn_images(1, seed=3)
    before, after = pixels(x), pixels(attack(toy, x, 1, epsilon=0.1).x)
    assert (before > 1).any() and (after[before > 1] <= before[before > 1]).all() and (after[before < 0] >= before[before < 0]).all()


def test_epsilon_zero_changes_nothing(toy, image):
    attacked = attack(toy, image, 1, epsilon=0.0)
    assert torch.equal(attacked.x, image) and len(set(attacked.trace)) == 1
    assert torch.allclose(attacked.before, attacked.after, atol=1e-7)


def test_it_lowers_the_class_and_raises_the_other(toy):
    x = valid()
    first = int(toy.predict(x)[0].argmax())
    other = int(toy.predict(x)[0].argmin())
    away, led = attack(toy, x, epsilon=0.2), attack(toy, x, epsilon=0.2, towards=other)
    assert away.target == led.target == first == away.first_before and led.towards == other
    assert away.trace[-1] < away.trace[0] - 0.02 and led.trace_towards[-1] > led.trace_towards[0] + 0.02 and not away.trace_towards
    for attacked in (away, led):
        assert len(attacked.trace) == 11 and attacked.trace[0] == pytest.approx(float(attacked.before[first]), abs=1e-6)
        assert attacked.trace[-1] == pytest.approx(float(attacked.after[first]), abs=1e-6)
        assert torch.allclose(attacked.before, toy.predict(x)[0], atol=1e-6)
        assert torch.allclose(attacked.after, toy.predict(attacked.x)[0], atol=1e-6)
    assert led.is_reached is (int(toy.predict(led.x)[0].argmax()) == other) and not away.is_reached


def test_lost_and_reached_are_about_the_first_choice():
    def with_after(*after: float, towards: int | None = None) -> Attack:
        return Attack(torch.zeros(1), 0, towards, 0.1, torch.tensor([0.8, 0.1, 0.1]), torch.tensor(after), (0.8,), (), ex.Passes())

    assert not with_after(0.5, 0.3, 0.2).is_lost and with_after(0.3, 0.5, 0.2).is_lost
    assert with_after(0.3, 0.5, 0.2, towards=1).is_reached and not with_after(0.3, 0.2, 0.5, towards=1).is_reached
    assert not with_after(0.3, 0.5, 0.2).is_reached


def test_it_is_deterministic_and_leaves_network_and_image_alone(toy):
    x = valid()
    before, weights = x.clone(), {name: tensor.clone() for name, tensor in toy.module.state_dict().items()}
    first, second = attack(toy, x, 2), attack(toy, x, 2)
    assert torch.equal(first.x, second.x) and first.trace == second.trace and torch.equal(x, before)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in toy.module.state_dict().items())
    assert all(parameter.grad is None for parameter in toy.module.parameters())


@pytest.mark.parametrize("target", [None, 2])
def test_it_costs_a_pass_each_way_a_step_and_one_for_the_end(toy, target):
    attacked = attack(toy, valid(), target, steps=7)
    assert attacked.passes == passes(7) == ex.Passes(8, 7)


def test_a_flat_network_is_left_alone(image):
    class Flat(nn.Module):
        def forward(self, x):
            return 0 * x.mean((1, 2, 3))[:, None] + torch.tensor([1.0, 0.0])

    attacked = attack(classifier(Flat(), classes=2), image)
    assert torch.equal(attacked.x, image) and not attacked.is_lost and attacked.trace == pytest.approx([1 / (1 + math.exp(-1))] * 11)


def test_a_certain_network_is_attacked_too(differs):
    """At a margin of 49 the probability is 1 in float32, and the slope of its logarithm is 0."""
    weight = differs.module.weight.detach()
    x = 2 * weight.sign()[None]  # black and white
    assert float(differs.predict(x)[0, 0]) == 1.0
    attacked = attack(differs, x, 0, epsilon=1.0, steps=20)
    assert torch.allclose(attacked.x, -x, atol=1e-5) and attacked.is_lost


@pytest.mark.parametrize("index", [0, 3, 4])
def test_the_margin_has_the_direction_of_the_cross_entropy(index):
    logits = torch.tensor([[0.3, -1.0, 2.0, 0.5, 0.1]], dtype=torch.float64).requires_grad_(True)
    slope = torch.autograd.grad(margin(logits, index), logits)[0]
    expected = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, torch.tensor([index])), logits)[0]
    assert torch.allclose(slope / slope.abs().sum(), expected / expected.abs().sum(), atol=1e-12)


def test_it_stops_and_reports(toy):
    seen = []
    attack(toy, valid(), 0, steps=3, progress=lambda done, total, preview: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(ex.Cancelled):
        attack(toy, valid(), 0, steps=3, progress=lambda *_: False)


@pytest.mark.parametrize(("wrong", "words"), [
    (dict(epsilon=-0.1), "epsilon"), (dict(epsilon=1.1), "epsilon"), (dict(epsilon=math.nan), "epsilon"), (dict(steps=0), "steps"),
    (dict(steps=2.0), "steps"), (dict(momentum=-1), "momentum"), (dict(target=5), "classes 0 to 4"),
    (dict(towards=-1), "none of them"),
    (dict(target=2, towards=2), "another"), (dict(target=(2, 3)), "one class"),
])
def test_what_cannot_be_attacked_is_refused(toy, wrong, words):
    with pytest.raises(ex.ExplainerError, match=words):
        attack(toy, valid(), **{"target": 1, **wrong})


def test_several_images_are_refused(toy):
    with pytest.raises(ex.ExplainerError, match="One image"):
        attack(toy, torch.zeros(2, 3, 32, 32))
