"""Gradient, its products, integrated gradients and SmoothGrad against closed forms and naive twins."""

from __future__ import annotations

import pytest
import torch
from support.networks import classifier
from torch import nn

import explainers as ex
from explainers.context import Context
from explainers.methods.integrated_gradients import nodes


def test_on_a_linear_network_all_have_closed_forms(linear, image):
    weight = linear.module.get_parameter("1.weight")[2].view(3, 32, 32)
    expected = {
        "gradient": weight, "smoothgrad": weight, "gradient_x_input": weight * image[0],
        "integrated_gradients": weight * image[0], "positive_gradient_x_input": weight.clamp(min=0) * image[0],
        "gradient_x_sign": weight * image[0].sign(),
    }
    for key, closed_form in expected.items():
        assert torch.allclose(ex.explain(linear, image, key, target=2).native, closed_form, atol=1e-6), key


def test_gradient_x_input_sums_to_the_logit_without_biases_only(bias_free, toy, image):
    total = ex.explain(bias_free, image, "gradient_x_input", target=1).native.sum()
    assert torch.isclose(total, bias_free.logits(image)[0, 1], rtol=1e-4)
    biased = ex.explain(toy, image, "gradient_x_input", target=1).native.sum()
    assert not torch.isclose(biased, toy.logits(image)[0, 1], rtol=1e-2)


def test_without_biases_integrated_gradients_is_gradient_x_input(bias_free, image):
    gxi = ex.explain(bias_free, image, "gradient_x_input", target=1).native
    for quadrature in ("gauss_legendre", "riemann_right"):
        ig = ex.explain(bias_free, image, "integrated_gradients", target=1, quadrature=quadrature, steps=20).native
        assert torch.allclose(ig, gxi, atol=1e-5)


@pytest.mark.parametrize("start", ["zero", "black", "blur", "noise"])
def test_integrated_gradients_is_complete(toy, image, start):
    from explainers.baselines import baseline
    found = ex.explain(toy, image, "integrated_gradients", target=1, steps=400, baseline=start)
    at = baseline(toy, image, start, Context(toy, 0).generator())
    change = (toy.logits(image) - toy.logits(at))[0, 1]
    assert abs(found.native.sum() - change) < 0.01 * max(1.0, abs(change))


def test_the_integrated_gradients_papers_example():
    """f = ReLU(ReLU(x1) - 1 - ReLU(x2)) at (3, 1) from (0, 0): 1.5 and -0.5 (Sundararajan et al., figure 3's f)."""
    class Example(nn.Module):
        def forward(self, x):
            a, b = x.flatten(1)[:, 0], x.flatten(1)[:, 1]
            return torch.relu(torch.relu(a) - 1 - torch.relu(b))[:, None].repeat(1, 2)

    network = classifier(Example(), side=2, classes=2, channels=1)
    x = torch.tensor([[[[3.0, 1.0], [0.0, 0.0]]]])
    found = ex.explain(network, x, "integrated_gradients", target=0, steps=1000, quadrature="riemann_right").native
    assert torch.allclose(found, torch.tensor([[[1.5, -0.5], [0.0, 0.0]]]), atol=0.01)


@pytest.mark.parametrize("quadrature", ["gauss_legendre", "riemann_right", "trapezoid"])
def test_quadratures_integrate_constants_exactly_and_squares_nearly(quadrature):
    points, weights = nodes(50, quadrature)
    assert weights.sum() == pytest.approx(1) and points.min() >= 0 and points.max() <= 1
    assert (weights * points**2).sum() == pytest.approx(1 / 3, abs={"riemann_right": 0.011}.get(quadrature, 2e-4))
    assert len(nodes(1, quadrature)[0]) == 1 and nodes(1, quadrature)[1].sum() == pytest.approx(1)


def test_smoothgrad_without_noise_is_the_gradient(toy, image):
    still = ex.explain(toy, image, "smoothgrad", target=1, noise=0.0, samples=3).native
    assert torch.allclose(still, ex.explain(toy, image, "gradient", target=1).native, atol=1e-6)


@pytest.mark.parametrize("squared", [False, True])
def test_smoothgrad_equals_its_naive_twin(toy, image, squared):
    context, total = Context(toy, seed=6), torch.zeros(3, 32, 32)
    for i in range(8):
        noise = torch.randn(image.shape, generator=context.generator(i)) * 0.2 * (image.max() - image.min())
        one = toy.gradient(image + noise, 1)[0]
        total += one * one if squared else one
    found = ex.explain(toy, image, "smoothgrad", target=1, samples=8, noise=0.2, seed=6, squared=squared)
    assert torch.allclose(found.native, total / 8, atol=1e-6)
    assert found.signed is not squared


def test_the_sign_of_a_black_pixel_is_nothing(toy, image):
    image = image.clone()
    image[0, :, 5, 5] = 0
    assert ex.explain(toy, image, "gradient_x_sign", target=0).native[:, 5, 5].tolist() == [0, 0, 0]


def test_absolute_gradient_is_the_authors_variant(toy, image):
    gradient = ex.explain(toy, image, "gradient", target=0).native
    found = ex.explain(toy, image, "positive_gradient_x_input", target=0, gradient="absolute").native
    assert torch.allclose(found, gradient.abs() * image[0])


def test_the_strongest_channel_is_shown_unsigned(toy, image):
    found = ex.explain(toy, image, "gradient", target=0, channels="max_abs")
    assert not found.signed
    assert torch.allclose(torch.from_numpy(found.heatmap()), toy.gradient(image, 0)[0].abs().amax(0))
