"""Localisation against planted maps, the paper's three synthetic cases and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest

import explainers as ex
from explainers.metrics import localisation as m

QUARTER = m.box(8, 8, 23, 23, (32, 32))  # 25 % of the image
NOISE = np.random.default_rng(0).normal(size=(32, 32))


@pytest.mark.parametrize("inside, outside, expected", [(1.0, 0.0, 1.0), (1.0, 0.25, 0.4375), (0.25, 0.0, 0.25)])
def test_ehr_of_the_papers_three_cases(inside, outside, expected):
    assert QUARTER.mean() == 0.25
    heat = np.where(QUARTER, inside, outside)
    result = m.measure(heat, QUARTER, scaled=False)
    assert result.ehr == pytest.approx(expected) and result.ehr == m.effective_heat_ratio(heat, QUARTER)
    assert result.bounding_box == 1  # which cannot tell the three apart


def test_scaled_heat_ignores_units_and_what_speaks_against():
    heat = np.where(QUARTER, 1.0, 0.25)
    assert m.measure(heat * 1e-6, QUARTER).ehr == pytest.approx(0.4375)
    assert m.measure(np.where(QUARTER, 5.0, -9.0), QUARTER).ehr == pytest.approx(1.0)
    with pytest.raises(ex.ExplainerError, match="between 0 and 1"):
        m.measure(heat * 2, QUARTER, scaled=False)


def test_faint_heat_is_none():
    assert m.measure(np.full((32, 32), 0.05), QUARTER, scaled=False).ehr == 0
    halo = np.where(QUARTER, 1.0, 0.09)
    assert m.measure(halo, QUARTER).ehr == pytest.approx(1.0)


def test_ehr_by_chance_is_its_mean_over_shuffles():
    shuffled = np.random.default_rng(1)
    values = np.abs(NOISE)
    found = [m.measure(shuffled.permutation(values.ravel()).reshape(32, 32), QUARTER).ehr for _ in range(100)]
    assert m.measure(values, QUARTER).chance.ehr == pytest.approx(np.mean(found), abs=4 * np.std(found) / math.sqrt(100))


def test_a_perfect_map_and_its_opposite():
    perfect = m.measure(QUARTER.astype(float), QUARTER)
    assert (perfect.pointing, perfect.pointing_near, perfect.bounding_box, perfect.energy) == (1, 1, 1, 1)
    worst = m.measure(1.0 - QUARTER, QUARTER)
    assert (worst.pointing, worst.bounding_box, worst.energy, worst.ehr) == (0, 0, 0, 0)
    assert perfect.chance.bounding_box == perfect.chance.energy == perfect.chance.pointing == perfect.area == 0.25


def test_partial_maps_have_known_shares():
    half = np.zeros((32, 32))
    half[8:24, 8:16] = 2  # half of the region
    half[0, 0] = 256  # as much again outside, in one pixel
    result = m.measure(half, QUARTER)
    assert result.energy == 0.5
    assert result.highest == (0, 0) and result.pointing == 0
    assert result.bounding_box == pytest.approx((128 + _zeros_inside(half, 256 - 129)) / 256)


def _zeros_inside(values: np.ndarray, number: int) -> int:
    """How many region pixels are among the first zeros, row by row, which fill up the highest pixels."""
    zeros = [place for place in range(1024) if values.ravel()[place] == 0][:number]
    return int(QUARTER.ravel()[zeros].sum())


def test_random_maps_are_at_the_chance_level():
    draws = np.random.default_rng(2)
    results = m.measure([draws.normal(size=(32, 32)) for _ in range(400)], QUARTER, tolerance=3)
    for name in ("pointing", "pointing_near", "bounding_box", "energy"):
        values = [getattr(result, name) for result in results]
        error = np.std(values) / math.sqrt(400)
        assert abs(np.mean(values) - getattr(results[0].chance, name)) < 4 * error, name


def test_the_tolerance_is_a_disc():
    one = m.box(16, 16, 16, 16, (40, 40))
    rows, columns = np.mgrid[:40, :40]
    for radius in (0, 1, 1.5, 5, 15, 60):
        expected = (rows - 16) ** 2 + (columns - 16) ** 2 <= radius**2
        assert (m.grow(one, radius) == expected).all(), radius
    for offset, near in ((15, 1), (16, 0)):
        peak = np.zeros((40, 40))
        peak[16, 16 + offset] = 1
        result = m.measure(peak, one)
        assert (result.pointing, result.pointing_near) == (0, near)
    assert result.chance.pointing_near == m.grow(one, 15).mean() > result.chance.pointing


def test_a_grown_region_is_every_pixel_near_it():
    region = np.random.default_rng(3).random((20, 31)) < 0.01
    assert region.any()
    rows, columns = np.mgrid[:20, :31]
    expected = np.zeros_like(region)
    for row, column in np.argwhere(region):
        expected |= (rows - row) ** 2 + (columns - column) ** 2 <= 16
    assert (m.grow(region, 4) == expected).all()


def test_ties_are_broken_row_by_row():
    top, bottom = m.box(0, 0, 31, 3, (32, 32)), m.box(0, 28, 31, 31, (32, 32))
    flat = np.full((32, 32), 0.5)
    assert m.measure(flat, top).bounding_box == 1 and m.measure(flat, bottom).bounding_box == 0
    assert m.measure(flat, top).highest == (0, 0)


def test_every_measure_but_energy_and_ehr_sees_ranks_only():
    plain, bent = m.measure([NOISE, np.exp(NOISE)], QUARTER)
    assert (plain.highest, plain.bounding_box) == (bent.highest, bent.bounding_box)


def test_no_positive_attribution_has_no_energy():
    result = m.measure(-np.abs(NOISE) - 1, QUARTER)
    assert math.isnan(result.energy) and result.ehr == 0


def test_an_attribution_is_measured_at_the_regions_resolution(toy, image):
    found = ex.explain(toy, image, "grad_cam", target=0)
    big = m.box(2, 2, 20, 13, (32, 32))
    assert m.measure(found, big) == m.measure(found.heatmap((32, 32)), big)
    assert isinstance(m.measure([found], big), list)


def test_large_regions_are_marked():
    assert m.measure(NOISE, m.box(0, 0, 31, 10, (32, 32))).too_large  # 34.4 %
    assert not m.measure(NOISE, m.box(0, 0, 31, 9, (32, 32))).too_large


@pytest.mark.parametrize("region, said", [(np.zeros((32, 32), bool), "empty"), (np.ones((32, 32), bool), "whole"),
                                          (np.ones((32, 32)), "bool"), (np.zeros((3, 32, 32), bool), "bool")])
def test_a_region_that_cannot_be_one_is_told(region, said):
    with pytest.raises(ex.ExplainerError, match=said):
        m.measure(NOISE, region)


def test_boxes_and_outlines_cover_the_pixels_that_they_go_around():
    drawn = m.box(4.6, 9.4, 2.2, 6.5, (12, 10))  # corners in any order
    assert np.argwhere(drawn).tolist() == [[row, column] for row in (7, 8, 9) for column in (3, 4)]
    square = m.polygon([(2, 3), (6, 3), (6, 8), (2, 8)], (12, 10))
    assert (square == m.box(2, 3, 6, 8, (12, 10))).all()
    triangle = m.polygon([(0, 0), (39, 0), (0, 39)], (40, 40))
    rows, columns = np.mgrid[:40, :40]
    assert (triangle == (rows + columns <= 39)).mean() > 0.98
    with pytest.raises(ex.ExplainerError):
        m.polygon([(0, 0), (5, 5)], (12, 10))
    assert (m.bounding_box(triangle & (columns > 4)) == m.box(5, 0, 39, 34, (40, 40))).all()


def test_every_masked_sample_can_be_measured():
    sample = next(s for s in ex.samples() if s.kind == "scenes" and len(s.labels) == 2)
    for mask in sample.masks:
        result = m.measure(mask.astype(float), mask)
        assert result.bounding_box == 1 and not result.too_large
