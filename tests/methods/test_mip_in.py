"""MIP-IN: its way down by a slow twin written from the paper, its maps by known answers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from support.networks import classifier, normal, seeded
from torch import nn

import explainers as ex
from explainers.context import Context
from explainers.data.reference import ReferenceSet
from explainers.methods.mip_in import inverse, method
from explainers.methods.mip_in import layers as mip_in_layers
from explainers.methods.mip_in.layers import invert_layers, layers_of, record_inputs
from explainers.target import Target


def reference(images, identity="drawn"):
    return ReferenceSet("drawn", identity, len(images), lambda start, stop: images[start:stop])


def drawn(network, count=60, seed=5):
    return normal(count, network.channels, *network.input_size, seed=seed).float()


def fit_of(network, target, images=None, **params):
    settings = method.METHOD.settings(**{"images": 60, **params})
    layers = layers_of(network, settings.depth, Target.of(target))
    images = drawn(network) if images is None else images
    return layers, method.fitted(network, layers, Target.of(target), settings, Context(network, reference=reference(images)))


@pytest.fixture(scope="module")
def mlp():
    return classifier(seeded(lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(48, 20), nn.ReLU(), nn.Dropout(0.2), nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 5)), 3), side=4)


@pytest.fixture(scope="module")
def cnn():
    return classifier(seeded(lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 7, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(63, 16), nn.ReLU(), nn.Linear(16, 5)), 4), side=16)


@pytest.fixture(scope="module")
def pooled_head():
    """Like SqueezeNet: a convolution to the classes, ReLU and global pooling on top of feature maps."""
    return classifier(seeded(lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Dropout(), nn.Conv2d(8, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        6), side=8)


def shifted(network, bias):
    """A copy of a network in which this is the bias of the class 1."""
    module = copy.deepcopy(network.module)
    with torch.no_grad():
        list(module.modules())[-1].bias[1] = bias
    return classifier(module, side=network.input_size[0])


# The way down

def test_it_is_the_papers_algorithm(mlp):
    """A slow twin: equations 5, 6 and 9 and algorithm 1, image by image, in numpy."""
    images, c, ridge = drawn(mlp, 80), 2, 0.001
    weights = {k: v.double().numpy() for k, v in mlp.module.state_dict().items()}

    def forward(x):
        x0 = x.flatten().double().numpy()
        x1 = np.maximum(weights["1.weight"] @ x0 + weights["1.bias"], 0)
        x2 = np.maximum(weights["4.weight"] @ x1 + weights["4.bias"], 0)
        return [x0, x1, x2, weights["6.weight"] @ x2 + weights["6.bias"]]

    seen, mine = [forward(x) for x in images], forward(images[3])
    s = np.array([[v[3][c]] for v in seen])
    source, a = mine[3][[c]], mine[3][[c]]
    for level in (2, 1, 0):
        t = np.array([v[level] for v in seen])
        tc, sc = t - t.mean(0), s - s.mean(0)
        w = tc.T @ sc @ np.linalg.inv(sc.T @ sc + ridge * np.eye(sc.shape[1]))
        b = t.mean(0) - w @ s.mean(0)
        s, source, a = s @ w.T + b, w @ source + b, w @ a
        if level:
            s, source, a = s * (t != 0), source * (mine[level] != 0), a * (mine[level] != 0)
    found = ex.explain(mlp, images[3:4], "mip_in", target=c, reference=reference(images), images=80, ridge="paper")
    assert np.allclose(found.native.flatten().numpy(), a, atol=1e-4 * np.abs(a).max())
    assert np.allclose(found.extras["source"].flatten().numpy(), source, atol=1e-4 * np.abs(source).max())
    once = ex.explain(mlp, images[3:4], "mip_in", target=c, reference=reference(images), images=80, ridge="paper", start="one")
    assert torch.allclose(once.native * found.extras["logit"], found.native, rtol=1e-4, atol=1e-7)


def test_of_a_linear_network_the_source_signal_has_the_images_logit(linear, image):
    images = drawn(linear, 200)
    w = linear.module.get_submodule("1").weight[1].double()
    layers = layers_of(linear, "auto", Target.of(1))
    score = linear.logits(images)[:, 1].double()
    exact = inverse.fit_dense(score[:, None], images.flatten(1), 0.0)
    assert (w @ exact["weight"].double()).item() == pytest.approx(1, abs=1e-5)
    found = ex.explain(linear, image, "mip_in", target=1, reference=reference(images), images=200, ridge="paper")
    assert found.extras["layer"] == "pixels" and len(layers) == 2
    assert found.extras["source_logit"] == pytest.approx(found.extras["logit"], abs=1e-3)
    assert (w * found.native.flatten().double()).sum().item() == pytest.approx(found.extras["logit"], abs=1e-3)


def test_the_signal_is_zero_where_the_network_is_but_at_the_pixels(cnn, image):
    layers, fit = fit_of(cnn, 1)
    x = image[:, :, :16, :16]
    logits, entered = record_inputs(cnn, layers, x, (1,))
    assert [layer.gated for layer in layers] == [True] * (len(layers) - 1) + [False]
    for depth in range(1, len(layers)):
        part = {**fit, "operators": fit["operators"][:depth]}
        name = layers[depth - 1].link.name
        if name in entered:
            signal = invert_layers(layers[:depth], part, logits[:, 1], entered, bias=True)
            assert ((signal != 0) <= (entered[name] != 0)).all() and (entered[name] == 0).any() and (signal != 0).any()


def test_the_map_is_linear_in_what_it_starts_from(cnn, image):
    layers, fit = fit_of(cnn, 1)
    _, entered = record_inputs(cnn, layers, image[:, :, :16, :16], (1,))
    one, many = (invert_layers(layers, fit, torch.tensor([start]), entered, bias=False) for start in (1.0, -3.0))
    assert torch.allclose(-3 * one, many, atol=1e-5 * one.abs().max()) and one.abs().max() > 0


def test_the_gates_of_each_image_lift_the_rank(mlp):
    """Ungated, all that lies under the logit is affine in one number; the gates make the next fit well posed."""
    layers, fit = fit_of(mlp, 2)
    logits, entered = record_inputs(mlp, layers, drawn(mlp), (2,))
    gated = invert_layers(layers[:1], {**fit, "operators": fit["operators"][:1]}, logits[:, 2], entered, True)
    free = inverse.invert_dense(fit["operators"][0], logits[:, 2:3], True)
    ranks = [torch.linalg.matrix_rank((s - s.mean(0)).double(), rtol=1e-5).item() for s in (free, gated)]
    assert ranks[0] == 1 and ranks[1] >= 6


def test_without_gates_the_maps_of_all_images_are_one_map_times_the_logit(mlp):
    """The paper's figure 3: the global view. With gates they are not."""
    ratios = {}
    for gates in (False, True):
        ones, twos = (ex.explain(mlp, x, "mip_in", target=2, reference=reference(drawn(mlp)), images=60, gates=gates)
                      for x in drawn(mlp, 2, seed=8).split(1))
        ratios[gates] = [a.native / a.extras["logit"] for a in (ones, twos)]
    one, other = ratios[False]
    assert torch.allclose(one, other, rtol=1e-3, atol=1e-6 * one.abs().max()) and one.abs().max() > 0
    one, other = ratios[True]
    assert not torch.allclose(one, other, rtol=0.1, atol=0.1 * one.abs().max())


def test_the_signals_of_all_layers_are_there_from_the_top_down(cnn, pooled_head):
    x = drawn(cnn, 1, seed=8)
    extras = ex.explain(cnn, x, "mip_in", target=1, reference=reference(drawn(cnn)), images=60).extras
    assert extras["signal_names"] == ["input of dense 2", "input of dense 1", "input of max-pool 1", "input of conv 2", "pixels"]
    assert [tuple(signal.shape) for signal in extras["signals"]] == [(16,), (7, 3, 3), (7, 6, 6), (6, 8, 8), (3, 16, 16)]
    assert torch.equal(extras["signals"][-1], extras["source"])
    layers, fit = fit_of(cnn, 1)
    logits, entered = record_inputs(cnn, layers, x, (1,))
    first = layers[0].invert(fit["operators"][0], logits[:, 1:2], entered[layers[0].link.name], bias=True)[0]
    assert torch.allclose(extras["signals"][0], first, atol=1e-6)
    extras = ex.explain(pooled_head, drawn(pooled_head, 1), "mip_in", target=1, reference=reference(drawn(pooled_head)), images=60,
                        depth="features").extras
    assert extras["signal_names"] == ["input of average pool 1", "top features"]


def test_each_class_has_a_fit_of_its_own(mlp):
    first, second = (fit_of(mlp, target)[1]["operators"] for target in (0, 1))
    assert not torch.allclose(first[-2]["weight"], second[-2]["weight"], atol=1e-3)


def test_a_contrast_is_minus_its_opposite(mlp, cnn):
    for network in (mlp, cnn):
        x, others = drawn(network, 1, seed=8), reference(drawn(network))
        one, other = (ex.explain(network, x, "mip_in", target=t, reference=others, images=60).native for t in ((2, 0), (0, 2)))
        assert torch.allclose(one, -other, atol=1e-4 * one.abs().max())


@pytest.mark.parametrize("start", ["logit", "one"])
def test_a_negative_logit_is_warned_of_and_does_not_turn_round_what_keep_positive_only_keeps(cnn, start):
    """With a bias of -100 the class's logit is negative, and all that is under it stays the same."""
    x, maps = drawn(cnn, 1, seed=8), {}
    for name, network in (("high", shifted(cnn, 100.0)), ("low", shifted(cnn, -100.0))):
        for positive in (True, False):
            settings = {"depth": "features", "start": start, "positive": positive}
            maps[name, positive] = ex.explain(network, x, "mip_in", target=1, reference=reference(drawn(cnn)), images=60, **settings)
    scale = {name: abs(maps[name, True].extras["logit"]) if start == "logit" else 1 for name in ("high", "low")}
    kept = {name: maps[name, True].native / scale[name] for name in ("high", "low")}
    assert maps["low", True].extras["logit"] < 0 < maps["high", True].extras["logit"]
    assert torch.allclose(kept["high"], kept["low"], rtol=1e-3, atol=1e-6) and kept["low"].max() > 0
    signed = {name: maps[name, False].native / abs(maps[name, False].extras["logit"]) for name in ("high", "low")}
    sign = -1 if start == "logit" else 1
    assert torch.sign(signed["high"]).equal(sign * torch.sign(signed["low"]))
    assert not any("negative" in flag for positive in (True, False) for flag in maps["high", positive].flags)
    flipped = [any("sign is flipped" in flag for flag in maps["low", positive].flags) for positive in (True, False)]
    assert flipped == [False, start == "logit"] and any("goes with a higher logit" in flag for flag in maps["low", True].flags)


def test_the_source_signals_logit_is_the_networks_own(cnn, pooled_head):
    for network in (cnn, pooled_head):
        x = drawn(network, 1, seed=8)
        found = ex.explain(network, x, "mip_in", target=1, reference=reference(drawn(network)), images=60)
        layer = found.extras["layer"]
        logits = network.walk(found.extras["source"][None], start=None if layer == "pixels" else layer)
        assert logits[0, 1].item() == pytest.approx(found.extras["source_logit"], abs=1e-5)
        change = (found.extras["source_logit"] - found.extras["logit"]) / abs(found.extras["logit"])
        assert found.extras["percentage_change"] == pytest.approx(100 * change, abs=1e-3)


# Where the map is

def test_where_pooling_is_on_top_only_the_targets_channel_is_followed(pooled_head):
    """From the definition: a slope per cell, the class's gate, a coefficient per feature, the feature's gate."""
    images, x = drawn(pooled_head), drawn(pooled_head, 1, seed=8)
    found = ex.explain(pooled_head, x, "mip_in", target=3, reference=reference(images), images=60, depth="features")
    assert found.extras["source"].shape == (8, 4, 4) and not found.signed
    features = pooled_head.graph.run(torch.cat([images, x]), stop="_2").double()
    scores = pooled_head.graph.run(torch.cat([images, x]), stop="_4")[:, 3].double()  # (61, 4, 4)
    z = scores.mean((1, 2))
    zc, sc = z[:-1] - z[:-1].mean(), scores[:-1] - scores[:-1].mean(0)
    slope = (zc[:, None, None] * sc).sum(0) / (zc.square().sum() + 0.001)
    signal = (slope * zc[:, None, None] + scores[:-1].mean(0)) * (scores[:-1] != 0)
    kernel = torch.einsum("nhw,nkhw->k", signal, features[:-1]) / signal.square().sum()
    a = z[-1] * slope * (scores[-1] != 0) * kernel[:, None, None] * (features[-1] != 0)
    assert torch.allclose(found.native[0].double(), a.mean(0).clamp(min=0), atol=1e-5)


@pytest.mark.parametrize(("build", "side", "layer", "size"), [
    (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(),
                           nn.Linear(64, 5)), 8, "_1", (4, 6, 6)),
    (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3, groups=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                           nn.Flatten(), nn.Linear(8, 5)), 8, "_3", (8, 4, 4)),
    (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU6(), nn.Flatten(), nn.Linear(144, 5)),
     8, "_0", (3, 6, 6)),
])
def test_the_way_down_ends_above_what_cannot_be_turned_round(build, side, layer, size):
    network = classifier(seeded(build, 2), side=side)
    found = ex.explain(network, drawn(network, 1), "mip_in", target=1, reference=reference(drawn(network)), images=60)
    assert found.extras["layer"] == layer and found.native.shape[0] == 1
    assert found.extras["source"].shape[0] == size[0]


class Scale(nn.Module):
    """One factor for each channel, as the normalisation of a network without implicit bias (NIB) makes it."""

    def __init__(self, factor):
        super().__init__()
        self.register_buffer("factor", factor)

    def forward(self, x):
        return x * (1 * self.factor)[:, None, None]


def scaled_module(factors, scale=True):
    """Two convolutions with a factor for each channel, as layers of their own or as part of the convolutions."""
    module = seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, bias=False), nn.ReLU(), nn.Flatten(),
                                          nn.Linear(64, 5)), 2)
    if not scale:
        with torch.no_grad():
            for layer, factor in zip((module[0], module[2]), factors, strict=True):
                layer.weight *= factor[:, None, None, None]
                if layer.bias is not None:
                    layer.bias *= factor
        return module
    return nn.Sequential(module[0], Scale(factors[0]), module[1], module[2], Scale(factors[1]), *module[3:])


def test_a_factor_for_each_channel_is_inverted_with_its_convolution():
    factors = torch.tensor([0.5, 1.0, 2.0, 3.0]), torch.tensor([2.0, 0.3, 1.0, 0.7])
    apart, folded = (classifier(scaled_module(factors, scale), side=8) for scale in (True, False))
    x, others = drawn(apart, 1, seed=8), reference(drawn(apart))
    one, other = (ex.explain(network, x, "mip_in", target=1, reference=others, images=60) for network in (apart, folded))
    assert one.extras["layer"] == "pixels"
    assert torch.allclose(one.native, other.native, rtol=1e-3, atol=1e-4 * one.native.abs().max())


def test_a_factor_that_depends_on_the_image_ends_the_way_down():
    class Squeeze(nn.Module):
        def forward(self, x):
            return x * x.mean((2, 3), keepdim=True)

    network = classifier(seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), Squeeze(), nn.ReLU(),
                                                      nn.Flatten(), nn.Linear(64, 5)), 2), side=8)
    attribution = ex.explain(network, drawn(network, 1), "mip_in", target=1, reference=reference(drawn(network)), images=60)
    assert attribution.extras["layer"] != "pixels" and attribution.extras["source"].shape == (4, 4, 4)


def test_the_embedded_network_without_implicit_bias_is_inverted_down_to_the_pixels():
    network = ex.load_model("scenes_nib_vgg")
    layers = layers_of(network, "auto", Target.of(0))
    assert [layer.title for layer in layers if layer.kind == "conv"] == ["conv 5", "conv 4", "conv 3", "conv 2", "conv 1"]
    assert layers[-1].link.source == network.walkable.input


def test_auto_goes_to_the_features_where_the_network_is_large(cnn, monkeypatch):
    x, others = drawn(cnn, 1), reference(drawn(cnn))
    deep = ex.explain(cnn, x, "mip_in", target=1, reference=others, images=60)
    monkeypatch.setattr(mip_in_layers, "SMALL_MACS", 1)
    high = ex.explain(cnn, x, "mip_in", target=1, reference=others, images=60)
    assert deep.extras["layer"] == "pixels" and deep.native.shape == (3, 16, 16) and deep.signed
    assert high.extras["layer"] == "_5" and high.native.shape == (1, 3, 3) and not high.signed


@pytest.mark.parametrize("build", [
    lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.GELU(), nn.Linear(8, 5)),
    lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.Softmax(1), nn.Linear(5, 5)),
])
def test_a_network_without_such_a_chain_is_refused_with_the_layer_that_is_in_the_way(build):
    network = classifier(seeded(build), side=4)
    with pytest.raises(ex.UnsupportedError, match=r"in this network '_\d' comes between"):
        ex.explain(network, drawn(network, 1), "mip_in", target=1)


# The fit

def test_a_fit_is_kept_on_disk_and_its_images_serve_every_class(cnn, tmp_path):
    asked = []

    def draw(start, stop):
        asked.append((start, stop))
        return drawn(cnn)[start:stop]

    images, (x, other) = ReferenceSet("drawn", "once", 60, draw), drawn(cnn, 2, seed=9).split(1)
    first = ex.Engine(ex.MapCache(tmp_path)).explain(cnn, x, "mip_in", target=1, reference=images, images=60)
    assert sum(stop - start for start, stop in asked) == 60
    again = ex.Engine(ex.MapCache(tmp_path))
    second = again.explain(cnn, other, "mip_in", target=1, reference=images, images=60)
    third = again.explain(cnn, x, "mip_in", target=0, reference=images, images=60)
    assert sum(stop - start for start, stop in asked) == 60 and again.runs == 2
    assert torch.equal(third.native, ex.explain(cnn, x, "mip_in", target=0, reference=images, images=60).native)
    assert torch.equal(second.native, ex.explain(cnn, other, "mip_in", target=1, reference=images, images=60).native)
    assert first.passes.forward == second.passes.forward == 2


def test_lower_layers_are_fitted_on_fewer_images_within_bounds(cnn, monkeypatch):
    layers = layers_of(cnn, "auto", Target.of(1))
    assert {count for _, count in method._images_of(layers, 500)} == {500}
    monkeypatch.setattr(method, "_MAP_NUMBERS", 6 * 8 * 8 * 20)  # 20 images of the first map
    counts = [count for _, count in method._images_of(layers, 500)]
    assert counts == sorted(counts, reverse=True) and counts[0] == 500 and counts[-1] == 10
    monkeypatch.setattr(inverse, "_KERNEL_WORK", 1e6)
    attribution = ex.explain(cnn, drawn(cnn, 1), "mip_in", target=1, reference=reference(drawn(cnn)), images=60)
    assert torch.isfinite(attribution.native).all()
    assert attribution.extras["fitted_on"] == (
        "dense 2: 60 of 60; dense 1: 60 of 60; conv 2: 20 of 60, 1 pixel in 6; conv 1: 10 of 60")


def test_without_a_bound_a_fit_uses_every_image_and_pixel(cnn, pooled_head):
    for network, used in ((cnn, "dense 2: 60 of 60; dense 1: 60 of 60; conv 2: 60 of 60; conv 1: 60 of 60"),
                          (pooled_head, "average pool 1: 60 of 60; conv 2: 60 of 60; conv 1: 60 of 60")):
        attribution = ex.explain(network, drawn(network, 1), "mip_in", target=1, reference=reference(drawn(network)), images=60)
        assert attribution.extras["fitted_on"] == used


def test_a_reference_set_of_one_image_is_refused(mlp):
    with pytest.raises(ex.ExplainerError, match="at least two"):
        ex.explain(mlp, drawn(mlp, 1), "mip_in", target=1, reference=reference(drawn(mlp, 1)))
