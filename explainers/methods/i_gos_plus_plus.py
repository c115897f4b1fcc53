r"""iGOS++ (Khorram, Lawson, Li 2021, section 3): I-GOS with two masks, whose product both removes the class and preserves it.

A deletion mask x and an insertion mask y of r x r cells each blend the image I with its blur B. Deletion keeps the image where the
mask is 1, D(m) = up(m) I + (1 - up(m)) B, and insertion shows it where the mask is 0, S(m) = up(m) B + (1 - up(m)) I. The method
minimises

    p_c(D(x)) - p_c(S(y)) + p_c(D(x y)) - p_c(S(x y)) + l1 mean|1 - x y| + tv BTV(x y),

where the first term removes the class by what x hides, the second shows it by what y hides, and the next two do so by both together.
BTV, the bilateral total variation, is half of I-GOS's total variation of the cells plus half of that of the enlarged mask's pixels,
in which a squared difference counts exp(-d^2 / 0.01) times, with d the difference of the image's channel mean between the same two
pixels, in the network's normalised scale. So a mask's edge is free where the image has one. The map is 1 - x y.

As in I-GOS the gradient of each of the four terms is an average over noisy points of a path, here from the mask 0 to the present mask,
and a line search chooses the step, here from 1000 down to 0.000004. This follows the authors' program where the paper leaves a choice:
probabilities and not logits, means and not sums, and the four terms' gradients halved, but not their values in the line search.

It departs from that program in two things. The line search compares the objective at the end of the path and without noise, as I-GOS
does and as the objective is written; the program compares averages over the noisy path, which needs twenty times as many passes.
And the program takes the difference of the channel mean between rows, but the mean of the channels' weights between columns; here
it is the former for both.

As in I-GOS the code stores hidden fractions, 1 - x and 1 - y, because float32 cannot tell masks near 1 apart. For a contrast
the probability is p_a - p_b.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explainers.baselines import i_gos_blur
from explainers.context import Context
from explainers.contract import AuxiliaryOutput, Citation, Method, RawMap
from explainers.methods.i_gos import (
    NOT_ACCEPTED,
    RESOLUTION,
    BlendedImage,
    Penalty,
    cells_per_side,
    longest_accepted,
    pixels_to_cells,
)
from explainers.networks.classifier import Classifier
from explainers.parameters import integer, real
from explainers.passes import Passes
from explainers.resampling import enlarge, size_of
from explainers.target import Target

STEPS = tuple(1000 * 0.2**n for n in range(13))  # step sizes; the last is the first below the authors' bound of 1e-5
EDGE = 0.01  # the squared difference of neighbouring pixels at which a change of the mask counts 1/e times
L1 = ((28, 1.0), (224, 10.0))  # by cells per side, in the authors' program and its documentation
TV = 20.0
TERMS = 4


@dataclass(frozen=True)
class Params:
    """The masks' resolution, the optimisation, and the weights of the penalties."""

    resolution: str = RESOLUTION
    iterations: int = integer(15, low=1, high=100, label="Iterations", help="Steps of the optimisation. The authors take 15 or 20.")
    points: int = integer(20, low=1, high=100, label="Path points", help=(
        "Blends on the way to the present mask whose gradients are averaged, for each of the four terms of one step."))
    noise: float = real(0.2, low=0.0, high=1.0, step=0.1, label="Noise", help=(
        "Standard deviation of the noise added to every blend, in the network's normalised scale."))
    l1: float = real(1.0, low=0.0, high=20.0, step=0.1, label="L1 weight", help=(
        "Weight of the hidden area, as a multiple of the default for the resolution: 1 up to 28 cells, 10 at 224."))
    tv: float = real(1.0, low=0.0, high=20.0, step=0.1, label="Total variation weight", help=(
        "Weight of the bilateral total variation, as a multiple of the authors' 20."))


def passes(params: Params) -> Passes:
    along_paths = params.iterations * TERMS * params.points
    return Passes(forward=TERMS + along_paths + params.iterations * TERMS * len(STEPS), backward=along_paths)


def product(hidden: Tensor) -> Tensor:
    """(..., 1, r, r): the hidden fractions 1 - x y of both masks together, from those of each (..., 2, 1, r, r)."""
    deletion, insertion = hidden.unbind(-4)
    return deletion + insertion - deletion * insertion


def edge_weights(x: Tensor, dim: int) -> Tensor:
    """What a change of the mask between neighbouring pixels of the image (1, C, H, W) counts: 1 where they are alike, 0 at an edge."""
    return torch.exp(-x.mean(1, keepdim=True).diff(dim=dim).square() / EDGE)


class Objective:
    """The four terms and the penalties. hidden: the fractions (2, 1, r, r) that the deletion mask and the insertion mask hide."""

    def __init__(self, network: Classifier, x: Tensor, target: Target, params: Params):
        self.size, self.params = size_of(x), params
        blur = i_gos_blur(x)
        self.deleted = BlendedImage(network, x, target, blur)
        self.shown = BlendedImage(network, blur, target, x)
        self.edges = [edge_weights(x, dim) for dim in (2, 3)]
        sides, weights = zip(*L1, strict=True)
        cells = cells_per_side(params.resolution, self.size)
        self.cells_penalty = Penalty(
            params.l1 * float(np.exp(np.interp(np.log(cells), np.log(sides), np.log(weights)))), params.tv * TV / 2)

    def penalty(self, hidden: Tensor) -> Tensor:
        """(N,) of hidden fractions (N, 2, 1, r, r)."""
        both = product(hidden)
        pixels = enlarge(both, self.size)
        variation = sum((edge * pixels.diff(dim=d).square()).mean((1, 2, 3)) for edge, d in zip(self.edges, (2, 3), strict=True))
        return self.cells_penalty.of(both) + self.cells_penalty.tv * variation

    def penalty_gradient(self, hidden: Tensor) -> Tensor:
        """(2, 1, r, r), in which the slope of |1 - x y| at 0 counts as 0."""
        hidden = hidden.detach().requires_grad_(True)
        with torch.enable_grad():
            return torch.autograd.grad(self.penalty(hidden[None]).sum(), hidden)[0]

    def terms(self, hidden: Tensor, context: Context, preview: Callable[[], Tensor]) -> Tensor:
        """(4, N): the probabilities in D(x), S(y), D(x y) and S(x y), from hidden fractions (N, 2, 1, r, r)."""
        deletion, insertion = (enlarge(mask, self.size) for mask in hidden.unbind(1))
        both = deletion + insertion - deletion * insertion
        runs = [(self.deleted, deletion), (self.shown, insertion), (self.deleted, both), (self.shown, both)]
        return torch.stack([self._probabilities(blended, pixels, context.part(i, i + 1, TERMS), preview)
                            for i, (blended, pixels) in enumerate(runs)])

    def _probabilities(self, blended: BlendedImage, pixels: Tensor, context: Context, preview: Callable[[], Tensor]) -> Tensor:
        batches = context.batches(len(pixels), lambda a, b: blended.probability_of_pixels(pixels[a:b]), preview)
        return torch.cat([batch for _, _, batch in batches])

    def losses(self, terms: Tensor, hidden: Tensor) -> Tensor:
        """(N,) the objective from its terms (4, N) and the hidden fractions (N, 2, 1, r, r)."""
        return terms[0] - terms[1] + terms[2] - terms[3] + self.penalty(hidden)

    def direction(self, hidden: Tensor, iteration: int, context: Context, preview: Callable[[], Tensor]) -> Tensor:
        """(2, 1, r, r): the averages over the paths, halved, and the penalty's gradient, by the hidden fractions."""
        x, y = 1 - enlarge(hidden, self.size)[:, None]  # (1, 1, H, W) each

        def per_pixel(term: int, blended: BlendedImage, keep: Tensor) -> Tensor:
            first_draw = (TERMS * iteration + term) * self.params.points
            part = context.part(term, term + 1, TERMS)
            average = blended.path_average(keep, self.params.points, self.params.noise, first_draw, part, preview)
            return blended.per_pixel(average)

        deletion, insertion = per_pixel(0, self.deleted, x), per_pixel(1, self.shown, y)
        both = per_pixel(2, self.deleted, x * y) - per_pixel(3, self.shown, x * y)
        halves = [(deletion + y * both) / 2, (x * both - insertion) / 2]
        return torch.cat([pixels_to_cells(half, hidden[:1]) for half in halves]) + self.penalty_gradient(hidden)


@dataclass(frozen=True)
class Point:
    """An iterate: hidden fractions (2, 1, r, r), the four terms, the objective, and if Armijo's condition held."""

    hidden: Tensor
    terms: tuple[float, ...]
    loss: float
    accepted: bool = False


def line_search(objective: Objective, current: Point, direction: Tensor, context: Context, preview: Callable[[], Tensor]) -> Point:
    """The point after the longest step against ``direction`` that satisfies Armijo's condition, or else after the shortest."""
    sizes = torch.tensor(STEPS, device=direction.device).view(-1, 1, 1, 1, 1)
    tried = (current.hidden - sizes * direction).clamp_(0, 1)
    terms = objective.terms(tried, context, preview)
    losses = objective.losses(terms, tried)
    best, accepted = longest_accepted(losses.tolist(), current.loss, float(direction.square().sum()), STEPS)
    return Point(tried[best].clone(), tuple(terms[:, best].tolist()), float(losses[best]), accepted)


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    objective = Objective(network, x, target, params)
    cells = cells_per_side(params.resolution, objective.size)
    path, search = 2 * params.points, len(STEPS)  # passes of an iteration, a quarter of them, for the progress
    end = 1 + params.iterations * (path + search)
    hidden = torch.zeros(2, 1, cells, cells, device=x.device)
    trace: list[Point] = []

    def preview() -> Tensor:
        return enlarge(product(trace[-1].hidden)[None] if trace else hidden[:1], objective.size)[0]

    terms = objective.terms(hidden[None], context.part(0, 1, end), preview)
    trace.append(Point(hidden, tuple(terms[:, 0].tolist()), float(objective.losses(terms, hidden[None]))))
    for i in range(params.iterations):
        begin = 1 + i * (path + search)
        middle = begin + path
        direction = objective.direction(trace[-1].hidden, i, context.part(begin, middle, end), preview)
        trace.append(line_search(objective, trace[-1], direction, context.part(middle, middle + search, end), preview))
    native = product(trace[-1].hidden)
    stuck = bool(native.any()) and not any(point.accepted for point in trace[1:])
    return RawMap(native, extras=_extras(trace), flags=(NOT_ACCEPTED,) if stuck else ())


def _extras(trace: list[Point]) -> dict[str, Any]:
    """The final masks; the objective and its last two terms at the start and after each iteration; which steps were accepted."""
    deletion, insertion = trace[-1].hidden[:, 0].cpu()
    accepted = [int(point.accepted) for point in trace[1:]]
    return {"deletion_mask": 1 - deletion, "insertion_mask": 1 - insertion, "hidden": product(trace[-1].hidden)[0].cpu(),
            "loss": [point.loss for point in trace], "deletion": [point.terms[2] for point in trace],
            "insertion": [point.terms[3] for point in trace], "accepted": accepted,
            "accepted_steps": f"{sum(accepted)} of {len(accepted)}"}


def _masked_inputs(x: Tensor, extras: Any) -> Tensor:
    """(2, C, H, W): what deletion leaves of the image (1, C, H, W), and what insertion shows of it."""
    pixels = enlarge(extras["hidden"][None, None].to(x.device), size_of(x))
    return torch.lerp(x, i_gos_blur(x), torch.cat((pixels, 1 - pixels)))


METHOD = Method(
    title="iGOS++", family="optimisation", attribute=attribute, passes=passes, params=Params, signed=False, upsample="corners",
    previews=True, cheap={"iterations": 4, "points": 4, "l1": 0.03, "tv": 0.1}, draft={"iterations": 4, "points": 6},
    citation=Citation("Khorram, Lawson, Li", "iGOS++: integrated gradient optimized saliency by bilateral perturbations", "CHIL 2021",
                      "section 3"),
    idea="Find a small area whose blurring removes the class and that alone still shows it: two masks, one for each, whose product "
         "does both. Gradients are averaged on paths, as in I-GOS, and the mask may change for free at the image's edges.",
    equation=r"A = 1 - x^* y^*, \quad \min_{x, y}\; p_c(D(x)) - p_c(S(y)) + p_c(D(xy)) - p_c(S(xy)) "
             r"+ \lambda_1 \lVert 1 - xy \rVert_1 + \lambda_2 \operatorname{BTV}(xy)",
    limits="As in I-GOS: often no step lowers the objective, and then only the order of the cells says something; a blurred image is "
           "itself unusual for the network. After few iterations the map can be chequered. The line search differs from the authors' "
           "program, which compares noisy averages.",
    auxiliary_outputs=(
        AuxiliaryOutput("hidden", "Masked input", "pictures", make=_masked_inputs, help=(
            "What the final mask leaves of the image where it deletes, and what it shows of it where it inserts.")),
        AuxiliaryOutput("deletion_mask", "Deletion mask", "fraction", "The mask x: 1 keeps, 0 hides."),
        AuxiliaryOutput("insertion_mask", "Insertion mask", "fraction", "The mask y: 1 hides, 0 shows."),
        AuxiliaryOutput("loss", "Loss", "trace", unit="objective", help=(
            "The four probabilities plus the penalties, at the start and after each iteration.")),
        AuxiliaryOutput("deletion", "Probability after deletion", "trace", unit="probability", help=(
            "The class's probability where the product of the masks deletes, at the start and after each iteration.")),
        AuxiliaryOutput("insertion", "Probability after insertion", "trace", unit="probability", help=(
            "The class's probability where the product of the masks inserts, at the start and after each iteration.")),
        AuxiliaryOutput("accepted", "Step accepted", "trace", unit="1 yes, 0 no", follows=False, help=(
            "1 where the iteration's step satisfied Armijo's condition, 0 where the line search took its shortest step anyway.")),
        AuxiliaryOutput("accepted_steps", "Accepted steps", "text", "How many iterations' steps satisfied Armijo's condition."),
    ),
)
