"""What a person selects on a picture that plotly draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def percents(values: Sequence[float] | np.ndarray, side: int) -> np.ndarray:
    """Pixel coordinates, in which pixel i covers i - 0.5 to i + 0.5, in percent of a side of so many pixels, cut to 0..100."""
    return np.clip(100 * (np.asarray(values, float) + 0.5) / side, 0, 100)
