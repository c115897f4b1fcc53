"""Superpixels: planted colours come back as regions, grids have known squares, and merging and growing equal naive twins."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from explainers.segments import (
    SEGMENTATIONS,
    felzenszwalb_regions,
    grown,
    merged,
    segment_means,
    superpixels,
)


@pytest.fixture(scope="module")
def quarters() -> torch.Tensor:
    """(3, 64, 64) from 0 to 1: four squares of one colour each."""
    colours = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.9], [0.9, 0.9, 0.2]])
    which = (torch.arange(64)[:, None] // 32) * 2 + torch.arange(64) // 32
    return colours[which].permute(2, 0, 1)


def drawn(side: int = 24, seed: int = 0) -> torch.Tensor:
    return torch.rand(3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("how", SEGMENTATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_labels_are_whole_numbers_without_gaps(how, channels):
    labels = superpixels(drawn(28)[:channels], how, 60)
    assert labels.shape == (28, 28) and labels.dtype == torch.long
    assert labels.unique().tolist() == list(range(int(labels.max()) + 1))


@pytest.mark.parametrize("how", SEGMENTATIONS)
def test_no_region_crosses_a_planted_border(how, quarters):
    labels = superpixels(quarters, how, 16)
    left, right = labels[:, :30].unique().tolist(), labels[:, 34:].unique().tolist()  # 2 pixels beside the border belong to either
    assert not set(left) & set(right)


@pytest.mark.parametrize("how", ["quickshift", "felzenszwalb"])
def test_four_planted_squares_become_four_regions(how, quarters):
    labels = superpixels(quarters, how, 4)
    assert int(labels.max()) == 3
    assert all(len(labels[rows, columns].unique()) == 1 for rows in (slice(0, 30), slice(34, 64))
               for columns in (slice(0, 30), slice(34, 64)))


def test_a_grid_has_equal_squares_and_never_more_than_asked_for():
    labels = superpixels(drawn(24), "grid", 17)
    assert labels.flatten().bincount().tolist() == [36] * 16
    assert labels[5, 5] == 0 and labels[5, 6] == 1 and labels[6, 5] == 4
    assert int(superpixels(torch.zeros(1, 3, 3), "grid", 400).max()) == 8


@pytest.mark.parametrize("how", SEGMENTATIONS)
@pytest.mark.parametrize("most", [2, 5, 11])
def test_there_are_at_most_as_many_as_asked_for(how, most):
    assert 1 <= int(superpixels(drawn(32), how, most).max()) + 1 <= most


@pytest.mark.parametrize("how", SEGMENTATIONS)
def test_a_picture_of_one_colour_is_no_error(how):
    labels = superpixels(torch.full((1, 28, 28), 0.5), how, 9)
    assert labels.shape == (28, 28)
    assert felzenszwalb_regions(torch.full((1, 28, 28), 0.5)).all(0).any()


@pytest.mark.parametrize("how", ["quickshift", "felzenszwalb", "slic"])
def test_where_few_enough_are_made_the_labels_are_scikit_images(how):
    from skimage import segmentation

    picture = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(1)).repeat_interleave(28, 1).repeat_interleave(28, 2)
    pixels = picture.permute(1, 2, 0).double().numpy()
    theirs = {"quickshift": lambda: segmentation.quickshift(pixels, kernel_size=4, max_dist=200, ratio=0.2),  # LIME's
              "felzenszwalb": lambda: segmentation.felzenszwalb(pixels, scale=100, sigma=0.5, min_size=50),
              "slic": lambda: segmentation.slic(pixels, n_segments=50, compactness=30, sigma=3)}[how]()
    ours = superpixels(picture, how, 50 if how == "slic" else 400).numpy()
    pairs = {(a, b) for a, b in zip(ours.ravel().tolist(), theirs.ravel().tolist(), strict=True)}
    assert len(pairs) == len(np.unique(ours)) == len(np.unique(theirs)) > 4  # the same regions under other names


def test_merging_equals_its_naive_twin():
    picture = drawn(12, seed=4)
    labels = superpixels(picture, "grid", 16)
    pixels = picture.double().permute(1, 2, 0).numpy()
    naive = labels.numpy().copy()
    while len(np.unique(naive)) > 5:
        def cost(a, b):
            def spread(where):
                return np.square(pixels[where] - pixels[where].mean(0)).sum()
            return spread((naive == a) | (naive == b)) - spread(naive == a) - spread(naive == b)
        touching = {tuple(sorted((int(p), int(q)))) for one, other in ((naive[:, :-1], naive[:, 1:]), (naive[:-1], naive[1:]))
                    for p, q in zip(one.ravel(), other.ravel(), strict=True) if p != q}
        kept, gone = min(sorted(touching), key=lambda pair: cost(*pair))
        naive[naive == gone] = kept
    ours = merged(labels, pixels, 5).numpy()
    assert len(set(zip(ours.ravel().tolist(), naive.ravel().tolist(), strict=True))) == 5 == len(np.unique(ours))


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_growing_equals_scikit_images_dilation(radius):
    from skimage.morphology import dilation, disk

    labels = superpixels(drawn(20, seed=2), "quickshift", 6)
    ours = grown(labels, radius)
    for label in range(int(labels.max()) + 1):
        theirs = dilation((labels == label).numpy(), footprint=disk(radius))
        assert np.array_equal(ours[:, label].view(20, 20).numpy(), theirs)


def test_regions_of_six_scales_cover_every_pixel_at_least_six_times():
    regions = felzenszwalb_regions(drawn(40, seed=5))
    assert regions.dtype == torch.bool and len(regions) == 1600 and (regions.sum(1) >= 6).all()
    assert regions.any(0).all()


def test_coarser_scales_make_fewer_regions():
    smooth = torch.nn.functional.interpolate(drawn(14, seed=6)[None], size=(112, 112), mode="bilinear")[0]
    regions = felzenszwalb_regions(smooth)
    assert regions.sum(0).max() > 4 * regions.sum(0).min()


def test_segment_means_are_the_means():
    x = torch.randn(1, 3, 24, 24, generator=torch.Generator().manual_seed(7))
    labels = superpixels(drawn(24), "grid", 9)
    means = segment_means(x, labels)
    assert torch.allclose(means[0, 1, 8:16, 0:8], x[0, 1, 8:16, 0:8].mean().expand(8, 8), atol=1e-6)
    assert torch.allclose(segment_means(means, labels), means, atol=1e-6)


def test_an_unknown_segmentation_is_refused():
    with pytest.raises(ValueError, match="unknown segmentation 'voronoi'"):
        superpixels(drawn(), "voronoi", 9)
