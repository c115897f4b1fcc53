"""Masked input accuracy against one image at a time, and what must hold for any set."""

from __future__ import annotations

import pytest
import torch
from support.networks import classifier, seeded
from torch import nn

import explainers as ex
from explainers.methods.attribution_mask import ONE_PASS_BASES, masked_inputs
from explainers.metrics.masked_input_accuracy import measure


@pytest.fixture(scope="module")
def biased():
    """A network with biases whose answers differ from image to image."""
    return classifier(seeded(lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(8 * 64, 5)), 3))


@pytest.fixture(scope="module")
def labelled(biased):
    """Images of which the network gets some right and some wrong."""
    images = torch.randn(23, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    labels = biased.logits(images).argmax(1)
    labels[::3] = (labels[::3] + 1) % 5
    return images, labels


@pytest.mark.parametrize("base", ONE_PASS_BASES)
def test_it_equals_its_naive_twin(biased, labelled, base):
    images, labels = labelled
    right = torch.zeros(4)
    for x, label in zip(images, labels.tolist(), strict=True):
        masks = ex.explain(biased, x[None], "attribution_mask", target=label, base=base, iterations=3).extras["masks"]
        right += biased.logits(masked_inputs(x[None], masks)).argmax(1) == label
    found = measure(biased, images, labels, base, iterations=3)
    assert found.accuracy == pytest.approx((right / 23).tolist()) and len(set(found.accuracy)) > 1
    assert (found.images, found.base) == (23, base)


def test_before_any_mask_it_is_the_plain_accuracy(biased, labelled):
    images, labels = labelled
    plain = float((biased.predict(images).argmax(1) == labels).float().mean())
    assert measure(biased, images, labels, iterations=0).accuracy == pytest.approx((plain,)) and 0.5 < plain < 0.8
    assert measure(biased, images, labels, iterations=2).accuracy[0] == pytest.approx(plain)


def test_the_batch_size_does_not_matter(biased, labelled, monkeypatch):
    expected = measure(biased, *labelled, iterations=3)
    monkeypatch.setattr("explainers.context.fitting_batch", lambda network: 5)
    assert measure(biased, *labelled, iterations=3) == expected


def test_the_label_leaks(bias_free, labelled):
    """Masks made for a wrong label make the network name it more often: no accuracy could do that."""
    images, _ = labelled
    wrong = (bias_free.predict(images).argmax(1) + 1) % 5
    found = measure(bias_free, images, wrong, iterations=4).accuracy
    assert found[0] == 0 and max(found) > 0.5


def test_one_pass_an_image_and_iteration(biased, labelled):
    heard = []
    found = measure(biased, *labelled, iterations=3, progress=lambda done, total, preview: heard.append((done, total)))
    assert found.passes == ex.Passes(forward=23 * 4, backward=23 * 3) and heard[-1] == (23, 23)


def test_it_can_be_stopped(biased, labelled):
    with pytest.raises(ex.Cancelled):
        measure(biased, *labelled, progress=lambda done, total, preview: False)


def test_bad_sets_are_refused(biased, labelled):
    images, labels = labelled
    with pytest.raises(ex.ExplainerError, match="one label"):
        measure(biased, images, labels[:-1])
    with pytest.raises(ex.ExplainerError, match="0 images"):
        measure(biased, images[:0], labels[:0])
    with pytest.raises(ex.ParameterError, match="'guided_backprop', not 'integrated_gradients'"):
        measure(biased, images, labels, base="integrated_gradients")
