"""RISE: a pixel's value is the class's mean probability over randomly masked copies of the image in which the pixel is visible.

One set of passes serves every class: the probabilities of all classes are memoized for the image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from explainers.context import Context
from explainers.contract import Citation, Method, RawMap
from explainers.networks.classifier import Classifier
from explainers.parameters import integer, real
from explainers.passes import Passes
from explainers.target import Target


@dataclass(frozen=True)
class Params:
    """How the random masks are drawn."""

    masks: int = integer(4000, low=10, high=20000, step=10, label="Masks", help=(
        "Masked copies shown to the network. The paper uses 4000 for VGG and 8000 for ResNet; a few hundred give a rough map."))
    cells: int = integer(7, low=2, high=32, label="Cells per side", help="Side of the grid on which a mask is drawn.")
    keep: float = real(0.5, low=0.05, high=0.95, label="Keep probability", help="The probability that a cell stays visible.")


def draw_mask(size: tuple[int, int], cells: int, keep: float, generator: torch.Generator) -> Tensor:
    """(H, W) in [0, 1]: random cells, upsampled bilinearly and shifted at random by less than a cell."""
    height, width = size
    cell_h, cell_w = -(-height // cells), -(-width // cells)
    grid = (torch.rand(1, 1, cells, cells, generator=generator) < keep).float()
    large = F.interpolate(grid, size=((cells + 1) * cell_h, (cells + 1) * cell_w), mode="bilinear", align_corners=False)
    top, left = (int(torch.randint(0, high, (1,), generator=generator)) for high in (cell_h, cell_w))
    return large[0, 0, top:top + height, left:left + width]


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    size = network.input_size
    totals: list[Tensor] = []  # the target's weighted sum of masks, unless the probabilities were memoized

    def masks(a: int, b: int) -> Tensor:
        return torch.stack([draw_mask(size, params.cells, params.keep, context.generator(i)) for i in range(a, b)])

    def probabilities() -> Tensor:
        """(masks, classes). The preview is the target's map so far."""
        batches, total = [], torch.zeros(size)

        @torch.inference_mode()
        def masked(a: int, b: int) -> tuple[Tensor, Tensor]:
            drawn = masks(a, b)
            return drawn, network.logits(x * drawn[:, None].to(x.device)).softmax(-1).cpu()

        for _, _, (drawn, scores) in context.batches(params.masks, masked, lambda: total):
            batches.append(scores)
            total += torch.einsum("n,nhw->hw", target.score(scores), drawn)
        totals.append(total)
        return torch.cat(batches)

    scores = target.score(context.memoize(("rise", params, context.seed), probabilities))
    total = totals[0] if totals else _weighted_sum(scores, masks, context)
    return RawMap((total / (params.masks * params.keep))[None])


def _weighted_sum(scores: Tensor, masks: Callable[[int, int], Tensor], context: Context) -> Tensor:
    """(H, W): the masks, drawn again from their seeds, weighted by the memoized scores."""
    total = torch.zeros(context.network.input_size)
    for start in range(0, len(scores), context.batch_size):  # the same batches, so that rounding is the same
        stop = min(start + context.batch_size, len(scores))
        total += torch.einsum("n,nhw->hw", scores[start:stop], masks(start, stop))
        context.progress(stop, len(scores))
    return total


METHOD = Method(
    title="RISE", family="perturbation", attribute=attribute, params=Params, signed=False,
    linear=True, previews=True, cheap={"masks": 40}, draft={"masks": 200},
    passes=lambda params: Passes(forward=params.masks),
    citation=Citation("Petsiuk, Das, Saenko", "RISE: randomized input sampling for explanation of black-box models", "BMVC 2018",
                        "section 3"),
    idea="Show the network thousands of randomly masked copies. A pixel's value is the mean probability of those where it is visible.",
    equation=r"A_u = \frac{1}{N p} \sum_{i=1}^{N} \operatorname{softmax}_c f(x \odot M_i)\; M_i(u)",
    limits="A random estimate: another seed gives another map, and too few masks leave blotches. The values lie between 0 and 1 and "
           "even empty regions get the mean probability. It needs thousands of passes.",
)
