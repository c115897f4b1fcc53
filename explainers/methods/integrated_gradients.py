r"""Integrated gradients: the gradient averaged along a straight path from a baseline to the image, times their difference.

The map sums to f(x) - f(baseline) (completeness), up to the error of the quadrature.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
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
    """The path and the points on it."""

    steps: int = integer(50, low=1, high=1000, label="Steps", help=(
        "Points on the path from the baseline to the image. More points bring the map's sum closer to the change of the logit."))
    baseline: str = choice("zero", *BASELINES, label="Baseline", help=(
        "Where the path starts. zero: the mean colour. black: black pixels. blur: the image, blurred. noise: Gaussian "
        "noise. Pixels that equal the baseline get no attribution."))
    quadrature: str = choice("gauss_legendre", "gauss_legendre", "riemann_right", "trapezoid", label="Quadrature", help=(
        "Where the points lie and how they are weighted. Gauss-Legendre is the most accurate for the same number of steps."))


def nodes(steps: int, quadrature: str) -> tuple[np.ndarray, np.ndarray]:
    """The points of a quadrature rule in [0, 1], and their weights, which sum to 1."""
    if quadrature == "gauss_legendre":
        points, weights = np.polynomial.legendre.leggauss(steps)
        return (points + 1) / 2, weights / 2
    if quadrature == "riemann_right":
        return np.arange(1, steps + 1) / steps, np.full(steps, 1 / steps)
    # The trapezoid rule needs the point at 0, although a ReLU network's gradient there is arbitrary where the baseline is 0.
    points = np.linspace(0, 1, steps) if steps > 1 else np.array([1.0])
    weights = np.full(steps, 1 / max(1, steps - 1))
    if steps > 1:
        weights[[0, -1]] /= 2
    return points, weights


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    start = baseline(network, x, params.baseline, context.generator())
    points, weights = (torch.tensor(v, dtype=x.dtype, device=x.device).view(-1, 1, 1, 1)
                       for v in nodes(params.steps, params.quadrature))
    mean_gradient, done = torch.zeros_like(x[0]), 0

    def weighted_gradients(a: int, b: int) -> Tensor:
        path = start + points[a:b] * (x - start)  # (b - a, C, H, W)
        return (weights[a:b] * network.gradient(path, target)).sum(0)

    def preview() -> Tensor:
        """The mean over the points so far, which lie in the part of the path next to the baseline."""
        return mean_gradient / weights[:done].sum() * (x - start)[0]

    for _, stop, part in context.batches(params.steps, weighted_gradients, preview):
        mean_gradient += part
        done = stop
    return RawMap(mean_gradient * (x - start)[0])


METHOD = Method(
    title="Integrated Gradients", short="IG", family="gradient", attribute=attribute, params=Params,
    linear=True, previews=True, cheap={"steps": 9}, draft={"steps": 12},
    passes=lambda params: Passes(forward=params.steps, backward=params.steps),
    citation=Citation("Sundararajan, Taly, Yan", "Axiomatic attribution for deep networks", "ICML 2017", "section 3"),
    idea="Fade the image in from a baseline and sum how much each pixel changes the logit. The map sums to the logit's change.",
    equation=r"A = (x - x') \odot \int_0^1 \frac{\partial f_c(x' + \alpha (x - x'))}{\partial x}\, d\alpha",
    limits="It depends on the baseline: pixels that look like it get nothing. The images near the baseline are unlike any that the "
           "network was trained on.",
)
