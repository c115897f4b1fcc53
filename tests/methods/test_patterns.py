"""PatternNet and PatternAttribution: the paper's linear model, where the pattern is known, w . a = 1, and naive estimates."""

from __future__ import annotations

import pytest
import torch
from methods.test_deep_shap import drawn_set
from support.captum_maps import relative_error
from support.networks import classifier, drawn_images, seeded
from torch import nn
from torch.nn import functional as F

import explainers as ex
from explainers.context import Context, RunOptions
from explainers.data.reference import ReferenceSet
from explainers.methods import patterns
from explainers.methods.reference_pictures import NOT_HERE
from explainers.methods.relevance import Layer, merged_norms


def fitted(network, images):
    return patterns.fitted(network, images[:1], len(images), Context(network, reference=drawn_set(images)))[0]


def test_the_fit_reports_after_each_layer_and_is_stopped_there(toy):
    """One batch of pictures takes seconds: other runs must not wait for its end."""
    reports = []
    images = drawn_images(3, seed=1, side=toy.input_size[0])

    def stop(done, total, preview):
        reports.append(done / total)
        return len(reports) < 4

    context = Context(toy, options=RunOptions(stop), reference=drawn_set(images))
    with pytest.raises(ex.Cancelled):
        patterns.fitted(toy, images[:1], len(images), context)
    assert reports == [0, 0, 0, 0]


@pytest.fixture(scope="module")
def linear_model():
    """x = signal * y + distractor * e with uncorrelated y and e: the weights w that give back y see no distractor."""
    signal, distractor = torch.tensor([1.0, 0.0, 2.0]), torch.tensor([1.0, 1.0, -1.0])
    source, noise = (drawn_images(4000, seed=seed, side=1, channels=1).flatten() for seed in (4, 5))
    noise = noise - source * (source @ noise) / (source @ source)  # exactly uncorrelated
    x = source[:, None] * signal + 3 * noise[:, None] * distractor
    x = x - x.mean(0)
    across = torch.tensor([1.0, -1.0, 0.0])  # w must be orthogonal to the distractor
    dense = nn.Linear(3, 2)
    with torch.no_grad():
        dense.weight.copy_(torch.stack([across, -across]))
        dense.bias.zero_()
    return classifier(nn.Sequential(nn.Flatten(), dense), side=1, classes=2), x.view(-1, 3, 1, 1), signal


def test_the_pattern_is_the_direction_of_the_signal_and_not_the_weights(linear_model):
    network, images, signal = linear_model
    image = images[7:8]
    logit = float(network.logits(image)[0, 0])
    ours = ex.explain(network, image, "pattern_net", target=0, images=len(images), reference=drawn_set(images)).native.flatten()
    assert torch.allclose(ours, signal * logit, atol=1e-3 * abs(logit) * float(signal.max()) + 1e-4)
    gradient = ex.explain(network, image, "gradient", target=0).native.flatten()
    assert torch.cosine_similarity(gradient, signal, 0) < 0.4  # the weights point elsewhere


def test_pattern_attribution_of_a_linear_network_sums_to_the_logit(linear_model):
    network, images, signal = linear_model
    image = images[3:4]
    attribution = ex.explain(network, image, "pattern_attribution", target=0, images=len(images), reference=drawn_set(images))
    logit = float(network.logits(image)[0, 0])
    assert float(attribution.native.sum()) == pytest.approx(logit, rel=1e-4)
    assert torch.allclose(attribution.native.flatten(), torch.tensor([1.0, -1.0, 0.0]) * signal * logit, atol=2e-3 * abs(logit))


def test_the_weights_read_one_from_every_pattern(toy):
    for name, pattern in fitted(toy, drawn_images(40, seed=8)).items():
        if toy.graph.kinds[name] == "add":
            read = pattern.sum(0)
        else:
            norm = merged_norms(toy.graph).get(name)
            weight = Layer.of(toy.graph.layer(name), toy.graph.layer(norm) if norm else None).weight
            read = (weight * pattern).flatten(1).sum(1)
        assert torch.allclose(read, torch.ones_like(read), atol=1e-3) or bool((read == 0).any()), name
        assert (read.sub(1).abs() < 1e-3).float().mean() > 0.9


def test_a_convolutions_pattern_is_the_papers_estimate_over_all_patches():
    """Against the formula, patch by patch, for a layer before a ReLU and for one without."""
    network = classifier(seeded(lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 2), nn.Flatten(), nn.Linear(6 * 49, 5)), 4), side=16)
    images = drawn_images(9, seed=6, side=16)
    ours = fitted(network, images)
    first, second = network.graph.layer("_0"), network.graph.layer("_2")
    for name, layer, x in (("_0", first, images), ("_2", second, first(images).relu())):
        patches = F.unfold(x, layer.kernel_size, 1, layer.padding, layer.stride).transpose(1, 2).flatten(0, 1).double()
        y = patches @ layer.weight.flatten(1).double().T + layer.bias.double()
        for unit in range(len(layer.weight)):
            chosen = y[:, unit] > 0 if name == "_0" else torch.ones(len(y), dtype=torch.bool)
            p, active = patches[chosen], y[chosen, unit]
            covariance = (p * active[:, None]).mean(0) - p.mean(0) * y[:, unit].mean()
            theirs = covariance / (layer.weight[unit].flatten().double() @ covariance)
            assert relative_error(ours[name][unit].flatten().double(), theirs) < 1e-4


def test_a_sums_pattern_divides_the_signal_by_covariance():
    """y = x1 + x2 with x2 = 0 carries all of its signal by x1."""
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.dense = nn.Conv2d(3, 3, 1), nn.Linear(3 * 64, 5)
            nn.init.zeros_(self.conv.weight)
            nn.init.zeros_(self.conv.bias)

        def forward(self, x):
            return self.dense((x + self.conv(x)).flatten(1))

    network = classifier(seeded(Sum, 2), side=8)
    pattern = fitted(network, drawn_images(30, seed=1, side=8))["add"]
    assert torch.allclose(pattern, torch.tensor([[1.0], [0.0]]).expand(2, 3), atol=1e-4)


@pytest.mark.parametrize("key", ["pattern_net", "pattern_attribution"])
def test_the_map_is_what_a_backward_pass_by_hand_gives(key, bias_free, image):
    images = drawn_images(20, seed=2)
    attribution = ex.explain(bias_free, image, key, target=1, images=20, reference=drawn_set(images))
    pattern, layer = fitted(bias_free, images), bias_free.graph.layer
    backward = {name: pattern[name] * (layer(name).weight if key == "pattern_attribution" else 1) for name in pattern}
    first = layer("_0")(image)
    pooled, at = F.max_pool2d(first.relu(), 2, return_indices=True)
    second = layer("_3")(pooled)
    logit = layer("_6")(second.relu().flatten(1))[0, 1]
    signal = (backward["_6"][1] * logit).view(second.shape) * (second > 0)
    signal = F.max_unpool2d(F.conv_transpose2d(signal, backward["_3"], padding=1), at, 2) * (first > 0)
    assert relative_error(attribution.native[None], F.conv_transpose2d(signal, backward["_0"], padding=1)) < 1e-4


def test_one_fit_serves_both_methods_all_classes_and_images(toy, image):
    images = drawn_images(12, seed=2)
    drawn = []

    def draw(start, stop):
        drawn.append((start, stop))
        return images[start:stop]

    engine, reference = ex.Engine(), ReferenceSet("drawn", "drawn", 12, draw)
    for key, target in (("pattern_net", 1), ("pattern_attribution", 3), ("pattern_attribution", (0, 2))):
        attribution = engine.explain(toy, image.flip(-1), key, target=target, images=12, reference=reference)
        assert (attribution.passes.forward, attribution.passes.backward) == (1, 1)
    assert sum(stop - start for start, stop in drawn) == 12


def test_statistics_without_pictures_are_replaced_by_copies_and_the_map_says_so():
    network = ex.load_model("efficientnet_lite0")
    x = F.interpolate(drawn_images(1, seed=2, side=14), size=(224, 224), mode="bilinear")
    attribution = ex.explain(network, x, "pattern_attribution", target=3, images=2)
    assert NOT_HERE in attribution.flags and attribution.native.any()
