"""Counting what goes through all networks, whichever of them a metric or a method uses, and without their own counters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from explainers.networks.classifier import Classifier, Meter


@contextmanager
def counted_walks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Meter]:
    """Within, every image through any classifier is counted, and every gradient back; ``passes`` of what it yields is the sum."""
    total, walk = Meter(), Classifier.walk

    def counting(self, x, rules=None, *, start=None, stop=None):
        out = walk(self, x, rules or {}, start=start, stop=stop)
        fraction = self.cost_fraction(start, stop)
        total.forward(fraction * x.shape[0])
        if out.requires_grad:
            out.register_hook(lambda gradient: total.backward(fraction * gradient.shape[0]))
        return out

    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "walk", counting)
        yield total
