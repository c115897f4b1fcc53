"""Occlusion: cover one tile of the image after the other, and measure how far the target's score falls.

A pixel's value is the drop, averaged over the windows that cover the pixel. For a linear network, the zero baseline and
tiles of one pixel it is gradient x input. One set of passes serves every class: the outputs of all classes are memoized for the
image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from explainers.baselines import BASELINES, baseline
from explainers.context import Context
from explainers.contract import Citation, Method, RawMap
from explainers.networks.classifier import Classifier
from explainers.parameters import choice, integer
from explainers.passes import Passes
from explainers.target import Target

_REPORT_EVERY = 1000  # windows between two reports of progress where the outputs are memoized


@dataclass(frozen=True)
class Params:
    """The tiles and what covers them."""

    tiles: int = integer(16, low=2, high=64, label="Tiles per side", help=(
        "The window's side is the image's side divided by this. More tiles give a finer map; the passes grow with their square."))
    overlap: int = integer(1, low=1, high=8, label="Overlap", help=(
        "In how many steps the window moves by its own width. 1: no overlap. More steps give a smoother map."))
    fill: str = choice("zero", *BASELINES, label="Fill", help="What covers a tile: the mean colour, black, the blurred image, noise.")
    output: str = choice("logit", "logit", "softmax", label="Output", help="Whose drop is measured.")


def windows(side: int, tiles: int, overlap: int) -> list[tuple[int, int]]:
    """Start and end of each window along one side, in pixels; together they cover the side."""
    count = (tiles - 1) * overlap + 1
    edges = [round(side * i / (tiles * overlap)) for i in range(tiles * overlap + 1)]
    return [(edges[i], edges[i + overlap]) for i in range(count)]


def passes(params: Params) -> Passes:
    return Passes(forward=((params.tiles - 1) * params.overlap + 1) ** 2 + 1)


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    height, width = x.shape[-2:]
    boxes = [(top, bottom, left, right) for top, bottom in windows(height, params.tiles, params.overlap)
             for left, right in windows(width, params.tiles, params.overlap)]
    cover = baseline(network, x, params.fill, context.generator())[0]
    drop, count = torch.zeros(height, width), torch.zeros(height, width)

    @torch.inference_mode()
    def outputs(images: Tensor) -> Tensor:
        """(N, classes)."""
        logits = network.logits(images)
        return (logits if params.output == "logit" else logits.softmax(-1)).cpu()

    def covered(a: int, b: int) -> Tensor:
        images = x.repeat(b - a, 1, 1, 1)
        for image, (top, bottom, left, right) in zip(images, boxes[a:b], strict=True):
            image[:, top:bottom, left:right] = cover[:, top:bottom, left:right]
        return outputs(images)

    def add(first: int, scores: Tensor, uncovered: Tensor) -> None:
        """Add the drops of the windows from number ``first`` on."""
        for (top, bottom, left, right), score in zip(boxes[first:first + len(scores)], scores, strict=True):
            drop[top:bottom, left:right] += uncovered[0] - score
            count[top:bottom, left:right] += 1

    def compute() -> Tensor:
        """(1 + windows, classes): the outputs of the image and under each window. The preview is the target's map so far."""
        every = [outputs(x)]
        uncovered = target.score(every[0])
        for start, _, batch in context.batches(len(boxes), covered, lambda: drop / count.clamp(min=1)):
            every.append(batch)
            add(start, target.score(batch), uncovered)
        return torch.cat(every)

    every = context.memoize(("occlusion", params, context.seed if params.fill == "noise" else 0), compute)
    if not count.any():  # the outputs were memoized
        for start in range(0, len(boxes), _REPORT_EVERY):
            add(start, target.score(every[1 + start:1 + start + _REPORT_EVERY]), target.score(every[:1]))
            context.progress(min(start + _REPORT_EVERY, len(boxes)), len(boxes))
    return RawMap((drop / count.clamp(min=1))[None])


METHOD = Method(
    title="Occlusion", family="perturbation", attribute=attribute, passes=passes, params=Params, upsample="nearest",
    linear=True, previews=True, cheap={"tiles": 4}, draft={"tiles": 8},
    citation=Citation("Zeiler, Fergus", "Visualizing and understanding convolutional networks", "ECCV 2014", "section 4.2"),
    idea="Cover one tile of the image after the other and measure how far the class's score falls.",
    equation=r"A_u = \frac{1}{|\{T \ni u\}|} \sum_{T \ni u} \big( f_c(x) - f_c(x_{\setminus T}) \big)",
    limits="Tiles are covered one at a time, so evidence that occurs twice is missed: covering one copy changes little. A covered "
           "tile is itself unusual for the network.",
)
