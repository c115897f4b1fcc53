"""DeepLIFT against Captum's, against a closed form, and the sums that the Rescale rule promises."""

from __future__ import annotations

import captum.attr as ca
import pytest
import torch
from support.captum_maps import relative_error
from support.networks import classifier, drawn_images, seeded
from torch import nn

import explainers as ex
from explainers.baselines import BASELINES, baseline
from explainers.context import seeded as generator
from explainers.networks.embedded import EMBEDDED, load_weights


class Apart(nn.Module):
    """Its output is a tensor of its own. Captum's hooks on two layers that share a tensor, such as a ReLU and the pool after it, run
    in an order in which the ReLU gets the pool's plain gradient, and the map no longer sums to the change of the logit."""

    def forward(self, x):
        return x.clone()


def embedded_module(name, apart=True):
    """A fresh module of an embedded network, for Captum's hooks; apart: with no tensor between two of them."""
    module = EMBEDDED[name].build()
    module.load_state_dict(load_weights(name))
    layers = [part for layer in module.children() for part in ((layer, Apart()) if apart else (layer,))]
    return nn.Sequential(*layers).eval()


def scene(network, place=0):
    scenes = [sample for sample in ex.samples() if sample.kind == network.training_data]
    return network.preprocess(scenes[place].load())


@pytest.mark.parametrize("name", ["scenes_vgg", "scenes_nib_vgg"])
@pytest.mark.parametrize("target", [0, 5])
def test_it_equals_captums(name, target):
    network = ex.load_model(name)
    x = scene(network, target % 3)
    ours = ex.explain(network, x, "deep_lift", target=target).native[None]
    theirs = ca.DeepLift(embedded_module(name)).attribute(x, target=target)
    assert relative_error(ours, theirs.detach()) < 1e-4


def test_it_equals_captums_with_another_baseline():
    network = ex.load_model("scenes_vgg")
    x = scene(network)
    start = baseline(network, x, "blur", torch.Generator())
    theirs = ca.DeepLift(embedded_module("scenes_vgg")).attribute(x, baselines=start, target=2)
    assert relative_error(ex.explain(network, x, "deep_lift", target=2, baseline="blur").native[None], theirs.detach()) < 1e-4


def test_captum_alone_misses_the_sum_where_a_pool_follows_a_relu():
    """The reason for ``Apart``."""
    network = ex.load_model("scenes_vgg")
    x = scene(network)
    change = float(network.logits(x)[0, 0] - network.logits(0 * x)[0, 0])
    theirs = ca.DeepLift(embedded_module("scenes_vgg", apart=False)).attribute(x, target=0).detach()
    assert abs(float(theirs.sum()) - change) > 0.02
    assert float(ex.explain(network, x, "deep_lift", target=0).native.sum()) == pytest.approx(change, abs=1e-4)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("target", [1, (3, 0)])
def test_the_map_sums_to_the_change_of_the_logit(toy, image, name, target):
    """The network has residual sums, batch norms and biases."""
    attribution = ex.explain(toy, image, "deep_lift", target=target, baseline=name, seed=2)
    start = baseline(toy, image, name, generator(2))
    change = attribution.target.score(toy.logits(image)) - attribution.target.score(toy.logits(start))
    assert float(attribution.native.sum()) == pytest.approx(float(change), abs=1e-4) and abs(float(change)) > 0.005


@pytest.mark.parametrize("pool", [nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(3, 1), nn.AdaptiveMaxPool2d(5)])
def test_overlapping_windows_lose_nothing(pool):
    """Captum's unpooling keeps one value a position and loses the others; here they are added."""
    side = pool(torch.zeros(1, 1, 30, 30)).shape[-1]
    network = classifier(seeded(lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3), pool, nn.ReLU6(), nn.Flatten(), nn.Linear(6 * side * side, 5)), 6))
    x = drawn_images(1, seed=8)
    change = network.logits(x)[0, 4] - network.logits(torch.zeros_like(x))[0, 4]
    assert float(ex.explain(network, x, "deep_lift", target=4).native.sum()) == pytest.approx(float(change), abs=1e-4)


def test_a_relu_is_rescaled_as_computed_by_hand():
    """f = 2 relu(a + b - 1) - relu(a - b) at a = 3, b = 1, from 0: s goes from -1 to 3 and from 0 to 2, so the multipliers are
    3 / 4 and 1, and with them a gets 2 * 3/4 * 3 - 1 * 3 and b gets 2 * 3/4 * 1 + 1 * 1."""
    first, second = nn.Linear(2, 2), nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
        first.bias.copy_(torch.tensor([-1.0, 0.0]))
        second.weight.copy_(torch.tensor([[2.0, -1.0], [0.0, 0.0]]))
    network = classifier(nn.Sequential(nn.Flatten(), first, nn.ReLU(), second), side=1, classes=2, channels=2)
    x = torch.tensor([3.0, 1.0]).view(1, 2, 1, 1)
    assert ex.explain(network, x, "deep_lift", target=0).native.flatten().tolist() == pytest.approx([1.5, 2.5])


def test_without_biases_it_is_gradient_x_input():
    network = ex.load_model("scenes_nib_vgg")
    x = scene(network)
    for target in (0, (4, 1)):
        maps = [ex.explain(network, x, key, target=target).native for key in ("deep_lift", "gradient_x_input")]
        assert relative_error(*maps) < 1e-4
    biased = ex.load_model("scenes_vgg")
    assert relative_error(*(ex.explain(biased, x, key, target=0).native for key in ("deep_lift", "gradient_x_input"))) > 0.1


def test_an_image_that_is_the_baseline_gets_nothing(toy):
    attribution = ex.explain(toy, torch.zeros(1, 3, 32, 32), "deep_lift", target=1)
    assert not attribution.native.any() and attribution.flags == ("the map is zero everywhere",)


def test_a_smooth_network_is_refused(image):
    smooth = classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8), nn.Tanh(), nn.Linear(8, 5)))
    with pytest.raises(ex.UnsupportedError, match="DeepLIFT .* needs a piecewise linear network .* Tanh"):
        ex.explain(smooth, image, "deep_lift", target=0)
