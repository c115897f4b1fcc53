"""Masked input accuracy against one image at a time, and what must hold for any set."""

from __future__ import annotations

import pytest
import torch
from support.counting import counted_walks
from support.networks import classifier, seeded
from torch import nn

import explainers as ex
from explainers.data.labelled import LabelledInputs
from explainers.methods.attribution_mask import BASES, COMPLETE_BASES, masked_inputs
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


@pytest.fixture(scope="module")
def constant():
    """A network that always names class 2."""
    layer = nn.Linear(3 * 32 * 32, 5)
    nn.init.zeros_(layer.weight)
    layer.bias.data = torch.tensor([0.0, 0, 1, 0, 0])
    return classifier(nn.Sequential(nn.Flatten(), layer))


@pytest.mark.parametrize("base", BASES)
def test_it_equals_its_naive_twin(biased, labelled, base):
    images, labels = labelled
    right = torch.zeros(4)
    for x, label in zip(images, labels.tolist(), strict=True):
        masks = ex.explain(biased, x[None], "attribution_mask", target=label, base=base, iterations=3).extras["masks"]
        right += biased.logits(masked_inputs(x[None], masks)).argmax(1) == label
    found = measure(biased, images, labels, base, iterations=3)
    assert found.accuracy == pytest.approx((right / 23).tolist()) and len(set(found.accuracy)) > 1
    assert (found.images, found.base, found.reader, found.reader_accuracy) == (23, base, "", ())


def test_without_biases_the_complete_bases_have_one_accuracy(bias_free, labelled):
    images, labels = labelled[0], torch.arange(23) % 5
    product, *others = (measure(bias_free, images, labels, base, iterations=1).accuracy for base in COMPLETE_BASES)
    assert others == [product, product] and 0 < product[0] < product[1]
    assert measure(bias_free, images, labels, "positive_gradient_x_input", iterations=1).accuracy != product


def test_a_reader_that_is_the_network_reads_as_it_does(biased, labelled):
    result = measure(biased, *labelled, iterations=3, reader=biased)
    assert result.reader_accuracy == result.accuracy == measure(biased, *labelled, iterations=3).accuracy
    assert result.reader == biased.title


def test_a_constant_reader_is_right_as_often_as_its_class_occurs(biased, labelled, constant):
    result = measure(biased, *labelled, iterations=2, reader=constant)
    frequency = float((labelled[1] == 2).float().mean())
    assert result.reader_accuracy == pytest.approx([frequency] * 3) and 0 < frequency < 1
    assert result.accuracy == measure(biased, *labelled, iterations=2).accuracy


def test_another_reader_reads_the_masked_images(biased, bias_free, labelled):
    images, labels = labelled
    right = torch.zeros(3)
    for x, label in zip(images, labels.tolist(), strict=True):
        masks = ex.explain(biased, x[None], "attribution_mask", target=label, iterations=2).extras["masks"]
        right += bias_free.logits(masked_inputs(x[None], masks)).argmax(1) == label
    result = measure(biased, images, labels, iterations=2, reader=bias_free)
    assert result.reader_accuracy == pytest.approx((right / 23).tolist()) and result.reader_accuracy != result.accuracy


def test_a_reader_of_other_classes_is_refused(biased, labelled):
    other = classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4)), classes=4)
    with pytest.raises(ex.UnsupportedError, match="other classes"):
        measure(biased, *labelled, iterations=1, reader=other)


def test_the_reader_decides_the_key(biased, bias_free, labelled):
    keys = {ex.judge("masked_input_accuracy", LabelledInputs.given(biased, *labelled, reader=reader)).key
            for reader in (None, biased, bias_free)}
    assert len(keys) == 3


@pytest.mark.parametrize("base", ["gradient_x_sign", "deep_lift", "integrated_gradients"])
@pytest.mark.parametrize("with_reader", [False, True])
def test_the_declared_passes_are_the_counted_ones(biased, bias_free, labelled, monkeypatch, base, with_reader):
    images, labels = labelled
    inputs = LabelledInputs.given(biased, images[:4], labels[:4], reader=bias_free if with_reader else None)
    measurement = ex.judge("masked_input_accuracy", inputs, base=base, iterations=2)
    with counted_walks(monkeypatch) as total:
        result = measurement.run()
    assert total.passes == result.passes == measurement.passes()
    each = {"gradient_x_sign": (1, 1), "deep_lift": (2, 2), "integrated_gradients": (51, 50)}[base]
    assert result.passes == ex.Passes(4 * (2 * each[0] + 1 + 3 * with_reader), 8 * each[1])


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
    found = measure(biased, *labelled, iterations=3, progress=lambda done, total, preview: heard.append(done / total))
    assert found.passes == ex.Passes(forward=23 * 4, backward=23 * 3)
    assert heard == sorted(heard) and heard[-1] == 1 and len(set(heard)) >= 3
    heard.clear()
    measure(biased, *labelled, base="integrated_gradients", iterations=2,
            progress=lambda done, total, preview: heard.append(done / total))
    assert heard == sorted(heard) and heard[-1] == 1 and len(set(heard)) >= 99


def test_it_can_be_stopped(biased, labelled):
    with pytest.raises(ex.Cancelled):
        measure(biased, *labelled, progress=lambda done, total, preview: False)


def test_bad_sets_are_refused(biased, labelled):
    images, labels = labelled
    with pytest.raises(ex.ExplainerError, match="one label"):
        measure(biased, images, labels[:-1])
    with pytest.raises(ex.ExplainerError, match="0 images"):
        measure(biased, images[:0], labels[:0])
    with pytest.raises(ex.ParameterError, match="'deep_lift', not 'smoothgrad'"):
        measure(biased, images, labels, base="smoothgrad")
