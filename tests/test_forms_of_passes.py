"""The benchmarks that compare forms of the passes: what they run, and how they compare maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.networks import drawn_images
from torch import nn

import explainers as ex
from tests.benchmarks import format_and_batch, reduced_precision


class Doubled(nn.Module):
    """Twice the logits of a module."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return 2 * self.module(x)


def test_a_view_makes_its_passes_by_the_other_module(toy):
    x = drawn_images(2, seed=1)
    view = reduced_precision.through(toy, Doubled(toy.module))
    assert torch.allclose(reduced_precision.forward(view, x), 2 * reduced_precision.forward(toy, x), rtol=1e-5)
    ours, exact = (ex.explain(network, x[:1], "occlusion", target=1, tiles=4).heatmap() for network in (view, toy))
    np.testing.assert_allclose(ours, 2 * exact, rtol=1e-4, atol=1e-5)
    assert toy.graph is not None and view.graph is None


def test_errors_of_maps_that_are_known():
    exact = np.arange(12.0).reshape(3, 4)
    moved = exact.copy()
    moved[0, 0] += 5.5
    assert reduced_precision.errors([exact], [exact]) == {"rank": pytest.approx(1), "difference": 0}
    assert reduced_precision.errors([exact, -exact], [exact, exact]) == {"rank": pytest.approx(-1), "difference": pytest.approx(2)}
    assert reduced_precision.errors([moved], [exact])["difference"] == pytest.approx(0.5)


def test_formats_are_of_copies_with_the_same_values(toy):
    before = [weight.stride() for weight in toy.module.parameters()]
    forms = format_and_batch.forms_of(toy)
    module, _ = forms["both channels_last"]
    kernels = [weight for weight in module.parameters() if weight.dim() == 4]
    assert kernels and all(weight.is_contiguous(memory_format=torch.channels_last) for weight in kernels)
    assert all(weight.is_contiguous() for weight in forms["contiguous"][0].parameters())
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), toy.module.parameters(), strict=True))
    assert [weight.stride() for weight in toy.module.parameters()] == before


def test_every_batch_and_format_is_timed(toy):
    best = format_and_batch.least_milliseconds(toy, (1, 2), iter(range(10**6)).__next__, 0.0)
    assert set(best) == {(batch, name) for batch in (1, 2) for name in format_and_batch.forms_of(toy)}
    assert {batch: pair for (batch, _), pair in best.items()} == {1: [1000, 1000], 2: [500, 500]}
