"""A map in words with its numbers, for people who do not see it."""

from __future__ import annotations

import math

import numpy as np

from components.drawing.numbers import significant

ROWS, COLUMNS = ("upper", "", "lower"), ("left", "centre", "right")
MIDDLE = 1 / math.sqrt(2)  # of each side: the box around the middle that covers half of the picture


def in_words(values: np.ndarray) -> str:
    """The range of a map (H, W), where its highest value lies, and how much of it is in the middle, concentrated and negative."""
    values = np.nan_to_num(values).astype(np.float64)
    if not values.any():
        return "zero everywhere"
    spread = f"from {significant(float(values.min()))} to {significant(float(values.max()))}"
    if values.min() == values.max():
        return f"{significant(float(values.max()))} everywhere"
    positive, strength = np.maximum(values, 0), np.abs(values)
    if not positive.any():
        return f"{spread}, nothing in it is positive; most negative at the {place(values.argmin(), values.shape)}"
    inside = positive[middle(values.shape)].sum() / positive.sum()
    ordered = np.sort(strength, axis=None)[::-1].cumsum()
    half = (np.searchsorted(ordered, ordered[-1] / 2) + 1) / values.size
    against = 1 - positive.sum() / strength.sum()
    negative = f"; {100 * against:.0f} % of all is negative" if against > 0 else ""
    return (f"{spread}, strongest at the {place(values.argmax(), values.shape)}; {100 * inside:.0f} % of its positive attribution "
            f"lies in the middle half of the picture, half of all in {max(1, round(100 * half))} % of the pixels{negative}")


def place(index: int | np.intp, shape: tuple[int, ...]) -> str:
    """In which ninth of a map (H, W) the pixel with this flat index lies: "upper left", "left", "centre"."""
    row, column = (3 * int(at) // side for at, side in zip(np.unravel_index(index, shape), shape, strict=True))
    return f"{ROWS[row]} {COLUMNS[column]}".strip()


def middle(shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The rows and columns of the box around the middle that covers half of a map (H, W), to the nearest pixel."""
    edges = [round(side * (1 - MIDDLE) / 2) for side in shape]
    return slice(edges[0], shape[0] - edges[0]), slice(edges[1], shape[1] - edges[1])
