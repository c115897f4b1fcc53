"""Warnings about maps and explained classes: known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import explainers as ex
from explainers.attribution import Standing, health, unmoved


@pytest.mark.parametrize("native", [torch.full((1, 4, 4), 0.3), torch.full((1, 4, 4), 0.3) + 1e-8 * torch.arange(4)])
def test_a_map_that_is_the_same_up_to_rounding_is_blank(native):
    assert health(native) == ("the map is the same everywhere",)


def test_a_map_that_vanished_is_zero():
    assert health(torch.tensor([[[0.0, 1e-40]]])) == ("the map is zero everywhere",)


def test_small_and_nearly_even_maps_are_no_blank_maps():
    assert health(torch.tensor([[[1e-20, -1e-20]]])) == ()
    assert health(torch.tensor([[[0.9990, 0.9991]]])) == ()


def test_an_optimisation_that_ended_where_it_began_says_so_with_its_numbers():
    (flag,) = unmoved({"Loss": [0.41, 0.41, 0.4101], "y\u2212": [-2.0, -2.0, -2.0]})
    assert flag == ("it ended where it began: in 2 steps nothing moved (Loss: 0.41 before, 0.41 after; "
                    "y\u2212: \u22122 before, \u22122 after)")


@pytest.mark.parametrize("traces", [
    {}, {"Loss": [0.4]}, {"Loss": [0.4, 0.3]}, {"Loss": [0.4, 0.1, 0.4]}, {"Loss": [0.4, 0.4], "Information": [5.0, 1.0]},
    {"Loss": [0.4, float("nan")]}])
def test_an_optimisation_that_moved_has_no_flag(traces):
    assert unmoved(traces) == ()


def test_the_standing_of_a_class():
    probabilities = np.array([0.003, 0.9, 0.097])
    assert Standing.of(0, probabilities) == Standing(0.003, 3, 3)
    assert [Standing.of(index, probabilities).is_doubtful for index in range(3)] == [True, False, True]
    assert Standing.of(7, np.full(1000, 0.001)).rank == 8  # classes of equal probability rank in their order
    assert Standing.of(0, np.full(1000, 0.001)).is_doubtful  # the first choice, but improbable


def explained(network_name, sample_name):
    """The network, and a sample as it sees it."""
    network = ex.load_model(network_name)
    return network, network.preprocess(next(sample for sample in ex.samples() if sample.name == sample_name).load())


def test_only_what_a_map_leaves_out_is_flagged_on_an_ordinary_picture():
    """In this network biases outweigh the image."""
    network, x = explained("digits_cnn", "digit-3")
    flags = {key: ex.explain(network, x, key, **method.cheap).flags
             for key, method in ex.methods().items() if not method.lacks(network)}
    assert len(flags) > 40 and {key for key, flag in flags.items() if flag} == {"dmbp"}
    assert "biases make up" in flags["dmbp"][0]


def test_a_prior_that_is_nearly_the_same_everywhere_is_flagged():
    attribution = ex.explain(*explained("scenes_vgg", "knight-flower"), "input_iba", **ex.methods()["input_iba"].cheap)
    assert "the prior is nearly the same everywhere" in attribution.flags[0]


def test_a_mask_that_a_strong_penalty_keeps_at_its_start_is_flagged():
    attribution = ex.explain(*explained("scenes_vgg", "knight-flower"), "i_gos", iterations=3, points=2, l1=20.0)
    assert attribution.native.max() < 1e-4
    assert any("it ended where it began: in 3 steps" in flag for flag in attribution.flags)
