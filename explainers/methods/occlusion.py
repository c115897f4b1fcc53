"""Occlusion: cover one tile of the image after the other, and measure how far the target's score falls.

A pixel's value is the drop, averaged over the windows that cover the pixel. For a linear network, the zero baseline and
tiles of one pixel it is gradient x input.
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
    def output(images: Tensor) -> Tensor:
        logits = network.logits(images)
        return target.score(logits if params.output == "logit" else logits.softmax(-1))

    def covered(a: int, b: int) -> Tensor:
        images = x.repeat(b - a, 1, 1, 1)
        for image, (top, bottom, left, right) in zip(images, boxes[a:b], strict=True):
            image[:, top:bottom, left:right] = cover[:, top:bottom, left:right]
        return output(images).cpu()

    uncovered = output(x).cpu()
    for a, b, scores in context.batches(len(boxes), covered, lambda: drop / count.clamp(min=1)):
        for (top, bottom, left, right), score in zip(boxes[a:b], scores, strict=True):
            drop[top:bottom, left:right] += uncovered[0] - score
            count[top:bottom, left:right] += 1
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
