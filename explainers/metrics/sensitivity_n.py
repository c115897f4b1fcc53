r"""Sensitivity-n: how well the sum of the attributions of n pixels predicts the drop of the output when they are removed.

For a number n, masks M_1, M_2, ... of n random pixels each are removed from the image x (replaced by a baseline), and

    rho_n = Pearson correlation over j of   sum_{u in M_j} A_u   and   f(x) - f(x without M_j).

1 is perfect, 0 is chance, and a map with the wrong sign gets a negative number (Ancona, Ceolini, Oztireli, Gross 2018,
section 4). The protocol is that of Zhang and others 2021: the output is the logit, removed pixels become zero in the network's
normalised space, n is spaced evenly on a logarithmic scale up to 63 % of the pixels, and each n has 100 masks. All maps of an image
are compared on the same masks, so several maps cost no more passes than one. Gradient x Input of a linear network has rho_n = 1 for
every n smaller than the number of pixels, with the zero baseline.

Single random pixels can hardly distinguish coarse maps such as Grad-CAM's. Tiles of 8 x 8 pixels (Schulz and others 2020, section
4.3) can; n then counts tiles.

Where all sums, or all drops, are equal, the correlation is not defined: it is NaN, counted in ``undefined``, and left out of every
mean. That happens when all pixels are removed, for a constant map, and for a sparse map when n is so small that no mask contains any
of its pixels. The class of the same name in Quantus removes the highest pixels first and measures something else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from explainers.attribution import Attribution
from explainers.baselines import BASELINES
from explainers.baselines import baseline as baseline_image
from explainers.context import Context, RunOptions, seeded
from explainers.contract import Citation, Metric, Score
from explainers.errors import ExplainerError, ParameterError
from explainers.metrics.maps import Map, explained_target, listed, maps_of, signed_map
from explainers.networks.classifier import Classifier
from explainers.parameters import checked, choice, integer, other
from explainers.passes import Passes
from explainers.progress import Progress
from explainers.question import Question, one_image
from explainers.resampling import size_of
from explainers.target import PlainTarget, Target

OUTPUTS = ("logit", "softmax")
LARGEST = 10**4.5 / 224**2  # the fraction of the pixels that is removed at the largest n: the paper's 31 622 of 224 x 224
POINTS = 45

_ORDERS, _STARTS, _BASELINE = 0, 1, 2  # indices of the random generators of a run
_OUTPUT_NOISE = 1e-6  # outputs whose relative difference is smaller than this differ by rounding
_SUM_NOISE = 1e-15  # the same for sums in float64, for each pixel and relative to the strongest attribution


@dataclass(frozen=True)
class Removals:
    """The network's outputs for the image without random pixels.

    outputs: (counts, masks). The masks themselves follow from ``size`` of the image, ``tile``, the side of a removed square in pixels,
    and ``seed``.
    """

    counts: np.ndarray
    outputs: np.ndarray
    size: tuple[int, int]
    tile: int
    seed: int
    passes: Passes


@dataclass(frozen=True)
class SensitivityN:
    """``correlation[i]`` at ``counts[i]`` removed pixels, in -1 to 1, or NaN where it is undefined.

    passes: those of the whole call, which its maps share.
    """

    counts: np.ndarray
    correlation: np.ndarray
    masks: int
    passes: Passes

    @property
    def undefined(self) -> int:
        """How many of the correlations do not exist."""
        return int(np.isnan(self.correlation).sum())

    @property
    def mean(self) -> float:
        """The mean of the correlations that exist; NaN if none does."""
        return _mean(self.correlation)


@dataclass(frozen=True)
class Average:
    """Over ``images``: at each n the mean, its standard error (NaN for fewer than two) and how many images had none."""

    counts: np.ndarray
    correlation: np.ndarray
    error: np.ndarray
    undefined: np.ndarray
    images: int

    @property
    def mean(self) -> float:
        """The mean over the n at which any image has a correlation."""
        return _mean(self.correlation)


@dataclass(frozen=True)
class Params:
    """What is removed, how often, and which output is watched."""

    counts: tuple[int, ...] | None = other(None, takes="whole numbers of pixels or tiles, or None", label="Numbers removed (n)", help=(
        "How many pixels, or tiles, go at once, one point of the curve each. None: the paper's, evenly spaced on a logarithmic "
        "scale up to 63 % of them."))
    masks: int = integer(100, low=3, high=10_000, label="Masks for each n", help=(
        "How many random sets of n are removed for each point. More: less noise, more passes. The paper takes 100 to 200."))
    output: str = choice("logit", *OUTPUTS, label="Output", help="Whose drop is measured: the logit, or the softmax probability.")
    baseline: str = choice("zero", *BASELINES, label="Baseline", help="What removed pixels become.")
    tile: int = integer(1, low=1, high=10_000, label="Tile, pixels a side", help=(
        "Side of the squares that are removed; 1 for single pixels, as in the paper. Coarse maps need tiles."))


def log_spaced(pixels: int, largest: float = LARGEST, points: int = POINTS) -> tuple[int, ...]:
    """Numbers of pixels from 1 to the fraction ``largest`` of ``pixels``: ``points`` on a logarithmic scale, without repetitions.

    The defaults give the paper's 42 numbers for 224 x 224 pixels. Raises ParameterError.
    """
    if not 0 < largest <= 1 or points < 1:
        raise ParameterError("The largest n is a fraction of the pixels above 0 and at most 1, and there is at least one n.")
    spaced = np.logspace(0, np.log10(max(largest * pixels, 1.0)), points)
    return tuple(np.unique((spaced + 1e-6).astype(int)).tolist())


def measure(network: Classifier, x: Tensor, attributions: Map | Sequence[Map], *, target: Target | PlainTarget | None = None,
            seed: int = 0, progress: Progress | None = None, **params: Any) -> SensitivityN | list[SensitivityN]:
    """The correlation at each n, for one map or, with the same masks, for each of a list.

    x: (1, C, H, W), preprocessed. attributions: ``Attribution``s or signed (h, w) arrays, brought to the image's resolution; a list
    gives a list. target: a class, a pair (a, b) for logit a - logit b, or None for what the attributions explain, else the top
    class. params: the fields of ``Params``. It costs counts x masks passes forward, whatever the number of maps. Raises
    ExplainerError, Cancelled.
    """
    x = one_image(network, x)
    given, several = listed(attributions)
    maps = [signed_map(values, size_of(x)) for values in given]
    aimed = network.target(x, explained_target(given, target))
    removals = _remove(Context(network.metered(), seed, RunOptions(progress)), x, aimed, checked(Params, METRIC.title, params))
    results = correlate(removals, maps)
    return results if several else results[0]


def evaluate(questions: Sequence[Question], params: Params, context: Context) -> list[SensitivityN]:
    """The correlations of the maps of questions about one network, image and target, all with the same masks."""
    first = questions[0]
    maps = [signed_map(attribution, size_of(first.x)) for attribution in maps_of(questions, context)]
    removals = context.stored(stored(params, first), lambda: _remove(context, first.x, first.target, params), Removals)
    return correlate(removals, maps)


def stored(params: Params, question: Question) -> tuple[Any, ...]:
    """What decides the removals beside the network: they serve any map of the image."""
    return "sensitivity_n removals", METRIC.version, question.x, question.target, params, question.seed, question.network.device.type


def passes_of_questions(params: Params, questions: Sequence[Question], maps: Sequence[Attribution]) -> Passes:
    """One image a mask, however many maps there are."""
    return Passes(forward=len(_counts(params, questions[0].network.input_size)) * params.masks)


def _remove(context: Context, x: Tensor, target: Target, params: Params) -> Removals:
    view, seed, masks, tile, output = context.network, context.seed, params.masks, params.tile, params.output
    size = size_of(x)
    counts = _counts(params, size)
    grid = _grid(size, tile)
    pixels = grid[0] * grid[1]
    ranks, starts = (drawn.to(view.device) for drawn in _draw(seed, pixels, len(counts), masks))
    sizes = torch.tensor(counts, device=view.device, dtype=torch.int32)
    x = x.detach().to(view.device, torch.float32)
    change = baseline_image(view, x, params.baseline, seeded(seed, _BASELINE)) - x

    def without(a: int, b: int) -> Tensor:
        which = torch.arange(a, b, device=view.device)
        count, draw = which // masks, which % masks
        rank, start = ranks[draw], starts[count, draw, None]
        stop = start + sizes[count, None]  # beyond the last pixel it goes on from the first
        gone = (rank >= start) & (rank < stop) | (rank < stop - pixels)  # (b - a, pixels)
        with torch.inference_mode():
            mask = gone.view(-1, 1, *grid).to(x.dtype)
            if tile > 1:
                mask = F.interpolate(mask, scale_factor=tile)[..., :size[0], :size[1]]
            logits = view.logits(torch.addcmul(x, change, mask))  # quicker than where()
            return target.score(logits if output == "logit" else logits.softmax(-1)).cpu()

    outputs = torch.cat([part for _, _, part in context.batches(len(counts) * masks, without)])
    return Removals(np.array(counts), outputs.double().view(len(counts), masks).numpy(), size, tile, seed,
                    Passes(len(counts) * masks))


def correlate(removals: Removals, maps: Sequence[np.ndarray]) -> list[SensitivityN]:
    """The correlations of signed (H, W) maps with what was removed; no pass through the network. Raises ExplainerError."""
    if any(values.shape != removals.size for values in maps):
        raise ExplainerError(f"Every map must have the image's {removals.size} pixels: resample it first.")
    values = _tiled(torch.from_numpy(np.stack(maps)).double(), removals.tile).flatten(1)  # (maps, pixels or tiles)
    counts, pixels = torch.from_numpy(removals.counts), values.shape[1]
    ranks, starts = _draw(removals.seed, pixels, *removals.outputs.shape)
    sums = torch.empty(len(values), *removals.outputs.shape, dtype=torch.float64)
    for mask, rank in enumerate(ranks):  # a mask's pixels are neighbours in its order, so a sum is a difference of running sums
        ordered = torch.empty_like(values).index_copy_(1, rank.long(), values)
        running = F.pad(ordered.cumsum(1), (1, 0))
        start = starts[:, mask].long()
        stop = start + counts
        sums[:, :, mask] = running[:, stop.clamp(max=pixels)] - running[:, start] + running[:, (stop - pixels).clamp(min=0)]
    noise = _SUM_NOISE * pixels * values.abs().amax(1)
    outputs = torch.from_numpy(removals.outputs)
    return [SensitivityN(removals.counts, _correlation(sums[i], outputs, float(noise[i])), removals.outputs.shape[1], removals.passes)
            for i in range(len(values))]


def average(results: Sequence[SensitivityN]) -> Average:
    """The mean over several images of one method, with the number of undefined ones at each n. Raises ExplainerError."""
    if not results or any(not np.array_equal(result.counts, results[0].counts) for result in results):
        raise ExplainerError("Only images that were measured at the same numbers of pixels can be averaged.")
    correlations = np.stack([result.correlation for result in results])  # (images, counts)
    known = (~np.isnan(correlations)).sum(0)
    mean = np.where(known > 0, np.nansum(correlations, 0) / np.maximum(known, 1), np.nan)
    squares = np.nansum((correlations - mean) ** 2, 0)
    error = np.where(known > 1, np.sqrt(squares / np.maximum(known - 1, 1) / np.maximum(known, 1)), np.nan)
    return Average(results[0].counts, mean, error, len(results) - known, len(results))


def _counts(params: Params, size: tuple[int, int]) -> tuple[int, ...]:
    """The n of the curve. Raises ParameterError for numbers, or a tile, that do not fit into the image."""
    if params.tile > min(size):
        raise ParameterError(f"tile must be a whole number of pixels from 1 to the image's {min(size)}, not {params.tile!r}.")
    pixels = math.prod(_grid(size, params.tile))
    counts = log_spaced(pixels) if params.counts is None else tuple(int(n) for n in params.counts)
    if not counts or not all(1 <= n <= pixels for n in counts):
        what = "pixels" if params.tile == 1 else "tiles"
        raise ParameterError(f"counts must be whole numbers from 1 to the {pixels} {what} of the image, and at least one.")
    return counts


def _grid(size: tuple[int, int], tile: int) -> tuple[int, int]:
    """Rows and columns of tiles; those at the right and the lower edge may be cut."""
    return -(-size[0] // tile), -(-size[1] // tile)


def _tiled(values: Tensor, tile: int) -> Tensor:
    """(maps, H, W) to (maps, rows, columns): the sum over each tile."""
    rows, columns = _grid(size_of(values), tile)
    whole = F.pad(values, (0, columns * tile - values.shape[2], 0, rows * tile - values.shape[1]))
    return whole.view(-1, rows, tile, columns, tile).sum((2, 4))


def _draw(seed: int, pixels: int, counts: int, masks: int) -> tuple[Tensor, Tensor]:
    """The random masks: (masks, pixels) ranks of the pixels in one random order a mask, (counts, masks) first rank of each n.

    The mask of n pixels takes the n ranks from its start on, and continues at rank 0 after the last one. That is a uniform draw
    without replacement and independent from mask to mask, so one order can serve all n.
    """
    orders = seeded(seed, _ORDERS)
    ranks = torch.stack([torch.randperm(pixels, generator=orders).int() for _ in range(masks)])
    return ranks, torch.randint(pixels, (counts, masks), generator=seeded(seed, _STARTS), dtype=torch.int32)


def _correlation(sums: Tensor, outputs: Tensor, noise: float) -> np.ndarray:
    """(counts,) from the sums of attributions and the outputs after removal, (counts, masks) each; drop = f(x) - output."""
    a = sums - sums.mean(1, keepdim=True)
    b = outputs.mean(1, keepdim=True) - outputs
    constant = a.abs().amax(1) <= noise
    constant |= b.abs().amax(1) <= _OUTPUT_NOISE * outputs.abs().amax(1)
    rho = (a * b).sum(1) / (a.square().sum(1).sqrt() * b.square().sum(1).sqrt())
    return torch.where(constant, torch.nan, rho.clamp(-1, 1)).numpy()


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


METRIC = Metric(
    title="Sensitivity-n", judges="map", evaluate=evaluate, passes=passes_of_questions, params=Params, stored=stored, version=2,
    cheap={"counts": (1, 5, 20), "masks": 5},
    scores=(Score("mean", "Mean correlation", "higher", lambda curve: curve.mean),),
    citation=Citation("Ancona, Ceolini, Oztireli, Gross", "Towards better understanding of gradient-based attribution methods "
                        "for deep neural networks", "ICLR 2018", "section 4"),
    idea="Whether the attributions of n random pixels add up to what the logit loses when these pixels are removed, as a "
         "correlation over many draws. 1 is perfect, 0 is chance.",
    equation=r"\rho_n = \operatorname{corr}_{M,\,|M| = n}\Big(\sum_{u \in M} A_u,\; f(x) - f(x_{\setminus M})\Big)",
    limits="Scattered pixels make pictures that no network was trained on, and do not tell coarse maps (Grad-CAM) apart: take tiles "
           "for these. Maps that only rank (I-GOS) are not made to add up.",
)
