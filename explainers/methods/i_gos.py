r"""I-GOS: a coarse mask that hides as little as it can of the image and still takes the class away.

A mask M of r x r cells (1 keeps, 0 hides) blends the image I with its blur B, up(M) I + (1 - up(M)) B, and the method
lowers

    F(M) = p_c(blend) + l1 mean|1 - M| + tv (mean of squared differences down + across).

The direction is not F's gradient. The probability's part is averaged over the blends of s/S M, s = 1 .. S, on the way from
the blur to the present mask, each with fresh noise: sum_s grad_M p_c(blend(s/S M) + noise) / S. The chain rule's factor s/S
is inside, so on a linear p it is (S + 1) / 2S times the gradient (Qi, Khorram, Li 2020, equation 5). A line search then takes
the longest of twelve steps that lowers F by Armijo's rule; where none does, the shortest is taken all the same, as in the
authors' code. The map is 1 - M.

What is kept is not M but what it hides, H = 1 - M. It is the same algorithm, but a step as small as the twelfth moves M by
less than float32 can tell from 1, and then nothing is left to order the cells by; next to 0 it can.

Where paper and code differ the code is followed: softmax probability and not the logit, means and not sums, noise on the
blend. For a contrast the probability is p_a - p_b.

When it misleads: at M = 1 the slope of |1 - M| is taken as 0, so the direction leaves out a cost that every step pays, and on
many photographs no step is accepted. The cells' order is then still telling, their size is not; ``extras["accepted"]`` says how
often it moved. A class with hardly any probability gives nothing to lower.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from explainers.baselines import i_gos_blur
from explainers.context import Context
from explainers.contract import Extra, Method, Passes, RawMap, Reference, Target, choice, integer, real, switch
from explainers.networks.classifier import Classifier

STEPS = tuple(200 * 0.2**n for n in range(12))  # the twelfth is the first below the authors' bound of 1e-5
ARMIJO = 1e-4
TV_PER_L1 = 20
_L1 = ((7, 0.3), (13, 1.0), (28, 1.0), (112, 3.0), (224, 10.0))  # by mask side; only 28 and 112 are the authors'; see the README


@dataclass(frozen=True)
class Params:
    """The mask, the descent and its penalties."""

    resolution: str = choice("28", "7", "13", "14", "28", "56", "112", "input", label="Mask cells a side", help=(
        "Fewer cells give one smooth blob, more give detail that may fool the network. The mask is never finer than the "
        "network's input."))
    iterations: int = integer(15, low=1, high=100, label="Iterations", help="Descent steps. The paper takes 10 to 20.")
    points: int = integer(20, low=1, high=100, label="Path points", help=(
        "Blends between the blur and the present mask whose gradients are averaged for one step."))
    noise: float = real(0.2, low=0.0, high=1.0, step=0.1, label="Noise", help=(
        "Standard deviation of the noise added to every blend, in the network's normalised scale. It keeps the mask from "
        "becoming an adversarial pattern."))
    l1: float = real(1.0, low=0.0, high=20.0, step=0.1, label="Price of hiding", help=(
        "Weight of the hidden area, as a multiple of the resolution's own: 0.3 at 7 cells, 1 up to 28, 3 at 112, 10 at 224."))
    tv: float = real(1.0, low=0.0, high=20.0, step=0.1, label="Price of roughness", help=(
        "Weight of the mask's total variation, as a multiple of the resolution's own, which is 20 times that of the hidden area."))
    rescue: bool = switch(False, label="Rescue rule", help=(
        "The authors' code, not their paper: when the probability has not moved after half of the iterations, hiding becomes ten "
        "times cheaper, and after four fifths five times cheaper again."))
    fallback: bool = switch(False, label="Plain gradient when stuck", help=(
        "Where no step along the path's direction is accepted, try the steps along the plain gradient of what is lowered, kept "
        "inside the mask's bounds. Not in the paper; costs up to 13 passes more an iteration."))


def passes(params: Params) -> Passes:
    """Exact without the fallback; with it the most that can be."""
    tries = params.points + len(STEPS)
    if params.fallback:
        tries += 1 + len(STEPS)
    return Passes(forward=1 + params.iterations * tries, backward=params.iterations * (params.points + params.fallback))


def enlarge(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, 1, r, r) to (N, 1, H, W), the outer cells on the image's corners."""
    return F.interpolate(masks, size=size, mode="bilinear", align_corners=True)


@dataclass(frozen=True)
class Penalty:
    """What a mask costs: the weights of its hidden area and of its roughness."""

    l1: float
    tv: float

    @classmethod
    def usual(cls, cells: int, params: Params) -> Penalty:
        """The weights for this many cells a side; between the known sizes they follow a power of the side."""
        sides, weights = zip(*_L1, strict=True)
        own = float(np.exp(np.interp(np.log(cells), np.log(sides), np.log(weights))))
        return cls(params.l1 * own, params.tv * own * TV_PER_L1)

    def of(self, hidden: Tensor) -> Tensor:
        """(N,) for what masks hide (N, 1, r, r)."""
        rough = sum(hidden.diff(dim=d).square().mean((1, 2, 3)) for d in (2, 3))
        return self.l1 * hidden.abs().mean((1, 2, 3)) + self.tv * rough

    def gradient(self, hidden: Tensor) -> Tensor:
        """By what is hidden. The slope of |1 - M| counts as 0 where nothing is."""
        hidden = hidden.detach().requires_grad_(True)
        with torch.enable_grad():
            return torch.autograd.grad(self.of(hidden).sum(), hidden)[0]


def through(x: Tensor, mask: Tensor) -> Tensor:
    """(1, C, H, W): what a mask (r, r) leaves of an image, its blur elsewhere."""
    return torch.lerp(i_gos_blur(x), x, enlarge(mask[None, None].to(x.device), tuple(x.shape[-2:])))


class Scene:
    """The image, its blur, and the target's probability in what is left when a part (N, 1, r, r) of the image is hidden."""

    def __init__(self, network: Classifier, x: Tensor, target: Target):
        self.network, self.target = network, target
        self.size = tuple(x.shape[-2:])
        self.image, self.blur = x, i_gos_blur(x)
        self.detail = x - self.blur

    def _probability(self, images: Tensor) -> Tensor:
        return self.network.score(self.network.logits(images).softmax(-1), self.target)

    def blend(self, hidden: Tensor) -> Tensor:
        """(N, C, H, W): the image where nothing is hidden, its blur where all is."""
        return torch.addcmul(self.image, enlarge(hidden, self.size), self.detail, value=-1)

    @torch.inference_mode()
    def probability(self, hidden: Tensor) -> Tensor:
        """(N,)."""
        return self._probability(self.blend(hidden))

    def gradients(self, images: Tensor) -> Tensor:
        """(N, C, H, W): of each image's probability."""
        images = images.requires_grad_(True)
        with torch.enable_grad():
            return torch.autograd.grad(self._probability(images).sum(), images)[0]

    def per_cell(self, hidden: Tensor, image_gradient: Tensor) -> Tensor:
        """(1, 1, r, r): a gradient (C, H, W) by the blend, carried back to what each cell hides."""
        cells = torch.zeros_like(hidden).requires_grad_(True)
        with torch.enable_grad():
            per_pixel = -(image_gradient * self.detail[0]).sum(0).expand(1, 1, -1, -1)
            return torch.autograd.grad(enlarge(cells, self.size), cells, per_pixel)[0]

    def path_gradient(self, hidden: Tensor, params: Params, first_draw: int, context: Context,
                      preview: Callable[[], Tensor]) -> Tensor:
        """The gradient of the probability by what is hidden, averaged over the blends from the blur to the mask."""
        keep = 1 - enlarge(hidden, self.size)
        shares = torch.arange(1, params.points + 1, device=keep.device, dtype=keep.dtype).view(-1, 1, 1, 1) / params.points
        total = torch.zeros_like(self.detail[0])

        def weighted(a: int, b: int) -> Tensor:
            images = torch.empty(b - a, *self.detail.shape[1:])
            for offset, image in enumerate(images):
                image.normal_(std=params.noise, generator=context.generator(first_draw + a + offset))
            images = images.to(keep.device).add_(self.blur).addcmul_(shares[a:b] * keep, self.detail)
            return torch.tensordot(shares[a:b].flatten(), self.gradients(images), dims=1)

        for _, _, part in context.batches(params.points, weighted, preview):
            total += part
        return self.per_cell(hidden, total / params.points)

    def plain_gradient(self, hidden: Tensor, penalty: Penalty) -> Tensor:
        """F's own gradient, as a step that hides more meets it, without what would leave [0, 1]."""
        found = self.per_cell(hidden, self.gradients(self.blend(hidden))[0]) + penalty.gradient(hidden)
        found = torch.where(hidden > 0, found, found + penalty.l1 / hidden.numel())
        outward = ((hidden <= 0) & (found > 0)) | ((hidden >= 1) & (found < 0))
        return found.masked_fill(outward, 0)


@dataclass(frozen=True)
class Point:
    """Where the descent stands: what is hidden (1, 1, r, r), the probability that is left and F; and the step that led there."""

    hidden: Tensor
    probability: float
    loss: float
    step: float = 0.0
    accepted: bool = False


def line_search(scene: Scene, at: Point, direction: Tensor, penalty: Penalty, context: Context,
                preview: Callable[[], Tensor]) -> Point:
    """The point after the longest step against ``direction`` that obeys Armijo's rule, or after the shortest.

    All steps go through the network together: they nearly always all have to be tried, and a common batch is quicker.
    """
    steps = torch.tensor(STEPS, device=direction.device).view(-1, 1, 1, 1)
    hidden = (at.hidden - steps * direction).clamp_(0, 1)
    tried = context.batches(len(STEPS), lambda a, b: scene.probability(hidden[a:b]), preview)
    probabilities = torch.cat([found for _, _, found in tried])
    slope = direction.square().sum()
    values = torch.stack((probabilities, penalty.of(hidden) + probabilities, slope.expand(len(STEPS)))).T.tolist()
    enough = [loss <= at.loss - ARMIJO * step * squared for step, (_, loss, squared) in zip(STEPS, values, strict=True)]
    best = enough.index(True) if any(enough) else len(STEPS) - 1
    return Point(hidden[best:best + 1].clone(), values[best][0], values[best][1], STEPS[best], enough[best])


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    scene = Scene(network, x, target)
    side = min(scene.size)
    cells = side if params.resolution == "input" else min(int(params.resolution), side)
    penalty = usual = Penalty.usual(cells, params)
    nothing = torch.zeros(1, 1, cells, cells, device=x.device)
    start = float(scene.probability(nothing))
    trace = [Point(nothing, start, start)]
    helped = []
    stretches = 5 if params.fallback else 4  # of one iteration: the path takes three, a search one

    def preview() -> Tensor:
        return enlarge(trace[-1].hidden, scene.size)[0]

    for i in range(params.iterations):
        at, begin, end = trace[-1], i * stretches, params.iterations * stretches
        direction = scene.path_gradient(at.hidden, params, i * params.points, context.part(begin, begin + 3, end), preview)
        direction += penalty.gradient(at.hidden)
        new = line_search(scene, at, direction, penalty, context.part(begin + 3, begin + 4, end), preview)
        if params.fallback and not new.accepted:
            plain = scene.plain_gradient(at.hidden, penalty)
            other = line_search(scene, at, plain, penalty, context.part(begin + 4, begin + 5, end), preview)
            if other.accepted:
                new = other
                helped.append(i)
        trace.append(new)
        if params.rescue:
            cheaper = rescued(penalty, i, params.iterations, abs(trace[max(0, i - 1)].probability - start))
            if cheaper != penalty:  # what was reached costs less from here on
                penalty = cheaper
                trace[-1] = repriced(new, penalty)
    return RawMap(trace[-1].hidden[0], extras=_extras(trace, usual, helped))


def rescued(penalty: Penalty, iteration: int, iterations: int, moved: float) -> Penalty:
    """The authors' rule: hiding gets cheaper when the probability, one iterate ago, had hardly moved since the start."""
    if iterations > 3 and iteration == iterations // 2 and moved <= 0.001:
        return Penalty(penalty.l1 / 10, penalty.tv)
    if iterations > 3 and iteration == int(iterations / 1.25) and moved <= 0.01:
        return Penalty(penalty.l1 / 5, penalty.tv)
    return penalty


def repriced(point: Point, penalty: Penalty) -> Point:
    """The same point under another penalty."""
    return Point(point.hidden, point.probability, point.probability + float(penalty.of(point.hidden)), point.step, point.accepted)


def _extras(trace: list[Point], penalty: Penalty, helped: list[int]) -> dict[str, Any]:
    """The mask, and for every iterate what F and the probability were; for every iteration its step, and if it lowered F."""
    return {
        "mask": 1 - trace[-1].hidden[0, 0].cpu(), "loss": [p.loss for p in trace], "probability": [p.probability for p in trace],
        "steps": [p.step for p in trace[1:]], "accepted": [p.accepted for p in trace[1:]], "plain_gradient_in": helped,
        "l1": penalty.l1, "tv": penalty.tv,
    }


METHOD = Method(
    title="I-GOS", family="optimisation", attribute=attribute, passes=passes, params=Params, signed=False, upsample="corners",
    version=2,
    reference=Reference("Qi, Khorram, Li", "Visualizing deep networks by optimizing with integrated gradients", "AAAI 2020",
                        "section 3"),
    idea="Find the smallest, smoothest area whose blurring takes the class away, by descending along gradients that are averaged "
         "all the way to the blurred image. The map is how much each cell is hidden.",
    equation=r"A = 1 - M^*, \quad M^* = \arg\min_M\; p_c\big(\operatorname{up}(M)\, x + (1 - \operatorname{up}(M))\, \tilde{x}\big) "
             r"+ \lambda_1 \lVert 1 - M \rVert_1 + \lambda_2 \operatorname{TV}(M)",
    limits="Often no step size lowers what it lowers, and the mask stays near 1: trust the order of its cells, not their size. "
           "A class with hardly any probability leaves nothing to find, and a blurred image is itself a strange picture.",
    shows=(
        Extra("mask", "What the mask leaves", "pictures", make=lambda x, extras: through(x, extras["mask"]), help=(
            "The picture that the final mask shows to the network: the image where it is 1, its blur where it is 0.")),
        Extra("loss", "Loss", "trace", "The probability plus the mask's penalties, at the start and after each iteration.",
              unit="probability"),
        Extra("probability", "Probability", "trace", "The class's probability, at the start and after each iteration.",
              unit="probability"),
    ),
)
