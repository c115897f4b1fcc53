"""Weights drawn anew: what changes, what must not, and that one seed says it all."""

from __future__ import annotations

import copy

import pytest
import torch
from support.networks import classifier, seeded
from torch import nn

import explainers as ex
from explainers.networks.randomised import WAYS, randomised
from explainers.networks.stages import stages


def bytes_of(network) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in network.module.state_dict().items()}


def changed(network, other) -> set[str]:
    before, after = bytes_of(network), bytes_of(other)
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def test_stages_run_from_the_head_down_and_hold_every_parameter_once(toy):
    found = stages(toy)
    assert [stage.title for stage in found] == ["Last layer (8)", "Convolution (4)", "Block (2)", "Convolution (0)"]
    names = [name for stage in found for name in stage.parameters]
    assert sorted(names) == sorted(name for name, _ in toy.module.named_parameters())


def test_a_residual_block_is_never_cut(toy):
    for wanted in range(1, 9):
        blocks = [stage for stage in stages(toy, wanted) if any(name.startswith("2.") for name in stage.parameters)]
        assert len(blocks) == 1 and len(stages(toy, wanted)) == min(wanted, 4)


class Fire(nn.Module):
    def __init__(self):
        super().__init__()
        self.squeeze, self.left, self.right = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x):
        x = self.squeeze(x).relu()
        return torch.cat((self.left(x).relu(), self.right(x).relu()), 1)


def test_what_comes_before_the_branches_of_a_module_belongs_to_its_block():
    network = classifier(nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), Fire(), Fire(), nn.Conv2d(4, 5, 1),
                                       nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    assert [stage.title for stage in stages(network, 10)] == ["Last layer (4)", "Block (3)", "Block (2)", "Convolution (0)"]
    assert [stage.title for stage in stages(network, 3)] == ["Last layer (4)", "Block (3)", "Layers (0 and 2)"]


def test_a_norm_goes_with_the_layer_that_it_follows():
    network = classifier(nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4),
                                       nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)))
    head, upper, lower = stages(network)
    assert lower.parameters == ("0.weight", "0.bias", "1.weight", "1.bias") and head.parameters == ("8.weight", "8.bias")
    assert upper.title == "Convolution (3)" and len(upper.parameters) == 4


@pytest.mark.parametrize("name", ["scenes_vgg", "scenes_resnet", "scenes_nib_vgg", "scenes_vit", "digits_mlp", "digits_cnn"])
def test_embedded_networks_have_one_stage_a_layer_or_block(name):
    found = stages(ex.load_model(name))
    assert len(found) == {"scenes_vgg": 7, "scenes_resnet": 5, "scenes_nib_vgg": 7, "scenes_vit": 6,
                          "digits_mlp": 3, "digits_cnn": 4}[name]
    assert found[0].title.startswith("Last layer")


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, 2), Fire(), Fire())
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        if x.mean() > 100:
            x = x * 2
        return self.head(self.body(x).mean((2, 3)))


def test_a_network_without_a_graph_has_stages_too(image):
    network = classifier(Untraceable())
    assert network.graph is None
    found = stages(network)
    assert [stage.title for stage in found] == ["Last layer (head)", "Block (body.2)", "Block (body.1)", "Convolution (body.0)"]
    other = randomised(network, found[:1])
    assert changed(network, other) == {"head.weight", "head.bias"}
    assert not torch.equal(other.logits(image), network.logits(image))


def test_a_network_without_weights_is_told_so():
    with pytest.raises(ex.ExplainerError, match="no layer with weights"):
        stages(classifier(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), classes=3))


@pytest.mark.parametrize("how", WAYS)
def test_only_the_stage_changes_and_the_network_stays_as_it_was(toy, image, how):
    before, fingerprint, logits = bytes_of(toy), toy.fingerprint, toy.logits(image)
    for stage in stages(toy):
        other = randomised(toy, [stage], how)
        assert set(stage.parameters) >= changed(toy, other) - {"2.bn1.running_mean", "2.bn1.running_var"} != set()
        assert other.fingerprint != toy.fingerprint and not torch.allclose(other.logits(image), logits)
    assert bytes_of(toy) == before and toy.fingerprint == fingerprint and torch.equal(toy.logits(image), logits)


def test_the_copy_is_used_by_gradients_rules_and_parts_of_the_walk(toy, image):
    other = randomised(toy, stages(toy)[:1])
    node = toy.features.default
    assert torch.equal(toy.walk(image, stop=node), other.walk(image, stop=node))
    assert not torch.allclose(toy.gradient(image, 1), other.gradient(image, 1))
    assert torch.allclose(other.walk(other.walk(image, stop=node), start=node), other.logits(image))


def test_no_stages_give_the_same_bytes_and_fingerprint(toy, image):
    same = randomised(toy, [])
    assert not changed(toy, same) and same.fingerprint == toy.fingerprint and same is not toy
    assert torch.equal(same.logits(image), toy.logits(image))


def test_one_seed_repeats_and_two_differ(toy):
    one, again, other = (randomised(toy, stages(toy), "normal", seed) for seed in (1, 1, 2))
    assert bytes_of(one) == bytes_of(again) and one.fingerprint == again.fingerprint
    assert changed(one, other) and one.fingerprint != other.fingerprint


def test_the_global_generator_is_left_alone(toy):
    state = torch.random.get_rng_state()
    for how in WAYS:
        randomised(toy, stages(toy), how)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("how", WAYS)
def test_a_cascade_draws_for_each_layer_what_it_draws_for_it_alone(toy, how):
    found = stages(toy)
    together, alone = bytes_of(randomised(toy, found, how, 3)), bytes_of(randomised(toy, found[1:2], how, 3))
    assert all(together[name] == alone[name] for name in found[1].parameters)


def test_permuting_keeps_the_values_of_every_tensor(toy):
    other = randomised(toy, stages(toy), "permute").module.state_dict()
    for name, value in toy.module.state_dict().items():
        assert torch.equal(value.flatten().sort().values, other[name].flatten().sort().values), name
    assert torch.equal(other["2.bn1.running_var"], toy.module.state_dict()["2.bn1.running_var"])


@pytest.mark.parametrize("how", ["reinitialise", "normal"])
def test_norms_go_back_to_the_identity(toy, how):
    weights = randomised(toy, stages(toy), how).module.state_dict()
    assert torch.equal(weights["2.bn1.weight"], torch.ones(8)) and torch.equal(weights["2.bn1.running_var"], torch.ones(8))
    assert torch.equal(weights["2.bn1.bias"], torch.zeros(8)) and torch.equal(weights["2.bn1.running_mean"], torch.zeros(8))


def test_reinitialised_layers_are_drawn_as_torch_draws_them():
    network = classifier(nn.Sequential(nn.Conv2d(3, 64, 5), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 784, 5)))
    made = randomised(network, stages(network)).module.state_dict()
    fresh = seeded(lambda: nn.Conv2d(3, 64, 5), 5)
    for name in ("weight", "bias"):
        drawn, bound = made[f"0.{name}"], 1 / 75**0.5
        assert 0.9 * bound < drawn.abs().max() <= bound and 0.8 * bound < getattr(fresh, name).abs().max() <= bound
    assert made["0.weight"].std() == pytest.approx(fresh.weight.std().item(), rel=0.05)


def test_a_normal_draw_has_the_spread_of_the_weights(linear):
    drawn, weight = (one.module.state_dict()["1.weight"] for one in (randomised(linear, stages(linear), "normal"), linear))
    assert drawn.std() == pytest.approx(weight.std().item(), rel=0.02) and abs(float(drawn.mean())) < 0.03 * float(weight.std())
    assert abs(float(torch.corrcoef(torch.stack((drawn.flatten(), weight.flatten())))[0, 1])) < 0.05


def test_unchanged_tensors_are_shared_and_not_copied(toy):
    other = randomised(toy, stages(toy)[:1])
    assert other.module.get_submodule("0").weight is toy.module.get_submodule("0").weight
    assert other.module.get_submodule("8").weight is not toy.module.get_submodule("8").weight


def test_tied_weights_stay_tied():
    shared = nn.Conv2d(3, 3, 1)
    network = classifier(nn.Sequential(shared, nn.ReLU(), copy.copy(shared), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5)))
    module = randomised(network, stages(network)).module
    assert module.get_submodule("0").weight is module.get_submodule("2").weight


def test_bad_wishes_are_refused(toy):
    with pytest.raises(ex.ParameterError, match="'reinitialise', 'permute', 'normal', not 'zero'"):
        randomised(toy, [], "zero")
    with pytest.raises(ex.ExplainerError, match="At least one stage"):
        stages(toy, 0)
