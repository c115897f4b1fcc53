r"""I-GOS (Qi, Khorram, Li 2020, section 3): a coarse mask that hides as little of the image as it can and still removes the class.

A mask M of r x r cells (1 keeps, 0 hides) blends the image I with a baseline B, its blur in the paper, up(M) I + (1 - up(M)) B, and
the method minimises

    F(M) = p_c(blend) + l1 mean|1 - M| + tv (mean squared difference down + mean squared difference across).

The step's direction is not the gradient of F. The gradient of p_c is replaced by an average over the path from the baseline to
the present mask, with fresh noise at each point (equation 5):

    1/S sum over s = 1 .. S of grad_M p_c(blend(s/S M) + noise).

The chain rule leaves a factor s/S inside, so on a linear p_c the average is (S + 1) / 2S times the gradient. A line search takes
the longest of twelve steps that satisfies Armijo's condition on F (equation 9); where none does, it takes the shortest anyway,
as the authors' code does. The map is 1 - M. The settings of the paper's table 3 are ``tv=0``, ``noise=0`` and ``fixed_step=1``.

The code stores the hidden fraction H = 1 - M instead of M. The algorithm is the same, but the shortest steps change M by less
than the spacing of float32 numbers near 1, which would leave all cells equal; near 0 the spacing is fine enough.

Where paper and code differ, this follows the code: softmax probability instead of the logit, means instead of sums, noise
on the blend instead of the image. For a contrast the probability is p_a - p_b.

When it misleads: at M = 1 the slope of |1 - M| counts as 0, so the direction ignores a cost that every step has, and on many
photographs no step is accepted. The order of the cells is informative even then, their values are not; ``extras["accepted"]``
says which iterations satisfied Armijo's condition. The paper's figure 7 adds that the method usually fails for a class of less than
1 % probability and for one that is not the network's first choice. A flag of the map names each of these cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explainers.attribution import IMPROBABLE, Standing, unmoved
from explainers.baselines import BASELINES, baseline, i_gos_blur
from explainers.context import Context
from explainers.contract import AuxiliaryOutput, Citation, Method, RawMap
from explainers.networks.classifier import Classifier
from explainers.parameters import choice, integer, real, switch
from explainers.passes import Passes
from explainers.resampling import enlarge, size_of
from explainers.target import Target

STEPS = tuple(200 * 0.2**n for n in range(12))  # step sizes; the twelfth is the first below the authors' bound of 1e-5
ARMIJO = 1e-4  # the least decrease of F, relative to step size times squared norm of the direction
LOW_TV = 0.1  # the total variation weight that a flag advises where hardly anything is hidden
TV_PER_L1 = 20  # weight of the total variation relative to that of the hidden area
AUTHORS_L1 = {28: 1.0, 112: 3.0}  # l1 by cells per side in the authors' code; the paper gives none
OUR_L1 = {7: 0.3, 13: 1.0, 224: 10.0}  # ours, chosen by insertion AUC on photographs that no reported number uses
_L1 = tuple(sorted((AUTHORS_L1 | OUR_L1).items()))

NOT_ACCEPTED = "no step satisfied Armijo's condition: the order of the cells may say something, their values do not"

RESOLUTION = choice("28", "7", "13", "14", "28", "56", "112", "input", label="Mask cells per side", help=(
    "Few cells give one smooth blob; many give detail, which may be adversarial. The mask is never finer than the network's "
    "input."))


@dataclass(frozen=True)
class Params:
    """The mask's resolution, the optimisation, and the weights of the penalties."""

    resolution: str = RESOLUTION
    iterations: int = integer(15, low=1, high=100, label="Iterations", help="Steps of the optimisation. The paper takes 10 to 20.")
    points: int = integer(20, low=1, high=100, label="Path points", help=(
        "Blends between the baseline and the present mask whose gradients are averaged for one step."))
    noise: float = real(0.2, low=0.0, high=1.0, step=0.1, label="Noise", help=(
        "Standard deviation of the noise added to every blend, in the network's normalised scale. It prevents adversarial "
        "patterns. 0: the paper's ablation without noise."))
    l1: float = real(1.0, low=0.0, high=20.0, step=0.1, label="L1 weight", help=(
        "Weight of the hidden area, as a multiple of the default for the resolution. The authors' code has 1 at 28 cells and 3 at "
        "112. The others are not theirs: 0.3 at 7 cells, 1 at 13, 10 at 224, and values between these for other numbers of cells."))
    tv: float = real(1.0, low=0.0, high=20.0, step=0.1, label="Total variation weight", help=(
        "Weight of the mask's total variation, as a multiple of the default, which is 20 times that of the hidden area. 0: the "
        "paper's ablation without this term."))
    rescue: bool = switch(False, label="Rescue rule", help=(
        "In the authors' code, not in the paper: if the probability has not changed after half of the iterations, the L1 weight is "
        "divided by 10, and if not after four fifths, by 5."))
    fallback: bool = switch(False, label="Plain gradient when stuck", help=(
        "Where no step along the path's direction is accepted, try the steps along the plain gradient of the objective, within the "
        "mask's bounds. Not in the paper, and not used with a fixed step. Costs up to 13 more passes per iteration."))
    fixed_step: float = real(0.0, low=0.0, high=200.0, step=0.5, label="Fixed step", help=(
        "0: the line search, which takes the longest of twelve steps from 200 down to 0.000004 that lowers the objective enough. "
        "Otherwise the size of every step: the paper's ablation, where it is 1. Much larger steps overshoot: cells are hidden "
        "whole, and their order is lost."))
    baseline: str = choice("blur", "blur", *(name for name in BASELINES if name != "blur"), label="Baseline", help=(
        "What takes the place of hidden pixels. blur: the picture, strongly blurred, as in the paper. zero: the training set's mean "
        "colour. black: black. noise: one draw of random pixels."))

    @property
    def steps(self) -> tuple[float, ...]:
        """The step sizes that an iteration tries, the longest first."""
        return (self.fixed_step,) if self.fixed_step else STEPS

    @property
    def falls_back(self) -> bool:
        """Whether the plain gradient is tried where no step is accepted."""
        return self.fallback and not self.fixed_step


def cells_per_side(resolution: str, size: tuple[int, int]) -> int:
    """The cells per side of a mask, for the parameter ``RESOLUTION`` and an image's size."""
    side = min(size)
    return side if resolution == "input" else min(int(resolution), side)


def passes(params: Params) -> Passes:
    """Exact without the fallback; with it an upper bound."""
    tries = params.points + len(params.steps)
    if params.falls_back:
        tries += 1 + len(STEPS)
    return Passes(forward=1 + params.iterations * tries, backward=params.iterations * (params.points + params.falls_back))


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


def masked_image(x: Tensor, mask: Tensor, hidden_by: Tensor | None = None) -> Tensor:
    """The blend (1, C, H, W) of an image and a baseline under a mask (r, r). hidden_by: (C, H, W) or (C, 1, 1); None for the blur."""
    behind = i_gos_blur(x) if hidden_by is None else hidden_by.to(x.device).expand_as(x)
    return torch.lerp(behind, x, enlarge(mask[None, None].to(x.device), tuple(x.shape[-2:])))


def baseline_image(network: Classifier, x: Tensor, params: Params, context: Context) -> Tensor:
    """What hidden pixels become, (1, C, H, W). The random one has the first generator that the noise on the blends leaves unused."""
    if params.baseline == "blur":
        return i_gos_blur(x)
    return baseline(network, x, params.baseline, context.generator(params.iterations * params.points))


class BlendedImage:
    """The image and a baseline (1, C, H, W), by default its blur, and the target's probability in blends of them, which are given by
    hidden fractions (N, 1, r, r)."""

    def __init__(self, network: Classifier, x: Tensor, target: Target, behind: Tensor | None = None):
        self.network, self.target = network, target
        self.size = tuple(x.shape[-2:])
        self.image, self.behind = x, i_gos_blur(x) if behind is None else behind
        self.detail = x - self.behind

    def _probability(self, images: Tensor) -> Tensor:
        return self.target.score(self.network.logits(images).softmax(-1))

    def blend(self, hidden: Tensor) -> Tensor:
        """(N, C, H, W): the image where ``hidden`` is 0, the baseline where it is 1."""
        return self.blend_pixels(enlarge(hidden, self.size))

    def blend_pixels(self, hidden: Tensor) -> Tensor:
        """The same from the hidden fractions (N, 1, H, W) of the pixels."""
        return torch.addcmul(self.image, hidden, self.detail, value=-1)

    @torch.inference_mode()
    def probability(self, hidden: Tensor) -> Tensor:
        """The target's probability (N,) in the blends."""
        return self._probability(self.blend(hidden))

    @torch.inference_mode()
    def probability_of_pixels(self, hidden: Tensor) -> Tensor:
        """The same from the hidden fractions (N, 1, H, W) of the pixels."""
        return self._probability(self.blend_pixels(hidden))

    def gradients(self, images: Tensor) -> Tensor:
        """The gradient (N, C, H, W) of each image's probability by its pixels."""
        images = images.requires_grad_(True)
        with torch.enable_grad():
            return torch.autograd.grad(self._probability(images).sum(), images)[0]

    def per_cell(self, hidden: Tensor, image_gradient: Tensor) -> Tensor:
        """The gradient (1, 1, r, r) by the hidden fractions, from a gradient (C, H, W) by the blend's pixels."""
        return pixels_to_cells(self.per_pixel(image_gradient), hidden)

    def per_pixel(self, image_gradient: Tensor) -> Tensor:
        """The gradient (1, 1, H, W) by the hidden fractions of the pixels, from a gradient (C, H, W) by the blend's pixels."""
        return -(image_gradient * self.detail[0]).sum(0).expand(1, 1, -1, -1)

    def path_gradient(self, hidden: Tensor, params: Params, first_draw: int, context: Context,
                      preview: Callable[[], Tensor]) -> Tensor:
        """Equation 5, by the hidden fractions. ``first_draw``: the index of the first point's noise among the generators."""
        keep = 1 - enlarge(hidden, self.size)
        return self.per_cell(hidden, self.path_average(keep, params.points, params.noise, first_draw, context, preview))

    def path_average(self, keep: Tensor, points: int, noise: float, first_draw: int, context: Context,
                     preview: Callable[[], Tensor]) -> Tensor:
        """(C, H, W): the average over the path of the gradients by the blends' pixels, each times its point's fraction of the mask.

        keep: (1, 1, H, W), the mask's value at each pixel, at the end of the path.
        """
        fractions = torch.arange(1, points + 1, device=keep.device, dtype=keep.dtype).view(-1, 1, 1, 1) / points
        total = torch.zeros_like(self.detail[0])

        def weighted(a: int, b: int) -> Tensor:
            images = torch.empty(b - a, *self.detail.shape[1:])
            for offset, image in enumerate(images):
                image.normal_(std=noise, generator=context.generator(first_draw + a + offset))
            images = images.to(keep.device).add_(self.behind).addcmul_(fractions[a:b] * keep, self.detail)
            return torch.tensordot(fractions[a:b].flatten(), self.gradients(images), dims=1)

        for _, _, part in context.batches(points, weighted, preview):
            total += part
        return total / points

    def plain_gradient(self, hidden: Tensor, penalty: Penalty) -> Tensor:
        """The gradient of F itself, but 0 where a step against it would leave [0, 1]. The slope of |hidden| at 0 is 1 here."""
        gradient = self.per_cell(hidden, self.gradients(self.blend(hidden))[0]) + penalty.gradient(hidden)
        gradient = torch.where(hidden > 0, gradient, gradient + penalty.l1 / hidden.numel())
        outward = ((hidden <= 0) & (gradient > 0)) | ((hidden >= 1) & (gradient < 0))
        return gradient.masked_fill(outward, 0)


def pixels_to_cells(per_pixel: Tensor, hidden: Tensor) -> Tensor:
    """The gradient by cells of the shape of ``hidden`` (1, 1, r, r), from the gradient (1, 1, H, W) by their pixels."""
    cells = torch.zeros_like(hidden).requires_grad_(True)
    with torch.enable_grad():
        return torch.autograd.grad(enlarge(cells, size_of(per_pixel)), cells, per_pixel)[0]


@dataclass(frozen=True)
class Point:
    """An iterate: hidden fractions (1, 1, r, r), probability, F, the step size that led here, and if Armijo's condition held."""

    hidden: Tensor
    probability: float
    loss: float
    step: float = 0.0
    accepted: bool = False


def line_search(blended: BlendedImage, current: Point, direction: Tensor, penalty: Penalty, context: Context,
                preview: Callable[[], Tensor], sizes: tuple[float, ...] = STEPS) -> Point:
    """The point after the longest step against ``direction`` that satisfies Armijo's condition, or else after the shortest.

    All steps go through the network in one batch, which is faster: nearly always all of them have to be tried. A fixed step is a
    search among one size.
    """
    steps = torch.tensor(sizes, device=direction.device).view(-1, 1, 1, 1)
    hidden = (current.hidden - steps * direction).clamp_(0, 1)
    tried = context.batches(len(sizes), lambda a, b: blended.probability(hidden[a:b]), preview)
    probabilities = torch.cat([batch for _, _, batch in tried])
    squared_norm = direction.square().sum()
    values = torch.stack((probabilities, penalty.of(hidden) + probabilities, squared_norm.expand(len(sizes)))).T.tolist()
    best, accepted = longest_accepted([loss for _, loss, _ in values], current.loss, values[0][2], sizes)
    return Point(hidden[best:best + 1].clone(), values[best][0], values[best][1], sizes[best], accepted)


def longest_accepted(losses: Sequence[float], current: float, squared_norm: float, sizes: Sequence[float]) -> tuple[int, bool]:
    """Which of the step sizes, the longest first, is the first whose loss satisfies Armijo's condition, and that one does.

    Where none does, it is the last. current: the loss before the step. squared_norm: of the direction.
    """
    enough = [loss <= current - ARMIJO * step * squared_norm for step, loss in zip(sizes, losses, strict=True)]
    return (enough.index(True), True) if any(enough) else (len(sizes) - 1, False)


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    blended = BlendedImage(network, x, target, baseline_image(network, x, params, context))
    cells = cells_per_side(params.resolution, size_of(x))
    penalty = initial_penalty = Penalty.usual(cells, params)
    nothing = torch.zeros(1, 1, cells, cells, device=x.device)
    probabilities = network.predict(blended.blend(nothing))
    start = float(target.score(probabilities))
    trace = [Point(nothing, start, start)]
    fallbacks = []  # the iterations whose step came from the plain gradient
    path, search = 2 * params.points, len(params.steps)  # passes of an iteration, for the progress
    parts = path + search * (1 + params.falls_back)

    def preview() -> Tensor:
        return enlarge(trace[-1].hidden, blended.size)[0]

    for i in range(params.iterations):
        current, begin, end = trace[-1], i * parts, params.iterations * parts
        direction = blended.path_gradient(current.hidden, params, i * params.points, context.part(begin, begin + path, end), preview)
        direction += penalty.gradient(current.hidden)
        searched = begin + path + search
        new = line_search(blended, current, direction, penalty, context.part(begin + path, searched, end), preview, params.steps)
        if params.falls_back and not new.accepted:
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
    extras = _extras(trace, initial_penalty, fallbacks, cells)
    if params.baseline != "blur":
        extras["baseline"] = blended.behind[0].cpu() if params.baseline == "noise" else blended.behind[0, :, :1, :1].cpu()
    flags = (*class_flags(target, probabilities[0].cpu().numpy()), *step_flags(trace, params))
    return RawMap(trace[-1].hidden[0], extras=extras, flags=flags)


def class_flags(target: Target, probabilities: np.ndarray) -> Iterator[str]:
    """Warnings of the paper's figure 7: hardly any probability, or not the first choice. None for a contrast of two classes, whose
    difference can be lowered from anywhere."""
    if target.contrast is not None:
        return
    standing = Standing.of(target.first, probabilities)
    if standing.probability < IMPROBABLE:
        yield f"the class begins below {100 * IMPROBABLE:.0f} %, where I-GOS usually fails"
    if standing.rank > 1:
        yield "the class is not the network's first choice, where I-GOS usually fails"


def step_flags(trace: list[Point], params: Params) -> Iterator[str]:
    """Warnings of steps that were not accepted or moved hardly anything, unless there was nothing to hide."""
    if not trace[-1].hidden.any():
        return
    if not params.fixed_step and not any(point.accepted for point in trace[1:]):
        yield NOT_ACCEPTED
    elif not params.fixed_step and unmoved({"probability": [point.probability for point in trace]}):
        yield ("hiding costs too much: with a lower L1 weight it hides more" if params.tv <= LOW_TV else
               f"hiding costs too much, mostly its total variation: with a total variation weight of {LOW_TV} it hides more")


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


def _extras(trace: list[Point], penalty: Penalty, fallbacks: list[int], cells: int) -> dict[str, Any]:
    """The final mask; F and the probability at the start and after each iteration; each iteration's step, and if it was accepted; the
    weights of the penalties, and whose they are."""
    accepted = [int(point.accepted) for point in trace[1:]]
    usual = Penalty.usual(cells, Params())
    whose = "the authors'" if cells in AUTHORS_L1 else "this project's, the authors give none"
    return {
        "mask": 1 - trace[-1].hidden[0, 0].cpu(), "loss": [p.loss for p in trace], "probability": [p.probability for p in trace],
        "steps": [p.step for p in trace[1:]], "accepted": accepted, "accepted_steps": f"{sum(accepted)} of {len(accepted)}",
        "plain_gradient_in": fallbacks, "l1": penalty.l1, "tv": penalty.tv,
        "weights": f"L1 {penalty.l1:.3g}, total variation {penalty.tv:.3g}; the default at {cells} cells, {usual.l1:.3g} and "
                   f"{usual.tv:.3g}, is {whose}",
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
           "EfficientNet-Lite0 total variation allows little hiding; a total variation weight of 0.1 allows more. I-GOS usually fails "
           "for a class below 1 % or that is not the first choice, and a blurred image is itself unusual for the network.",
    auxiliary_outputs=(
        AuxiliaryOutput(
            "mask", "Masked input", "pictures", make=lambda x, extras: masked_image(x, extras["mask"], extras.get("baseline")),
            help="The image under the final mask: unchanged where the mask is 1, the baseline where it is 0."),
        AuxiliaryOutput("loss", "Loss", "trace", "The probability plus the penalties, at the start and after each iteration.",
                        unit="probability"),
        AuxiliaryOutput("probability", "Probability", "trace", "The class's probability, at the start and after each iteration.",
                        unit="probability"),
        AuxiliaryOutput("accepted", "Step accepted", "trace", "1 where the iteration's step satisfied Armijo's condition, 0 where "
                        "not: there the line search took its shortest step anyway.", unit="1 yes, 0 no", follows=False),
        AuxiliaryOutput("accepted_steps", "Accepted steps", "text", "How many iterations' steps satisfied Armijo's condition."),
        AuxiliaryOutput("weights", "Weights of the penalties", "text", "What hiding costs in the objective: the hidden area, and the "
                        "mask's total variation."),
    ),
)
