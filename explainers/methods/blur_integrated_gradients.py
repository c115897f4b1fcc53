r"""BlurIG: integrated gradients along a path of ever more blurred images (Xu, Venugopalan, Sundararajan 2020).

Let x(s) be the image, blurred by a Gaussian of standard deviation s. The map is the integral over s, from the largest one down to
0, of the gradient at x(s) times the slope of x(s), and sums to f(x) - f(x(s max)) up to the error of the quadrature.

Two rules are here. ``riemann`` is that of the authors' program: the slope at each s is (x(s + 0.01) - x(s)) / 0.01, and counts
for a whole step of s. At s = 0 that slope is 0, so this point needs no pass. ``trapezoid`` takes differences of neighbouring
images on the path instead of slopes, each with the mean of the gradients at its two ends.

The blur is that of SciPy's ``gaussian_filter`` with zeros beyond the edges, as the authors use it: on the normalised image a zero
is the mean colour. It is linear in rows and in columns, so each blur is two matrix products, which take a few hundredths of a
pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from explainers.context import Context
from explainers.contract import Citation, Method, RawMap
from explainers.networks.classifier import Classifier
from explainers.parameters import choice, integer, real
from explainers.passes import Passes
from explainers.target import Target

TRUNCATE = 4.0  # standard deviations after which the Gaussian is cut off, as in SciPy
SLOPE_STEP = 0.01  # of the standard deviation, in pixels: the difference by which the authors' program computes slopes

Pieces = Callable[[int, int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Params:
    """The path, the points on it, and how they are added up."""

    steps: int = integer(100, low=2, high=1000, label="Steps", help=(
        "Steps from the image to its strongest blur. More steps bring the map's sum closer to the change of the logit."))
    max_sigma: float = real(50.0, low=1.0, high=200.0, step=1.0, label="Strongest blur", help=(
        "Standard deviation of the strongest blur, in pixels of the network's input. The paper has 50 for inputs of 224 pixels."))
    spacing: str = choice("uniform", "uniform", "quadratic", label="Spacing", help=(
        "Where the steps lie. uniform: standard deviations are equally far apart, as in the paper. quadratic: they grow with "
        "the square of the step's number, so that more steps lie at weak blurs, where most of the image's detail goes."))
    quadrature: str = choice("riemann", "riemann", "trapezoid", label="Quadrature", help=(
        "riemann: slopes of the blur, as in the authors' program. trapezoid: differences between neighbouring images on the "
        "path, which usually brings the map's sum closer to the change of the logit."))


def path(params: Params) -> Tensor:
    """The standard deviations (steps + 1,) from 0 up, in float64."""
    fractions = torch.linspace(0, 1, params.steps + 1, dtype=torch.float64)
    return params.max_sigma * (fractions if params.spacing == "uniform" else fractions.square())


def blur_matrices(side: int, sigmas: Tensor) -> Tensor:
    """(S, side, side) in float64 on the CPU: row i of a matrix holds the weights of a line's pixels in its blurred pixel i.

    sigmas: (S,) in pixels. The weights of a Gaussian cut off after ``TRUNCATE`` standard deviations are scaled to the sum 1
    before those beyond the edges are left out, because there the image counts as zero.
    """
    radius = (TRUNCATE * sigmas + 0.5).floor()[:, None]
    offsets = torch.arange(max(side, int(radius.max()) + 1), dtype=torch.float64)
    exponents = -0.5 * (offsets / sigmas.clamp(min=1e-9)[:, None]).square()
    weights = exponents.exp().masked_fill(offsets > radius, 0)  # (S, offsets)
    weights = weights / (2 * weights.sum(1, keepdim=True) - weights[:, :1])
    places = torch.arange(side)
    return weights[:, (places[:, None] - places[None]).abs()]


def blurred(x: Tensor, sigmas: Tensor) -> Tensor:
    """(S, C, H, W): an image (C, H, W), blurred by each of the standard deviations (S,)."""
    rows, columns = (blur_matrices(side, sigmas).to(x)[:, None] for side in x.shape[-2:])
    return rows @ (x @ columns.mT)


def blurred_with_slopes(x: Tensor, sigmas: Tensor) -> tuple[Tensor, Tensor]:
    """The blurred images (S, C, H, W), and the authors' slopes of them by the standard deviation, of the same shape.

    With R and C the matrices of rows and columns at s, and R', C' their difference quotients, the quotient of R x C^T is
    R' x C^T + R x C'^T + 0.01 R' x C'^T. This is precise in float32, unlike the difference of two blurred images over 0.01.
    """
    (rows, row_slopes), (columns, column_slopes) = (_matrices_and_slopes(side, sigmas, x) for side in x.shape[-2:])
    across, across_slopes = x @ columns.mT, x @ column_slopes.mT
    slopes = torch.cat((row_slopes, rows), -1) @ torch.cat((across + SLOPE_STEP * across_slopes, across_slopes), -2)
    return rows @ across, slopes


def _matrices_and_slopes(side: int, sigmas: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """(S, 1, side, side) each, on the device and in the type of ``like``."""
    at, after = blur_matrices(side, sigmas), blur_matrices(side, sigmas + SLOPE_STEP)
    return at.to(like)[:, None], ((after - at) / SLOPE_STEP).to(like)[:, None]


def riemann(x: Tensor, sigmas: Tensor) -> Pieces:
    """The images at the path's points 1 to steps - 1, and what to multiply their gradients by."""
    widths = sigmas.diff().to(x)[:, None, None, None]

    def pieces(a: int, b: int) -> tuple[Tensor, Tensor]:
        images, slopes = blurred_with_slopes(x, sigmas[a + 1:b + 1])
        return images, -widths[a + 1:b + 1] * slopes

    return pieces


def trapezoid(x: Tensor, sigmas: Tensor) -> Pieces:
    """The images at all points of the path, and half the way from the point after each to the point before it."""
    last = len(sigmas) - 1

    def pieces(a: int, b: int) -> tuple[Tensor, Tensor]:
        around = [min(max(i, 0), last) for i in range(a - 1, b + 1)]
        images = blurred(x, sigmas[around])
        return images[1:-1], (images[:-2] - images[2:]) / 2

    return pieces


def points(params: Params) -> int:
    """The points of the path at which the gradient is computed."""
    return params.steps - 1 if params.quadrature == "riemann" else params.steps + 1


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    pieces = {"riemann": riemann, "trapezoid": trapezoid}[params.quadrature](x[0], path(params))
    total = torch.zeros_like(x[0])

    def weighted_gradients(a: int, b: int) -> Tensor:
        images, factors = pieces(a, b)
        return (network.gradient(images, target) * factors).sum(0)

    for _, _, part in context.batches(points(params), weighted_gradients, lambda: total):
        total = total + part
    return RawMap(total)


METHOD = Method(
    title="Blur Integrated Gradients", short="BlurIG", family="gradient", attribute=attribute, params=Params,
    linear=True, previews=True, cheap={"steps": 9}, draft={"steps": 25},
    passes=lambda params: Passes(forward=points(params), backward=points(params)),
    citation=Citation("Xu, Venugopalan, Sundararajan", "Attribution in scale and space", "CVPR 2020", "section 3"),
    idea="Blur the image step by step and sum how much the detail that each step removes changes the logit. No baseline colour "
         "is needed: the path ends at a strong blur.",
    equation=r"A = \int_{\sigma_{\max}}^{0} \frac{\partial f_c(x_\sigma)}{\partial x_\sigma} \odot \frac{\partial x_\sigma}"
             r"{\partial \sigma}\, d\sigma, \quad x_\sigma = x * \mathcal{N}(0, \sigma^2)",
    limits="Areas without detail get nothing. Most of the image's detail is gone after the first few pixels of blur, where the "
           "default rule has few points, so the map's sum can miss the logit's change. Beyond the edges counts as the mean "
           "colour, which a strong blur draws into the picture.",
)
