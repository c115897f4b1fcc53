"""The rules of LRP, Deep Taylor and Excitation BP by hand, and what they conserve."""

from __future__ import annotations

import pytest
import torch
from support.captum_maps import relative_error
from support.networks import classifier, drawn_images, seeded
from torch import nn
from torch.nn import functional as F

import explainers as ex
from explainers.methods import relevance


def two_layers():
    """z1 = x1 + x2 - 1, z2 = x1 - 2 x2, f = 2 relu(z1) - relu(z2) + 1/2."""
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 1.0], [1.0, -2.0]]))
        first.bias.copy_(torch.tensor([-1.0, 0.0]))
        second.weight.copy_(torch.tensor([[2.0, -1.0], [0.0, 0.0]]))
        second.bias.copy_(torch.tensor([0.5, 0.0]))
    return classifier(nn.Sequential(nn.Flatten(), first, nn.ReLU(), second), side=1, classes=2, channels=2)


def test_the_epsilon_rule_by_hand():
    """At (3, 1): z = (3, 1), f = 5.5, of which 6 comes from z1 and -1 from z2. With epsilon e the logit divides by 5.5 + e, z1 by
    3 + e, z2 by 1 + e."""
    x = torch.tensor([3.0, 1.0]).view(1, 2, 1, 1)
    for e in (0.0, 0.5):
        top = 5.5 / (5.5 + e)
        from_first, from_second = 6 * top / (3 + e), -1 * top / (1 + e)
        attribution = ex.explain(two_layers(), x, "lrp_epsilon", target=0, epsilon=e)
        expected = [3 * from_first + 3 * from_second, from_first - 2 * from_second]
        assert attribution.native.flatten().tolist() == pytest.approx(expected)
        assert sum(attribution.extras["parts"]) == pytest.approx(5.5)
        assert attribution.extras["parts"][0] == pytest.approx(sum(expected))


def test_z_plus_and_the_first_layers_rules_by_hand():
    """At (1.5, 0.5): all of the logit's 2 goes to z1, because z2 has a negative weight. z+ divides it as 1.5 to 0.5, w^2 equally,
    and z^B, for pixels from -2 to 2, as 3.5 to 2.5."""
    network = two_layers()
    x = torch.tensor([1.5, 0.5]).view(1, 2, 1, 1)  # z = (1, 0.5), f = 2
    for first, weights in (("z_plus", (1.5, 0.5)), ("w_squared", (1, 1)), ("z_box", (3.5, 2.5))):
        attribution = ex.explain(network, x, "deep_taylor", target=0, first=first)
        expected = [2 * weight / sum(weights) for weight in weights]
        assert attribution.native.flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_without_biases_and_epsilon_lrp_is_gradient_x_input():
    """The network has pools and a scale behind each convolution that is no batch norm."""
    network = ex.load_model("scenes_nib_vgg")
    x = network.preprocess(next(sample for sample in ex.samples() if sample.kind == "scenes").load())
    for target in (1, (4, 0)):
        lrp, product = (ex.explain(network, x, key, target=target, **more).native
                        for key, more in (("lrp_epsilon", {"epsilon": 0.0}), ("gradient_x_input", {})))
        assert relative_error(lrp, product) < 1e-5
    assert relative_error(ex.explain(network, x, "lrp_epsilon", target=1, epsilon=1.0).native,
                          ex.explain(network, x, "lrp_epsilon", target=1).native) > 0.1


@pytest.mark.parametrize("rule", ["epsilon", "epsilon_plus", "epsilon_plus_flat", "alpha2_beta1"])
def test_without_biases_every_rule_conserves_the_logit(rule):
    network = classifier(seeded(lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(8, 8, 3, groups=4, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 49, 5, bias=False)), 1))
    x = drawn_images(1, seed=7)
    attribution = ex.explain(network, x, "lrp_epsilon", target=2, rule=rule)
    logit = float(network.logits(x)[0, 2])
    assert float(attribution.native.sum()) == pytest.approx(logit, rel=2e-3) and abs(logit) > 1e-3


def test_what_biases_absorb_is_shown(toy, image):
    attribution = ex.explain(toy, image, "lrp_epsilon", target=2)
    pixels, biases = attribution.extras["parts"]
    assert pixels == pytest.approx(float(attribution.native.sum()), abs=1e-5) and abs(biases) > 0.01
    assert pixels + biases == pytest.approx(float(toy.logits(image)[0, 2]), abs=1e-5)


@pytest.mark.parametrize("first", ["z_box", "w_squared", "z_plus"])
def test_deep_taylor_conserves_the_positive_logit(first, bias_free, image):
    logits = bias_free.logits(image)[0]
    for target in (int(logits.argmax()), int(logits.argmin())):
        attribution = ex.explain(bias_free, image, "deep_taylor", target=target, first=first)
        assert float(attribution.native.sum()) == pytest.approx(max(0.0, float(logits[target])), rel=1e-3)
        assert float(attribution.native.min()) >= 0
    assert logits.min() < 0 and not attribution.native.any()
    assert any("not positive" in flag for flag in attribution.flags) and "the map is zero everywhere" in attribution.flags


def test_excitation_backprop_is_a_probability(bias_free, image):
    native = ex.explain(bias_free, image, "excitation_backprop", target=1).native
    assert float(native.sum()) == pytest.approx(1, rel=1e-3) and float(native.min()) >= 0


def test_contrastive_is_the_difference_from_the_opposite_class(bias_free, image):
    opposite = seeded(lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 256, 5, bias=False)), 1)
    with torch.no_grad():
        opposite[-1].weight.neg_()
    plain = ex.explain(bias_free, image, "excitation_backprop", target=1).native
    against = ex.explain(classifier(opposite), image, "excitation_backprop", target=1).native
    contrastive = ex.explain(bias_free, image, "excitation_backprop", target=1, contrastive=True).native
    assert relative_error(contrastive, (plain - against).clamp(min=0)) < 1e-4


class Padded(nn.Module):
    """A first convolution behind a padding, a saturating ReLU6, branches that are concatenated, and grouped convolutions."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8)
        self.left, self.right = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 4, 1)
        self.head = nn.Linear(12, 5)

    def forward(self, x):
        x = F.relu6(8 * self.norm(self.stem(F.pad(x, (0, 1, 0, 1)))))
        x = F.relu(torch.cat([self.left(x), self.right(x)], 1))
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize(("key", "settings"), [
    ("lrp_epsilon", {"rule": "epsilon"}), ("lrp_epsilon", {"rule": "epsilon_plus_flat"}),
    ("lrp_epsilon", {"rule": "alpha2_beta1"}),
    ("deep_taylor", {"first": "z_box"}), ("deep_taylor", {"first": "w_squared"}), ("excitation_backprop", {})])
def test_padding_relu6_branches_and_groups_work(key, settings, image):
    network = classifier(seeded(Padded, 3))
    target = int(network.logits(image)[0].argmax())
    attribution = ex.explain(network, image, key, target=target, **settings)
    assert attribution.native.abs().sum() > 1e-3
    if key == "deep_taylor":  # no bias takes any, and every unit has a positive contribution
        assert float(attribution.native.sum()) == pytest.approx(float(network.logits(image)[0, target]), rel=0.05)


def test_the_layers_that_take_the_image(toy):
    assert relevance.first_layers(classifier(seeded(Padded, 3)).graph) == {"stem": "pad"}
    assert relevance.first_layers(toy.graph) == {"_0": "input_1"}
    assert relevance.merged_norms(toy.graph) == {"_2_conv1": "_2_bn1"} and relevance.last_layer(toy.graph) == "_8"


@pytest.mark.parametrize("key", ["lrp_epsilon", "deep_taylor", "excitation_backprop", "pattern_net", "pattern_attribution"])
def test_a_smooth_network_is_refused(key, image):
    smooth = classifier(nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3600, 8), nn.Tanh(), nn.Linear(8, 5)))
    with pytest.raises(ex.UnsupportedError, match="needs a piecewise linear network .* Tanh"):
        ex.explain(smooth, image, key, target=0)
