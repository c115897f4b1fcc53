"""MIP-IN: the inverse of each kind of layer, by optimality and by known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.networks import normal
from torch import nn
from torch.nn import functional as F

from explainers.methods.mip_in import inverse
from explainers.methods.mip_in.inverse import Geometry

# Dense layers

@pytest.mark.parametrize(("images", "width"), [(50, 8), (8, 30)])
@pytest.mark.parametrize("dual", [False, True])
def test_a_dense_inverse_satisfies_the_ridge_equation(images, width, dual):
    signal, entered = normal(images, width), normal(images, 6, seed=1)
    found = inverse.fit_dense(signal, entered, 0.7, dual=dual)
    assert ("dual" in found) == dual
    weight = inverse.invert_dense(found, torch.eye(width, dtype=torch.float64), bias=False).T  # (6, width)
    s, t = signal - signal.mean(0), entered - entered.mean(0)
    assert torch.allclose((t - s @ weight.T).T @ s, 0.7 * weight, atol=1e-4)
    rebuilt = inverse.invert_dense(found, signal, bias=True)
    assert torch.allclose(rebuilt.mean(0), entered.mean(0), atol=1e-5)


def test_both_forms_of_a_dense_inverse_are_equal():
    signal, entered, other = normal(9, 40), normal(9, 300, seed=1), normal(4, 40, seed=2)
    forms = [inverse.fit_dense(signal, entered, 0.1, dual=dual) for dual in (False, True)]
    for bias in (False, True):
        primal, dual = (inverse.invert_dense(form, other, bias) for form in forms)
        assert torch.allclose(primal, dual, atol=1e-5)
    assert "dual" in inverse.fit_dense(signal, entered, 0.1)  # 12000 numbers against 3060
    assert "weight" in inverse.fit_dense(normal(400, 40), normal(400, 300), 0.1)


def test_a_dead_unit_is_its_constant():
    entered = normal(30, 4, seed=1)
    entered[:, 2] = 0.25
    found = inverse.fit_dense(normal(30, 3), entered, 0.001)
    assert found["weight"][2].abs().max() < 1e-7
    assert torch.allclose(inverse.invert_dense(found, normal(5, 3, seed=2), True)[:, 2].float(), torch.tensor(0.25))


@pytest.mark.parametrize(("images", "width"), [(40, 10), (12, 30)])
def test_the_fitted_ridge_minimises_generalised_cross_validation(images, width):
    signal, entered = normal(images, width), normal(images, 4, seed=1) + normal(images, width) @ normal(width, 4, seed=2)
    s, t = signal - signal.mean(0), entered - entered.mean(0)

    def score(ridge):  # from the definition: the hat matrix, its trace, the residual
        hat = s @ torch.linalg.solve(s.T @ s + ridge * torch.eye(width), s.T)
        return ((t - hat @ t).square().sum() / (images - 1 - hat.trace()) ** 2).item()

    best = inverse.best_ridge(s, entered, entered.mean(0))
    scale = s.square().sum() / min(images, width)
    assert score(best) <= min(score(scale * 10**power) for power in torch.arange(-8, 1.1, 0.25, dtype=torch.float64)) * (1 + 1e-6)


def test_the_fitted_ridge_rebuilds_unseen_images_better_than_next_to_none():
    truth, signal = normal(30, 5, seed=9), normal(36, 30)
    entered = signal @ truth + 3 * normal(36, 5, seed=1)
    unseen = normal(500, 30, seed=2)
    errors = []
    for ridge in (None, 0.001):
        rebuilt = inverse.invert_dense(inverse.fit_dense(signal, entered, ridge), unseen, True)
        errors.append((rebuilt - unseen @ truth).square().mean())
    assert errors[0] < 0.5 * errors[1]


def test_a_singular_gram_is_solved_with_the_least_jitter():
    half = normal(6, 3)
    gram, answer = half @ half.T, normal(6, 2, seed=1)
    found = inverse.solve(gram, gram @ answer)
    assert torch.allclose(gram @ found, gram @ answer, atol=1e-6)
    assert (inverse.solve(torch.zeros(3, 3).double(), normal(3, 1)) == 0).all()


# Convolutions and pooling

@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation", "beyond"), [
    (3, 1, 0, 1, 0), (3, 1, 1, 1, 0), (5, 2, 2, 1, 1), (3, 2, 1, 1, 0), (1, 1, 0, 1, 0), (3, 1, 2, 2, 0),
    (4, 3, 1, 1, 2), (2, 2, 0, 1, 0)])
def test_a_convolution_is_recovered_from_what_it_made(kernel, stride, padding, dilation, beyond):
    truth, signal = normal(4, 3, kernel, kernel, seed=1), normal(6, 4, 7, 6)
    geometry = Geometry((kernel,) * 2, (stride,) * 2, (padding,) * 2, (dilation,) * 2)
    made = F.conv_transpose2d(signal, truth, None, stride, padding, beyond, dilation=dilation)
    found = inverse.fit_kernel(signal, made, geometry)
    assert torch.allclose(found["kernel"].double(), truth, atol=1e-5)
    assert torch.allclose(inverse.invert_kernel(found, signal, made.shape[2:], geometry), made, atol=1e-4)


def test_a_convolution_is_fitted_by_least_squares_at_any_block_size(monkeypatch):
    signal, entered = normal(5, 2, 4, 4), normal(5, 3, 8, 8, seed=1)
    geometry = Geometry((3, 3), (2, 2), (1, 1), (1, 1))
    kernel = inverse.fit_kernel(signal, entered, geometry)["kernel"].double().requires_grad_(True)
    error = (inverse.invert_kernel({"kernel": kernel}, signal, (8, 8), geometry) - entered).square().sum()
    assert torch.autograd.grad(error, kernel)[0].abs().max() < 1e-4 * error
    monkeypatch.setattr(inverse, "_BLOCK_NUMBERS", 1)
    assert torch.allclose(inverse.fit_kernel(signal, entered, geometry)["kernel"].double(), kernel, atol=1e-6)


def test_images_without_a_pixel_of_their_own_do_not_count():
    """With more images than pixels the step can exceed the number of pixels: of 4 pixels and a step of 7, images 4 to 6 have none."""
    truth, signal, geometry = normal(1, 1, 1, 1, seed=1), normal(14, 1, 2, 2), Geometry((1, 1), (1, 1), (0, 0), (1, 1))
    made = F.conv_transpose2d(signal, truth)
    made[[4, 5, 6, 11, 12, 13]] = 100.0
    assert torch.allclose(inverse.fit_kernel(signal, made, geometry, step=7)["kernel"].double(), truth, atol=1e-5)


def test_every_kth_pixel_of_all_images_is_enough_and_all_places_count():
    truth, signal, geometry = normal(2, 3, 3, 3, seed=1), normal(6, 2, 5, 5), Geometry((3, 3), (1, 1), (1, 1), (1, 1))
    made = F.conv_transpose2d(signal, truth, None, 1, 1)
    thinned = inverse.fit_kernel(signal, made, geometry, step=4)["kernel"].double()
    assert torch.allclose(thinned, truth, atol=1e-5)
    made[5] += 100  # with a step of 4, image 5 gives the pixels 1, 5, 9 and so on, so a change elsewhere does not matter
    made[5].view(3, -1)[:, 1::4] -= 100
    assert torch.allclose(inverse.fit_kernel(signal, made, geometry, step=4)["kernel"].double(), thinned, atol=1e-5)
    made[5].view(3, -1)[:, 1::4] += 100
    assert not torch.allclose(inverse.fit_kernel(signal, made, geometry, step=4)["kernel"].double(), thinned, atol=1e-2)


def test_the_step_between_pixels_bounds_the_multiplications(monkeypatch):
    monkeypatch.setattr(inverse, "_KERNEL_WORK", 1e6)
    geometry = Geometry((3, 3), (1, 1), (0, 0), (1, 1))
    assert geometry.pixel_step(1, 1, (10, 10)) == 1  # 100 * 9^2 = 8,100 multiplications
    assert geometry.pixel_step(1000, 1, (10, 10)) == 9  # 8.1 million of them
    assert geometry.pixel_step(5, 100, (10, 10)) == 5  # at most the number of images


def test_a_channel_that_is_always_zero_gets_no_kernel():
    signal = normal(6, 3, 5, 5)
    signal[:, 1] = 0
    geometry = Geometry((3, 3), (1, 1), (1, 1), (1, 1))
    kernel = inverse.fit_kernel(signal, normal(6, 2, 5, 5, seed=1), geometry)["kernel"]
    assert torch.isfinite(kernel).all() and kernel[1].abs().max() < 1e-3 < kernel[0].abs().max()


def test_unpooling_puts_the_signal_where_the_maximum_was():
    entered, signal = normal(3, 4, 6, 6), normal(3, 4, 3, 3, seed=1)
    below = inverse.spread(nn.MaxPool2d(2), entered, signal)
    _, switches = F.max_pool2d(entered, 2, return_indices=True)
    assert torch.allclose(below.flatten(2).gather(2, switches.flatten(2)), signal.flatten(2))
    assert torch.allclose(below.sum((2, 3)), signal.sum((2, 3))) and (below != 0).sum() == signal.numel()


def test_unpooling_breaks_ties_as_the_forward_pass_does_and_averages_where_windows_overlap():
    flat = inverse.spread(nn.MaxPool2d(2), torch.zeros(1, 1, 2, 2), torch.tensor([[[[5.0]]]]))
    assert flat.tolist() == [[[[5.0, 0.0], [0.0, 0.0]]]]
    entered = torch.tensor([[[[0.0, 9.0, 0.0]] * 3]])  # the windows (0..1) and (1..2) both choose the middle
    below = inverse.spread(nn.MaxPool2d((3, 2), stride=1), entered, torch.tensor([[[[4.0, 8.0]]]]))
    assert below.sum() == 6


def test_average_pooling_is_inverted_cell_by_cell():
    entered = normal(40, 2, 4, 4)
    signal = F.avg_pool2d(entered, 2)
    spread = inverse.spread(nn.AvgPool2d(2), entered, signal)
    assert torch.allclose(spread, signal.repeat_interleave(2, 2).repeat_interleave(2, 3))
    found = inverse.fit_cells(spread, entered, 0.0)
    slope, constant = np.polyfit(signal[:, 1, 0, 1].numpy(), entered[:, 1, 1, 2].numpy(), 1)
    assert found["slope"][1, 1, 2].item() == pytest.approx(slope, abs=1e-5)
    rebuilt = inverse.invert_cells(found, torch.zeros(1, 2, 4, 4).double(), bias=True)
    assert rebuilt[0, 1, 1, 2].item() == pytest.approx(constant, abs=1e-5)
