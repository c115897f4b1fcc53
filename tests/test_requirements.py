"""What a method may need of a network: each requirement has its words, and a reason on a network that lacks it."""

from __future__ import annotations

import pytest
import torch
from support.architectures import tiny_transformer
from support.networks import classifier, seeded
from torch import nn

import explainers as ex
from explainers import requirements
from explainers.requirements import Requirement, reason_against

ALL = {requirement.name: requirement for requirement in vars(requirements).values() if isinstance(requirement, Requirement)}

ATTENDING = {"attention", "blocks", "transformer_rules"}  # the requirements that only transformers meet


class Branching(nn.Module):
    """No graph: which way it goes depends on the values."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(3 * 32 * 32, 5)

    def forward(self, x):
        return self.dense(x.flatten(1)) if x.mean() > -10 else x


class Weightless(nn.Module):
    """No weights: the logits are the means of five rows of pixels."""

    def forward(self, x):
        return x.mean((1, 3))[:, :5]


@pytest.fixture(scope="module")
def lacking(linear):
    """For each requirement a network that lacks it, and what the reason names; none lacks a reference set."""
    smooth = classifier(seeded(lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=4), nn.GELU(), nn.Flatten(), nn.Linear(4 * 64, 8), nn.GELU(), nn.Linear(8, 5))))
    return {"graph": (classifier(Branching()), "torch.fx"), "relu": (linear, "none"), "piecewise_linear": (smooth, "GELU"),
            "invertible": (smooth, "comes between"), "feature_maps": (linear, "none"), "attention": (smooth, "no attention"),
            "blocks": (linear, "others"), "transformer_rules": (smooth, "none"), "weights": (classifier(Weightless()), "none")}


def test_each_requirement_is_declared_once():
    assert len(ALL) == sum(isinstance(requirement, Requirement) for requirement in vars(requirements).values())
    assert {requirement for method in ex.methods().values() for requirement in method.needs} <= set(ALL.values())


@pytest.mark.parametrize("name", list(ALL))
def test_the_label_ends_a_sentence(name):
    label = ALL[name].label
    assert label and (label[0].islower() or label.startswith("ReLU")) and not label.endswith((".", " ")) and "_" not in label


@pytest.mark.parametrize("name", list(ALL))
def test_a_network_that_meets_it_lacks_nothing(name, toy):
    assert ALL[name].missing(tiny_transformer() if name in ATTENDING else toy) is None


@pytest.mark.parametrize("name", sorted(set(ALL) - {"reference_set"}))
def test_a_network_that_lacks_it_is_given_the_reason(name, lacking):
    network, word = lacking[name]
    missing = ALL[name].missing(network)
    assert word in missing and not missing.endswith(".")
    reason = reason_against("Some method", (ALL[name],), network)
    assert reason == f"Some method needs {missing}."


def test_the_first_requirement_that_is_not_met_is_named(lacking, toy):
    graphless, _ = lacking["graph"]
    of_convolutions = [requirement for name, requirement in ALL.items() if name not in ATTENDING]
    assert "torch.fx" in reason_against("M", (requirements.GRAPH, requirements.RELU), graphless)
    assert "ReLU" in reason_against("M", (requirements.RELU, requirements.GRAPH), graphless)
    assert reason_against("M", tuple(of_convolutions), toy) is None and reason_against("M", (), graphless) is None


@pytest.mark.parametrize("key", list(ex.methods()))
def test_a_method_explains_what_it_lacks_nothing_for_and_refuses_the_rest(key, lacking):
    """On a network without a graph: either there is a map, or the run is refused by the sentence that the page shows."""
    method, (network, _) = ex.methods()[key], lacking["graph"]
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    if method.lacks(network) is None:
        assert ex.explain(network, image, key, target=1, **method.cheap).native.isfinite().all()
    else:
        with pytest.raises(ex.UnsupportedError) as refused:
            ex.explain(network, image, key, target=1, **method.cheap)
        assert str(refused.value) == method.lacks(network) and str(refused.value).endswith(".")


def test_who_fits_statistics_needs_a_reference_set():
    fitting = {key for key, method in ex.methods().items() if method.fits_statistics}
    assert fitting == {key for key, method in ex.methods().items() if requirements.REFERENCE_SET in method.needs}
    assert {"iba", "input_iba", "mip_in"} <= fitting and "gradient" not in fitting
