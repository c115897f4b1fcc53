r"""Sensitivity-n: does the sum of the attributions of n pixels follow the drop of the output when these pixels are removed?

For a number n, masks M_1, M_2, ... of n random pixels each are removed from the image x (replaced by a baseline), and

    rho_n = Pearson correlation over j of   sum_{u in M_j} A_u   and   f(x) - f(x without M_j).

1 is perfect, 0 is chance, and a sign that is wrong shows as a negative number (Ancona, Ceolini, Oztireli, Gross 2018,
section 4). The protocol is that of Zhang and others 2021: logits, pixels to zero in the network's normalised space, n spaced
evenly on a logarithmic scale up to 63 % of the pixels, 100 masks for each n. All maps of an image are held against the same
masks, so that any number of them costs what one does. Gradient x Input of a linear network has rho_n = 1 for every n below all
pixels, with the zero baseline.

Scattered pixels hardly tell coarse maps apart: with tiles of 8 x 8 pixels in place of pixels (Schulz and others 2020, section 4.3)
Grad-CAM and its like have a chance; n then counts tiles.

Where all sums or all drops are equal there is no correlation: it is NaN, counted in ``undefined``, and left out of every
mean. That is so when all pixels go, for a constant map, and for a sparse map at an n so small that no mask meets it. Quantus'
class of the same name removes the highest pixels first and measures something else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from explainers.baselines import BASELINES
from explainers.baselines import baseline as baseline_image
from explainers.context import Context, Progress, seeded
from explainers.contract import ExplainerError, Metric, ParameterError, Passes, Reference, Target, UnsupportedError
from explainers.metrics.maps import Map, explained_target, listed, signed_map
from explainers.networks.classifier import Classifier

OUTPUTS = ("logit", "softmax")
LARGEST = 10**4.5 / 224**2  # the share of the pixels that go at the largest n: the paper's 31 622 of 224 x 224
POINTS = 45

_ORDERS, _STARTS, _BASELINE = 0, 1, 2  # what the run's generators are for
_OUTPUT_NOISE = 1e-6  # outputs that differ by less than this share of their size differ by rounding
_SUM_NOISE = 1e-15  # sums in float64 that differ by less than this for each pixel of the strongest's size, likewise


@dataclass(frozen=True)
class Removals:
    """``outputs`` (counts, masks): what the network said without each mask's tiles. The masks follow from the image's ``size``,
    ``tile``, the side of what is removed at once in pixels, and ``seed``."""

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


def log_spaced(pixels: int, largest: float = LARGEST, points: int = POINTS) -> tuple[int, ...]:
    """Numbers of pixels from 1 to the share ``largest`` of ``pixels``, ``points`` on a logarithmic scale, each once.

    The defaults give the paper's 42 numbers for 224 x 224 pixels. Raises ParameterError.
    """
    if not 0 < largest <= 1 or points < 1:
        raise ParameterError("The largest n is a share of the pixels above 0 and at most 1, and there is at least one n.")
    spaced = np.logspace(0, np.log10(max(largest * pixels, 1.0)), points)
    return tuple(np.unique((spaced + 1e-6).astype(int)).tolist())


def measure(network: Classifier, x: Tensor, attributions: Map | Sequence[Map], target: Target | None = None,
            counts: Sequence[int] | None = None, masks: int = 100, output: str = "logit", baseline: str = "zero", tile: int = 1,
            seed: int = 0, progress: Progress | None = None) -> SensitivityN | list[SensitivityN]:
    """The correlation at each n, for one map or, with the same masks, for each of a list.

    x: (1, C, H, W), preprocessed. attributions: ``Attribution``s or signed (h, w) arrays, brought to the image's resolution; a list
    gives a list. target: a class, a pair (a, b) for logit a - logit b, or None for what the attributions explain, else the top
    class. The rest as in ``remove``. It costs counts x masks passes forward, whatever the number of maps. Raises ExplainerError,
    Cancelled.
    """
    given, several = listed(attributions)
    maps = [signed_map(one, tuple(x.shape[-2:])) for one in given]
    removals = remove(network, x, explained_target(given, target), counts, masks, output, baseline, tile, seed, progress)
    results = correlate(removals, maps)
    return results if several else results[0]


def remove(network: Classifier, x: Tensor, target: Target | None = None, counts: Sequence[int] | None = None, masks: int = 100,
           output: str = "logit", baseline: str = "zero", tile: int = 1, seed: int = 0,
           progress: Progress | None = None) -> Removals:
    """The network's part: its output for the image without random pixels, which serves any map that ``correlate`` is given later.

    counts: the n, from 1 to the number of pixels or tiles (``log_spaced`` unless told). masks: for each n, at least 3. output:
    ``logit`` or ``softmax``. baseline: what removed pixels become (``explainers.baselines``). tile: the side of the squares that are
    removed, 1 for single pixels. Raises ExplainerError, Cancelled.
    """
    counts = _checked(x, counts, masks, output, baseline, tile)
    target = network.target(x, target)
    view = network.metered()
    context = Context(view, seed, progress)
    size = tuple(x.shape[-2:])
    grid = _grid(size, tile)
    pixels = grid[0] * grid[1]
    ranks, starts = (drawn.to(view.device) for drawn in _draw(seed, pixels, len(counts), masks))
    sizes = torch.tensor(counts, device=view.device, dtype=torch.int32)
    x = x.detach().to(view.device, torch.float32)
    change = baseline_image(network, x, baseline, seeded(seed, _BASELINE)) - x

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
            return view.score(logits if output == "logit" else logits.softmax(-1), target).cpu()

    outputs = torch.cat([part for _, _, part in context.batches(len(counts) * masks, without)])
    return Removals(np.array(counts), outputs.double().view(len(counts), masks).numpy(), size, tile, seed, view.meter.passes)


def correlate(removals: Removals, maps: Sequence[np.ndarray]) -> list[SensitivityN]:
    """The correlations of signed (H, W) maps with what was removed; no pass through the network. Raises ExplainerError."""
    if any(one.shape != removals.size for one in maps):
        raise ExplainerError(f"Every map must have the image's {removals.size} pixels: resample it first.")
    values = _tiled(torch.from_numpy(np.stack(maps)).double(), removals.tile).flatten(1)  # (maps, pixels or tiles)
    counts, pixels = torch.from_numpy(removals.counts), values.shape[1]
    ranks, starts = _draw(removals.seed, pixels, *removals.outputs.shape)
    sums = torch.empty(len(values), *removals.outputs.shape, dtype=torch.float64)
    for mask, rank in enumerate(ranks):  # a mask's pixels stand side by side in its order: differences of one running sum
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
    """Several images of one method together; what is undefined is counted at each n and left out. Raises ExplainerError."""
    if not results or any(not np.array_equal(one.counts, results[0].counts) for one in results):
        raise ExplainerError("Only images that were measured at the same numbers of pixels can be averaged.")
    found = np.stack([one.correlation for one in results])  # (images, counts)
    known = (~np.isnan(found)).sum(0)
    mean = np.where(known > 0, np.nansum(found, 0) / np.maximum(known, 1), np.nan)
    squares = np.nansum((found - mean) ** 2, 0)
    error = np.where(known > 1, np.sqrt(squares / np.maximum(known - 1, 1) / np.maximum(known, 1)), np.nan)
    return Average(results[0].counts, mean, error, len(results) - known, len(results))


def _checked(x: Tensor, counts: Sequence[int] | None, masks: int, output: str, baseline: str,
             tile: int) -> tuple[int, ...]:
    if x.ndim != 4 or x.shape[0] != 1:
        raise UnsupportedError(f"One image at a time: x must have shape (1, C, H, W), not {tuple(x.shape)}.")
    if output not in OUTPUTS:
        raise ParameterError(f"output must be one of {', '.join(map(repr, OUTPUTS))}, not {output!r}.")
    if baseline not in BASELINES:
        raise ParameterError(f"baseline must be one of {', '.join(map(repr, BASELINES))}, not {baseline!r}.")
    if masks < 3:
        raise ParameterError(f"masks must be at least 3, not {masks}: two points always lie on a line.")
    if isinstance(tile, bool) or not isinstance(tile, int) or not 1 <= tile <= min(x.shape[-2:]):
        raise ParameterError(f"tile must be a whole number of pixels from 1 to the image's {min(x.shape[-2:])}, not {tile!r}.")
    pixels = math.prod(_grid(tuple(x.shape[-2:]), tile))
    counts = log_spaced(pixels) if counts is None else tuple(int(n) for n in counts)
    if not counts or not all(1 <= n <= pixels for n in counts):
        what = "pixels" if tile == 1 else "tiles"
        raise ParameterError(f"counts must be whole numbers from 1 to the {pixels} {what} of the image, and at least one.")
    return counts


def _grid(size: tuple[int, int], tile: int) -> tuple[int, int]:
    """Rows and columns of tiles; those at the right and the lower edge may be cut."""
    return -(-size[0] // tile), -(-size[1] // tile)


def _tiled(values: Tensor, tile: int) -> Tensor:
    """(maps, H, W) to (maps, rows, columns): the sum over each tile."""
    rows, columns = _grid(tuple(values.shape[1:]), tile)
    whole = F.pad(values, (0, columns * tile - values.shape[2], 0, rows * tile - values.shape[1]))
    return whole.view(-1, rows, tile, columns, tile).sum((2, 4))


def _draw(seed: int, pixels: int, counts: int, masks: int) -> tuple[Tensor, Tensor]:
    """(masks, pixels) the rank of every pixel in one random order a mask, and (counts, masks) where a mask starts in it.

    The n pixels from a random place of a random order on (and on from its beginning, where it ends) are a uniform draw without
    replacement, independent from mask to mask: the correlation at one n is as good as with an order drawn for each n anew.
    """
    orders = seeded(seed, _ORDERS)
    ranks = torch.stack([torch.randperm(pixels, generator=orders).int() for _ in range(masks)])
    return ranks, torch.randint(pixels, (counts, masks), generator=seeded(seed, _STARTS), dtype=torch.int32)


def _correlation(sums: Tensor, outputs: Tensor, noise: float) -> np.ndarray:
    """(counts,) from (counts, masks) sums of attributions and outputs that are left; the drop is f(x) less these."""
    a = sums - sums.mean(1, keepdim=True)
    b = outputs.mean(1, keepdim=True) - outputs
    constant = a.abs().amax(1) <= noise
    constant |= b.abs().amax(1) <= _OUTPUT_NOISE * outputs.abs().amax(1)
    rho = (a * b).sum(1) / (a.square().sum(1).sqrt() * b.square().sum(1).sqrt())
    return torch.where(constant, torch.nan, rho.clamp(-1, 1)).numpy()


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


METRIC = Metric(
    title="Sensitivity-n",
    reference=Reference("Ancona, Ceolini, Oztireli, Gross", "Towards better understanding of gradient-based attribution methods "
                        "for deep neural networks", "ICLR 2018", "section 4"),
    idea="Whether the attributions of n random pixels add up to what the logit loses when these pixels are removed, as a "
         "correlation over many draws. 1 is perfect, 0 is chance.",
    equation=r"\rho_n = \operatorname{corr}_{M,\,|M| = n}\Big(\sum_{u \in M} A_u,\; f(x) - f(x_{\setminus M})\Big)",
    limits="Scattered pixels make pictures that no network was trained on, and do not tell coarse maps (Grad-CAM) apart: take tiles "
           "for these. Maps that only rank (I-GOS) are not made to add up.",
)
