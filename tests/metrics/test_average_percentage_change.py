"""The average percentage change: by hand, at its edges, and 0 where the source signal keeps everything."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.networks import classifier, residual_module

import explainers as ex
from explainers.data.reference import ReferenceSet
from explainers.encoding import decode, encode
from explainers.metrics.average_percentage_change import measure, percentage_change


def drawn(count, seed=5):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def test_it_is_the_mean_over_images_and_then_over_classes():
    before = torch.tensor([10.0, 10.0, -4.0])
    after = torch.tensor([8.0, 14.0, -3.0])  # changes 0.2, -0.4 of class 0; -0.25 of class 7
    found = percentage_change(before, after, torch.tensor([0, 0, 7]))
    assert found.mean == pytest.approx((0.3 + 0.25) / 2) and found.positive == pytest.approx((0.1 + 0) / 2)
    assert found.median == pytest.approx((0.3 + 0.25) / 2) and (found.images, found.skipped) == (3, 0)


def test_it_keeps_the_logits_of_every_image_and_its_error_over_the_classes():
    before, after, labels = torch.tensor([10.0, 0.0, 10.0, -4.0]), torch.tensor([8.0, 1.0, 14.0, -3.0]), torch.tensor([0, 0, 0, 7])
    change = percentage_change(before, after, labels)
    for kept, given in ((change.before, before), (change.after, after), (change.labels, labels)):
        assert np.array_equal(kept, given.numpy())
    assert change.error == pytest.approx((0.3 - 0.25) / 2)  # of two values: half their difference
    assert change.positive_error == pytest.approx((0.1 - 0) / 2)
    assert np.isnan(percentage_change(before[:1], after[:1], labels[:1]).error)
    again = decode(encode(change))
    assert np.array_equal(again.after, change.after) and again.mean == change.mean


def test_an_image_without_a_logit_is_left_out_and_told():
    found = percentage_change(torch.tensor([0.0, 2.0]), torch.tensor([5.0, 1.0]), torch.tensor([0, 0]))
    assert found.mean == 0.5 and (found.images, found.skipped) == (1, 1)
    with pytest.raises(ex.ExplainerError, match="logit other than zero"):
        percentage_change(torch.zeros(2), torch.ones(2), torch.zeros(2))


def test_one_tiny_logit_moves_the_mean_and_not_the_median():
    before, after = torch.full((9,), 10.0), torch.full((9,), 9.0)
    before[0] = 1e-3
    found = percentage_change(before, after, torch.zeros(9))
    assert found.mean > 900 and found.median == pytest.approx(0.1)


def test_shapes_must_agree():
    with pytest.raises(ex.ExplainerError, match="two logits and a label"):
        percentage_change(torch.ones(3), torch.ones(3), torch.ones(2))


def test_a_linear_networks_source_signals_change_nothing(linear):
    reference = ReferenceSet("drawn", "drawn", 150, lambda start, stop: drawn(150)[start:stop])
    heard = []
    found = measure(linear, drawn(30, 6), torch.arange(30) % 5, reference, images=150, ridge="paper",
                    progress=lambda done, total, preview: heard.append(done / total))
    assert found.mean < 0.01 and found.images == 30
    assert heard == sorted(heard) and heard[-1] == 1


def test_what_it_needs_is_said():
    network = classifier(residual_module())
    reference = ReferenceSet("drawn", "drawn", 20, lambda start, stop: drawn(20)[start:stop])
    with pytest.raises(ex.ExplainerError, match="one label"):
        measure(network, drawn(3), torch.zeros(2, dtype=torch.long), reference)
    with pytest.raises(ex.ParameterError, match="has no parameter 'images_'"):
        measure(network, drawn(3), torch.zeros(3, dtype=torch.long), reference, images_=5)
    with pytest.raises(ex.Cancelled):
        measure(network, drawn(3), torch.zeros(3, dtype=torch.long), reference, images=20, progress=lambda *heard: False)
