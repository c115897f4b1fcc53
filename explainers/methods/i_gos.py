r"""I-GOS (Qi, Khorram, Li 2020, section 3): a coarse mask that hides as little of the image as it can and still removes the class.

A mask M of r x r cells (1 keeps, 0 hides) blends the image I with its blur B, up(M) I + (1 - up(M)) B, and the method minimises

    F(M) = p_c(blend) + l1 mean|1 - M| + tv (mean squared difference down + mean squared difference across).

The step's direction is not the gradient of F. The gradient of p_c is replaced by an average over the path from the blur to the
present mask, with fresh noise at each point (equation 5):

    1/S sum over s = 1 .. S of grad_M p_c(blend(s/S M) + noise).

The chain rule leaves a factor s/S inside, so on a linear p_c the average is (S + 1) / 2S times the gradient. A line search takes
the longest of twelve steps that satisfies Armijo's condition on F (equation 9); where none does, it takes the shortest anyway,
as the authors' code does. The map is 1 - M.

The code stores the hidden fraction H = 1 - M instead of M. The algorithm is the same, but the shortest steps change M by less
than the spacing of float32 numbers near 1, which would leave all cells equal; near 0 the spacing is fine enough.

Where paper and code differ, this follows the code: softmax probability instead of the logit, means instead of sums, noise
on the blend instead of the image. For a contrast the probability is p_a - p_b.

When it misleads: at M = 1 the slope of |1 - M| counts as 0, so the direction ignores a cost that every step has, and on many
photographs no step is accepted. The order of the cells is informative even then, their values are not; ``extras["accepted"]``
says which iterations satisfied Armijo's condition.
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
from explainers.networks.classifier import Classifier
from explainers.parameters import choice, integer, real, switch
from explainers.passes import Passes
from explainers.resampling import enlarge
from explainers.target import Target

STEPS = tuple(200 * 0.2**n for n in range(12))  # step sizes; the twelfth is the first below the authors' bound of 1e-5
ARMIJO = 1e-4  # the least decrease of F, relative to step size times squared norm of the direction
TV_PER_L1 = 20  # weight of the total variation relative to that of the hidden area
_L1 = ((7, 0.3), (13, 1.0), (28, 1.0), (112, 3.0), (224, 10.0))  # l1 by cells per side; those at 28 and 112 are the authors'


@dataclass(frozen=True)
class Params:
    """The mask's resolution, the optimisation, and the weights of the penalties."""

    resolution: str = choice("28", "7", "13", "14", "28", "56", "112", "input", label="Mask cells per side", help=(
        "Few cells give one smooth blob; many give detail, which may be adversarial. The mask is never finer than the network's "
        "input."))
    iterations: int = integer(15, low=1, high=100, label="Iterations", help="Steps of the optimisation. The paper takes 10 to 20.")
    points: int = integer(20, low=1, high=100, label="Path points", help=(
        "Blends between the blur and the present mask whose gradients are averaged for one step."))
    noise: float = real(0.2, low=0.0, high=1.0, step=0.1, label="Noise", help=(
        "Standard deviation of the noise added to every blend, in the network's normalised scale. It prevents adversarial "
        "patterns."))
    l1: float = real(1.0, low=0.0, high=20.0, step=0.1, label="L1 weight", help=(
        "Weight of the hidden area, as a multiple of the default for the resolution: 0.3 at 7 cells, 1 at 13 to 28, 3 at 112, 10 at "
        "224."))
    tv: float = real(1.0, low=0.0, high=20.0, step=0.1, label="Total variation weight", help=(
        "Weight of the mask's total variation, as a multiple of the default, which is 20 times that of the hidden area."))
    rescue: bool = switch(False, label="Rescue rule", help=(
        "In the authors' code, not in the paper: if the probability has not changed after half of the iterations, the L1 weight is "
        "divided by 10, and if not after four fifths, by 5."))
    fallback: bool = switch(False, label="Plain gradient when stuck", help=(
        "Where no step along the path's direction is accepted, try the steps along the plain gradient of the objective, within the "
        "mask's bounds. Not in the paper. Costs up to 13 more passes per iteration."))


def passes(params: Params) -> Passes:
    """Exact without the fallback; with it an upper bound."""
    tries = params.points + len(STEPS)
    if params.fallback:
        tries += 1 + len(STEPS)
    return Passes(forward=1 + params.iterations * tries, backward=params.iterations * (params.points + params.fallback))


@dataclass(frozen=True)
class Penalty:
    """The weights of the hidden area and of the total variation in F."""

    l1: float
    tv: float

    @classmethod
    def usual(cls, cells: int, params: Params) -> Penalty:
        """The default weights at this many cells per side times those of ``params``; log-log interpolated between ``_L1``."""
        sides, weights = zip(*_L1, strict=True)
        default = float(np.exp(np.interp(np.log(cells), np.log(sides), np.log(weights))))
        return cls(params.l1 * default, params.tv * default * TV_PER_L1)

    def of(self, hidden: Tensor) -> Tensor:
        """The penalties (N,) of hidden fractions (N, 1, r, r)."""
        variation = sum(hidden.diff(dim=d).square().mean((1, 2, 3)) for d in (2, 3))
        return self.l1 * hidden.abs().mean((1, 2, 3)) + self.tv * variation

    def gradient(self, hidden: Tensor) -> Tensor:
        """The gradient by the hidden fractions, in which the slope of |hidden| at 0 counts as 0."""
        hidden = hidden.detach().requires_grad_(True)
        with torch.enable_grad():
            return torch.autograd.grad(self.of(hidden).sum(), hidden)[0]


def masked_image(x: Tensor, mask: Tensor) -> Tensor:
    """The blend (1, C, H, W) of an image and its blur under a mask (r, r)."""
    return torch.lerp(i_gos_blur(x), x, enlarge(mask[None, None].to(x.device), tuple(x.shape[-2:])))


class BlendedImage:
    """The image and its blur, and the target's probability in blends of them, given by hidden fractions (N, 1, r, r)."""

    def __init__(self, network: Classifier, x: Tensor, target: Target):
        self.network, self.target = network, target
        self.size = tuple(x.shape[-2:])
        self.image, self.blur = x, i_gos_blur(x)
        self.detail = x - self.blur

    def _probability(self, images: Tensor) -> Tensor:
        return self.target.score(self.network.logits(images).softmax(-1))

    def blend(self, hidden: Tensor) -> Tensor:
        """(N, C, H, W): the image where ``hidden`` is 0, its blur where it is 1."""
        return torch.addcmul(self.image, enlarge(hidden, self.size), self.detail, value=-1)

    @torch.inference_mode()
    def probability(self, hidden: Tensor) -> Tensor:
        """The target's probability (N,) in the blends."""
        return self._probability(self.blend(hidden))

    def gradients(self, images: Tensor) -> Tensor:
        """The gradient (N, C, H, W) of each image's probability by its pixels."""
        images = images.requires_grad_(True)
        with torch.enable_grad():
            return torch.autograd.grad(self._probability(images).sum(), images)[0]

    def per_cell(self, hidden: Tensor, image_gradient: Tensor) -> Tensor:
        """The gradient (1, 1, r, r) by the hidden fractions, from a gradient (C, H, W) by the blend's pixels."""
        cells = torch.zeros_like(hidden).requires_grad_(True)
        with torch.enable_grad():
            per_pixel = -(image_gradient * self.detail[0]).sum(0).expand(1, 1, -1, -1)
            return torch.autograd.grad(enlarge(cells, self.size), cells, per_pixel)[0]

    def path_gradient(self, hidden: Tensor, params: Params, first_draw: int, context: Context,
                      preview: Callable[[], Tensor]) -> Tensor:
        """Equation 5, by the hidden fractions. ``first_draw``: the index of the first point's noise among the generators."""
        keep = 1 - enlarge(hidden, self.size)
        fractions = torch.arange(1, params.points + 1, device=keep.device, dtype=keep.dtype).view(-1, 1, 1, 1) / params.points
        total = torch.zeros_like(self.detail[0])

        def weighted(a: int, b: int) -> Tensor:
            images = torch.empty(b - a, *self.detail.shape[1:])
            for offset, image in enumerate(images):
                image.normal_(std=params.noise, generator=context.generator(first_draw + a + offset))
            images = images.to(keep.device).add_(self.blur).addcmul_(fractions[a:b] * keep, self.detail)
            return torch.tensordot(fractions[a:b].flatten(), self.gradients(images), dims=1)

        for _, _, part in context.batches(params.points, weighted, preview):
            total += part
        return self.per_cell(hidden, total / params.points)

    def plain_gradient(self, hidden: Tensor, penalty: Penalty) -> Tensor:
        """The gradient of F itself, but 0 where a step against it would leave [0, 1]. The slope of |hidden| at 0 is 1 here."""
        gradient = self.per_cell(hidden, self.gradients(self.blend(hidden))[0]) + penalty.gradient(hidden)
        gradient = torch.where(hidden > 0, gradient, gradient + penalty.l1 / hidden.numel())
        outward = ((hidden <= 0) & (gradient > 0)) | ((hidden >= 1) & (gradient < 0))
        return gradient.masked_fill(outward, 0)


@dataclass(frozen=True)
class Point:
    """An iterate: hidden fractions (1, 1, r, r), probability, F, the step size that led here, and if Armijo's condition held."""

    hidden: Tensor
    probability: float
    loss: float
    step: float = 0.0
    accepted: bool = False


def line_search(blended: BlendedImage, current: Point, direction: Tensor, penalty: Penalty, context: Context,
                preview: Callable[[], Tensor]) -> Point:
    """The point after the longest step against ``direction`` that satisfies Armijo's condition, or else after the shortest.

    All steps go through the network in one batch, which is faster: nearly always all of them have to be tried.
    """
    steps = torch.tensor(STEPS, device=direction.device).view(-1, 1, 1, 1)
    hidden = (current.hidden - steps * direction).clamp_(0, 1)
    tried = context.batches(len(STEPS), lambda a, b: blended.probability(hidden[a:b]), preview)
    probabilities = torch.cat([batch for _, _, batch in tried])
    squared_norm = direction.square().sum()
    values = torch.stack((probabilities, penalty.of(hidden) + probabilities, squared_norm.expand(len(STEPS)))).T.tolist()
    enough = [loss <= current.loss - ARMIJO * step * squared for step, (_, loss, squared) in zip(STEPS, values, strict=True)]
    best = enough.index(True) if any(enough) else len(STEPS) - 1
    return Point(hidden[best:best + 1].clone(), values[best][0], values[best][1], STEPS[best], enough[best])


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    blended = BlendedImage(network, x, target)
    side = min(blended.size)
    cells = side if params.resolution == "input" else min(int(params.resolution), side)
    penalty = initial_penalty = Penalty.usual(cells, params)
    nothing = torch.zeros(1, 1, cells, cells, device=x.device)
    start = float(blended.probability(nothing))
    trace = [Point(nothing, start, start)]
    fallbacks = []  # the iterations whose step came from the plain gradient
    path, search = 2 * params.points, len(STEPS)  # passes of an iteration, for the progress
    parts = path + search * (1 + params.fallback)

    def preview() -> Tensor:
        return enlarge(trace[-1].hidden, blended.size)[0]

    for i in range(params.iterations):
        current, begin, end = trace[-1], i * parts, params.iterations * parts
        direction = blended.path_gradient(current.hidden, params, i * params.points, context.part(begin, begin + path, end), preview)
        direction += penalty.gradient(current.hidden)
        searched = begin + path + search
        new = line_search(blended, current, direction, penalty, context.part(begin + path, searched, end), preview)
        if params.fallback and not new.accepted:
            plain = blended.plain_gradient(current.hidden, penalty)
            other = line_search(blended, current, plain, penalty, context.part(searched, begin + parts, end), preview)
            if other.accepted:
                new = other
                fallbacks.append(i)
        trace.append(new)
        if params.rescue:
            reduced = rescued(penalty, i, params.iterations, abs(trace[max(0, i - 1)].probability - start))
            if reduced != penalty:  # the next line search compares with the loss under the new penalty
                penalty = reduced
                trace[-1] = with_penalty(new, penalty)
    return RawMap(trace[-1].hidden[0], extras=_extras(trace, initial_penalty, fallbacks))


def rescued(penalty: Penalty, iteration: int, iterations: int, moved: float) -> Penalty:
    """The authors' rescue rule. ``moved``: how far the probability was from its start two iterates ago, as in their code."""
    if iterations > 3 and iteration == iterations // 2 and moved <= 0.001:
        return Penalty(penalty.l1 / 10, penalty.tv)
    if iterations > 3 and iteration == int(iterations / 1.25) and moved <= 0.01:
        return Penalty(penalty.l1 / 5, penalty.tv)
    return penalty


def with_penalty(point: Point, penalty: Penalty) -> Point:
    """The same point with F under another penalty."""
    return Point(point.hidden, point.probability, point.probability + float(penalty.of(point.hidden)), point.step, point.accepted)


def _extras(trace: list[Point], penalty: Penalty, fallbacks: list[int]) -> dict[str, Any]:
    """The final mask; F and the probability at the start and after each iteration; each iteration's step, and if it was accepted."""
    return {
        "mask": 1 - trace[-1].hidden[0, 0].cpu(), "loss": [p.loss for p in trace], "probability": [p.probability for p in trace],
        "steps": [p.step for p in trace[1:]], "accepted": [p.accepted for p in trace[1:]], "plain_gradient_in": fallbacks,
        "l1": penalty.l1, "tv": penalty.tv,
    }


METHOD = Method(
    title="I-GOS", family="optimisation", attribute=attribute, passes=passes, params=Params, signed=False, upsample="corners",
    version=3, previews=True, cheap={"iterations": 6, "points": 5, "l1": 0.03}, draft={"iterations": 5, "points": 8},
    citation=Citation("Qi, Khorram, Li", "Visualizing deep networks by optimizing with integrated gradients", "AAAI 2020",
                        "section 3"),
    idea="Find the smallest, smoothest area whose blurring removes the class, with gradients averaged on the path to the blurred "
         "image. The map is how much each cell is hidden.",
    equation=r"A = 1 - M^*, \quad M^* = \arg\min_M\; p_c\big(\operatorname{up}(M)\, x + (1 - \operatorname{up}(M))\, \tilde{x}\big) "
             r"+ \lambda_1 \lVert 1 - M \rVert_1 + \lambda_2 \operatorname{TV}(M)",
    limits="Often no step size lowers the objective, and the mask stays near 1: trust the order of its cells, not their values. On "
           "EfficientNet-Lite0 the default penalties allow hardly any hiding: four photographs lose less than 0.01 of their "
           "probability, and 0.27 to 0.91 with both weights at 0.1. "
           "Nothing can be found for a class with hardly any probability, and a blurred image is itself unusual for the network.",
    auxiliary_outputs=(
        AuxiliaryOutput("mask", "Masked input", "pictures", make=lambda x, extras: masked_image(x, extras["mask"]), help=(
            "The image under the final mask: unchanged where the mask is 1, blurred where it is 0.")),
        AuxiliaryOutput("loss", "Loss", "trace", "The probability plus the penalties, at the start and after each iteration.",
                        unit="probability"),
        AuxiliaryOutput("probability", "Probability", "trace", "The class's probability, at the start and after each iteration.",
                        unit="probability"),
    ),
)
