r"""Distances and similarities of two maps (H, W), independent of their units.

Attributions of different methods, classes or weights have no common unit, so no measure here changes when a map is multiplied by a
positive factor:

    l2_max_abs      || a / max|a| - b / max|b| ||_2     grows with the number of pixels (Deng and others 2021, section 6.4.2;
                                                        its values agree with this scaling)
    l2_unit         || a / ||a|| - b / ||b|| ||_2       0 for equal maps, sqrt(2) for orthogonal, 2 for opposite ones
    rank            Spearman's rank correlation of the signed maps, equal values taking their mean rank
    rank_absolute   the same of the magnitudes, so the sign does not count
    ssim            structural similarity with Gaussian weights (deviation 1.5), each map from 0 to 1 (Wang and others 2004)
    hog             Pearson correlation of the histograms of oriented gradients

The first two are 0 for equal maps. The last four are 1 for equal maps and are those of Adebayo and others 2018, section 3. A constant
map has no shape to compare: the measure is then not defined (nan), and an average counts it instead of including it.

SSIM and HOG respond to the edges of the input in both maps: two maps that have nothing else in common may score high by them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from explainers.errors import ExplainerError

COMPARE_SECONDS = 4e-6  # what ``compare`` takes for each pixel, roughly; for estimates of how long a run takes

_FLAT = 1e-6  # a range smaller than this, relative to the largest magnitude, is rounding: the map is constant
_SSIM_SIDE = 11  # its window
_HOG_CELLS, _HOG_SMALLEST, _HOG_BLOCK = 14, 4, 3  # cells a side (16 pixels each at 224), pixels a cell at least, cells a block


@dataclass(frozen=True)
class Distances:
    """The six measures of two maps; nan where a measure is not defined."""

    l2_max_abs: float
    l2_unit: float
    rank: float
    rank_absolute: float
    ssim: float
    hog: float


MEASURES = tuple(field.name for field in fields(Distances))


@dataclass(frozen=True)
class Average:
    """Of several values: their mean, its standard error, how many there were, and how many others were not defined.

    ``mean`` is nan where no value is defined, ``error`` where fewer than two are.
    """

    mean: float
    error: float
    count: int
    undefined: int


class Prepared:
    """A map that is compared with several others: its ranks and histograms are computed once, when they are first needed.

    heatmap: (H, W), finite. Raises ExplainerError for another shape or for values that are not finite.
    """

    def __init__(self, heatmap: np.ndarray):
        values = np.asarray(heatmap, dtype=np.float64)
        if values.ndim != 2 or values.size == 0:
            raise ExplainerError(f"A map to compare has two dimensions, height and width; this one has the shape {values.shape}.")
        if not np.isfinite(values).all():
            raise ExplainerError("A map to compare holds values that are not finite: replace them first.")
        self.shape = values.shape
        top = np.abs(values).max()
        self.scaled = values / top if top else values  # (H, W), the largest magnitude 1
        self.flat = _is_flat(self.scaled)
        self._made: dict[str, np.ndarray] = {}

    @property
    def unit(self) -> np.ndarray:
        """(H, W) with an l2 norm of 1."""
        return self._once("unit", lambda: self.scaled / np.linalg.norm(self.scaled))

    @property
    def from_0_to_1(self) -> np.ndarray:
        """(H, W) from its minimum, 0, to its maximum, 1."""
        return self._once("from_0_to_1", lambda: (self.scaled - self.scaled.min()) / np.ptp(self.scaled))

    @property
    def ranks(self) -> np.ndarray:
        """(H W,) the rank of each signed value, centred on 0; equal values share their mean rank."""
        return self._once("ranks", lambda: _mean_ranks(self.scaled))

    @property
    def ranks_absolute(self) -> np.ndarray:
        """(H W,) likewise of the magnitudes."""
        return self._once("ranks_absolute", lambda: _mean_ranks(np.abs(self.scaled)))

    @property
    def histograms(self) -> np.ndarray:
        """All blocks' histograms of oriented gradients in one vector."""
        return self._once("histograms", lambda: _histograms(self.from_0_to_1))

    def _once(self, name, make):
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]


def compare(a: np.ndarray | Prepared, b: np.ndarray | Prepared) -> Distances:
    """All measures of two maps (H, W) of the same shape. Raises ExplainerError for maps that cannot be compared."""
    a, b = _ready(a, b)
    return Distances(*(_MEASURE[name](a, b) for name in MEASURES))


def l2_max_abs(a: np.ndarray | Prepared, b: np.ndarray | Prepared) -> float:
    """The l2 distance of two maps that are each divided by their largest magnitude; from 0 to 2 sqrt(H W)."""
    a, b = _ready(a, b)
    return math.nan if a.flat or b.flat else float(np.linalg.norm(a.scaled - b.scaled))


def l2_unit(a: np.ndarray | Prepared, b: np.ndarray | Prepared) -> float:
    """The l2 distance of two maps that are each divided by their l2 norm; from 0 to 2."""
    a, b = _ready(a, b)
    return math.nan if a.flat or b.flat else float(np.linalg.norm(a.unit - b.unit))


def rank(a: np.ndarray | Prepared, b: np.ndarray | Prepared) -> float:
    """Spearman's rank correlation of the signed maps, from -1 to 1."""
    a, b = _ready(a, b)
    return math.nan if a.flat or b.flat else _correlation(a.ranks, b.ranks)


def rank_absolute(a: np.ndarray | Prepared, b: np.ndarray | Prepared) -> float:
    """Spearman's rank correlation of the magnitudes, from -1 to 1; nan also where all magnitudes of a map are equal."""
    a, b = _ready(a, b)
    return math.nan if a.flat or b.flat else _correlation(a.ranks_absolute, b.ranks_absolute)


def ssim(a: np.ndarray | Prepared, b: np.ndarray | Prepared) -> float:
    """Mean structural similarity of the maps, each scaled from 0 to 1; from -1 to 1; nan for a side below 11 pixels."""
    a, b = _ready(a, b)
    if a.flat or b.flat or min(a.shape) < _SSIM_SIDE:
        return math.nan
    from skimage.metrics import structural_similarity  # brings scipy, which an app without this page need not wait for

    return float(structural_similarity(a.from_0_to_1, b.from_0_to_1, data_range=1.0, gaussian_weights=True, sigma=1.5,
                                       use_sample_covariance=False))


def hog(a: np.ndarray | Prepared, b: np.ndarray | Prepared) -> float:
    """Pearson correlation of the histograms of oriented gradients, from -1 to 1; nan for a side below 12 pixels."""
    a, b = _ready(a, b)
    if a.flat or b.flat or min(a.shape) < _HOG_SMALLEST * _HOG_BLOCK:
        return math.nan
    return _correlation(a.histograms, b.histograms)


_MEASURE = {"l2_max_abs": l2_max_abs, "l2_unit": l2_unit, "rank": rank, "rank_absolute": rank_absolute, "ssim": ssim, "hog": hog}


def average(values: Sequence[float]) -> Average:
    """The mean of the values that are defined, its standard error (sample standard deviation over the root of n), and the counts."""
    defined = np.array([value for value in values if not math.isnan(value)], dtype=np.float64)
    return Average(
        mean=float(defined.mean()) if defined.size else math.nan,
        error=float(defined.std(ddof=1) / math.sqrt(defined.size)) if defined.size > 1 else math.nan,
        count=int(defined.size), undefined=len(values) - int(defined.size))


def _ready(a: np.ndarray | Prepared, b: np.ndarray | Prepared) -> tuple[Prepared, Prepared]:
    a, b = (values if isinstance(values, Prepared) else Prepared(values) for values in (a, b))
    if a.shape != b.shape:
        raise ExplainerError(f"Two maps to compare need the same shape; these have {a.shape} and {b.shape}.")
    return a, b


def _is_flat(values: np.ndarray) -> bool:
    return bool(np.ptp(values) <= _FLAT * np.abs(values).max())


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    """The rank of every value, centred on 0; equal values share their mean rank."""
    from scipy.stats import rankdata  # takes up to a second to import

    return rankdata(values, axis=None) - (values.size + 1) / 2


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of two vectors; nan where one of them does not vary."""
    if _is_flat(a) or _is_flat(b):
        return math.nan
    a, b = a - a.mean(), b - b.mean()
    return float(np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -1, 1))


def _histograms(values: np.ndarray) -> np.ndarray:
    from skimage.feature import hog as histograms  # brings scipy, see above

    cell = max(_HOG_SMALLEST, min(values.shape) // _HOG_CELLS)
    return histograms(values, orientations=9, pixels_per_cell=(cell, cell), cells_per_block=(_HOG_BLOCK, _HOG_BLOCK),
                      block_norm="L2-Hys")
