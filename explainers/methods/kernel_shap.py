r"""KernelSHAP on superpixels: what each piece adds to the logit, averaged over all orders in which the pieces could be uncovered.

These Shapley values are the solution of a weighted linear regression (Lundberg, Lee 2017, theorem 2): over the coalitions z, rows of
ones and zeros for visible and hidden pieces, with M pieces of which k are visible,

    minimise  sum over z of  w(k) (v(z) - v(0) - phi . z)^2    subject to    sum of phi = v(1) - v(0),
    w(k) = (M - 1) / (binomial(M, k) k (M - k)).

With all 2^M coalitions the result is exact. With fewer it is an estimate that still sums to v(1) - v(0). The coalitions are chosen to
make it a good one:

- each is measured together with its complement, which cancels the estimate's largest error (Covert, Lee 2021, section 4.2, "paired
  sampling");
- from the sizes 1 and M - 1 on, whose weight is the largest, all coalitions of a size are measured where the number of samples allows,
  as in the authors' package ``shap``;
- the other sizes get samples in proportion to their weight, and no coalition is measured twice.

``sampling="independent"`` is the plain estimator: each coalition is drawn alone, with replacement. The paper does not say what hides a
piece of a picture, or which output of the network is explained: here it is the baseline image and the logit, as in the other methods
whose map sums to a difference of logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from math import comb

import torch
from torch import Tensor

from explainers.context import Context
from explainers.contract import AuxiliaryOutput, Citation, Method, RawMap
from explainers.methods.surrogate import (
    MOSAIC,
    coalition_logits,
    cut,
    fill_choice,
    output_choice,
    scores,
    segmentation_choice,
    segments_number,
)
from explainers.networks.classifier import Classifier
from explainers.parameters import choice, integer, switch
from explainers.passes import Passes
from explainers.target import Target


@dataclass(frozen=True)
class Params:
    """The superpixels, and the coalitions that are measured."""

    samples: int = integer(1000, low=4, high=20000, step=2, label="Samples", help=(
        "Copies of the image with some superpixels hidden, two of which hide none and all. For 12 superpixels 4096 samples give the "
        "exact values. Where there are fewer mixtures than samples, each is measured once."))
    segmentation: str = segmentation_choice()
    segments: int = segments_number(50)
    fill: str = fill_choice("zero")
    output: str = output_choice("logit")
    sampling: str = choice("paired", "paired", "independent", label="Sampling", help=(
        "Which mixtures are measured. paired: each with its complement, none twice, and all of those that matter most. independent: "
        "each drawn alone, which needs more samples for the same accuracy."))
    per_pixel: bool = switch(False, label="Divide by area", help=(
        "Spread each superpixel's value over its pixels, so that the map itself sums to the change of the logit."))


@dataclass(frozen=True)
class Design:
    """Which coalitions are measured, bool (n, M), and their weights in the regression, (n,)."""

    coalitions: Tensor
    weights: Tensor


def size_weights(pieces: int) -> Tensor:
    """The probability of each size 1 to M - 1 under the Shapley kernel: all coalitions of the size together, (M - 1,)."""
    sizes = torch.arange(1, pieces, dtype=torch.float64)
    weights = 1 / (sizes * (pieces - sizes))
    return weights / weights.sum()


def paired_design(pieces: int, pairs: int, generator: torch.Generator) -> Design:
    """At most this number of pairs of a coalition and its complement; all of them where there are no more."""
    weights = size_weights(pieces)[:pieces // 2] * 2  # a coalition of k pieces and its complement of M - k
    if pieces % 2 == 0:
        weights[-1] /= 2  # of half the pieces: their complements have the same size
    rows: list[tuple[int, ...]] = []
    row_weights: list[float] = []
    size, remaining = 1, 1.0  # the weight of this size and of larger ones
    while size <= len(weights):
        share, all_of_size = float(weights[size - 1]), comb(pieces, size) // (2 if 2 * size == pieces else 1)
        if (pairs - len(rows)) * share < all_of_size * remaining * (1 - 1e-9):
            break
        rows += _one_of_each_pair(pieces, size)
        row_weights += [share / all_of_size] * all_of_size
        size, remaining = size + 1, remaining - share
    left = pairs - len(rows) if size <= len(weights) else 0
    rows += _sampled(pieces, size, weights[size - 1:], left, generator)
    row_weights += [remaining / left] * left if left else []
    half = torch.zeros(len(rows), pieces, dtype=torch.bool)
    for row, members in zip(half, rows, strict=True):
        row[list(members)] = True
    return Design(torch.stack((half, ~half), 1).flatten(0, 1), torch.tensor(row_weights, dtype=torch.float64).repeat_interleave(2))


def _one_of_each_pair(pieces: int, size: int) -> Iterator[tuple[int, ...]]:
    """All coalitions of this size; of half the pieces only those with piece 0, because the others are their complements."""
    return (members for members in combinations(range(pieces), size) if 2 * size < pieces or members[0] == 0)


def _sampled(pieces: int, smallest: int, weights: Tensor, count: int, generator: torch.Generator) -> list[tuple[int, ...]]:
    """Different coalitions of sizes from ``smallest`` on, as many of each size as its weight says, up to rounding at random."""
    if not count:
        return []
    steps = (torch.arange(count) + torch.rand(1, generator=generator, dtype=torch.float64)) / count
    sizes = smallest + torch.bucketize(steps, (weights / weights.sum()).cumsum(0)[:-1])
    chosen: dict[tuple[int, ...], None] = {}
    for size in sizes.tolist():
        while True:
            members = tuple(sorted(torch.randperm(pieces, generator=generator)[:size].tolist()))
            if 2 * size == pieces and members[0] != 0:
                members = tuple(sorted(set(range(pieces)) - set(members)))
            if members not in chosen:
                break
        chosen[members] = None
    return list(chosen)


def independent_design(pieces: int, count: int, generator: torch.Generator) -> Design:
    """This number of coalitions, drawn alone and with replacement from the Shapley kernel, which makes their weights equal."""
    if pieces < 2:
        return Design(torch.zeros(0, pieces, dtype=torch.bool), torch.zeros(0, dtype=torch.float64))
    sizes = 1 + torch.multinomial(size_weights(pieces), count, replacement=True, generator=generator)
    ranks = torch.stack([torch.randperm(pieces, generator=generator) for _ in range(count)])
    return Design(ranks < sizes[:, None], torch.full((count,), 1 / count, dtype=torch.float64))


def shapley_values(design: Design, values: Tensor, none: float, every: float) -> Tensor:
    """The regression's solution (M,), which sums to ``every - none``.

    values: v(z) of the first coalitions of the design, (n,). none, every: v with no piece, and with every piece visible. With phi = a
    constant + q, where q sums to 0, the constraint is met by any q; where the coalitions do not decide q the shortest one is taken.
    """
    count, pieces = len(values), design.coalitions.shape[1]
    constant, visible = (every - none) / pieces, design.coalitions[:count].double()
    if not count:
        return torch.full((pieces,), constant, dtype=torch.float64)
    centred = visible - visible.mean(1, keepdim=True)  # z . q of a q that sums to 0
    roots = design.weights[:count].sqrt()
    rest = values - none - visible.sum(1) * constant
    # The gelsd driver also solves systems of less than full rank, which have few samples for many pieces.
    q = torch.linalg.lstsq(roots[:, None] * centred, (roots * rest)[:, None], driver="gelsd").solution[:, 0]
    return constant + q - q.mean()


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    pieces = cut(network, x, params, context)
    pairs = params.samples // 2 - 1
    if params.sampling == "paired":
        design = paired_design(pieces.count, pairs, context.generator(1))
    else:
        design = independent_design(pieces.count, 2 * pairs, context.generator(1))
    ends = torch.tensor([[False], [True]]).expand(2, pieces.count)

    def fitted(logits: Tensor) -> Tensor:
        """The Shapley values (M,) from the logits of no piece, of every piece and of the first coalitions."""
        v = scores(logits, target, params.output)
        return shapley_values(design, v[2:], float(v[0]), float(v[1])) if len(v) > 1 else torch.zeros(pieces.count)

    key = ("kernel_shap", params.samples, params.segmentation, params.segments, params.fill, params.sampling)
    coalitions = torch.cat((ends, design.coalitions))
    logits = coalition_logits(network, pieces, coalitions, key, context, lambda part: pieces.painted(fitted(part)))
    values = fitted(logits)
    exact = params.sampling == "paired" and len(coalitions) == 2**pieces.count
    return RawMap(pieces.painted(values / pieces.sizes if params.per_pixel else values), extras={
        "superpixels": pieces.labels.cpu().int(), "count": pieces.count, "exact": "exact" if exact else "an estimate",
        "hidden": float(scores(logits[:1], target, params.output))})


METHOD = Method(
    title="KernelSHAP", family="perturbation", attribute=attribute, params=Params, upsample="nearest",
    linear=True, previews=True, cheap={"samples": 40}, draft={"samples": 200},
    passes=lambda params: Passes(forward=2 * (params.samples // 2)),  # fewer where there are fewer coalitions than samples
    citation=Citation("Lundberg, Lee", "A unified approach to interpreting model predictions", "NeurIPS 2017",
                      "section 4.1, with the paired sampling of Covert, Lee (AISTATS 2021)"),
    idea="Show the network many mixtures of visible and hidden superpixels. A superpixel's value is what it adds to the logit, "
         "averaged over all orders of uncovering (its Shapley value). All values sum to the logit's change.",
    equation=r"\phi_j = \sum_{S \not\ni j} \frac{|S|!\,(M - |S| - 1)!}{M!} \big( f_c(x_{S \cup j}) - f_c(x_S) \big), \qquad "
             r"\sum_j \phi_j = f_c(x) - f_c(x')",
    limits="With more than about a dozen superpixels it is an estimate, and another seed gives other values. It depends on how the "
           "picture is cut and on what hides a piece: most mixtures look like nothing that the network was trained on. Evidence that "
           "occurs twice is divided between its copies.",
    auxiliary_outputs=(
        MOSAIC,
        AuxiliaryOutput("count", "Superpixels", "number", "How many regions the picture was cut into."),
        AuxiliaryOutput("exact", "Shapley values", "text", (
            "Exact where every coalition of the superpixels was measured, else an estimate from a sample of them.")),
        AuxiliaryOutput("hidden", "Score with all hidden", "number", (
            "The logit, or the probability, when every superpixel is hidden. It shows in no pixel: the values sum to the score of the "
            "image minus this.")),
    ),
)
