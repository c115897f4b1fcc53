"""How a page writes a number: with a true minus sign, and no more digits than count."""

from __future__ import annotations

import math

from explainers.passes import Passes


def significant(value: float) -> str:
    """Two or three digits that count: an attribution, a logit."""
    return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e").replace("-", "\u2212")


def fixed(value: float, digits: int = 3) -> str:
    """``digits`` behind the point, one less from ten on: probabilities, correlations, distances. What cannot be told is none."""
    if math.isnan(value):
        return "none"
    digits -= abs(value) >= 10
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "\u2212")


def percent(probability: float) -> str:
    """A probability (0 to 1), or a difference of two, as HTML; what rounds to nothing says so."""
    return f"{100 * probability:.1f} %".replace("-", "\u2212") if abs(probability) >= 0.0005 or probability == 0 else "&lt; 0.1 %"


def passes_in_words(passes: Passes) -> str:
    """``50 F + 50 B``: images forward and gradients back; a method that leaves the network alone takes none."""
    parts = [f"{_count(number)} {unit}" for number, unit in ((passes.forward, "F"), (passes.backward, "B")) if number]
    return " + ".join(parts) or "no passes"


def _count(number: float) -> str:
    """Passes may be parts of one: two decimals then, and never a plain zero."""
    return f"{number:,.0f}" if float(number).is_integer() or number >= 100 else f"{max(number, 0.01):.2f}".rstrip("0").rstrip(".")


def seconds_in_words(seconds: float) -> str:
    """A duration with as many digits as matter."""
    if seconds < 0.095:
        return f"{max(1, round(1000 * seconds))} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
