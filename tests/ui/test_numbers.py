"""How numbers are written."""

from __future__ import annotations

import math

import pytest

import explainers as ex
from components.drawing.numbers import fixed, passes_in_words, percent, seconds_in_words, significant


@pytest.mark.parametrize(("value", "text"), [
    (0.12345, "0.123"), (-1234.5, "\u22121.23e3"), (2e-7, "2e\u22127"), (0, "0"), (12.0, "12")])
def test_significant_digits(value, text):
    assert significant(value) == text


@pytest.mark.parametrize(("value", "digits", "text"), [
    (0.12345, 3, "0.123"), (0.12345, 2, "0.12"), (12.3456, 3, "12.35"), (-0.001, 2, "0.00"),
    (-0.51, 2, "\u22120.51"), (math.nan, 2, "none")])
def test_fixed_digits(value, digits, text):
    assert fixed(value, digits) == text


@pytest.mark.parametrize(("forward", "text"), [(1.003, "1 F"), (1.5, "1.5 F"), (0.001, "0.01 F"), (1527, "1,527 F")])
def test_passes_have_no_dangling_point(forward, text):
    """Markdown reads a line that begins with ``1. `` as a list."""
    assert passes_in_words(ex.Passes(forward)) == text


def test_passes_name_their_direction():
    assert passes_in_words(ex.Passes(50, 50)) == "50 F + 50 B" and passes_in_words(ex.Passes()) == "no passes"


@pytest.mark.parametrize(("probability", "text"), [
    (0.5, "50.0 %"), (0.0, "0.0 %"), (0.0004, "&lt; 0.1 %"), (0.0005, "0.1 %"), (-0.25, "\u221225.0 %")])
def test_percentages(probability, text):
    assert percent(probability) == text


@pytest.mark.parametrize(("seconds", "text"), [
    (0.0, "1 ms"), (0.0944, "94 ms"), (0.0951, "0.1 s"), (9.94, "9.9 s"), (9.96, "10 s"), (99, "99 s"), (120, "2 min")])
def test_durations(seconds, text):
    assert seconds_in_words(seconds) == text
