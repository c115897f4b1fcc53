"""LIME, KernelSHAP and XRAI on two real networks: the packages ``lime`` and ``shap``, and a photograph of a dog and a cat."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.captum_maps import relative_error
from support.lime_package import package_fit

import explainers as ex
from explainers.context import Context
from explainers.methods import lime
from explainers.segments import superpixels

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module", params=["squeezenet1_0", "efficientnet_lite0"])
def dog_and_cat(request, shared_data):
    """A real network, and the photograph with a dog (class 243) above a cat (282), 224 pixels a side."""
    weights = shared_data / "weights" / "squeezenet1_0-imagenet.safetensors" if request.param == "squeezenet1_0" else None
    network = ex.load_model(request.param, weights=weights, device="cpu")
    return network, network.preprocess(ex.load_image(shared_data / "imagenet" / "dog_and_cat.png"))


def test_lime_equals_the_authors_package(dog_and_cat):
    network, x = dog_and_cat
    labels = superpixels(network.preprocessing.pixels(x)[0], "quickshift", 200)
    visible = lime.draw_copies(100, int(labels.max()) + 1, Context(network, seed=2).generator(1))
    theirs, score = package_fit(network, x, labels, visible, 243)
    ours = ex.explain(network, x, "lime", target=243, samples=100, seed=2)
    values = torch.stack([ours.native[0][labels == label][0] for label in range(len(theirs))])
    error = relative_error(values, theirs)
    print(f"{network.name}: {len(theirs)} superpixels, relative error {error:.1e}, R squared {score:.3f}")
    assert error < 1e-4 and ours.extras["r_squared"] == pytest.approx(score, rel=1e-3)


def test_kernel_shaps_exact_values_equal_the_authors_package(dog_and_cat):
    shap = pytest.importorskip("shap", reason="the package shap is not installed")
    network, x = dog_and_cat
    labels = superpixels(network.preprocessing.pixels(x)[0], "quickshift", 6)

    def logit(rows):
        visible = torch.from_numpy(np.asarray(rows) > 0.5)
        with torch.inference_mode():
            return network.logits(torch.where(visible[:, labels][:, None], x, torch.zeros_like(x)))[:, 243].double().numpy()

    theirs = shap.KernelExplainer(logit, np.zeros((1, 6))).shap_values(np.ones((1, 6)), nsamples=64, l1_reg=0.0, silent=True)[0]
    ours = ex.explain(network, x, "kernel_shap", target=243, samples=64, segments=6)
    values = torch.stack([ours.native[0][labels == label][0] for label in range(6)])
    error = relative_error(values.double(), torch.from_numpy(theirs))
    print(f"{network.name}: relative error {error:.1e}")
    assert ours.extras["exact"] == "exact" and error < 1e-4


@pytest.mark.parametrize(("key", "settings"), [("lime", {"samples": 200, "output": "logit"}), ("kernel_shap", {"samples": 200}),
                                               ("xrai", {"steps": 8, "channels": "sum"})])
def test_the_map_moves_from_the_dog_to_the_cat(dog_and_cat, key, settings):
    network, x = dog_and_cat
    dog, cat = (ex.explain(network, x, key, target=target, **settings).heatmap() for target in (243, 282))
    difference = dog - cat
    print(f"{network.name}, {key}: mean of the difference above {difference[:112].mean():.2e}, below {difference[112:].mean():.2e}")
    assert difference[:112].mean() > 0 > difference[112:].mean()
