"""How a page writes a number: with a true minus sign and only its significant digits."""

from __future__ import annotations

import math

from explainers.passes import Passes


def significant(value: float) -> str:
    """Three significant digits, for attributions and logits."""
    return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e").replace("-", "\u2212")


def fixed(value: float, digits: int = 3) -> str:
    """``digits`` decimals, one less from ten on, for probabilities, correlations and distances; NaN is written as none."""
    if math.isnan(value):
        return "none"
    digits -= abs(value) >= 10
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "\u2212")


def percent(probability: float) -> str:
    """A probability (0 to 1), or a difference of two, as HTML; below 0.05 % it is written as < 0.1 %."""
    return f"{100 * probability:.1f} %".replace("-", "\u2212") if abs(probability) >= 0.0005 or probability == 0 else "&lt; 0.1 %"


def passes_in_words(passes: Passes) -> str:
    """``50 F + 50 B``: images forward and gradients back; "no passes" for a method that does not use the network."""
    parts = [f"{_count(number)} {unit}" for number, unit in ((passes.forward, "F"), (passes.backward, "B")) if number]
    return " + ".join(parts) or "no passes"


def _count(number: float) -> str:
    """A number of passes, which may be a fraction: then with two decimals, and at least 0.01."""
    return f"{number:,.0f}" if float(number).is_integer() or number >= 100 else f"{max(number, 0.01):.2f}".rstrip("0").rstrip(".")


def seconds_in_words(seconds: float) -> str:
    """A duration in milliseconds, seconds or minutes, with two significant digits up to ten seconds."""
    if seconds < 0.095:
        return f"{max(1, round(1000 * seconds))} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
