"""How a page writes a number: with a true minus sign, and no more digits than count."""

from __future__ import annotations

import math


def significant(value: float) -> str:
    """Two or three digits that count: an attribution, a logit."""
    return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e").replace("-", "\u2212")


def fixed(value: float, digits: int = 3) -> str:
    """``digits`` behind the point, one less from ten on: probabilities, correlations, distances. What cannot be told is none."""
    if math.isnan(value):
        return "none"
    digits -= abs(value) >= 10
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "\u2212")
