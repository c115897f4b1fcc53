"""Sensitivity-n against what must come out: closed forms on a linear network, constants, and an independent computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.networks import classifier
from torch import nn

import explainers as ex
from explainers.metrics import sensitivity_n as m

COUNTS = (1, 3, 10, 100, 1000, 1023)


def test_gradient_x_input_of_a_linear_network_is_perfect_at_every_n_but_all(linear, image):
    found = ex.explain(linear, image, "gradient_x_input", target=2)
    result = m.measure(linear, image, found, counts=(*COUNTS, 1024), masks=20)
    assert np.allclose(result.correlation[:-1], 1, atol=1e-4)
    assert np.isnan(result.correlation[-1]) and result.undefined == 1
    assert result.mean == pytest.approx(1, abs=1e-4)
    assert result.counts.tolist() == [*COUNTS, 1024]


def test_a_contrast_is_measured_as_a_difference_of_logits(linear, image):
    found = ex.explain(linear, image, "gradient_x_input", target=(2, 4))
    assert m.measure(linear, image, found, target=(2, 4), counts=(10, 300), masks=20).mean == pytest.approx(1, abs=1e-4)
    assert m.measure(linear, image, found, target=2, counts=(10, 300), masks=50).mean < 0.95


def test_the_opposite_map_gives_the_opposite_number_from_the_same_masks(toy, image):
    heat = ex.explain(toy, image, "integrated_gradients", target=1, steps=10).heatmap()
    ahead, behind, again = m.measure(toy, image, [heat, -heat, 7 * heat + 0], target=1, counts=(5, 50, 500), masks=12)
    assert np.allclose(ahead.correlation, -behind.correlation)
    assert np.allclose(ahead.correlation, again.correlation)
    assert (ahead.correlation != 0).all()


def test_a_random_map_is_at_chance(linear, image):
    maps = [np.random.default_rng(i).normal(size=(32, 32)) for i in range(10)]
    results = m.measure(linear, image, maps, target=0, counts=(10, 100, 500), masks=200)
    pooled = np.concatenate([r.correlation for r in results])
    assert abs(pooled.mean()) < 3 / np.sqrt(200 * 30) + 0.05 and (np.abs(pooled) < 0.4).all()


def test_a_constant_map_has_no_correlation_and_is_counted_not_averaged(toy, image):
    flat, good = m.measure(toy, image, [np.full((32, 32), 0.1), np.arange(1024.0).reshape(32, 32)], target=0, counts=COUNTS, masks=8)
    assert flat.undefined == len(COUNTS) and np.isnan(flat.correlation).all() and np.isnan(flat.mean)
    assert good.undefined == 0
    both = m.average([flat, good])
    assert both.undefined.tolist() == [1] * len(COUNTS)
    assert np.allclose(both.correlation, good.correlation) and np.isnan(both.error).all()


def test_a_map_of_one_pixel_is_undefined_until_a_mask_meets_it(linear, image):
    one = np.zeros((32, 32))
    one[4, 5] = 1
    result = m.measure(linear, image, one, target=0, counts=(1, 900), masks=10)
    assert np.isnan(result.correlation[0]) and not np.isnan(result.correlation[1])


def test_a_network_that_ignores_the_image_has_no_correlation(image):
    module = nn.Sequential(nn.Flatten(), nn.Linear(3072, 5))
    nn.init.zeros_(module[1].weight)
    nn.init.constant_(module[1].bias, 0.3)
    result = m.measure(classifier(module), image, np.random.default_rng(0).normal(size=(32, 32)), target=0, counts=(5, 50), masks=8)
    assert result.undefined == 2


class Remember(nn.Module):
    """A sum of squares of the pixels, which keeps every image that it sees."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        total = x.square().flatten(1).sum(1, keepdim=True)
        return torch.cat([total, -total], 1)


def remembering():
    """A network that remembers its images, an image whose pixels are all above zero, and a map."""
    network = classifier(Remember(), side=8, classes=2)
    network.graph, network.module = None, Remember().eval()
    network.measure()
    network.module.seen.clear()
    x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)) + 0.5
    return network, x, np.random.default_rng(2).normal(size=(8, 8))


def test_each_number_is_pearsons_of_the_images_that_the_network_saw():
    network, x, heat = remembering()
    result = m.measure(network, x, heat, target=0, counts=(4, 20), masks=15)
    masked = torch.cat(network.module.seen)
    gone = (masked == 0).all(1).numpy()  # the pixels of x are all above zero
    assert (gone | (masked == x).all(1).numpy()).all()
    assert gone.sum((1, 2)).tolist() == [4] * 15 + [20] * 15
    assert len({row.tobytes() for row in gone}) == 30
    drops = (x.square().sum() - masked.square().sum((1, 2, 3))).numpy()
    sums = (gone * heat).sum((1, 2))
    for i, part in enumerate((slice(0, 15), slice(15, 30))):
        assert result.correlation[i] == pytest.approx(np.corrcoef(sums[part], drops[part])[0, 1], abs=1e-4)
    assert result.passes == ex.Passes(30, 0)


def test_tiles_go_whole_and_their_attributions_are_summed():
    network, x, heat = remembering()
    result = m.measure(network, x, heat, target=0, counts=(4,), masks=15, tile=3)  # 3 x 3 tiles, the last ones 2 pixels wide
    masked = torch.cat(network.module.seen)
    gone = (masked == 0).all(1).numpy()
    tiles = gone[:, ::3, ::3]
    assert (tiles.sum((1, 2)) == 4).all() and (gone == tiles.repeat(3, 1).repeat(3, 2)[:, :8, :8]).all()
    drops = (x.square().sum() - masked.square().sum((1, 2, 3))).numpy()
    assert result.correlation[0] == pytest.approx(np.corrcoef((gone * heat).sum((1, 2)), drops)[0, 1], abs=1e-4)


def test_occlusion_by_the_same_tiles_is_perfect_where_one_goes(toy, image):
    found = ex.explain(toy, image, "occlusion", target=1, tiles=4)
    one, many = m.measure(toy, image, found, counts=(1, 8), masks=40, tile=8).correlation
    assert one == pytest.approx(1, abs=1e-4) and many < 0.999


def test_every_pixel_is_removed_equally_often():
    network = classifier(Remember(), side=8, classes=2)
    network.graph, network.module = None, Remember().eval()
    network.measure()
    network.module.seen.clear()
    m.measure(network, torch.ones(1, 3, 8, 8), np.ones((8, 8)), target=0, counts=(16,), masks=4000)
    often = (torch.cat(network.module.seen) == 0).all(1).double().mean(0)
    assert (often - 0.25).abs().max() < 5 * np.sqrt(0.25 * 0.75 / 4000)


def test_the_seed_decides_and_the_batches_do_not(toy, image, monkeypatch):
    heat = np.random.default_rng(0).normal(size=(32, 32))

    def run(seed):
        return m.measure(toy, image, heat, target=0, counts=(7, 70), masks=9, seed=seed, baseline="noise").correlation

    whole, other = run(0), run(1)
    monkeypatch.setattr("explainers.context._MOST_IMAGES", 4)
    assert np.allclose(run(0), whole, atol=1e-4) and not np.allclose(other, whole, atol=1e-2)


def test_any_number_of_maps_costs_what_one_does(toy, image):
    heat = np.random.default_rng(0).normal(size=(32, 32))
    steps = []
    many = m.measure(toy, image, [heat] * 5, target=0, counts=(7, 70), masks=10, progress=lambda a, b, _: steps.append((a, b)))
    assert many[0].passes == ex.Passes(20, 0) and len(many) == 5
    assert steps[-1] == (20, 20)
    with pytest.raises(ex.Cancelled):
        m.measure(toy, image, heat, target=0, counts=(7,), masks=10, progress=lambda *_: False)


def test_the_papers_numbers_of_pixels():
    papers = m.log_spaced(224 * 224)
    assert len(papers) == 42 and papers[0] == 1 and papers[-1] == 31622
    assert papers == tuple(np.unique(np.logspace(0, 4.5, 45).astype(int)))
    assert m.log_spaced(64, largest=1.0, points=4) == (1, 4, 16, 64)


def test_the_average_of_images_has_a_standard_error():
    made = [m.SensitivityN(np.array([1, 2]), np.array(row), 5, ex.Passes()) for row in ([0.2, 0.5], [0.4, np.nan], [0.9, 0.7])]
    both = m.average(made)
    assert np.allclose(both.correlation, [0.5, 0.6]) and both.undefined.tolist() == [0, 1] and both.images == 3
    assert np.allclose(both.error, [np.std([0.2, 0.4, 0.9], ddof=1) / np.sqrt(3), np.std([0.5, 0.7], ddof=1) / np.sqrt(2)])
    with pytest.raises(ex.ExplainerError):
        m.average([])


@pytest.mark.parametrize("wrong", [{"counts": (0,)}, {"counts": (1025,)}, {"counts": ()}, {"masks": 2}, {"output": "loss"},
                                   {"baseline": "green"}, {"target": 9}, {"tile": 0}, {"tile": 33}, {"tile": 8, "counts": (17,)}])
def test_what_cannot_be_measured_is_told(linear, image, wrong):
    with pytest.raises(ex.ExplainerError):
        m.measure(linear, image, np.eye(32), **{"target": 0, "masks": 5, "counts": (3,), **wrong})


@pytest.mark.parametrize("wrong", [np.ones((3, 32, 32)), np.full((32, 32), np.nan), []])
def test_a_map_that_does_not_fit_is_told(linear, image, wrong):
    with pytest.raises(ex.ExplainerError):
        m.measure(linear, image, wrong, target=0, counts=(3,), masks=5)
