"""The comparison of the papers' rankings with ours: orders, agreement, and which pairs count as the other way."""

from __future__ import annotations

import pytest

from tests.benchmarks import rankings

PAPER = {"a": 0.3, "b": 0.2, "c": 0.1}


def cells(error: float, **means: float) -> dict[str, dict[str, float]]:
    return {name: {"mean": mean, "error": error, "n": 30} for name, mean in means.items()}


def test_the_order_begins_with_the_best():
    assert rankings.order(PAPER, higher_is_better=True) == ["a", "b", "c"]
    assert rankings.order(PAPER, higher_is_better=False) == ["c", "b", "a"]


def test_the_agreement_is_one_for_the_same_order_and_minus_one_for_the_reverse():
    assert rankings.agreement(PAPER, {"c": 1.0, "b": 2.0, "a": 9.0}) == pytest.approx(1)
    assert rankings.agreement(PAPER, {"a": 1.0, "b": 2.0, "c": 9.0}) == pytest.approx(-1)
    assert rankings.agreement(PAPER, {"a": 3.0, "b": 1.0, "c": 2.0}) == pytest.approx(1 / 3)


def test_a_pair_is_the_other_way_only_beyond_two_errors_of_the_difference():
    assert rankings.reversed_pairs(PAPER, cells(0.01, a=0.1, b=0.2, c=0.0)) == [("b", "a")]
    assert rankings.reversed_pairs(PAPER, cells(0.04, a=0.1, b=0.2, c=0.0)) == []
    assert rankings.reversed_pairs(PAPER, cells(0.01, a=0.9, b=0.2, c=0.0)) == []


def test_every_ranking_has_results_and_at_least_three_methods():
    for ranking in rankings.declared():
        assert ranking["better"] in ("higher", "lower") and ranking["verdict"].strip()
        assert len(rankings.measured(ranking)) == len(ranking["methods"]) >= 3
