"""Maps in words: where they are strongest, and how much of them is in the middle, concentrated and negative."""

from __future__ import annotations

import numpy as np
import pytest

from components.drawing import map_words


def test_the_words_of_a_map_with_known_numbers():
    values = np.zeros((100, 100), np.float32)
    values[10, 90], values[50, 50], values[80, 5] = 3, 1, -1
    assert map_words.in_words(values) == (
        "from \u22121 to 3, strongest at the upper right; 25 % of its positive attribution lies in the middle half of the picture, "
        "half of all in 1 % of the pixels; 20 % of all is negative")


@pytest.mark.parametrize(("row", "column", "words"), [
    (0, 0, "upper left"), (29, 45, "upper centre"), (45, 45, "centre"), (45, 89, "right"), (89, 30, "lower centre"),
    (60, 59, "lower centre"), (59, 29, "left")])
def test_the_place_is_one_of_nine(row, column, words):
    assert map_words.place(row * 90 + column, (90, 90)) == words


def test_the_middle_is_half_of_the_picture():
    inside = np.zeros((224, 224), bool)
    inside[map_words.middle(inside.shape)] = True
    assert abs(inside.mean() - 0.5) < 0.01 and np.array_equal(inside, inside[::-1, ::-1])


def test_maps_without_a_positive_part_and_blank_maps():
    values = np.zeros((9, 9))
    assert map_words.in_words(values) == "zero everywhere"
    assert map_words.in_words(values + 2) == "2 everywhere"
    values[8, 8] = -1
    assert map_words.in_words(values) == "from \u22121 to 0, nothing in it is positive; most negative at the lower right"
