"""Class activation maps and gradient paths on real networks and a real photograph, beside independent libraries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from support.cam_maps import Enlarge, cam_map
from support.captum_maps import prepared, relative_error, table

import explainers as ex
from explainers.methods import guided_integrated_gradients as guided
from explainers.methods.blur_integrated_gradients import blurred
from explainers.networks.checkpoints import read_weights
from explainers.networks.torchvision_models import build

pytestmark = pytest.mark.shared

REAL = {"squeezenet1_0": "squeezenet1_0-imagenet.safetensors", "mobilenet_v2": "mobilenet_v2-imagenet.safetensors"}


@pytest.fixture(scope="module", params=list(REAL))
def real(request, shared_data):
    """A real network, its module made ready for a library's hooks, and a photograph of a dog and a cat."""
    weights = shared_data / "weights" / REAL[request.param]
    network, module = ex.load_model(request.param, weights=weights, device="cpu"), build(request.param)
    module.load_state_dict(read_weights(weights))
    return network, prepared(module), network.preprocess(ex.load_image(shared_data / "imagenet" / "dog_and_cat.png"))


@pytest.mark.parametrize("target", [243, 282])
def test_class_activation_maps_equal_those_of_pytorch_grad_cam(real, target, monkeypatch):
    """Of Score-CAM the 64 strongest channels; Grad-CAM++ differs by what the library adds (see tests/methods/test_cams.py)."""
    network, module, x = real
    layer = module.features
    monkeypatch.setattr("torch.nn.UpsamplingBilinear2d", Enlarge)
    errors = {key: relative_error(ex.explain(network, x, key, target=target).native, cam_map(key, module, layer, x, target))
              for key in ("grad_cam", "layer_cam", "ablation_cam")}
    print(table(errors))
    assert max(errors.values()) < 1e-4, table(errors)


def scipy_blur(image, sigma):
    return gaussian_filter(image, sigma=(0, sigma, sigma), mode="constant") if sigma else image


def test_blur_ig_is_the_authors_rule_but_for_gradients_at_images_that_differ_by_a_rounding(real):
    """ReLUs and max-pools make the gradient jump, so it differs between an image and its blur by SciPy in float64."""
    network, _, x = real
    picture, steps = x[0].double().numpy(), 15
    sigmas = torch.arange(steps + 1, dtype=torch.float64) * 50 / steps
    ours = ex.explain(network, x, "blur_integrated_gradients", target=243, steps=steps).native
    own_images = blurred(x[0], sigmas)
    at_own_images = at_scipys_images = torch.zeros_like(x[0])
    for sigma, image in zip(sigmas[1:-1].tolist(), own_images[1:-1], strict=True):
        at = scipy_blur(picture, sigma)
        slope = torch.from_numpy((scipy_blur(picture, sigma + 0.01) - at) / 0.01).float()
        scipys_image = torch.from_numpy(at).float()
        assert (image - scipys_image).abs().max() < 5e-6
        at_own_images = at_own_images - 50 / steps * slope * network.gradient(image[None], 243)[0]
        at_scipys_images = at_scipys_images - 50 / steps * slope * network.gradient(scipys_image[None], 243)[0]
    errors = {"same images": relative_error(ours, at_own_images), "rounded otherwise": relative_error(ours, at_scipys_images)}
    print(table(errors))
    assert errors["same images"] < 1e-4 and errors["rounded otherwise"] < 0.05, table(errors)


def test_guided_ig_is_the_authors_program_given_the_same_gradients(real, monkeypatch):
    """By itself their path, in float64, soon parts from ours: once a rounding turns a ReLU on or off, other values are moved."""
    saliency = pytest.importorskip("saliency.core.guided_ig")
    network, _, x = real
    quantile = np.quantile
    monkeypatch.setattr(np, "quantile", lambda values, q, interpolation: quantile(values, q, method=interpolation))
    at, gradients = torch.zeros_like(x[0]), []
    for end, left in guided.schedule(x[0], torch.zeros_like(x[0]), guided.Params(steps=8, anchors=0)):
        gradients.append(network.gradient(at[None], 243)[0])
        at = guided.moved(at, end, gradients[-1], left, 0.1)
    given = iter(gradients)
    theirs = saliency.guided_ig_impl(x[0].numpy(), np.zeros(x.shape[1:]), lambda image: next(given).double().numpy(), steps=8,
                                     fraction=0.1, max_dist=1.0)
    ours = ex.explain(network, x, "guided_integrated_gradients", target=243, steps=8, anchors=0).native
    error = relative_error(ours, torch.from_numpy(theirs).float())
    print(f"{error:.1e}")
    assert error < 1e-4
