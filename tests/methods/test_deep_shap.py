"""DeepSHAP against Captum's, as the mean of DeepLIFT, and the sum that it promises."""

from __future__ import annotations

import captum.attr as ca
import pytest
import torch
from methods.test_deep_lift import embedded_module, scene
from support.captum_maps import relative_error
from support.networks import drawn_images
from torch.nn import functional as F

import explainers as ex
from explainers.data.reference import ReferenceSet, from_pictures
from explainers.methods import reference_pictures


def drawn_set(images, private=False):
    return ReferenceSet("drawn", "drawn", len(images), lambda start, stop: images[start:stop], private=private)


@pytest.mark.parametrize("name", ["scenes_vgg", "scenes_nib_vgg"])
def test_it_equals_captums(name):
    network = ex.load_model(name)
    x = scene(network)
    references = torch.cat([scene(network, place) for place in (1, 2)])
    ours = ex.explain(network, x, "deep_shap", target=3, images=2, reference=drawn_set(references)).native[None]
    theirs = ca.DeepLiftShap(embedded_module(name)).attribute(x, references, target=3).detach()
    assert relative_error(ours, theirs) < 1e-4


def test_it_sums_to_the_logit_minus_the_references_mean(toy, image):
    references = drawn_images(6, seed=9)
    attribution = ex.explain(toy, image, "deep_shap", target=(1, 4), images=6, reference=drawn_set(references))
    score = attribution.target.score
    expected = float(score(toy.logits(image)) - score(toy.logits(references)).mean())
    assert float(attribution.native.sum()) == pytest.approx(expected, abs=1e-4) and abs(expected) > 0.005
    assert attribution.extras["parts"] == pytest.approx([expected, float(score(toy.logits(references)).mean())], abs=1e-4)


def test_it_is_deep_lift_where_all_references_are_its_baseline(toy, image):
    lift = ex.explain(toy, image, "deep_lift", target=1).native
    shap = ex.explain(toy, image, "deep_shap", target=1, images=5, reference=drawn_set(torch.zeros(5, 3, 32, 32))).native
    assert relative_error(shap, lift) < 1e-5


def test_on_a_linear_network_it_is_the_weights_times_the_difference_from_the_mean(linear, image):
    references = drawn_images(4, seed=5)
    weight = linear.graph.module.get_submodule("1").weight[2].view(1, 3, 32, 32)
    ours = ex.explain(linear, image, "deep_shap", target=2, images=4, reference=drawn_set(references)).native[None]
    assert relative_error(ours, weight * (image - references.mean(0))) < 1e-5


def test_pictures_of_a_folder_are_taken_at_equal_distances(toy, image, context_of):
    shades = torch.arange(10.0).view(10, 1, 1, 1).expand(-1, 3, 32, 32)
    for private, expected in ((True, [0, 3, 6]), (False, [0, 1, 2])):
        drawn = reference_pictures.pictures(toy, image, 3, context_of(toy, drawn_set(shades, private)))
        assert drawn.draw(0, 3)[:, 0, 0, 0].tolist() == expected


@pytest.fixture()
def context_of():
    from explainers.context import Context

    return lambda network, reference: Context(network, reference=reference)


def test_statistics_without_pictures_are_replaced_by_copies_and_the_map_says_so():
    network = ex.load_model("efficientnet_lite0")
    x = F.interpolate(drawn_images(1, seed=2, side=14), size=(224, 224), mode="bilinear")
    attribution = ex.explain(network, x, "deep_shap", target=3, images=1)
    assert reference_pictures.NOT_HERE in attribution.flags and attribution.native.any()


def test_uploaded_pictures_are_used_as_they_are(toy, image):
    from PIL import Image

    reference = from_pictures(toy, [Image.new("RGB", (32, 32), colour) for colour in ("black", "white", "red")])
    attribution = ex.explain(toy, image, "deep_shap", target=1, images=50, reference=reference)
    assert attribution.flags == () and attribution.extras["reference_images"] == 3
