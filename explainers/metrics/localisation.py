r"""Localisation: how much of a map lies inside a region, such as an object's mask or a box around it.

    pointing        whether the highest pixel is inside, exactly or within 15 pixels (Zhang and others, "Top-down neural attention
                    by excitation backprop", IJCV 2018, section 4.1)
    bounding box    with n the region's pixels: the fraction of the n highest pixels that are inside (Schulz and others, "Restricting
                    the flow", ICLR 2020, section 4.4)
    energy          the fraction of all positive attribution that is inside (Wang and others, "Score-CAM", CVPRW 2020, section 4.3)
    EHR             effective heat ratio (Zhang and others, InputIBA, NeurIPS 2021, section 4.5 and appendix F): with the heat h in
                    [0, 1], pixels below 0.1 left out and t_q the q-th quantile of the others (at most 99 % of the highest),

                        r(q) = sum_{u inside, h_u >= t_q} h_u / |{u: h_u >= t_q}|,    EHR = area under r over q = 0, 0.1, ..., 1

The chance level of the first three is an area: that of the region, or of the region grown by the tolerance. EHR's is what the map's
values would get on average if they were randomly rearranged, which is at most the region's area. Pixels of equal value are ordered by
their place, row by row.

When it misleads: it asks whether the map is where the object is, not whether the network used the object. If the network used the
background, the more faithful map scores lower. A blob in the centre scores well where the object is in the centre.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from explainers.context import Context
from explainers.contract import Citation, Metric, Score
from explainers.errors import ExplainerError, ParameterError
from explainers.metrics.maps import Map, listed, maps_of, signed_map
from explainers.parameters import other, parameters_of, real, switch
from explainers.passes import Passes
from explainers.question import Question

TOLERANCE = 15  # pixels
LARGEST_AREA = 0.33  # papers leave out images whose box covers a larger fraction
FAINT = 0.1  # heat below this is none
QUANTILES = np.linspace(0, 1, 11)
_NEAR_MAXIMUM = 0.99


@dataclass(frozen=True)
class Measures:
    """Each between 0 and 1: for one map ``pointing`` and ``pointing_near`` are 0 or 1; chance levels are their probabilities.

    ``energy`` is NaN for a map without positive attribution.
    """

    pointing: float
    pointing_near: float
    bounding_box: float
    energy: float
    ehr: float


@dataclass(frozen=True)
class Localisation(Measures):
    """One map's measures and its ``chance`` levels. area: the fraction of the image that the region covers. highest: row and column of
    the highest pixel."""

    chance: Measures
    area: float
    highest: tuple[int, int]
    tolerance: float

    @property
    def too_large(self) -> bool:
        """Whether the region covers more than 33 % of the image, in which case papers leave the image out."""
        return self.area > LARGEST_AREA


@dataclass(frozen=True)
class Params:
    """Where the evidence should be, and how a hit is counted."""

    region: np.ndarray | None = other(None, takes="a bool array (H, W) at the network's input size", label="Region", help=(
        "Which pixels count as inside: an object's mask, a box around it. There is no default."))
    tolerance: float = real(TOLERANCE, low=0, high=1000, step=1, label="Tolerance, pixels", help=(
        "How far outside the highest pixel may lie and still count as a hit in the tolerant pointing game."))
    scaled: bool = switch(True, label="Scale the heat", help=(
        "On: EHR's heat is the positive part over its maximum. Off: a map in [0, 1] is taken as it is."))


def evaluate(questions: Sequence[Question], params: Params, context: Context) -> list[Localisation]:
    """How much of the maps of questions is inside the region. Raises ExplainerError without a region."""
    if params.region is None:
        raise ParameterError(f"region must be given: {parameters_of(Params)[0].range_in_words()}.")
    results = measure(maps_of(questions, context), params.region, params.tolerance, params.scaled)
    return results if isinstance(results, list) else [results]


def measure(attribution: Map | Sequence[Map], region: np.ndarray, tolerance: float = TOLERANCE,
            scaled: bool = True) -> Localisation | list[Localisation]:
    """How much of a map, or of each of a list, is inside.

    attribution: ``Attribution`` or signed (h, w) array, brought to the region's resolution. region: (H, W) bool, not empty and
    not full. tolerance: pixels for ``pointing_near``. scaled: EHR's heat is the positive part over its maximum; False takes a map in
    [0, 1] as it is, as the three cases of the paper's appendix F do. Raises ExplainerError.
    """
    region = _checked(region)
    maps, several = listed(attribution)
    grown = grow(region, tolerance)
    results = [_measure(signed_map(values, region.shape).astype(np.float64), region, grown, tolerance, scaled)
               for values in maps]
    return results if several else results[0]


def _measure(values: np.ndarray, region: np.ndarray, grown: np.ndarray, tolerance: float, scaled: bool) -> Localisation:
    order = np.argsort(-values, axis=None, kind="stable")
    row, column = np.unravel_index(order[0], values.shape)
    highest = int(row), int(column)
    positive = np.maximum(values, 0)
    total, area = positive.sum(), float(region.mean())
    heat = positive / (positive.max() or 1.0) if scaled else values
    measures = Measures(
        pointing=float(region[highest]), pointing_near=float(grown[highest]),
        bounding_box=float(region.ravel()[order[:int(region.sum())]].mean()),
        energy=float(positive[region].sum() / total) if total > 0 else math.nan,
        ehr=effective_heat_ratio(heat, region))
    chance = Measures(area, float(grown.mean()), area, area, area * effective_heat_ratio(heat, np.ones_like(region)))
    return Localisation(**vars(measures), chance=chance, area=area, highest=highest, tolerance=tolerance)


def effective_heat_ratio(heat: np.ndarray, region: np.ndarray) -> float:
    """EHR of a (H, W) map in [0, 1] and a (H, W) bool region; 0 where no pixel reaches 0.1. Raises ExplainerError."""
    if heat.min() < 0 or heat.max() > 1:
        raise ExplainerError("The heat of EHR lies between 0 and 1: scale the map first, or ask for scaled=True.")
    warm = heat[heat >= FAINT]
    if not warm.size:
        return 0.0
    inside = region[heat >= FAINT]
    ratios = []
    for quantile in np.quantile(warm, QUANTILES):
        kept = warm >= min(quantile, _NEAR_MAXIMUM * warm.max())
        ratios.append(warm[kept & inside].sum() / kept.sum())
    return float(np.trapezoid(ratios, QUANTILES))


def box(left: float, top: float, right: float, bottom: float, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: the pixels of an image of ``size`` whose centres lie in the box. Its corners are in pixel coordinates, where the
    centre of the first pixel is 0; their order does not matter."""
    rows, columns = np.arange(size[0]), np.arange(size[1])
    (left, right), (top, bottom) = sorted((left, right)), sorted((top, bottom))
    return ((rows >= top) & (rows <= bottom))[:, None] & ((columns >= left) & (columns <= right))[None]


def polygon(points: Sequence[tuple[float, float]], size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: the pixels inside a closed outline of (column, row) points, in pixel coordinates. Raises ExplainerError."""
    if len(points) < 3:
        raise ExplainerError("An outline needs at least three points: draw it around the object.")
    drawn = Image.new("1", (size[1], size[0]))
    ImageDraw.Draw(drawn).polygon([(float(x), float(y)) for x, y in points], fill=1)
    return np.asarray(drawn).astype(bool)


def bounding_box(region: np.ndarray) -> np.ndarray:
    """(H, W) bool: the smallest upright box around a region, which is what most papers measure with."""
    rows, columns = (np.flatnonzero(_checked(region).any(axis)) for axis in (1, 0))
    return box(columns[0], rows[0], columns[-1], rows[-1], region.shape)


def grow(region: np.ndarray, radius: float) -> np.ndarray:
    """(H, W) bool: all pixels at most ``radius`` pixels away from the region, in a straight line."""
    height, width = region.shape
    before = np.zeros((height, width + 1), dtype=np.int64)
    before[:, 1:] = region.cumsum(1)
    grown = np.zeros_like(region)
    columns = np.arange(width)
    for shift in range(-int(radius), int(radius) + 1):
        reach = int(math.sqrt(radius**2 - shift**2))
        near = before[:, np.minimum(columns + reach + 1, width)] > before[:, np.maximum(columns - reach, 0)]
        source, into = slice(max(shift, 0), height + min(shift, 0)), slice(max(-shift, 0), height + min(-shift, 0))
        if abs(shift) < height:
            grown[into] |= near[source]
    return grown


def _checked(region: np.ndarray) -> np.ndarray:
    region = np.asarray(region)
    if region.ndim != 2 or region.dtype != bool:
        raise ExplainerError(f"A region is a bool array (H, W), not {region.dtype} of shape {region.shape}.")
    if not region.any():
        raise ExplainerError("The region is empty: choose or draw one that covers at least one pixel.")
    if region.all():
        raise ExplainerError("The region is the whole image, in which every map lies: choose or draw a smaller one.")
    return region


METRIC = Metric(
    title="Localisation", judges="map", evaluate=evaluate, passes=lambda params, questions, maps: Passes(), params=Params,
    scores=(Score("ehr", "EHR", "higher", lambda inside: inside.ehr),
            Score("energy", "Energy inside", "higher", lambda inside: inside.energy),
            Score("bounding_box", "Box accuracy", "higher", lambda inside: inside.bounding_box),
            Score("pointing", "Pointing", "higher", lambda inside: inside.pointing)),
    citation=Citation("Zhang, Khakzar, Li, Farshad, Kim, Navab", "Fine-grained neural network explanation by identifying input "
                        "features with predictive information", "NeurIPS 2021", "section 4.5 and appendix F (EHR)"),
    idea="How much of a map lies inside an object or a box: its highest pixel (pointing game), its n highest pixels (bounding box), "
         "its positive attribution (energy), its heat over all thresholds (EHR). Higher is better, beside the chance level.",
    equation=r"\mathrm{EHR} = \int_0^1 \frac{\sum_{u \in B,\, h_u \ge t_q} h_u}{|\{u : h_u \ge t_q\}|}\, dq",
    limits="It asks whether the map is where the object is, not whether the network used it. A blob in the centre scores well "
           "where objects are in the centre.",
)
