"""Every method either explains a network or says why it cannot, on twelve kinds of network, as the kept table says."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from support.architectures import ARCHITECTURES

import explainers as ex
from tests.benchmarks import architectures as table


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_every_method_runs_or_says_why_not_as_the_table_says(name):
    assert table.outcomes(name) == table.kept()[name], "python -m tests.benchmarks.architectures writes the table anew"


def test_the_table_holds_every_method_and_every_architecture():
    kept = table.kept()
    assert list(kept) == list(ARCHITECTURES) and all(list(row) == list(ex.methods()) for row in kept.values())
    assert table.TARGET.read_text() == table.table(kept)


@pytest.mark.parametrize(("native", "message"), [
    (torch.zeros(1, 32, 32), "same everywhere"), (torch.full((1, 32, 32), float("nan")), "not finite"), (torch.rand(1, 32, 32), "")])
def test_a_map_that_says_nothing_is_no_success(native, message):
    attribution = SimpleNamespace(native=native, heatmap=lambda: native[0].numpy())
    with pytest.raises(AssertionError, match=message) if message else nullcontext():
        table.check(attribution, "gradient")
