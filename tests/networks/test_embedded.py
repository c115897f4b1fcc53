"""The embedded networks: their files are small and honest, and each has the property that it was built for."""

from __future__ import annotations

import functools
import json

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

import explainers as ex
from explainers.data import pools
from explainers.data.train import _crop_and_mirror, accuracy, fold_batch_norms, normalise, training_twin
from explainers.networks.embedded import CIFAR, EMBEDDED, WEIGHTS, NIBBatchNorm2d, load_weights

NAMES = tuple(EMBEDDED)
DRAWN = tuple(name for name in NAMES if name not in CIFAR)  # trained on generated images, so that fresh ones can be drawn
NIB = [name for name in NAMES if "_nib_" in name]
BIASED = [name for name in NAMES if name not in NIB]
TARGETS = {"scenes_vgg": 0.95, "scenes_resnet": 0.95, "scenes_nib_vgg": 0.92, "scenes_vit": 0.92,
           "digits_mlp": 0.98, "digits_cnn": 0.98}
DRAWS, FRESH_SEED = 300, 77  # a seed that neither training nor the record has used


@functools.cache
def trained(name: str) -> nn.Module:
    module = EMBEDDED[name].build()
    module.load_state_dict(load_weights(name))
    return module.eval()


@functools.cache
def fresh(reference: str) -> tuple[torch.Tensor, torch.Tensor]:
    network = next(n for n in EMBEDDED.values() if n.training_data == reference)
    return pools.held_out(network, DRAWS, FRESH_SEED)


def record(name: str) -> dict:
    return json.loads((WEIGHTS / f"{name}.json").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_weights_fit_the_network_and_are_finite(name):
    weights = load_weights(name)
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in weights.values())
    network = EMBEDDED[name]
    logits = trained(name)(torch.zeros(2, network.channels, network.input_size, network.input_size))
    assert logits.shape == (2, len(network.categories)) and logits.isfinite().all()
    assert (WEIGHTS / f"{name}.safetensors").stat().st_size < 5_000_000


def test_all_assets_together_are_small():
    assert sum(file.stat().st_size for file in WEIGHTS.parent.rglob("*") if file.is_file()) < 12_000_000


@pytest.mark.parametrize("name", DRAWN)
def test_accuracy_on_draws_never_seen(name):
    """The record reaches the target, and 300 fresh draws agree with the record within four standard errors."""
    network, told = EMBEDDED[name], record(name)
    assert told["held_out_accuracy"] >= TARGETS[name] and told["held_out_draws"] == 2000
    measured = accuracy(trained(name), network, *fresh(network.training_data))
    spread = (max(0.02, told["held_out_accuracy"] * (1 - told["held_out_accuracy"])) / DRAWS) ** 0.5
    assert abs(measured - told["held_out_accuracy"]) < 4 * spread
    assert measured >= TARGETS[name] - 4 * spread


@pytest.mark.parametrize("name", NAMES)
def test_the_record_says_how_the_weights_were_made_and_nothing_about_the_machine(name):
    told = record(name)
    assert told["parameters"] == sum(p.numel() for p in trained(name).parameters())
    assert {"date", "seed", "command", "epochs", "training_seconds", "python", "torch"} <= told.keys()
    assert told["command"].startswith(f"python -m explainers.data.train {name} --seed {told['seed']}")
    assert "held_out_seed" in told if name in DRAWN else 0.6 < told["cifar10_test_accuracy"] < 0.9
    for value in map(str, told.values()):
        assert "/" not in value and "\\" not in value


@pytest.mark.parametrize("name", NAMES)
def test_networks_can_be_traced(name):
    network = EMBEDDED[name]
    traced = torch.fx.symbolic_trace(trained(name))
    x = torch.rand(2, network.channels, network.input_size, network.input_size)
    assert torch.equal(traced(x), trained(name)(x))


def test_what_people_read_of_a_network_names_its_number_of_classes():
    notes = {entry.name: entry.note for entry in ex.models()}
    assert all(f"({len(EMBEDDED[name].categories)} classes)" in notes[name] for name in NAMES)


def test_unknown_names_are_refused_with_the_choice():
    with pytest.raises(KeyError, match="scenes_vgg"):
        load_weights("scenes_vgg19")


def test_the_residual_network_calls_one_relu_twice_in_a_block():
    traced = torch.fx.symbolic_trace(trained("scenes_resnet"))
    calls = [node.target for node in traced.graph.nodes if node.op == "call_module" and "relu" in str(node.target)]
    assert calls.count("layer2.relu") == 2


@pytest.mark.parametrize("name", NAMES)
def test_networks_without_biases_are_homogeneous_and_others_are_not(name):
    """f(a x) = a f(x) for a > 0, which a single bias anywhere breaks."""
    network = EMBEDDED[name]
    module = network.build().double().eval()
    module.load_state_dict({key: value.double() for key, value in load_weights(name).items()}, strict=False)
    side = network.input_size
    pixels = torch.randint(0, 256, (4, network.channels, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    x = normalise(pixels, network).double()
    with torch.inference_mode():
        logits = module(x)
        off = max(float((module(factor * x) - factor * logits).abs().max() / logits.abs().max()) for factor in (0.3, 2.0))
    assert off < 1e-10 if name in NIB else off > 1e-3
    has_bias = any(key.endswith(("bias", "running_mean")) for key in load_weights(name))
    assert has_bias == (name in BIASED)


def test_the_ablation_adds_the_biases_that_its_names_say():
    """LB: convolutions and dense layers have biases. BNB: batch norm has mean and beta. The layers are otherwise the same."""
    def layers_with(name: str, kind: type, key: str) -> set[bool]:
        return {getattr(m, key, None) is not None for m in CIFAR[name].build().modules() if isinstance(m, kind)}

    norms = (nn.BatchNorm2d, NIBBatchNorm2d)
    for name, layer, norm in (("cifar_nib_vgg6", False, False), ("cifar_vgg6_lb", True, False), ("cifar_vgg6_bnb", False, True),
                              ("cifar_vgg6_lb_bnb", True, True)):
        assert layers_with(name, (nn.Conv2d, nn.Linear), "bias") == {layer}, name
        assert layers_with(name, norms, "bias") == layers_with(name, norms, "running_mean") == {norm}, name
    shapes = {tuple(p.shape for p in CIFAR[name].build().parameters() if p.dim() > 1) for name in CIFAR if "vgg6" in name}
    assert len(shapes) == 1


@pytest.mark.parametrize("name", CIFAR)
def test_networks_of_cifar10_load_by_name_and_take_any_picture(name):
    network = ex.load_model(name, device="cpu")
    x = network.preprocess(Image.new("RGB", (300, 200), (90, 160, 220)))
    assert x.shape == (1, 3, 32, 32) and network.predict(x).shape == (1, 10)
    assert network.categories[0] == "airplane" and network.categories[9] == "truck" and network.training_data == "cifar10"


def test_depths_have_as_many_convolutions_as_their_names_say():
    for depth in (4, 6, 8):
        assert sum(isinstance(m, nn.Conv2d) for m in CIFAR[f"cifar_nib_vgg{depth}"].build().modules()) == depth


def naive_nib(x: torch.Tensor, weight, running_var, eps: float, momentum: float, training: bool):
    """NIB batch norm, one channel and one number after the other, from its definition."""
    out, updated = torch.empty_like(x), running_var.clone()
    for c in range(x.shape[1]):
        values = x[:, c].flatten().tolist()
        mean = sum(values) / len(values)
        squares = sum((v - mean) ** 2 for v in values)
        variance = squares / len(values) if training else float(running_var[c])
        out[:, c] = weight[c] * x[:, c] / (variance + eps) ** 0.5
        if training:
            updated[c] = (1 - momentum) * running_var[c] + momentum * squares / (len(values) - 1)
    return out, updated


def test_nib_batch_norm_does_what_its_definition_says():
    generator = torch.Generator().manual_seed(0)
    layer = NIBBatchNorm2d(3).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, 1.5, 2.0]))
        layer.running_var.copy_(torch.tensor([0.7, 1.0, 3.0]))
    for training in (True, True, False):
        layer.train(training)
        x = 2 + torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
        before = layer.running_var.clone()
        expected, updated = naive_nib(x, layer.weight, before, layer.eps, layer.momentum, training)
        torch.testing.assert_close(layer(x), expected)
        torch.testing.assert_close(layer.running_var, updated)
        assert torch.equal(before, layer.running_var) != training


@pytest.mark.parametrize("name", ["scenes_vgg", "scenes_resnet", "scenes_nib_vgg", *CIFAR])
def test_the_training_twin_computes_what_the_network_computes(name):
    """After folding, the network gives the twin's answers: the rewriting leaves no trace."""
    torch.manual_seed(0)
    network = EMBEDDED[name]
    module, shape = network.build(), (3, network.input_size, network.input_size)
    twin = training_twin(module).train()
    for _ in range(3):  # running statistics away from their initial values
        twin(torch.randn(4, *shape))
    x = torch.randn(2, *shape)
    with torch.no_grad():
        expected = twin.eval()(x)
        fold_batch_norms(module, twin)
        torch.testing.assert_close(module.eval()(x), expected, rtol=1e-4, atol=1e-5)


def test_crops_and_mirrors_move_every_picture_as_a_whole():
    """Each result is its picture, mirrored or not, moved by up to 4 pixels with zeros where nothing came from; all cases occur."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(1, 256, (200, 3, 32, 32), generator=generator, dtype=torch.uint8)
    moved = _crop_and_mirror(images, generator)
    assert moved.shape == images.shape and moved.dtype == torch.uint8
    seen = set()
    for picture, result in zip(images, moved, strict=True):
        padded = functional.pad(picture, (4, 4, 4, 4))
        cases = [(down, right, mirror) for down in range(9) for right in range(9) for mirror in (False, True)
                 if torch.equal(result.flip(2) if mirror else result, padded[:, down:down + 32, right:right + 32])]
        assert len(cases) == 1
        seen |= set(cases)
    assert {mirror for *_, mirror in seen} == {False, True}
    assert {down for down, *_ in seen} == {right for _, right, _ in seen} == set(range(9))
