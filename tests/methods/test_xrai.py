"""XRAI: a naive twin of the greedy choice, Captum's integrated gradients, completeness, a planted region."""

from __future__ import annotations

import captum.attr as ca
import numpy as np
import pytest
import torch
from support.captum_maps import relative_error
from support.networks import classifier
from torch import nn

import explainers as ex
from explainers.context import Context
from explainers.data import digits, scenes
from explainers.methods.xrai import black_and_white_gradients, gathered
from explainers.segments import felzenszwalb_regions
from explainers.target import Target


def naive(pixels, regions, fewest):
    """The greedy choice, with every density computed anew. pixels: (P,). regions: a list of bool (P,)."""
    values, covered, remaining = np.full(len(pixels), -np.inf), np.zeros(len(pixels), bool), list(regions)
    while True:
        remaining = [region for region in remaining if (region & ~covered).sum() >= fewest]
        if not remaining:
            break
        densities = [pixels[region & ~covered].mean() for region in remaining]
        best = remaining.pop(int(np.argmax(densities)))
        values[best & ~covered] = max(densities)
        covered |= best
    if (~covered).any():
        values[~covered] = pixels[~covered].mean()
    return values


def drawn(side, seed):
    return torch.rand(3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("fewest", [1, 4])
def test_gathering_equals_its_naive_twin(seed, fewest):
    rng = np.random.default_rng(seed)
    regions = rng.random((150, 12)) < rng.uniform(0.05, 0.4, 12)  # they overlap, and leave some pixels out
    pixels = rng.normal(size=150)
    values, added = gathered(pixels, regions, fewest)
    assert np.allclose(values, naive(pixels, list(regions.T), fewest), atol=1e-12) and 1 < added <= 12
    assert values.sum() == pytest.approx(pixels.sum())


def test_gathering_regions_of_a_picture_equals_its_naive_twin():
    regions = felzenszwalb_regions(drawn(32, seed=3)).numpy()
    pixels = np.random.default_rng(1).normal(size=1024)
    values, _ = gathered(pixels, regions, 2)
    assert np.allclose(values, naive(pixels, list(regions.T), 2), atol=1e-12)


def test_densities_fall_from_one_region_to_the_next_where_regions_are_disjoint():
    regions = np.eye(6, dtype=bool).repeat(4, 0)  # 24 pixels in 6 regions
    pixels = np.arange(24.0)
    values, added = gathered(pixels, regions, 1)
    assert added == 6 and values.tolist() == np.arange(24).reshape(6, 4).mean(1).repeat(4).tolist()


@pytest.fixture(scope="module")
def scene():
    network, picture = ex.load_model("scenes_vgg", device="cpu"), scenes.draw(41)
    pixels = torch.from_numpy(picture.image).permute(2, 0, 1)[None].float() / 255
    return network, network.preprocessing.normalise(pixels), picture.labels[0]


def test_gradients_and_map_are_those_of_captums_integrated_gradients(scene):
    network, x, label = scene
    baselines = [network.preprocessing.normalise(torch.full_like(x, level)) for level in (0.0, 1.0)]
    theirs = sum(ca.IntegratedGradients(network.module).attribute(x, start, target=label, n_steps=9, internal_batch_size=9)
                 for start in baselines) / 2
    ours = black_and_white_gradients(network, x, Target.of(label), 9, Context(network))
    assert relative_error(ours, theirs[0]) < 1e-4
    regions = felzenszwalb_regions(network.preprocessing.pixels(x)[0]).numpy()
    for channels, pixels in (("sum", theirs[0].sum(0)), ("max", theirs[0].amax(0))):
        expected = torch.from_numpy(naive(pixels.detach().double().flatten().numpy(), list(regions.T), 16)).view(128, 128)
        attribution = ex.explain(network, x, "xrai", target=label, steps=9, channels=channels)
        error = relative_error(attribution.native[0].double(), expected)
        print(f"{channels}: relative error {error:.1e}, {attribution.extras}")
        assert error < 1e-4


def test_half_of_it_is_this_apps_integrated_gradients_from_black(toy, image):
    black = ex.explain(toy, image, "integrated_gradients", target=1, steps=8, baseline="black").native
    both = black_and_white_gradients(toy, image, Target.of(1), 8, Context(toy))
    white = toy.preprocessing.normalise(torch.ones_like(image))
    upside_down = ca.IntegratedGradients(toy.module).attribute(image, white, target=1, n_steps=8)[0]
    assert relative_error(2 * both - upside_down, black) < 1e-4


def test_the_sum_over_channels_sums_to_the_change_of_the_logit(linear, image):
    attribution = ex.explain(linear, image, "xrai", target=1, steps=3, channels="sum")
    ends = torch.cat([linear.preprocessing.normalise(torch.full_like(image, level)) for level in (0.0, 1.0)])
    change = float(linear.logits(image)[0, 1] - linear.logits(ends)[:, 1].mean())
    assert float(attribution.native.sum()) == pytest.approx(change, rel=1e-4)
    assert ex.explain(linear, image, "xrai", target=1, steps=3).native.sum() > attribution.native.sum()


class SeesSquare(nn.Module):
    """Class 0's logit is the red in rows and columns 20 to 43; class 1's is 0."""

    def forward(self, x):
        red = x[:, 0, 20:44, 20:44].mean((1, 2))
        return torch.stack((8 * red, torch.zeros_like(red)), 1)


def test_the_planted_region_is_the_first():
    network = classifier(SeesSquare(), side=64, classes=2)
    pixels = torch.full((1, 3, 64, 64), 0.2)
    pixels[:, 0, 20:44, 20:44] = 0.9
    heat = ex.explain(network, network.preprocessing.normalise(pixels), "xrai", target=0, steps=4).heatmap()
    best = heat == heat.max()
    assert best[22:42, 22:42].all() and not best[:17].any() and not best[:, 47:].any()
    assert heat[best].mean() > 10 * np.abs(heat[:17]).max()


@pytest.mark.parametrize("grey", [0.0, 0.5, 1.0])
def test_a_picture_of_one_colour_is_no_error(toy, grey):
    x = toy.preprocessing.normalise(torch.full((1, 3, 32, 32), grey))
    attribution = ex.explain(toy, x, "xrai", target=1, steps=3)
    assert torch.isfinite(attribution.native).all() and attribution.extras["added"] == 1


def test_grey_digits_have_maps():
    network = ex.load_model("digits_cnn", device="cpu")
    images, labels = digits.draw_batch(1, seed=99)
    x = network.preprocessing.normalise(images.float() / 255)
    attribution = ex.explain(network, x, "xrai", target=int(labels[0]), steps=6)
    assert attribution.native.shape == (1, 28, 28) and attribution.native.std() > 0 and attribution.extras["added"] > 3


def test_maps_of_one_image_share_gradients_and_regions(toy, image):
    engine = ex.Engine()
    first = engine.explain(toy, image, "xrai", target=1, steps=4)
    second = engine.explain(toy, image, "xrai", target=1, steps=4, channels="sum")
    assert second.passes == first.passes and second.seconds < first.seconds
    assert torch.equal(second.native, ex.explain(toy, image, "xrai", target=1, steps=4, channels="sum").native)
