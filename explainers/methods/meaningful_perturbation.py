r"""Meaningful perturbation, also called Mask (Fong, Vedaldi 2017): the smallest smooth area whose blurring removes the class.

A mask of cells says how much of each pixel is hidden, h in [0, 1]; up(h) brings it to the image's size, and the image x is
blended with a perturbed one b. Adam, at rate 0.1 and with h clamped to [0, 1] after every step, minimises

    p_c((1 - up(h)) x + up(h) b)  +  l1 mean h  +  tv TV(h),

with p_c the probability (of a contrast the difference of two probabilities). The paper's mask is m = 1 - h, for which both
penalties are the same. The map is up(h). There are two published settings, which differ in everything but the optimiser:

"authors", the authors' program for Caffe (section 4.3 and its code). b is the image under a Gaussian blur of 10 pixels. The
mask's cells are repeated and then blurred by 5 pixels. TV sums (down^2 + across^2)^(3/2). l1 is 0.0001 for the sum of the hidden
cells and tv is 0.01 for the sum of the variations; as means over the 28 x 28 cells these are 0.0784 and 7.84, which this takes
for any number of cells. Every step shifts the image and b by a random offset of 0 to 3 pixels under the mask. It starts from the
smallest of 35 blurred discs in the middle that takes away 99 % of the probability that the largest takes away. 300 steps.

"pytorch", the port to PyTorch that the I-GOS paper compares itself with. b is the image under a median filter of 11 pixels. The
mask is interpolated bilinearly. TV means |down|^3 plus means |across|^3, with tv 0.2 and l1 0.01. Every step adds noise of
deviation 0.2. It starts from nothing hidden. 500 steps.

All lengths are those of a 224-pixel input, and in proportion on others. What differs from the authors' program: it enlarges the
image by 4 pixels where this repeats its edge for the shifts; and it rounds the blurred mask to 256 levels and leaves its blur out
of the gradient, which is exact here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from explainers.baselines import baseline, blur, median_blur
from explainers.context import Context
from explainers.contract import AuxiliaryOutput, Citation, Method, RawMap
from explainers.methods.i_gos import RESOLUTION, cells_per_side
from explainers.networks.classifier import Classifier
from explainers.parameters import choice, integer, real
from explainers.passes import Passes
from explainers.resampling import enlarge, size_of
from explainers.target import Target

RATE = 0.1  # of Adam
POWER = 3  # of the variations
RADII = tuple(range(0, 175, 5))  # of the discs that the authors' setting starts from, in pixels of a 224-pixel input
DISC_BLUR = 10.0  # of the discs
SUPPRESSED = 0.01  # what a disc leaves of the probability that the largest disc takes away


@dataclass(frozen=True)
class Setting:
    """A published setting: weights of the penalties, and lengths in pixels of a 224-pixel input, 0 where there is none."""

    l1: float
    tv: float
    jitter: int = 0  # random shifts from 0 to this, exclusive
    noise: float = 0.0  # deviation of the noise on the blends
    mask_blur: float = 0.0  # of the repeated cells; 0 means bilinear interpolation instead
    starts_from_disc: bool = False


SETTINGS = {
    "authors": Setting(l1=784 * 1e-4, tv=784 * 1e-2, jitter=4, mask_blur=5.0, starts_from_disc=True),
    "pytorch": Setting(l1=0.01, tv=0.2, noise=0.2),
}


@dataclass(frozen=True)
class Params:
    """One of the published settings, and departures from it."""

    setting: str = choice("authors", *SETTINGS, label="Published setting", help=(
        "authors: the authors' program, with a Gaussian blur, a blurred mask, random shifts and a disc to start from. pytorch: the "
        "port that the I-GOS paper compares itself with, with a median blur, noise, and nothing hidden at the start."))
    resolution: str = RESOLUTION
    iterations: int = integer(300, low=1, high=2000, step=10, label="Iterations", help=(
        "Steps of the optimiser. The authors take 300; the I-GOS paper's comparison took 500 with the setting pytorch."))
    l1: float = real(1.0, low=0.0, high=100.0, step=0.1, label="L1 weight", help=(
        "Weight of the hidden area, as a multiple of the setting's. A higher one hides less."))
    tv: float = real(1.0, low=0.0, high=100.0, step=0.1, label="Total variation weight", help=(
        "Weight of the mask's variation, as a multiple of the setting's. A higher one makes the mask smoother."))
    baseline: str = choice("published", "published", "zero", "black", "noise", label="Baseline", help=(
        "What takes the place of hidden pixels. published: the setting's own blur. zero: the training set's mean colour. black: "
        "black. noise: one draw of random pixels."))

    @property
    def published(self) -> Setting:
        return SETTINGS[self.setting]


def passes(params: Params) -> Passes:
    """A pass for every step, one each for the image and the result, and one for every disc."""
    discs = len(RADII) if params.published.starts_from_disc else 0
    return Passes(forward=2 + discs + params.iterations, backward=params.iterations)


def published_baseline(x: Tensor, setting: str) -> Tensor:
    """What the setting hides an image (1, C, H, W) with."""
    scale = x.shape[-1] / 224
    return blur(x, sigma=10 * scale) if setting == "authors" else median_blur(x, side=2 * max(1, round(5 * scale)) + 1)


class Perturber:
    """What hides an image (1, C, H, W) under the settings: ``behind``, the perturbed image, and the mask's way to the image's size."""

    def __init__(self, network: Classifier, x: Tensor, target: Target, params: Params, context: Context):
        self.network, self.target, self.params, self.context = network, target, params, context
        self.setting = params.published
        self.size = size_of(x)
        self.scale = self.size[1] / 224
        self.image, self.behind = x, self._behind(x)
        self.shifts = max(2, round(self.setting.jitter * self.scale)) if self.setting.jitter else 1

    def _behind(self, x: Tensor) -> Tensor:
        if self.params.baseline == "published":
            return published_baseline(x, self.params.setting)
        return baseline(self.network, x, self.params.baseline, self.context.generator(self.params.iterations))

    def enlarged(self, hidden: Tensor) -> Tensor:
        """Hidden fractions (N, 1, r, r) at the image's size (N, 1, H, W)."""
        if not self.setting.mask_blur:
            return enlarge(hidden, self.size)
        return blur(F.interpolate(hidden, size=self.size, mode="nearest"), sigma=self.setting.mask_blur * self.scale)

    def penalty(self, hidden: Tensor) -> Tensor:
        """What hiding costs, from the hidden fractions (1, 1, r, r). The slope of |h| at 0 counts as 0, as in both programs."""
        down, across = hidden.diff(dim=2), hidden.diff(dim=3)
        if self.setting.starts_from_disc:  # both differences of a cell together; the last row and column have none
            squared = F.pad(down, (0, 0, 0, 1)).square() + F.pad(across, (0, 1)).square()
            variation = squared.pow(POWER / 2).mean()
        else:
            variation = down.abs().pow(POWER).mean() + across.abs().pow(POWER).mean()
        return self.params.l1 * self.setting.l1 * hidden.abs().mean() + self.params.tv * self.setting.tv * variation

    def probability(self, images: Tensor) -> Tensor:
        """The target's probability (N,)."""
        return self.target.score(self.network.logits(images).softmax(-1))

    @torch.inference_mode()
    def probability_of(self, enlarged: Tensor) -> Tensor:
        """The target's probability (N,) in the plain blends under hidden fractions (N, 1, H, W)."""
        return self.probability(torch.lerp(self.image, self.behind, enlarged))

    def blend(self, enlarged: Tensor, step: int) -> Tensor:
        """The blend (1, C, H, W) that one step shows to the network: shifted, or with noise."""
        image, behind, generator = self.image, self.behind, self.context.generator(step)
        if self.shifts > 1:
            before = self.shifts // 2
            pad = (before, self.shifts - 1 - before) * 2
            top, left = (int(torch.randint(self.shifts, (), generator=generator)) for _ in range(2))
            image, behind = (F.pad(picture, pad, mode="replicate")[..., top:top + self.size[0], left:left + self.size[1]]
                             for picture in (image, behind))
        blended = torch.lerp(image, behind, enlarged)
        if not self.setting.noise:
            return blended
        return blended + self.setting.noise * torch.randn(image.shape, generator=generator).to(image.device)

    def objective(self, hidden: Tensor, step: int) -> tuple[float, float, Tensor]:
        """The probability and the objective at one step, and the gradient of the objective by the hidden fractions."""
        hidden = hidden.detach().requires_grad_(True)
        with torch.enable_grad():
            probability = self.probability(self.blend(self.enlarged(hidden), step))[0]
            loss = probability + self.penalty(hidden)
            gradient = torch.autograd.grad(loss, hidden)[0]
        return float(probability.detach()), float(loss.detach()), gradient


def discs(size: tuple[int, int]) -> Tensor:
    """(35, 1, H, W): blurred discs in the middle of the image, from a single pixel on."""
    scale = size[1] / 224
    rows, columns = (torch.arange(side) - side // 2 for side in size)
    squared = rows[:, None].square() + columns[None].square()
    sharp = torch.stack([(squared <= (radius * scale) ** 2).float() for radius in RADII])[:, None]
    return blur(sharp, sigma=DISC_BLUR * scale)


def smallest_disc(probabilities: list[float]) -> int:
    """The first disc that takes away 99 % of what the last one takes away; the last one where none does.

    probabilities: of the whole image, then under each disc.
    """
    whole, last = probabilities[0], probabilities[-1]
    left = [(p - last) / (whole - last) if whole != last else 0.0 for p in probabilities[1:]]
    return next(i for i, fraction in enumerate(left) if fraction < SUPPRESSED)


def start(perturber: Perturber, cells: int, context: Context) -> tuple[Tensor, float]:
    """The hidden fractions (1, 1, r, r) that the optimisation starts from, and the probability of the whole image."""
    tried = torch.zeros(1, 1, *perturber.size, device=perturber.image.device)
    if perturber.setting.starts_from_disc:
        tried = torch.cat((tried, discs(perturber.size).to(tried.device)))
    batches = context.batches(len(tried), lambda a, b: perturber.probability_of(tried[a:b]))
    probabilities = torch.cat([batch for _, _, batch in batches]).tolist()
    chosen = 1 + smallest_disc(probabilities) if len(tried) > 1 else 0
    return F.interpolate(tried[chosen:chosen + 1], size=(cells, cells), mode="nearest-exact").clone(), probabilities[0]


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    perturber = Perturber(network, x, target, params, context)
    total = passes(params)
    begin, end = int(total.forward) - params.iterations - 1, int(total.forward + total.backward)
    hidden, whole = start(perturber, cells_per_side(params.resolution, perturber.size), context.part(0, begin, end))
    adam = torch.optim.Adam([hidden], lr=RATE)
    step, probabilities, losses = 0, [], []

    def preview() -> Tensor:
        return perturber.enlarged(hidden)[0]

    def objective(a: int, b: int) -> tuple[float, float, Tensor]:
        return perturber.objective(hidden, step)

    for step in range(params.iterations):
        part = context.part(begin + 2 * step, begin + 2 * step + 2, end)
        [(_, _, (probability, loss, hidden.grad))] = part.batches(1, objective, preview)
        probabilities.append(probability)
        losses.append(loss)
        adam.step()
        with torch.no_grad():
            hidden.clamp_(0, 1)
    enlarged = perturber.enlarged(hidden)
    final = float(perturber.probability_of(enlarged)[0])
    context.progress(end, end, preview())
    losses.append(final + float(perturber.penalty(hidden)))
    extras = {"hidden": enlarged[0, 0].cpu(), "setting": params.setting, "probability": [*probabilities, final], "loss": losses,
              "whole_probability": whole}
    if params.baseline != "published":  # a published one is made from the image again, so that no cache holds it
        extras["baseline"] = perturber.behind[0].cpu()
    return RawMap(enlarged[0] if perturber.setting.mask_blur else hidden[0], extras=extras)


def _masked_input(x: Tensor, extras: Mapping[str, Any]) -> Tensor:
    """The image (1, C, H, W) under the mask, for display."""
    behind = extras["baseline"].to(x) if "baseline" in extras else published_baseline(x, extras["setting"])
    return torch.lerp(x, behind.expand_as(x), extras["hidden"].to(x.device))


METHOD = Method(
    title="Meaningful Perturbation (Mask)", short="Mask", family="optimisation", attribute=attribute, passes=passes, params=Params,
    signed=False, previews=True, upsample="corners", cheap={"iterations": 12, "l1": 0.1}, draft={"iterations": 60},
    citation=Citation("Fong, Vedaldi", "Interpretable explanations of black boxes by meaningful perturbation", "ICCV 2017",
                      "section 4"),
    idea="Find the smallest, smoothest area whose blurring removes the class, by gradient descent on a mask. The map is how much of "
         "each pixel is hidden.",
    equation=r"A = 1 - m^*, \quad m^* = \arg\min_m\; p_c\big(m\, x + (1 - m)\, \tilde{x}\big) + \lambda_1 \lVert 1 - m \rVert_1 "
             r"+ \lambda_2 \sum_u \lVert \nabla m(u) \rVert^{3}",
    limits="Where the class is lost after little was hidden, nothing forces the mask to cover the rest of the object. Where blurring "
           "does not remove the class, the mask grows over everything or stays where it began; the authors' setting begins with a "
           "disc in the middle, which can still be seen in the map. Both settings were chosen for other networks.",
    auxiliary_outputs=(
        AuxiliaryOutput("hidden", "Masked input", "pictures", make=_masked_input, help=(
            "The image under the final mask: what is hidden has the baseline in its place.")),
        AuxiliaryOutput("loss", "Loss", "trace", unit="probability", help=(
            "The probability plus the penalties before each step, under that step's shift or noise, and at the end without them.")),
        AuxiliaryOutput("probability", "Probability", "trace", unit="probability", help=(
            "The class's probability before each step, under that step's shift or noise, and at the end without them.")),
        AuxiliaryOutput("whole_probability", "Probability of the whole image", "number", (
            "The class's probability with nothing hidden.")),
    ),
)
