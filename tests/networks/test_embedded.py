"""The embedded networks: their files are small and honest, and each has the property that it was built for."""

from __future__ import annotations

import functools
import json

import pytest
import torch
from torch import nn

from explainers.data import pools
from explainers.data.train import accuracy, fold_batch_norms, normalise, packed, training_twin
from explainers.networks.embedded import EMBEDDED, SCALE, WEIGHTS, NIBBatchNorm2d, load_weights

NAMES = tuple(EMBEDDED)
TARGETS = {"scenes_vgg": 0.95, "scenes_resnet": 0.95, "scenes_nib_vgg": 0.92, "digits_mlp": 0.98, "digits_cnn": 0.98}
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


def test_all_weights_together_are_small():
    assert sum(file.stat().st_size for file in WEIGHTS.glob("*.safetensors")) < 15_000_000


@pytest.mark.parametrize("name", NAMES)
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
    assert {"date", "seed", "command", "epochs", "training_seconds", "held_out_seed", "python", "torch"} <= told.keys()
    for value in map(str, told.values()):
        assert "/" not in value and "\\" not in value


@pytest.mark.parametrize("name", NAMES)
def test_networks_can_be_traced(name):
    network = EMBEDDED[name]
    traced = torch.fx.symbolic_trace(trained(name))
    x = torch.rand(2, network.channels, network.input_size, network.input_size)
    assert torch.equal(traced(x), trained(name)(x))


def test_unknown_names_are_refused_with_the_choice():
    with pytest.raises(KeyError, match="scenes_vgg"):
        load_weights("scenes_vgg19")


def test_the_residual_network_calls_one_relu_twice_in_a_block():
    traced = torch.fx.symbolic_trace(trained("scenes_resnet"))
    calls = [node.target for node in traced.graph.nodes if node.op == "call_module" and "relu" in str(node.target)]
    assert calls.count("layer2.relu") == 2


def test_the_nib_network_is_homogeneous_and_the_biased_one_is_not():
    network = EMBEDDED["scenes_nib_vgg"]
    x = normalise(fresh("scenes")[0][:16], network).double()
    bias_free, biased = (EMBEDDED[n].build().double() for n in ("scenes_nib_vgg", "scenes_vgg"))
    for module, name in ((bias_free, "scenes_nib_vgg"), (biased, "scenes_vgg")):
        module.load_state_dict(load_weights(name))
        module.eval()
    for factor in (0.3, 2.0):
        torch.testing.assert_close(bias_free(factor * x), factor * bias_free(x), rtol=1e-10, atol=1e-10)
    assert (biased(2 * x) - 2 * biased(x)).abs().max() > 0.1
    assert not any("bias" in key or "running_mean" in key for key in bias_free.state_dict())


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


def test_storage_brings_weights_back_to_within_its_step():
    generator = torch.Generator().manual_seed(1)
    weights = {"big.weight": torch.randn(600, 1000, generator=generator), "small.weight": torch.rand(3, 4)}
    small = packed(weights)
    assert small["big.weight"].dtype == torch.int8 and small["small.weight"].dtype == torch.float16
    restored = small["big.weight"].float() * small["big.weight" + SCALE][:, None]
    step = weights["big.weight"].abs().amax(1, keepdim=True) / 127
    assert ((restored - weights["big.weight"]).abs() <= 0.5001 * step).all()


@pytest.mark.parametrize("name", ["scenes_vgg", "scenes_resnet", "scenes_nib_vgg"])
def test_the_training_twin_computes_what_the_network_computes(name):
    """After folding, the network gives the twin's answers: the rewriting leaves no trace."""
    torch.manual_seed(0)
    module = EMBEDDED[name].build()
    twin = training_twin(module).train()
    for _ in range(3):  # running statistics away from their initial values
        twin(torch.randn(4, 3, 128, 128))
    x = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        expected = twin.eval()(x)
        fold_batch_norms(module, twin)
        torch.testing.assert_close(module.eval()(x), expected, rtol=1e-4, atol=1e-5)
