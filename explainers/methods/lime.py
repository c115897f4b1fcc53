r"""LIME: a linear model of which superpixels are visible, fitted to the class's probability on copies with random ones hidden.

Each superpixel is visible with probability 1/2. A copy z (a row of ones and zeros) has the weight

    pi(z) = sqrt(exp(-d(z)^2 / width^2)),    d(z) = 1 - cos(z, 1),

so copies that hide little count more, and the coefficients w of a ridge regression with intercept are the map:

    sum over copies of pi(z) (f(z) - w . z - w_0)^2  +  alpha |w|^2.

These are the settings of the authors' package ``lime`` for images, whose feature selection keeps every superpixel there. The package
fits one class at a time. Here a contrast is explained by the difference of the two classes' scores, which gives the difference of
their two maps, because the fit is linear in the scores.
"""

from __future__ import annotations

from dataclasses import dataclass

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
from explainers.parameters import integer, real
from explainers.passes import Passes
from explainers.target import Target


@dataclass(frozen=True)
class Params:
    """The superpixels, the copies and the linear model."""

    samples: int = integer(1000, low=10, high=20000, step=10, label="Samples", help=(
        "Copies of the image with random superpixels hidden; the first one hides nothing. Many more than there are superpixels are "
        "needed."))
    segmentation: str = segmentation_choice()
    segments: int = segments_number(200)
    fill: str = fill_choice("segment_mean")
    output: str = output_choice("softmax")
    kernel_width: float = real(0.25, low=0.05, high=10.0, label="Kernel width", help=(
        "How quickly a copy loses weight with the superpixels that it hides. A large width counts all copies alike."))
    alpha: float = real(1.0, low=0.01, high=1000.0, label="Ridge", help=(
        "How strongly the model's coefficients are drawn to zero. More gives a quieter map with smaller values."))


def draw_copies(samples: int, pieces: int, generator: torch.Generator) -> Tensor:
    """Which pieces are visible in each copy: bool (samples, pieces). The first copy shows all."""
    visible = torch.rand(samples, pieces, generator=generator) < 0.5
    visible[0] = True
    return visible


def proximity(visible: Tensor, width: float) -> Tensor:
    """The weight (n,) of each copy (n, M), from 0 to 1. A copy that shows nothing has the distance 1."""
    cosine = (visible.double().mean(1)).sqrt()  # of k ones among M and a row of M ones: k / sqrt(k M)
    return (-(1 - cosine).square() / width**2).exp().sqrt()


@dataclass(frozen=True)
class Fit:
    """A linear model: its coefficients (M,), and the fraction of the weighted variance of the scores that it explains."""

    coefficients: Tensor
    r_squared: float


def ridge(visible: Tensor, values: Tensor, weights: Tensor, alpha: float) -> Fit:
    """The weighted ridge regression, with intercept, of the scores (n,) on which pieces were visible (n, M)."""
    fractions = weights / weights.sum()
    inputs = visible.double()
    inputs, values = inputs - fractions @ inputs, values - fractions @ values  # centred, so that no intercept is needed
    weighted = inputs.T * weights
    penalty = alpha * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    coefficients = torch.linalg.solve(weighted @ inputs + penalty, weighted @ values)
    variance, unexplained = (weights @ part.square() for part in (values, values - inputs @ coefficients))
    return Fit(coefficients, float(1 - unexplained / variance) if variance > 0 else 1.0)


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    pieces = cut(network, x, params, context)
    visible = draw_copies(params.samples, pieces.count, context.generator(1))
    weights = proximity(visible, params.kernel_width)

    def fitted(logits: Tensor) -> Fit:
        n = len(logits)
        return ridge(visible[:n], scores(logits, target, params.output), weights[:n], params.alpha)

    key = ("lime", params.samples, params.segmentation, params.segments, params.fill)
    logits = coalition_logits(network, pieces, visible, key, context, lambda part: pieces.painted(fitted(part).coefficients))
    fit = fitted(logits)
    return RawMap(pieces.painted(fit.coefficients), extras={
        "superpixels": pieces.labels.cpu().int(), "count": pieces.count, "r_squared": fit.r_squared})


METHOD = Method(
    title="LIME", family="perturbation", attribute=attribute, params=Params, upsample="nearest",
    linear=True, previews=True, cheap={"samples": 60}, draft={"samples": 200},
    passes=lambda params: Passes(forward=params.samples),
    citation=Citation("Ribeiro, Singh, Guestrin", "\"Why should I trust you?\" Explaining the predictions of any classifier",
                      "KDD 2016", "section 3, with the settings of the authors' package for images"),
    idea="Hide random superpixels in many copies of the image and fit a linear model of the class's probability to them. A "
         "superpixel's value is its coefficient: how much higher the probability is where it is visible.",
    equation=r"\min_{w, w_0} \sum_i \pi(z_i) \big( f_c(x_{z_i}) - w^\top z_i - w_0 \big)^2 + \alpha \lVert w \rVert^2, \qquad "
             r"\pi(z) = e^{-d(z)^2 / 2 \sigma^2}",
    limits="A random estimate: another seed gives other values, above all with few samples for many superpixels. A linear model "
           "cannot show that superpixels only count together; R² says how much of the scores it explains. How the picture is cut, and "
           "what hides a piece, changes the map. A mosaic of mean colours may still show the object.",
    auxiliary_outputs=(
        MOSAIC,
        AuxiliaryOutput("count", "Superpixels", "number", "How many regions the picture was cut into."),
        AuxiliaryOutput("r_squared", "R² of the linear model", "number", (
            "The fraction of the scores' variance over the copies that the linear model explains. Near 0 the map says little.")),
    ),
)
