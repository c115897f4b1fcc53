"""Where y+ and y- come from, and the warnings that follow from it.

The masked network is affine in the image (section 3.3, equation 14): each part is what the image adds, the map's sum, plus what
biases and saturated ReLU6 units add. The objective counts all three, and the map shows the first alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from explainers.methods.dmbp.masked import LinearPart

NAMES = ("image", "biases", "saturated ReLU6")
MOST_HIDDEN = 0.5  # of a part: more than this outside the map is warned of
STILL = 0.01  # of what the parts should sum to: a part within this range counts as empty


class Shares(NamedTuple):
    """What the image, the biases (with the shifts of batch norms) and the saturated ReLU6 units add. Their sum is the part."""

    image: float
    biases: float
    caps: float

    @property
    def magnitude(self) -> float:
        """The sum of the magnitudes."""
        return sum(map(abs, self))

    @property
    def hidden(self) -> float:
        """The fraction, of the magnitudes, that comes from biases and saturated units, and so is not in the map."""
        return 1 - abs(self.image) / self.magnitude if self.magnitude else 0.0


def shares(total: float, part: LinearPart) -> Shares:
    """The shares of a part of the logit whose value is ``total``."""
    return Shares(part.image, total - part.image - part.caps, part.caps)


def hidden_warning(y: float, by_name: Mapping[str, Shares]) -> tuple[str, ...]:
    """A warning where more than half of a part is not in the map. by_name: the shares of y+ and y-; empty ones are left out."""
    much = {name: own for name, own in by_name.items() if own.hidden > MOST_HIDDEN and own.magnitude > STILL * abs(y)}
    if not much:
        return ()
    what = "biases and saturated ReLU6" if any(own.caps for own in much.values()) else "biases"
    amounts = " and ".join(f"{100 * own.hidden:.0f} % of {name}" for name, own in much.items())
    return (f"{what} make up {amounts}, and the map does not show them: the objective 'image only' leaves them out of the split",)


def logit_warning(logit: Shares) -> tuple[str, ...]:
    """For a map that splits the image's part alone: a warning where this is less than half of the logit."""
    if logit.hidden <= MOST_HIDDEN:
        return ()
    what = "biases and saturated ReLU6" if logit.caps else "biases"
    return (f"the image adds {logit.image:.3g} to the logit of {sum(logit):.3g}, and only this is split: the rest is {what}".replace(
        "-", "\u2212"),)


def empty_warning(y: float, traces: Mapping[str, Sequence[float]], remedy: str) -> tuple[str, ...]:
    """A warning for each part that stayed near 0 over a run of steps.

    y: what the parts should sum to. traces: each part's values before each step and after the last. remedy: what to try, appended
    to the warning; may be empty.
    """
    return tuple(
        f"{name} never left the range of \u00b11 % of what the parts should sum to, so its part of the map is empty or cancels"
        + (f": {remedy}" if remedy else "")
        for name, values in traces.items() if len(values) > 1 and max(map(abs, values)) < STILL * abs(y))
