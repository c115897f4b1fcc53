"""A classifier preprocesses as torchvision does, counts passes, checks targets, and never changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from support.networks import classifier, residual_module

import explainers as ex
from explainers.networks import torchvision_models
from explainers.networks.preprocessing import Preprocessing
from explainers.target import Target


def photo(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("name", ["squeezenet1_0", "efficientnet_b0"])
@pytest.mark.parametrize("size", [(300, 200), (224, 224), (201, 483), (256, 256)])
def test_preprocessing_equals_torchvisions_transforms(name, size):
    transform = torchvision_models.published(name).transforms()
    ours = torchvision_models.preprocessing(name).tensor(photo(*size))
    theirs = transform(photo(*size))[None]
    assert torch.allclose(ours, theirs, atol=2e-6)


def test_the_crop_box_is_what_is_seen():
    image = Image.new("RGB", (400, 200), "black")
    box = Preprocessing(256, 224).crop_box(image.size)
    assert box == (112.5, 12.5, 287.5, 187.5)
    image.paste("white", tuple(round(v) for v in box))
    assert np.asarray(Preprocessing(256, 224).seen(image)).mean() > 250


def test_pixels_is_the_inverse_of_normalise():
    prep, pixels = Preprocessing(8, 8), torch.rand(2, 3, 8, 8)
    assert torch.allclose(prep.pixels(prep.normalise(pixels)), pixels, atol=1e-6)


def test_grey_networks_get_one_channel():
    prep = Preprocessing(28, 28, (0.0,), (1.0,))
    assert prep.tensor(photo(64, 64)).shape == (1, 1, 28, 28)


def test_the_fingerprint_follows_weights_and_preprocessing():
    module = residual_module()
    first = classifier(module).fingerprint
    assert first == classifier(residual_module()).fingerprint
    with torch.no_grad():
        module[0].bias[0] += 1e-6
    assert classifier(module).fingerprint != first
    assert classifier(residual_module(), side=64).fingerprint != first


def test_the_gradient_is_autograds(toy, image):
    x = image.clone().requires_grad_(True)
    logits = residual_module().eval()(x)
    assert torch.allclose(toy.gradient(image, 3), torch.autograd.grad(logits[0, 3], x, retain_graph=True)[0], atol=1e-7)
    assert torch.allclose(toy.gradient(image, (3, 1)), torch.autograd.grad(logits[0, 3] - logits[0, 1], x)[0], atol=1e-7)


def test_the_meter_counts_images_forward_and_gradients_back(toy, image):
    view = toy.metered()
    view.logits(image.repeat(3, 1, 1, 1))
    view.gradient(image.repeat(2, 1, 1, 1), 0)
    assert view.meter.passes == ex.Passes(5, 2) and toy.meter is None


def test_a_part_counts_as_its_share_of_the_multiplications(toy, image):
    view, middle = toy.metered(), toy.features.default
    maps = view.walk(image.repeat(3, 1, 1, 1), stop=middle).requires_grad_(True)
    below, above = toy.cost_fraction(None, middle), toy.cost_fraction(middle)
    assert 0 < above < below < 1 and below + above == pytest.approx(1) and toy.cost_fraction() == 1
    assert view.meter.passes == ex.Passes(3 * below, 0)
    view.walk(maps, start=middle).sum().backward()
    assert view.meter.passes.forward == pytest.approx(3) and view.meter.passes.backward == pytest.approx(3 * above)
    assert above == pytest.approx(12 * 5 / sum(shape.macs for shape in toy.shapes.values()))


def test_targets(toy, image):
    assert toy.target(image, None) == Target((int(toy.predict(image).argmax()),))
    assert toy.target(image, 3) == Target((3,)) == toy.target(image, Target((3,)))
    assert toy.target(image, [1, 2]) == Target((1, 2))
    for wrong in (5, -1, True, 1.0, (1, 1), (1, 9), (1, 2, 3), Target((5,)), Target(())):
        with pytest.raises(ex.ExplainerError):
            toy.target(image, wrong)


def test_a_wrong_shape_is_refused_with_the_right_one(toy):
    with pytest.raises(ex.ExplainerError, match=r"\(N, 3, 32, 32\), not \(1, 3, 16, 16\)"):
        toy.logits(torch.zeros(1, 3, 16, 16))


def test_an_unknown_layer_is_refused_with_those_there_are(toy):
    with pytest.raises(ex.ExplainerError, match="it has .*relu"):
        toy.feature_layer("layer99")


def test_what_a_network_lacks_is_said(linear):
    methods = ex.methods()
    assert "spatial feature map" in methods["grad_cam"].lacks(linear)
    assert "ReLU" in methods["guided_backprop"].lacks(linear)
    assert methods["gradient"].lacks(linear) is None
