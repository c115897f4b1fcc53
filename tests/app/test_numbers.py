"""How numbers are written."""

from __future__ import annotations

import math

import pytest

from components.numbers import fixed, significant


@pytest.mark.parametrize(("value", "text"), [
    (0.12345, "0.123"), (-1234.5, "\u22121.23e3"), (2e-7, "2e\u22127"), (0, "0"), (12.0, "12")])
def test_significant_digits(value, text):
    assert significant(value) == text


@pytest.mark.parametrize(("value", "digits", "text"), [
    (0.12345, 3, "0.123"), (0.12345, 2, "0.12"), (12.3456, 3, "12.35"), (-0.001, 2, "0.00"),
    (-0.51, 2, "\u22120.51"), (math.nan, 2, "none")])
def test_fixed_digits(value, digits, text):
    assert fixed(value, digits) == text
