"""BlurIG, Guided IG and GradientSHAP: closed forms on a linear network, completeness, naive twins, and independent libraries."""

from __future__ import annotations

import math

import captum.attr as ca
import numpy as np
import pytest
import torch
from captum.attr._core.gradient_shap import InputBaselineXGradient
from scipy.ndimage import gaussian_filter
from support.captum_maps import prepared, relative_error
from support.networks import classifier, drawn_images, seeded
from torch import nn

import explainers as ex
from explainers.baselines import baseline
from explainers.context import Context
from explainers.data.reference import ReferenceSet
from explainers.methods import blur_integrated_gradients as blur
from explainers.methods import guided_integrated_gradients as guided
from explainers.networks.embedded import EMBEDDED, load_weights

TOYS_LARGEST = 3  # the class whose logit the toy's image changes most


def weights_of(linear, target):
    return linear.module.get_parameter("1.weight")[target].view(3, 32, 32)


def change(network, image, start, target):
    """f(image) - f(start)."""
    return float((network.logits(image) - network.logits(start))[0, target])


def scipy_blur(image, sigma):
    """(C, H, W) in float64, as the authors of BlurIG blur: zeros beyond the edges."""
    return gaussian_filter(image.double().numpy(), sigma=(0, sigma, sigma), mode="constant") if sigma else image.double().numpy()


@pytest.fixture(scope="module")
def scenes_vgg():
    module = EMBEDDED["scenes_vgg"].build()
    module.load_state_dict(load_weights("scenes_vgg"))
    return ex.load_model("scenes_vgg", device="cpu"), prepared(module)


# BlurIG


@pytest.mark.parametrize(("rows", "columns"), [(32, 32), (20, 33)])
def test_blurs_are_scipys(rows, columns):
    image = torch.randn(3, rows, columns, generator=torch.Generator().manual_seed(1))
    sigmas = [0.0, 0.1, 0.3, 1.0, 4.7, 50.0]
    blurs = blur.blurred(image, torch.tensor(sigmas, dtype=torch.float64))
    for sigma, blurred in zip(sigmas, blurs, strict=True):
        assert np.abs(blurred.numpy() - scipy_blur(image, sigma)).max() < 2e-6


def test_slopes_are_the_quotients_of_scipys_blurs():
    image = torch.randn(3, 24, 24, generator=torch.Generator().manual_seed(1))
    sigmas = [0.0, 0.5, 3.0, 12.6]
    blurs, slopes = blur.blurred_with_slopes(image, torch.tensor(sigmas, dtype=torch.float64))
    for sigma, blurred, slope in zip(sigmas, blurs, slopes, strict=True):
        expected = (scipy_blur(image, sigma + 0.01) - scipy_blur(image, sigma)) / 0.01
        assert np.abs(blurred.numpy() - scipy_blur(image, sigma)).max() < 2e-6
        assert np.abs(slope.numpy() - expected).max() < 1e-5 + 1e-4 * np.abs(expected).max()
    assert not slopes[0].any()  # so the point at 0 needs no pass


def naive_blur_ig(network, image, target, steps, max_sigma, power):
    """The authors' rule, point by point, with SciPy."""
    sigmas = [max_sigma * (i / steps) ** power for i in range(steps + 1)]
    total = np.zeros(image.shape[1:])
    for here, following in zip(sigmas[:-1], sigmas[1:], strict=True):
        at = scipy_blur(image[0], here)
        slope = (scipy_blur(image[0], here + 0.01) - at) / 0.01
        total -= (following - here) * slope * network.gradient(torch.from_numpy(at)[None].float(), target)[0].numpy()
    return torch.from_numpy(total).float()


@pytest.mark.parametrize("spacing", ["uniform", "quadratic"])
def test_blur_ig_point_by_point(toy, image, spacing):
    ours = ex.explain(toy, image, "blur_integrated_gradients", target=2, steps=11, max_sigma=6, spacing=spacing).native
    expected = naive_blur_ig(toy, image, 2, 11, 6, {"uniform": 1, "quadratic": 2}[spacing])
    assert relative_error(ours, expected) < 1e-4


def test_the_trapezoid_point_by_point(toy, image):
    """Each difference of neighbouring images counts with the mean of the gradients at both."""
    images = [torch.from_numpy(scipy_blur(image[0], 6 * i / 7)).float()[None] for i in range(8)]
    gradients = [toy.gradient(blurred, 2) for blurred in images]
    expected = sum((images[i] - images[i + 1]) * (gradients[i] + gradients[i + 1]) / 2 for i in range(7))[0]
    ours = ex.explain(toy, image, "blur_integrated_gradients", target=2, steps=7, max_sigma=6, quadrature="trapezoid").native
    assert relative_error(ours, expected) < 1e-4


def test_the_trapezoid_of_a_linear_network_is_its_weights_times_what_the_blur_removes(linear, image):
    ours = ex.explain(linear, image, "blur_integrated_gradients", target=1, steps=4, max_sigma=9, quadrature="trapezoid")
    removed = image[0] - torch.from_numpy(scipy_blur(image[0], 9)).float()
    assert torch.allclose(ours.native, weights_of(linear, 1) * removed, atol=1e-6)
    assert (ours.passes.forward, ours.passes.backward) == (5, 5)


@pytest.mark.parametrize("settings", [{"quadrature": "trapezoid"}, {"quadrature": "trapezoid", "spacing": "quadratic"},
                                      {"spacing": "quadratic"}])
def test_blur_ig_sums_to_the_change_of_the_logit(toy, image, settings):
    start = torch.from_numpy(scipy_blur(image[0], 20)).float()[None]
    whole = change(toy, image, start, TOYS_LARGEST)
    settings = {"target": TOYS_LARGEST, "max_sigma": 20, **settings}
    errors = [abs(float(ex.explain(toy, image, "blur_integrated_gradients", steps=steps, **settings).native.sum()) - whole)
              for steps in (20, 1000)]
    print(settings, whole, errors)
    assert errors[1] < 0.02 * abs(whole) and errors[1] < errors[0]


def test_blur_ig_equals_the_authors_program(scenes_vgg):
    saliency = pytest.importorskip("saliency.core")
    network, module = scenes_vgg
    x = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(4))

    def call(images, call_model_args=None, expected_keys=None):
        batch = torch.from_numpy(np.asarray(images)).float().permute(0, 3, 1, 2).contiguous().requires_grad_(True)
        gradient = torch.autograd.grad(module(batch)[:, 3].sum(), batch)[0]
        return {saliency.INPUT_OUTPUT_GRADIENTS: gradient.permute(0, 2, 3, 1).numpy()}

    picture = x[0].permute(1, 2, 0).double().numpy()
    theirs = saliency.BlurIG().GetMask(picture, call, max_sigma=50, steps=25)
    ours = ex.explain(network, x, "blur_integrated_gradients", target=3, steps=25).native
    assert relative_error(ours, torch.from_numpy(theirs).permute(2, 0, 1).float()) < 1e-4


# Guided IG


def newer_numpy(monkeypatch):
    """The authors' program calls NumPy's quantile by an argument that has been renamed since."""
    quantile = np.quantile
    monkeypatch.setattr(np, "quantile", lambda values, q, interpolation: quantile(values, q, method=interpolation))


@pytest.mark.parametrize("anchors", [0, 3])
def test_guided_ig_of_a_linear_network_is_exact(linear, image, anchors):
    ours = ex.explain(linear, image, "guided_integrated_gradients", target=1, steps=10, anchors=anchors, baseline="black")
    start = baseline(linear, image, "black", torch.Generator())
    assert torch.allclose(ours.native, (weights_of(linear, 1) * (image - start)[0]), atol=1e-5)


def test_the_path_goes_first_where_gradients_are_small():
    """Four values with the distances 4, 1, 1, 2 from the end: half of them per group, in the order of their gradients."""
    at, end = torch.zeros(1, 1, 4), torch.tensor([[[4.0, -1.0, 1.0, 2.0]]])
    gradient = torch.tensor([[[0.1, -9.0, 0.2, 5.0]]])
    half_the_first_group = guided.moved(at, end, gradient, left=8 - 2.5, fraction=0.5)
    assert torch.allclose(half_the_first_group, torch.tensor([[[2.0, 0.0, 0.5, 0.0]]]))
    into_the_second = guided.moved(at, end, gradient, left=8 - 6.5, fraction=0.5)
    assert torch.allclose(into_the_second, torch.tensor([[[4.0, -0.5, 1.0, 1.0]]]))
    assert torch.equal(guided.moved(at, end, gradient, left=0.0, fraction=0.5), end)


def test_values_that_have_arrived_are_left_out_of_the_groups():
    at, end = torch.tensor([[[4.0, 0.0, 0.0, 0.0]]]), torch.tensor([[[4.0, 1.0, 1.0, 2.0]]])
    gradient = torch.tensor([[[0.0, 3.0, 1.0, 2.0]]])
    assert torch.allclose(guided.moved(at, end, gradient, left=3.5, fraction=0.1), torch.tensor([[[4.0, 0.0, 0.5, 0.0]]]))


def test_with_an_anchor_at_every_step_it_is_integrated_gradients_by_the_left_rule(toy, image):
    ours = ex.explain(toy, image, "guided_integrated_gradients", target=2, steps=8, anchors=7)
    mean = sum(toy.gradient(image * i / 8, 2)[0] for i in range(8)) / 8
    assert relative_error(ours.native, mean * image[0]) < 1e-5


@pytest.mark.parametrize("anchors", [0, 9])
def test_guided_ig_sums_to_the_change_of_a_smooth_networks_logit(image, anchors):
    """With ten times the steps the error is about a tenth."""
    module = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 16), nn.Tanh(), nn.Linear(16, 4)), 3)
    smooth = classifier(module, classes=4)
    whole = change(smooth, image, torch.zeros_like(image), 2)
    errors = [abs(float(ex.explain(smooth, image, "guided_integrated_gradients", target=2, steps=steps, anchors=anchors)
                        .native.sum()) - whole) for steps in (50, 500)]
    print(whole, errors)
    assert errors[1] < 0.02 * abs(whole) and errors[1] < 0.3 * errors[0]


def test_in_a_relu_network_more_steps_do_not_bring_its_sum_closer(toy, image):
    """As the card says; the test above is of a smooth network, and integrated gradients are close with a tenth of the steps."""
    whole = change(toy, image, torch.zeros_like(image), TOYS_LARGEST)
    errors = [abs(float(ex.explain(toy, image, "guided_integrated_gradients", target=TOYS_LARGEST, steps=steps, anchors=20)
                        .native.sum()) - whole) for steps in (42, 420)]
    straight = abs(float(ex.explain(toy, image, "integrated_gradients", target=TOYS_LARGEST, steps=42).native.sum()) - whole)
    print(whole, errors, straight)
    assert errors[1] > 0.5 * errors[0] > 5 * straight


def test_the_steps_of_all_segments_are_the_declared_ones():
    x, start = drawn_images(1, seed=1)[0], torch.zeros(3, 32, 32)
    for steps, anchors in ((200, 20), (7, 2), (3, 20), (5, 0)):
        ends = [(end, left) for end, left in guided.schedule(x, start, guided.Params(steps=steps, anchors=anchors))]
        segments = [end for end, left in ends if left == 0]
        assert len(ends) == steps and len(segments) == min(anchors + 1, steps) and torch.equal(segments[-1], x)


def naive_guided_ig(network, image, target, steps, fraction):
    """Without anchors, in float64 and with NumPy's quantile, as the paper's algorithm 1 is written."""
    end, at = image[0].double().numpy(), np.zeros(image.shape[1:])
    whole, total = np.abs(end).sum(), np.zeros(image.shape[1:])
    for step in range(steps):
        slope = network.gradient(torch.from_numpy(at)[None].float(), target)[0].double().numpy()
        before, left = at.copy(), whole * (1 - (step + 1) / steps)
        while np.abs(end - at).sum() - left > 1e-9:
            size = np.where(at == end, np.inf, np.abs(slope))
            chosen = (size <= np.quantile(size, fraction, method="lower")) & np.isfinite(size)
            reach = np.abs(end - at)[chosen].sum()
            gamma = (np.abs(end - at).sum() - left) / reach
            at = np.where(chosen, end if gamma >= 1 else at + gamma * (end - at), at)
        total += (at - before) * slope
    return torch.from_numpy(total).float()


def test_guided_ig_step_by_step(toy, image):
    ours = ex.explain(toy, image, "guided_integrated_gradients", target=2, steps=15, anchors=0, fraction=0.1).native
    assert relative_error(ours, naive_guided_ig(toy, image, 2, 15, 0.1)) < 1e-3


@pytest.mark.parametrize(("anchors", "steps"), [(0, 10), (4, 20)])
def test_guided_ig_equals_the_authors_program(scenes_vgg, anchors, steps, monkeypatch):
    """Their program has no anchors: it runs once for each segment between two of them, without its own bound on the path.

    Its path is in float64 and ours in float32. Without anchors this difference grows: once it turns a ReLU on or off, other
    values are moved from there on, which happens here after 15 of 20 steps. Anchors bring both paths together again.
    """
    saliency = pytest.importorskip("saliency.core")
    newer_numpy(monkeypatch)
    network, module = scenes_vgg
    x = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(4))

    def call(images, call_model_args=None, expected_keys=None):
        batch = torch.from_numpy(np.asarray(images)).float().requires_grad_(True)
        return {saliency.INPUT_OUTPUT_GRADIENTS: torch.autograd.grad(module(batch)[:, 3].sum(), batch)[0].numpy()}

    picture = x[0].double().numpy()
    theirs = sum(saliency.GuidedIG().GetMask(
        picture * ((i + 1) / (anchors + 1)), call, x_baseline=picture * (i / (anchors + 1)), x_steps=steps // (anchors + 1),
        fraction=0.1, max_dist=1.0) for i in range(anchors + 1))
    ours = ex.explain(network, x, "guided_integrated_gradients", target=3, steps=steps, anchors=anchors).native
    assert relative_error(ours, torch.from_numpy(theirs).float()) < 1e-4


# GradientSHAP


def pictures(count=5):
    images = drawn_images(count, seed=9)
    return ReferenceSet("drawn", f"drawn {count}", count, lambda a, b: images[a:b]), images


def test_gradient_shap_of_a_linear_network_is_its_weights_times_the_distance_from_the_mean_picture(linear, image):
    reference, images = pictures()
    ours = ex.explain(linear, image, "gradient_shap", target=1, samples=10, baselines="reference", reference=reference)
    assert torch.allclose(ours.native, weights_of(linear, 1) * (image[0] - images.mean(0)), atol=1e-5)


def test_gradient_shap_sums_on_average_to_the_change_of_the_logit(toy, image):
    ours = ex.explain(toy, image, "gradient_shap", target=TOYS_LARGEST, samples=1000, baselines="zero")
    whole = change(toy, image, torch.zeros_like(image), TOYS_LARGEST)
    print(float(ours.native.sum()), whole)
    assert abs(float(ours.native.sum()) - whole) < 0.1 * abs(whole)


def drawn_fractions(network, samples):
    context = Context(network, seed=0)
    return [float(torch.rand(1, 1, 1, generator=context.generator(3 * i + 1))) for i in range(samples)]


@pytest.mark.parametrize("target", [0, 9])
def test_gradient_shap_equals_captums_with_the_same_draws(scenes_vgg, target, monkeypatch):
    network, module = scenes_vgg
    x, images = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(7)), torch.randn(6, 3, 128, 128)
    reference, samples = ReferenceSet("drawn", "drawn 6", 6, lambda a, b: images[a:b]), 6
    monkeypatch.setattr(np.random, "uniform", lambda low, high, count: np.array(drawn_fractions(network, samples)))
    monkeypatch.setattr("numpy.random.choice", lambda size, count: np.arange(count))
    theirs = ca.GradientShap(module).attribute(x, baselines=images, n_samples=samples, stdevs=0.0, target=target)
    ours = ex.explain(network, x, "gradient_shap", target=target, samples=samples, baselines="reference", reference=reference)
    assert relative_error(ours.native, theirs[0].detach()) < 1e-5


def test_noise_on_the_image_is_in_both_factors(scenes_vgg, monkeypatch):
    network, module = scenes_vgg
    x = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(7))
    noise = torch.cat([torch.randn(x.shape, generator=Context(network, seed=0).generator(3 * i + 2)) for i in range(4)])
    monkeypatch.setattr(np.random, "uniform", lambda low, high, count: np.array(drawn_fractions(network, 4)))
    theirs = InputBaselineXGradient(module).attribute(x + 0.3 * noise, baselines=torch.zeros_like(noise), target=3).mean(0)
    ours = ex.explain(network, x, "gradient_shap", target=3, samples=4, baselines="zero", image_noise=0.3)
    assert relative_error(ours.native, theirs.detach()) < 1e-5


def test_only_the_baselines_reference_need_a_reference_set(toy, image):
    reference, _ = pictures()
    for name in ("noise", "zero", "black", "blur"):
        question = ex.ask(toy, image, "gradient_shap", target=2, samples=3, baselines=name, reference=reference)
        assert question.reference_set is None and math.isfinite(float(question.run().native.sum()))
    assert ex.ask(toy, image, "gradient_shap", target=2, reference=reference).reference_set is reference


def test_where_the_set_has_only_statistics_it_says_that_copies_of_the_image_take_its_place():
    network = ex.load_model("efficientnet_lite0")
    attribution = ex.explain(network, torch.ones(1, 3, 224, 224), "gradient_shap", target=3, samples=2)
    assert [flag.startswith("computed with altered copies of this image") for flag in attribution.flags] == [True]
