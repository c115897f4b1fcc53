"""LPR: its multipliers on linear pieces by hand, its double backward pass against PyTorch's, a naive twin, and planted evidence."""

from __future__ import annotations

import functools
import gc
import weakref

import pytest
import torch
from support.networks import classifier, drawn_images, residual_module, seeded
from torch import nn

import explainers as ex
from explainers.data.scenes import draw
from explainers.methods import lpr
from explainers.target import Target

GOOD, BAD = (slice(16, 24), slice(8, 16)), (slice(4, 10), slice(20, 26))  # two parts of a 32 x 32 image


class GoodAndBad(nn.Module):
    """Logit 0 counts the bright pixels of one part, and those of another part against the class. Both have gradients of one size."""

    def __init__(self):
        super().__init__()
        weights = torch.zeros(1, 32, 32)
        weights[0][GOOD], weights[0][BAD] = 0.1, -0.1
        self.register_buffer("weights", weights)

    def forward(self, x):
        total = (torch.relu(x.mean(1, keepdim=True)) * self.weights).sum((1, 2, 3))
        return torch.stack((total, 0 * total), 1)


def grouped_module():
    """Convolutions in groups, with a stride, dilation or no bias, and batch norms with and without weights."""
    module = seeded(lambda: nn.Sequential(
        nn.Conv2d(3, 12, 5, stride=2, padding=2, groups=3), nn.BatchNorm2d(12), nn.ReLU6(),
        nn.Conv2d(12, 12, 3, padding=2, dilation=2, groups=12, bias=False), nn.ReLU(),
        nn.Conv2d(12, 8, 3, padding="same"), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 256, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 5)))
    plain = nn.BatchNorm2d(12, affine=False)
    plain.running_var.fill_(0.4)
    return module.insert(4, plain)


@pytest.fixture(scope="module")
def scene():
    """A network for scenes, a scene with one object, its class, and the object's pixels."""
    network, drawn = ex.load_model("scenes_vgg"), draw(seed=8, size=128, objects=1)
    x = network.preprocessing.normalise(torch.from_numpy(drawn.image).permute(2, 0, 1)[None] / 255)
    return network, x, drawn.labels[0], torch.from_numpy(drawn.masks[0])


@pytest.fixture(scope="module")
def scene_map(scene):
    network, x, label, _ = scene
    return ex.explain(network, x, "lpr", target=label)


def relative(found, expected):
    return float(((found - expected).abs().max() / expected.abs().max()).detach())


def plain_record(network, x, target):
    """The image, the score, and the multipliers by name, with nothing but a hook on each ReLU's output."""
    multipliers, image = {}, x.clone().requires_grad_(True)

    def relu(call, s):
        output = call.plain(s)
        multipliers[call.name] = torch.ones_like(output, requires_grad=True)
        output.register_hook(lambda gradient: gradient * multipliers[call.name])
        return output

    score = Target.of(target).score(network.logits(image, {"relu": relu, "relu6": relu}))
    return image, score, multipliers


@pytest.mark.parametrize("module", [residual_module, grouped_module])
def test_multipliers_of_one_give_the_plain_gradient(module):
    network, x = classifier(module()), drawn_images(1, seed=3)
    rules = lpr.LearnedRules(network, x, Target((2,)))
    assert rules.multipliers and all((m == 1).all() for m in rules.multipliers.values())
    assert relative(rules.gradient().detach(), network.gradient(x, 2)[0]) < 1e-6
    assert relative(rules.logits.detach(), network.logits(x)) < 1e-6


def test_one_layer_of_relus_in_closed_form():
    """Of w' relu(W x + b): G = W' (w gate m), and the derivative of v' G by m is w gate (W v), which is 0 where the ReLU is shut."""
    module = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 20), nn.ReLU(), nn.Linear(20, 4)))
    network, x = classifier(module, side=8, classes=4), drawn_images(1, seed=3, side=8)
    rules = lpr.LearnedRules(network, x, Target((1,)))
    [multiplier] = rules.multipliers.values()
    generator = torch.Generator().manual_seed(5)
    m, v = torch.rand(20, generator=generator), torch.randn(192, generator=generator)
    with torch.no_grad():
        multiplier.copy_(m[None])
    first, last = module[1], module[3]
    gate = (first(x.flatten(1))[0] > 0).float()
    assert 0 < gate.sum() < 20
    gradient = rules.gradient()
    assert relative(gradient.detach().flatten(), first.weight.T @ (last.weight[1] * gate * m)) < 1e-5
    [derivative] = rules.derivatives(gradient, v.view(3, 8, 8))
    assert relative(derivative[0], last.weight[1] * gate * (first.weight @ v)) < 1e-5


@pytest.mark.parametrize("module", [residual_module, grouped_module])
def test_the_double_backward_pass_is_pytorchs_own(module):
    network, x = classifier(module()), drawn_images(1, seed=3)
    direction = drawn_images(1, seed=6)[0]
    rules = lpr.LearnedRules(network, x, Target((2, 0)))
    image, score, multipliers = plain_record(network, x, (2, 0))
    assert list(rules.multipliers) == list(multipliers)
    for index, name in enumerate(multipliers):
        values = torch.rand(multipliers[name].shape, generator=torch.Generator().manual_seed(index))
        with torch.no_grad():
            multipliers[name].copy_(values)
            rules.multipliers[name].copy_(values)
    expected_gradient = torch.autograd.grad(score.sum(), image, create_graph=True)[0][0]
    expected = torch.autograd.grad(expected_gradient, list(multipliers.values()), direction)
    gradient = rules.gradient()
    assert relative(gradient, expected_gradient) < 1e-5
    for found, right in zip(rules.derivatives(gradient, direction), expected, strict=True):
        assert relative(found, right) < 1e-5


def naive_masks(network, x, target, iterations, rate, area):
    """The mask before each step and after the last, by one plain loss that is differentiated as a whole."""
    image, score, multipliers = plain_record(network, x, target)
    adam, masks = torch.optim.Adam(list(multipliers.values()), lr=rate), []
    whole = network.logits(x).log_softmax(-1)[0, target]
    for _ in range(iterations + 1):
        magnitude = torch.autograd.grad(score.sum(), image, create_graph=True)[0][0].abs().sum(0)
        mask = torch.minimum(magnitude / torch.quantile(magnitude, 0.99), torch.ones(()))
        masks.append(mask.detach())
        kept = network.logits(x * mask).log_softmax(-1)[0, target]
        loss = torch.maximum(whole - kept, torch.zeros(())) + area * mask.mean()
        for multiplier, derivative in zip(multipliers.values(), torch.autograd.grad(loss, multipliers.values()), strict=True):
            multiplier.grad = derivative
        adam.step()
        for multiplier in multipliers.values():
            multiplier.data.clamp_(0, 1)
    return masks


@pytest.mark.parametrize("area", [5.0, 0.5])
def test_it_is_the_naive_descent_on_a_network_of_scenes(scene, area):
    network, x, label, _ = scene
    expected = naive_masks(network, x, label, 4, 0.1, area)
    attribution = ex.explain(network, x, "lpr", target=label, iterations=4, area=area)
    assert relative(attribution.native[0], expected[-1]) < 1e-4
    assert attribution.extras["area"] == pytest.approx([float(mask.mean()) for mask in expected], rel=1e-4)


def test_the_mask_is_a_fraction_of_the_99th_percentile():
    gradient = torch.zeros(2, 1, 101)
    gradient[0, 0], gradient[1, 0] = -torch.arange(101.0), torch.arange(101.0)  # magnitudes 0, 2, ..., 200
    mask = lpr.mask_of(gradient)
    assert mask.shape == (1, 1, 101) and float(mask[0, 0, 100]) == 1
    assert torch.allclose(mask[0, 0], (torch.arange(101.0) / 99).clamp(max=1))
    for scale in (1e-12, 1e12):
        assert torch.allclose(lpr.mask_of(scale * gradient), mask, rtol=1e-5)


def test_a_gradient_of_zeros_hides_everything_and_its_derivative_is_finite():
    gradient = torch.zeros(3, 8, 8, requires_grad=True)
    mask = lpr.mask_of(gradient)
    mask.sum().backward()
    assert not mask.any() and torch.isfinite(gradient.grad).all()


def test_evidence_against_the_class_is_hidden_and_evidence_for_it_is_kept():
    network, x = classifier(GoodAndBad(), classes=2), torch.ones(1, 3, 32, 32)
    before = lpr.mask_of(network.gradient(x, 0)[0])[0]
    assert (before[GOOD] == 1).all() and (before[BAD] == 1).all()
    attribution = ex.explain(network, x, "lpr", target=0, iterations=30)
    mask = attribution.native[0]
    assert mask[GOOD].min() > 0.2
    assert (mask[BAD] == 0).sum() >= 35  # of 36: the gradient's percentile may be at one of these pixels, and moves with it
    assert attribution.extras["probability"][-1] >= 0.98 * attribution.extras["whole_probability"]


def test_the_loss_falls_and_a_planted_object_is_kept(scene, scene_map):
    network, x, label, inside = scene
    extras = scene_map.extras
    assert len(extras["loss"]) == len(extras["probability"]) == len(extras["area"]) == 61
    assert extras["loss"][-1] < extras["loss"][0] / 5 and extras["area"][-1] < extras["area"][0] / 2
    assert extras["probability"][0] < 0.1 < 0.8 * extras["whole_probability"] < extras["probability"][-1]
    before = lpr.mask_of(network.gradient(x, label)[0])[0]
    fraction = {name: float(mask[inside].sum() / mask.sum()) for name, mask in (("before", before), ("after", scene_map.native[0]))}
    assert inside.float().mean() < 0.1 and fraction["before"] < 0.5 and fraction["after"] > 0.7
    shown = network.predict(x * scene_map.native)[0]
    assert int(shown.argmax()) == label and float(shown[label]) == pytest.approx(extras["probability"][-1], abs=1e-5)


def test_the_extras_agree_with_the_map(scene, scene_map):
    network, x, label, _ = scene
    extras = scene_map.extras
    assert torch.equal(extras["shown"], scene_map.native[0])
    assert torch.allclose(lpr.mask_of(extras["gradient"]), scene_map.native, atol=1e-6) and (extras["gradient"] < 0).any()
    assert extras["area"][-1] == pytest.approx(float(scene_map.native.mean()), abs=1e-6)
    assert extras["whole_probability"] == pytest.approx(float(network.predict(x)[0, label]), abs=1e-5)
    assert extras["loss"][0] == pytest.approx(
        max(0.0, float(torch.tensor(extras["whole_probability"] / extras["probability"][0]).log())) + 5 * extras["area"][0], rel=1e-4)
    assert len(extras["multipliers"]) == len(network.graph.named("relu")) and all(0 <= m <= 1 for m in extras["multipliers"])


def test_multipliers_stay_between_0_and_1_and_those_of_shut_units_stay_1(scene):
    network, x, label, _ = scene
    objective = lpr.Objective(network, x, Target((label,)), lpr.Params())
    descent = lpr.Descent(list(objective.rules.multipliers.values()), rate=0.4)
    for _ in range(4):
        descent.move(objective.step()[1])
    values = torch.cat([m.detach().flatten() for m in descent.multipliers])
    assert values.min() == 0 and values.max() == 1
    _, outputs = network.graph.run(x, keep=objective.rules.multipliers)
    assert all((m.detach()[outputs[name] == 0] == 1).all() for name, m in objective.rules.multipliers.items())
    assert any((m.detach()[outputs[name] > 0] < 1).any() for name, m in objective.rules.multipliers.items())


def test_a_step_pairs_each_multiplier_with_its_own_derivative_whatever_their_layouts():
    """Adam's first step is the learning rate, against the sign of the derivative."""
    multiplier = torch.full((1, 4, 5, 6), 0.5).contiguous(memory_format=torch.channels_last).requires_grad_(True)
    derivative = torch.randn(1, 4, 5, 6, generator=torch.Generator().manual_seed(2))
    lpr.Descent([multiplier], rate=0.1).move([derivative])
    assert torch.allclose(multiplier.detach(), 0.5 - 0.1 * derivative.sign(), atol=1e-4)


def test_a_class_that_is_kept_without_a_cost_of_area_leaves_nothing_to_learn():
    network, x = classifier(GoodAndBad(), classes=2), torch.ones(1, 3, 32, 32)
    attribution = ex.explain(network, x, "lpr", target=0, iterations=3, area=0)
    assert attribution.extras["loss"] == [0.0] * 4 and attribution.extras["multipliers"] == [1.0]
    assert lpr.NOT_KEPT not in attribution.flags


def test_it_warns_where_the_class_is_not_kept(scene):
    network, x, label, _ = scene
    lost = ex.explain(network, x, "lpr", target=label, iterations=2, rate=0.01)
    assert lost.extras["probability"][-1] < lost.extras["whole_probability"] / 2 and lpr.NOT_KEPT in lost.flags


def test_a_contrast_keeps_the_first_class_among_the_two(scene):
    network, x, label, _ = scene
    other = (label + 1) % len(network.categories)
    attribution = ex.explain(network, x, "lpr", target=(label, other), iterations=2)
    logits = network.logits(x)[0]
    assert attribution.extras["whole_probability"] == pytest.approx(float(torch.sigmoid(logits[label] - logits[other])), abs=1e-5)


def test_one_step_is_one_pass_forward_and_three_back(scene):
    network = scene[0].metered()
    objective = lpr.Objective(network, scene[1], Target((0,)), lpr.Params())
    before = network.counted()
    objective.step()
    step = network.counted() - before
    assert (before.forward, before.backward, step.forward, step.backward) == (1, 0, 1, 3)


def test_the_record_is_freed_with_the_rules():
    """A cycle through the record's hooks would never be freed, because Python does not see it."""
    network = classifier(residual_module())
    rules = lpr.LearnedRules(network, drawn_images(1, seed=3), Target((2,)))
    rules.derivatives(rules.gradient(), drawn_images(1, seed=4)[0])
    recorded = weakref.ref(rules._x)
    assert recorded() is not None
    del rules
    gc.collect()
    assert recorded() is None


def test_what_has_no_relu_is_refused():
    smooth = functools.partial(nn.Sequential, nn.Flatten(), nn.Linear(3 * 64, 8), nn.Tanh(), nn.Linear(8, 3))
    network = classifier(seeded(smooth), side=8, classes=3)
    with pytest.raises(ex.UnsupportedError, match="ReLU"):
        ex.explain(network, drawn_images(1, seed=3, side=8), "lpr", target=1)
