"""Distances of maps: closed forms, invariants, second opinions, and maps without a shape."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

import explainers as ex
from explainers.metrics import map_distances as md

SIMILARITIES = ("rank", "rank_absolute", "ssim", "hog")


@pytest.fixture(scope="module")
def pair():
    """Two unrelated maps with ties, 40 x 48."""
    generator = np.random.default_rng(0)
    return tuple(np.where(generator.random((40, 48)) < 0.3, 0, generator.normal(size=(40, 48))) for _ in range(2))


def test_a_map_is_like_itself(pair):
    found = md.compare(pair[0], pair[0])
    assert (found.l2_max_abs, found.l2_unit) == (0, 0)
    assert [getattr(found, name) for name in SIMILARITIES] == pytest.approx([1, 1, 1, 1])


def test_a_map_and_its_opposite(pair):
    found = md.compare(pair[0], -pair[0])
    assert found.rank == pytest.approx(-1) and found.rank_absolute == pytest.approx(1)
    assert found.l2_unit == pytest.approx(2)
    assert found.l2_max_abs == pytest.approx(2 * np.linalg.norm(pair[0]) / np.abs(pair[0]).max())
    assert found.hog == pytest.approx(1) and found.ssim < 0  # contours do not know their sign, structure does


def test_closed_forms_of_the_distances():
    a, b = np.zeros((12, 12)), np.zeros((12, 12))
    a[0, :3], b[5, :4] = 7, 2  # disjoint: 3 and 4 pixels of 1 after scaling
    assert md.l2_max_abs(a, b) == pytest.approx(math.sqrt(7)) and md.l2_unit(a, b) == pytest.approx(math.sqrt(2))
    both = a + b  # scaled by 7: 3 ones and 4 of 2/7
    assert md.l2_max_abs(a, both) == pytest.approx(math.sqrt(4 * (2 / 7) ** 2))
    assert md.l2_unit(a, both) == pytest.approx(math.sqrt(2 - 2 * 3 * 7 / math.sqrt(3 * (3 * 49 + 4 * 4))))


def test_ranks_equal_scipys_with_ties(pair):
    assert md.rank(*pair) == pytest.approx(stats.spearmanr(pair[0].ravel(), pair[1].ravel()).statistic)
    expected = stats.spearmanr(np.abs(pair[0]).ravel(), np.abs(pair[1]).ravel()).statistic
    assert md.rank_absolute(*pair) == pytest.approx(expected) and abs(md.rank(*pair)) < 0.1


def test_mean_ranks_of_a_map_by_hand():
    a = np.array([[0.0, 0.0], [1.0, 5.0]])  # ranks 1.5 1.5 3 4
    b = np.array([[2.0, 1.0], [9.0, 9.0]])  # ranks 2 1 3.5 3.5
    x, y = np.array([-1, -1, 0.5, 1.5]), np.array([-0.5, -1.5, 1, 1])
    assert md.rank(a, b) == pytest.approx(x @ y / math.sqrt((x @ x) * (y @ y)))


def test_structural_similarity_equals_its_formula(pair):
    """Wang and others, formula 13, with the window written out at every place that lies inside."""
    a, b = ((attribution - attribution.min()) / (attribution.max() - attribution.min()) for attribution in pair)
    reach = np.arange(-5, 6)
    window = np.exp(-(reach[:, None] ** 2 + reach[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for row in range(5, a.shape[0] - 5):
        for column in range(5, a.shape[1] - 5):
            x, y = (one[row - 5:row + 6, column - 5:column + 6] for one in (a, b))
            mx, my = (window * x).sum(), (window * y).sum()
            vx, vy, cov = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum(), (window * (x - mx) * (y - my)).sum()
            values.append((2 * mx * my + 0.01**2) * (2 * cov + 0.03**2)
                          / ((mx**2 + my**2 + 0.01**2) * (vx + vy + 0.03**2)))
    assert md.ssim(*pair) == pytest.approx(np.mean(values), abs=1e-9)


def test_histograms_see_directions():
    """Stripes are like stripes that are moved or weaker, and unlike stripes across."""
    across = np.sin(np.arange(64) / 3)[:, None] * np.ones((64, 64))
    moved = np.cos(np.arange(64) / 3)[:, None] * np.ones((64, 64))
    assert md.hog(across, moved) > 0.9 > 0.2 > md.hog(across, across.T)


@pytest.mark.parametrize("name", md.MEASURES)
def test_units_do_not_matter_and_order_neither(pair, name):
    measure = getattr(md, name)
    expected = measure(*pair)
    assert measure(pair[0] * 1e-9, pair[1] * 3e7) == pytest.approx(expected, abs=1e-7)
    assert measure(pair[1], pair[0]) == pytest.approx(expected)
    assert measure(pair[0].astype(np.float32), md.Prepared(pair[1])) == pytest.approx(expected, abs=1e-4)
    assert getattr(md.compare(*pair), name) == expected


@pytest.mark.parametrize("flat", [np.zeros((16, 16)), np.full((16, 16), -2.5), np.full((16, 16), 1e-30),
                                  np.full((16, 16), 0.3) + 1e-9 * np.eye(16)])
def test_a_map_without_a_shape_has_no_distance(flat, pair):
    other = pair[0][:16, :16]
    for found in (md.compare(flat, other), md.compare(other, flat), md.compare(flat, flat)):
        assert all(math.isnan(value) for value in dataclasses.astuple(found))


def test_one_magnitude_everywhere_has_no_rank_of_magnitudes(pair):
    signs = np.where(pair[0] > 0, 1.0, -1.0)
    found = md.compare(signs, pair[0])
    assert math.isnan(found.rank_absolute) and found.rank > 0.5


def test_maps_too_small_for_a_window():
    small = np.arange(100.0).reshape(10, 10)
    found = md.compare(small, small)
    assert math.isnan(found.ssim) and math.isnan(found.hog) and found.rank == pytest.approx(1)
    assert md.hog(np.arange(144.0).reshape(12, 12) ** 2, np.eye(12)) < 1  # the smallest that has histograms


def test_an_average_counts_what_cannot_be_told():
    found = md.average([1.0, math.nan, 3.0, 5.0])
    assert found == md.Average(mean=3.0, error=pytest.approx(2 / math.sqrt(3)), count=3, undefined=1)
    alone, none = md.average([2.0, math.nan]), md.average([math.nan])
    assert (alone.mean, alone.count, alone.undefined) == (2, 1, 1) and math.isnan(alone.error)
    assert math.isnan(none.mean) and (none.count, none.undefined) == (0, 1)


def test_what_cannot_be_compared_is_refused(pair):
    with pytest.raises(ex.ExplainerError, match="same shape"):
        md.compare(pair[0], pair[0].T)
    with pytest.raises(ex.ExplainerError, match="two dimensions"):
        md.compare(np.zeros(5), np.zeros(5))
    with pytest.raises(ex.ExplainerError, match="not finite"):
        md.compare(pair[0], np.full_like(pair[0], np.inf))


def test_importing_it_brings_neither_library():
    done = subprocess.run(
        [sys.executable, "-c", "import sys; import explainers.metrics.map_distances; "
         "print(*(name in sys.modules for name in ('skimage', 'scipy.stats')))"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
