"""What RESULTS.md says about the papers' tables: every number comes from a kept result, and every item has a verdict."""

from __future__ import annotations

import pytest

from tests.benchmarks import papers

CELL = {"mean": -0.5, "error": 0.25, "n": 3}


def test_a_value_has_its_error_and_the_number_of_images():
    assert papers.in_words(CELL, ".2f") == ("−0.50 ± 0.25", 3)
    assert papers.in_words({"mean": None, "error": None, "n": 0}, ".2f") == ("–", 0)
    assert papers.in_words({"mean": 1.0, "error": None, "n": 1}, ".1f") == ("1.0", 1)
    assert papers.in_words(-2.0, ".1f") == ("−2.0", None)


def test_the_number_of_images_is_named_where_it_changes(monkeypatch):
    kept = {"a": CELL, "b": CELL, "c": {**CELL, "n": 4}, "d": 7.0, "e": {**CELL, "n": 4}}
    monkeypatch.setattr(papers, "result_of", lambda reference: kept[reference["label"]])
    words = papers.measured([{"label": label, "format": ".1f"} for label in kept])
    assert [word.endswith(")") for word in words] == [True, False, True, False, False]
    assert words[2] == "c −0.5 ± 0.2 (n = 4)" and words[3] == "d 7.0"


def test_a_result_that_is_not_there_is_an_error():
    with pytest.raises(LookupError, match="0 results"):
        papers.result_of({"from": "dmbp", "of": {"method": "astrology"}, "field": "insertion"})


def test_every_item_of_the_five_papers_has_what_it_needs():
    declared = papers.items()
    assert len({item["paper"] for item in declared}) == 5 and len(declared) > 35
    for item in declared:
        assert all(len(item[key].strip("? ")) > 0 for key in ("what", "has", "differs", "verdict")), item["what"]
        measured = bool(item.get("ours")) or "view" in item
        assert measured or item["verdict"].startswith(("Nothing to measure", "Not measured")), item["what"]
