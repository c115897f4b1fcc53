"""Occlusion and RISE: closed forms, a naive twin, and networks that see nothing but a planted patch."""

from __future__ import annotations

import pytest
import torch
from support.counting import counted_walks
from support.networks import classifier
from torch import nn

import explainers as ex
from explainers.context import Context
from explainers.methods.occlusion import windows
from explainers.methods.rise import draw_mask


class SeesPatch(nn.Module):
    """Class 0's logit is the mean of rows 16 to 23, columns 8 to 15; class 1's is 0."""

    def forward(self, x):
        seen = x[:, :, 16:24, 8:16].mean((1, 2, 3))
        return torch.stack((8 * seen, torch.zeros_like(seen)), 1)


@pytest.fixture(scope="module")
def patch():
    return classifier(SeesPatch(), classes=2), torch.ones(1, 3, 32, 32)


def test_occlusion_finds_the_planted_patch_exactly(patch):
    network, x = patch
    heat = ex.explain(network, x, "occlusion", target=0, tiles=4).heatmap()
    expected = torch.zeros(32, 32)
    expected[16:24, 8:16] = 8
    assert torch.allclose(torch.from_numpy(heat), expected, atol=1e-5)


def test_occlusion_of_a_linear_network_is_the_tiles_share(linear, image):
    share = (linear.module.get_parameter("1.weight")[1].view(3, 32, 32) * image[0]).sum(0)
    tiles = share.view(4, 8, 4, 8).sum((1, 3)).repeat_interleave(8, 0).repeat_interleave(8, 1)
    found = ex.explain(linear, image, "occlusion", target=1, tiles=4).native[0]
    assert torch.allclose(found, tiles, atol=1e-4)


@pytest.mark.parametrize(("side", "tiles", "overlap"), [(224, 16, 1), (28, 16, 1), (28, 16, 4), (33, 7, 2)])
def test_windows_cover_the_side(side, tiles, overlap):
    found = windows(side, tiles, overlap)
    assert len(found) == (tiles - 1) * overlap + 1 and found[0][0] == 0 and found[-1][1] == side
    covered = torch.zeros(side)
    for start, end in found:
        assert end > start
        covered[start:end] += 1
    assert (covered > 0).all()


def test_rise_points_at_the_planted_patch(patch):
    network, x = patch
    heat = ex.explain(network, x, "rise", target=0, masks=600, cells=6).heatmap()
    row, column = divmod(int(heat.argmax()), 32)
    assert 14 <= row < 26 and 6 <= column < 18
    far = heat.copy()
    far[8:32, 0:24] = 0  # all that lies within 8 pixels of the patch
    assert heat[16:24, 8:16].mean() > far.max()


def test_rise_equals_its_naive_twin(toy, image):
    context, total = Context(toy, seed=9), torch.zeros(32, 32)
    for i in range(30):
        mask = draw_mask((32, 32), 5, 0.4, context.generator(i))
        total += toy.predict(image * mask)[0, 1] * mask
    found = ex.explain(toy, image, "rise", target=1, masks=30, cells=5, keep=0.4, seed=9)
    assert torch.allclose(found.native[0], total / (30 * 0.4), atol=1e-5)


def test_rise_masks_keep_the_asked_share():
    generators = [torch.Generator().manual_seed(i) for i in range(300)]
    masks = torch.stack([draw_mask((32, 32), 7, 0.3, g) for g in generators])
    assert masks.min() >= 0 and masks.max() <= 1 and abs(float(masks.mean()) - 0.3) < 0.02


def test_one_set_of_rise_passes_serves_every_class(toy, image):
    engine = ex.Engine()
    first = engine.explain(toy, image, "rise", target=0, masks=50)
    calls = []
    real = toy.__class__.walk
    toy.__class__.walk = lambda self, *a, **k: calls.append(1) or real(self, *a, **k)
    try:
        second = engine.explain(toy, image, "rise", target=1, masks=50)
    finally:
        toy.__class__.walk = real
    assert not calls and second.passes == first.passes
    assert torch.equal(second.native, ex.explain(toy, image, "rise", target=1, masks=50).native)


def test_controls_know_nothing_of_the_network(toy, bias_free, image):
    for key in ("random", "center", "sobel"):
        a, b = (ex.explain(network, image, key, target=t) for network, t in ((toy, 0), (bias_free, 3)))
        assert torch.equal(a.native, b.native)
    assert not torch.equal(*(ex.explain(toy, image, "random", target=0, seed=s).native for s in (0, 1)))


def test_center_peaks_in_the_middle_and_sobel_on_the_edge(toy):
    x = torch.zeros(1, 3, 32, 32)
    x[..., 16:] = 1.0
    center = ex.explain(toy, x, "center", target=0).heatmap()
    assert center.argmax() in {15 * 32 + 15, 15 * 32 + 16, 16 * 32 + 15, 16 * 32 + 16}
    sobel = ex.explain(toy, x, "sobel", target=0).heatmap()
    assert (sobel[:, 15:17] > 0.5).all() and sobel[:, :14].max() == 0 and sobel[:, 18:].max() == 0


@pytest.mark.parametrize(("key", "settings"), [
    ("occlusion", {"tiles": 4}), ("occlusion", {"tiles": 4, "output": "softmax", "fill": "noise"}), ("rise", {"masks": 20})])
def test_one_set_of_passes_serves_every_class(key, settings, toy, image, monkeypatch):
    engine = ex.Engine()
    engine.explain(toy, image, key, target=2, **settings)
    with counted_walks(monkeypatch) as total:
        later = {target: engine.explain(toy, image, key, target=target, **settings) for target in (0, (2, 1))}
    assert not total.passes
    for target, attribution in later.items():
        alone = ex.explain(toy, image, key, target=target, **settings)
        assert torch.equal(attribution.native, alone.native) and attribution.passes == alone.passes
    with counted_walks(monkeypatch) as total:
        engine.explain(toy, image, key, target=2, seed=1, **{**settings, "fill": "noise"} if key == "occlusion" else settings)
    assert total.passes, "another seed is another question"
