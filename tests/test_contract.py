"""Parameters refuse what they do not take; heatmaps reduce, resample and never hold NaN."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import explainers as ex
from explainers.attribution import Attribution, health
from explainers.passes import Passes
from explainers.resampling import resample
from explainers.target import Target


def attribution(native: torch.Tensor, **changes) -> Attribution:
    made = Attribution(native=native, method="gradient", target=Target((0,)), params={}, seed=0, network="toy", input_size=(8, 8),
                       signed=True, reduction="sum", upsample="bilinear", passes=Passes(1, 1), seconds=0.1)
    return replace(made, **changes)


@pytest.mark.parametrize(("name", "values", "says"), [
    ("integrated_gradients", {"stepz": 5}, "takes steps, baseline, quadrature"),
    ("integrated_gradients", {"steps": 0}, "from 1 to 1000, not 0"),
    ("integrated_gradients", {"steps": 2.5}, "whole number"),
    ("integrated_gradients", {"steps": True}, "whole number"),
    ("integrated_gradients", {"baseline": "grey"}, "'zero', 'black', 'blur', 'noise', not 'grey'"),
    ("smoothgrad", {"noise": float("nan")}, "from 0 to 1, not nan"),
    ("smoothgrad", {"squared": 1}, "True or False"),
    ("i_gos", {"resolution": 29}, "'28', '56', '112', 'input', not '29'"),
    ("gradient_x_sign", {"steps": 3}, "takes no parameters"),
])
def test_a_wrong_parameter_is_refused_with_what_is_allowed(name, values, says):
    with pytest.raises(ex.ParameterError, match=says):
        ex.methods()[name].settings(**values)


def test_settings_come_in_the_declared_types():
    settings = ex.methods()["integrated_gradients"].settings(steps=7.0)
    assert settings.steps == 7 and isinstance(settings.steps, int) and settings.baseline == "zero"


@pytest.mark.parametrize("side", ["13", 13, 13.0, np.int64(13)])
def test_a_number_may_name_an_option(side):
    assert ex.methods()["i_gos"].settings(resolution=side).resolution == "13"


def test_heatmap_adds_channels_or_keeps_the_strongest():
    native = torch.tensor([[[1.0, -2.0]], [[-3.0, 1.0]]])  # (2, 1, 2)
    assert attribution(native).heatmap((1, 2)).tolist() == [[-2.0, -1.0]]
    assert attribution(native, reduction="max_abs").heatmap((1, 2)).tolist() == [[3.0, 2.0]]


def test_heatmap_is_float32_at_the_input_size_and_finite():
    heat = attribution(torch.tensor([[[float("nan"), float("inf")], [1.0, 2.0]]])).heatmap()
    assert heat.shape == (8, 8) and heat.dtype == np.float32 and np.isfinite(heat).all()


def test_enlarging_by_nearest_keeps_cells_and_by_bilinear_keeps_constants():
    cells = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert torch.equal(resample(cells, (4, 4), "nearest"), cells.repeat_interleave(2, 0).repeat_interleave(2, 1))
    assert torch.allclose(resample(torch.full((3, 3), 5.0), (8, 8), "bilinear"), torch.full((8, 8), 5.0))


def test_shrinking_averages_all_evidence():
    lone = torch.zeros(8, 8)
    lone[3, 3] = 16.0
    assert resample(lone, (2, 2), "bilinear").tolist() == [[1.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(("native", "says"), [
    (torch.zeros(1, 2, 2), "zero everywhere"), (torch.ones(1, 2, 2), "the same everywhere"),
    (torch.tensor([[[1.0, float("nan")]]]), "1 of 2 values are not finite"),
])
def test_unhealthy_maps_are_flagged(native, says):
    assert says in health(native)[0]


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan")])
def test_a_value_that_is_not_finite_is_flagged_wherever_it_stands(value):
    for place in range(4):
        native = torch.tensor([[[1.0, -2.0, 3.0, -4.0]]])
        native[0, 0, place] = value
        assert health(native) == ("1 of 4 values are not finite and shown as 0",)


def test_a_healthy_map_has_no_flag():
    assert health(torch.tensor([[[1.0, -1.0]]])) == ()
