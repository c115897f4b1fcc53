"""RISE: show the network many randomly masked copies; a pixel's value is the mean probability over the masks that keep it.

One set of passes serves every class at once: the scores of all classes are kept while the image is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from explainers.context import Context
from explainers.contract import Method, Passes, RawMap, Reference, Target, integer, real
from explainers.networks.classifier import Classifier


@dataclass(frozen=True)
class Params:
    """The masks."""

    masks: int = integer(4000, low=10, high=20000, step=10, label="Masks", help=(
        "Masked copies shown to the network. The paper uses 4000 for VGG and 8000 for ResNet; a few hundred give a rough map."))
    cells: int = integer(7, low=2, high=32, label="Cells a side", help="The masks are drawn on a grid this fine, then enlarged.")
    keep: float = real(0.5, low=0.05, high=0.95, label="Share kept", help="The chance that a cell stays visible.")


def draw_mask(size: tuple[int, int], cells: int, keep: float, generator: torch.Generator) -> Tensor:
    """(H, W) in [0, 1]: random cells, enlarged bilinearly and shifted by less than a cell."""
    height, width = size
    cell_h, cell_w = -(-height // cells), -(-width // cells)
    grid = (torch.rand(1, 1, cells, cells, generator=generator) < keep).float()
    large = F.interpolate(grid, size=((cells + 1) * cell_h, (cells + 1) * cell_w), mode="bilinear", align_corners=False)
    top, left = (int(torch.randint(0, high, (1,), generator=generator)) for high in (cell_h, cell_w))
    return large[0, 0, top:top + height, left:left + width]


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    size = network.input_size
    totals: list[Tensor] = []  # the asked class's sum, when the passes are made here and now

    def masks(a: int, b: int) -> Tensor:
        return torch.stack([draw_mask(size, params.cells, params.keep, context.generator(i)) for i in range(a, b)])

    def probabilities() -> Tensor:
        """(masks, classes), for every class at once; progress shows the asked class's map as it forms."""
        found, total = [], torch.zeros(size)

        @torch.inference_mode()
        def masked(a: int, b: int) -> tuple[Tensor, Tensor]:
            drawn = masks(a, b)
            return drawn, network.logits(x * drawn[:, None].to(x.device)).softmax(-1).cpu()

        for _, _, (drawn, scores) in context.batches(params.masks, masked, lambda: total):
            found.append(scores)
            total += torch.einsum("n,nhw->hw", network.score(scores, target), drawn)
        totals.append(total)
        return torch.cat(found)

    scores = network.score(context.share(("rise", params, context.seed), probabilities), target)
    total = totals[0] if totals else _weighted_sum(scores, masks, context)
    return RawMap((total / (params.masks * params.keep))[None])


def _weighted_sum(scores: Tensor, masks: Callable[[int, int], Tensor], context: Context) -> Tensor:
    """(H, W): the masks, drawn again from their seeds, weighted by scores that were known."""
    total = torch.zeros(context.network.input_size)
    for start in range(0, len(scores), context.batch_size):  # in the batches of the first time, so to the same bits
        stop = min(start + context.batch_size, len(scores))
        total += torch.einsum("n,nhw->hw", scores[start:stop], masks(start, stop))
        context.progress(stop, len(scores))
    return total


METHOD = Method(
    title="RISE", family="perturbation", attribute=attribute, params=Params, signed=False,
    passes=lambda params: Passes(forward=params.masks),
    reference=Reference("Petsiuk, Das, Saenko", "RISE: randomized input sampling for explanation of black-box models", "BMVC 2018",
                        "section 3"),
    idea="Show the network thousands of randomly masked copies. A pixel is worth the mean probability of the copies that keep it.",
    equation=r"A_u = \frac{1}{N p} \sum_{i=1}^{N} \operatorname{softmax}_c f(x \odot M_i)\; M_i(u)",
    limits="A random estimate: another seed gives another map, and too few masks leave blotches. The values lie between 0 and 1 and "
           "even empty regions get the mean probability. It needs thousands of passes.",
)
