r"""Guided integrated gradients: a path from a baseline to the image that moves first those values that hardly change the logit.

Kapishnikov et al. 2021. On the straight path of integrated gradients all values move at once, through images in which single
values have large gradients of either sign; these add up to noise. Here each step moves the fraction of values with the smallest
gradient magnitude, until the path's distance from the image (L1) has fallen by an equal part of the whole. If moving them all the
way is not enough, the next fraction follows. Anchors bind the path: it has to pass through points at equal distances on the
straight line. With as many anchors as there are steps between, it is integrated gradients by the left Riemann rule.

Along the exact path the map would sum to f(x) - f(baseline). In steps, and in a network with ReLUs, it does not, and more steps
do not help: a step takes the gradient where it starts, and values are chosen because it is small just there, before their ReLUs
open. With anchors the sum is closer than without. In a smooth network the error falls with the number of steps.

Each step needs the gradient where the last step ended, so images cannot go through the network in batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from explainers.baselines import BASELINES, baseline
from explainers.context import Context
from explainers.contract import Citation, Method, RawMap
from explainers.networks.classifier import Classifier
from explainers.parameters import choice, integer, real
from explainers.passes import Passes
from explainers.target import Target


@dataclass(frozen=True)
class Params:
    """The path and its steps."""

    steps: int = integer(200, low=1, high=1000, label="Steps", help=(
        "Steps from the baseline to the image, one pass after another. More follow small gradients more closely."))
    fraction: float = real(0.1, low=0.01, high=1.0, label="Fraction", help=(
        "The fraction of all values of the image that a step moves at once, those with the smallest gradient magnitude first."))
    anchors: int = integer(20, low=0, high=200, label="Anchors", help=(
        "Points on the straight line from the baseline to the image that the path has to pass through. 0 lets it go anywhere "
        "between the two images; many anchors bring it close to integrated gradients."))
    baseline: str = choice("zero", *BASELINES, label="Baseline", help=(
        "Where the path starts. zero: the mean colour. black: black pixels. blur: the image, blurred. noise: Gaussian "
        "noise. Pixels that equal the baseline get no attribution."))


def moved(at: Tensor, end: Tensor, gradient: Tensor, left: float, fraction: float) -> Tensor:
    """The next point (C, H, W): values with small gradients go from ``at`` towards ``end`` until the L1 distance is ``left``.

    The values that have not arrived are moved in groups of ``fraction`` of all values, by rising gradient magnitude: whole groups
    go all the way, the last one as far as is needed.
    """
    if left <= 0:
        return end
    way = (end - at).abs()
    missing = float(way.sum()) - left
    size = gradient.abs().masked_fill(way == 0, torch.inf)
    group = int(fraction * (size.numel() - 1))
    while missing > 0:
        threshold = float(np.partition(size.flatten().cpu().numpy(), group)[group])
        chosen = (size <= threshold) & (size < torch.inf)
        reach = float((way * chosen).sum())
        if reach == 0:  # rounding: everything has arrived
            break
        at = torch.where(chosen, torch.lerp(at, end, missing / reach) if reach > missing else end, at)
        size = size.masked_fill(chosen, torch.inf)
        missing -= reach
    return at


def schedule(x: Tensor, start: Tensor, params: Params) -> Iterator[tuple[Tensor, float]]:
    """For each step the anchor (C, H, W) that it goes towards, and the L1 distance that is left to it afterwards."""
    segments = min(params.anchors + 1, params.steps)
    whole = float((x - start).abs().sum()) / segments
    for segment in range(segments):
        steps = params.steps * (segment + 1) // segments - params.steps * segment // segments
        end = x if segment + 1 == segments else torch.lerp(start, x, (segment + 1) / segments)
        for step in range(steps):
            yield end, whole * (1 - (step + 1) / steps)


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    start = baseline(network, x, params.baseline, context.generator())
    steps = schedule(x[0], start[0], params)
    at, total = start[0], torch.zeros_like(x[0])
    context.batch_size = 1  # each step starts where the last one ended

    for _, _, gradient in context.batches(params.steps, lambda a, b: network.gradient(at[None], target)[0], lambda: total):
        end, left = next(steps)
        next_point = moved(at, end, gradient, left, params.fraction)
        total = total + (next_point - at) * gradient
        at = next_point
    return RawMap(total)


METHOD = Method(
    title="Guided Integrated Gradients", short="Guided IG", family="gradient", attribute=attribute, params=Params,
    previews=True, cheap={"steps": 12, "anchors": 2}, draft={"steps": 42},
    passes=lambda params: Passes(forward=params.steps, backward=params.steps),
    citation=Citation("Kapishnikov, Venugopalan, Avci, Wedin, Terry, Bolukbasi", "Guided integrated gradients: an adaptive path "
                      "method for removing noise", "CVPR 2021", "algorithm 1"),
    idea="Fade the image in like integrated gradients, but first those values that hardly change the logit, so that less noise "
         "is collected on the way.",
    equation=r"A = \int_0^1 \frac{\partial f_c(\gamma(\alpha))}{\partial \gamma} \odot \gamma'(\alpha)\, d\alpha, "
             r"\quad \gamma'_i \neq 0 \text{ only where } \Big|\frac{\partial f_c}{\partial \gamma_i}\Big| \text{ is small}",
    limits="Unlike that of integrated gradients, its sum can be far from the logit's change, however many steps there are: it "
           "chooses values whose gradient is small just where a step starts. It depends on the baseline, and pixels that look "
           "like it get nothing. The path depends on the class, so the maps of two classes come from different images. Its "
           "steps cannot run side by side, which makes it slow.",
)
