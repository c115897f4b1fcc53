"""Grey values beyond 8 bits (16-bit, 32-bit, floating-point) shown as 8 bits through a window, as radiologists do.

A window has a level (the value shown as middle grey) and a width (the range of values from black to white). The rule is the linear
one of DICOM PS3.3 section C.11.2.1.3.2 (LINEAR_EXACT): level - width/2 becomes 0, level + width/2 becomes 255, what lies outside is
black or white. Values that are not a number stand for pixels without a value and are shown white, as transparent pixels are.
"""

from __future__ import annotations

import numpy as np

SIXTEEN_BITS = 65535
PERCENTILES = (0.5, 99.5)
SAMPLED = 1_000_000  # of a larger picture about so many values, evenly spaced, give the percentiles
AT_ONCE = 1_000_000  # values that are calculated with together, because each step of a large picture's calculation takes 160 MB


def first_window(values: np.ndarray) -> tuple[tuple[float, float], bool]:
    """The (level, width) that a picture opens with, and whether it is the whole range of 16 bits.

    Whole numbers from 0 to 65535 that use the upper half of that range, or are all the same, are shown by the whole range. Other
    values: from the 0.5 to the 99.5 percentile, so that single hot or dead pixels decide nothing.
    """
    is_finite = np.isfinite(values)
    finite = values.reshape(-1) if is_finite.all() else values[is_finite]
    low, high = float(finite.min()), float(finite.max())
    sixteen_bits = 0 <= low and high <= SIXTEEN_BITS and (high > SIXTEEN_BITS / 2 or low == high) and _are_whole(finite)
    if sixteen_bits:
        return (SIXTEEN_BITS / 2, float(SIXTEEN_BITS)), True
    low, high = (float(edge) for edge in np.percentile(finite[:: max(1, finite.size // SAMPLED)], PERCENTILES))
    return (_rounded((low + high) / 2), _rounded(high - low) or 1.0), False


def eight_bits(values: np.ndarray, level: float, width: float, inverted: bool = False) -> np.ndarray:
    """Values of any shape through a window, as uint8. A window of width 0 is black below its level and white from there on.

    ``inverted``: small values are white, large ones black.
    """
    flat, shown = values.reshape(-1), np.empty(values.size, np.uint8)
    for start in range(0, values.size, AT_ONCE):
        shown[start:start + AT_ONCE] = _part(flat[start:start + AT_ONCE], level, width, inverted)
    return shown.reshape(values.shape)


def _part(values: np.ndarray, level: float, width: float, inverted: bool) -> np.ndarray:
    """``eight_bits`` of some values (n,)."""
    if width > 0:
        grey = (values - np.float32(level - width / 2)) * np.float32(255 / width)
    else:
        grey = np.where(values >= level, np.float32(255), np.float32(0))
        grey[np.isnan(values)] = np.nan
    grey = np.clip(grey, 0, 255)
    if inverted:
        grey = 255 - grey
    return (np.nan_to_num(grey, nan=255) + 0.5).astype(np.uint8)  # adding a half before cutting off rounds to the nearest


def _are_whole(values: np.ndarray) -> bool:
    parts = (values[start:start + AT_ONCE] for start in range(0, values.size, AT_ONCE))
    return all(bool((part == np.trunc(part)).all()) for part in parts)


def _rounded(value: float) -> float:
    """Four significant digits: a window is typed and read by people."""
    return float(f"{value:.4g}")
