"""LRP, Deep Taylor and Excitation BP: zennit's and Captum's maps, conservation, closed forms, and what each rule must not do."""

from __future__ import annotations

import captum.attr as ca
import pytest
import torch
from captum.attr._utils.lrp_rules import EpsilonRule
from support import zennit_maps
from support.captum_maps import relative_error
from torch import nn

import explainers as ex
from explainers.methods import excitation_backprop
from explainers.networks.embedded import EMBEDDED, load_weights

RULES = ("epsilon", "epsilon_plus", "epsilon_plus_flat", "alpha2_beta1")


def scene(network, place=0):
    scenes = [sample for sample in ex.samples() if sample.kind == network.training_data]
    return network.preprocess(scenes[place].load())


def embedded_module(name):
    module = EMBEDDED[name].build()
    module.load_state_dict(load_weights(name))
    for place in ("layer1", "layer2", "layer3"):
        if hasattr(module, place):
            setattr(module, place, zennit_maps.SummingBlock(getattr(module, place)))
    return module.eval().requires_grad_(False)


def pixel_range(network):
    return [network.preprocessing.normalise(torch.full((1, network.channels, 1, 1), value)) for value in (0.0, 1.0)]


@pytest.fixture(scope="module", params=["scenes_vgg", "scenes_resnet"])
def pair(request):
    """A network, its module for zennit, and a scene."""
    network = ex.load_model(request.param)
    return network, embedded_module(request.param), scene(network)


# Against other libraries


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("epsilon", [1e-6, 0.25])
def test_lrp_equals_zennits(pair, rule, epsilon):
    network, module, x = pair
    for target in (0, 7):
        ours = ex.explain(network, x, "lrp_epsilon", target=target, rule=rule, epsilon=epsilon).native[None]
        assert relative_error(ours, zennit_maps.relevance(module, x, target, zennit_maps.lrp(rule, epsilon))) < 1e-4


@pytest.mark.parametrize("first", ["z_box", "w_squared", "z_plus"])
def test_deep_taylor_equals_zennits(pair, first):
    network, module, x = pair
    target = int(network.logits(x)[0].argmax())
    ours = ex.explain(network, x, "deep_taylor", target=target, first=first).native[None]
    theirs = zennit_maps.relevance(module, x, target, zennit_maps.deep_taylor(first, *pixel_range(network)), "relu")
    assert relative_error(ours, theirs) < 1e-4


def test_excitation_backprop_equals_zennits(pair):
    network, module, x = pair
    node = excitation_backprop.walk_end(network, "auto")
    layer = module.get_submodule(node.removeprefix("_")) if network.name == "scenes_vgg" else module.layer2
    for target in (0, 7):
        ours = ex.explain(network, x, "excitation_backprop", target=target).native
        theirs = zennit_maps.relevance(module, x, target, zennit_maps.excitation(), "one", layer)[0].sum(0, keepdim=True)
        assert relative_error(ours, theirs) < 1e-4


def test_zennits_small_terms_are_all_that_differs():
    """Why ``zennit_maps`` changes them: the values of sums are often near 0, where 1e-6 is not small."""
    network, module = ex.load_model("scenes_resnet"), embedded_module("scenes_resnet")
    x = scene(network)
    ours = ex.explain(network, x, "lrp_epsilon", target=0).native[None]
    assert 1e-4 < relative_error(ours, zennit_maps.relevance(module, x, 0, zennit_maps.lrp_as_it_comes())) < 1e-2


def test_lrp_equals_captums():
    network, module = ex.load_model("scenes_vgg"), embedded_module("scenes_vgg")
    x = scene(network)
    for layer in module:
        if isinstance(layer, (nn.Conv2d, nn.Linear, nn.Flatten)):  # Captum has no rule for flattening
            layer.rule = EpsilonRule(1e-6)
    theirs = ca.LRP(module).attribute(x.clone().requires_grad_(True), target=4).detach()
    ours = ex.explain(network, x, "lrp_epsilon", target=4).native[None]
    assert relative_error(ours, theirs) < 1e-4
