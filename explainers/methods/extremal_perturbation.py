r"""Extremal perturbation (Fong, Patrick, Vedaldi 2019, section 3): the mask of a given area that keeps the most of the class.

A mask m (1 keeps, 0 perturbs) chooses for every pixel one of eight blurs of the image, from the image itself at 1 to the
strongest blur at 0, with linear interpolation between two. For each area a the method maximises

    logit(perturbed image)  -  w_t mean over pixels of (m - r_a)^2,

where r_a is 1 at the a N largest of the N values of m and 0 at the others, so that the sorted mask is drawn to a step with the
area a (equation 4). The weight w_t grows by 0.35 % at every step.

The mask is smooth by construction (section 3.2). Its parameters are a grid of cells, p in [0, 1], and a pixel's value is a soft
maximum over the cells k around it, each weighted by its distance from the pixel:

    m = sum_k s_k v_k,  s = softmax of 20 v,  v_k = p_k K(distance / sigma),  K(z) = exp(-2 max(0, z - 1/2)^2).

The settings are those of TorchRay, the authors' library: cells 7 pixels apart and sigma 21 on 224 pixels, a strongest blur of
deviation 20, 800 steps of gradient descent at rate 0.01 with momentum and dampening 0.9, and a flipped image at every second
step. On inputs of another size the lengths are in proportion. TorchRay does two things that the paper does not state, and this
does them too: a margin of sigma around the image belongs to the mask and to its area, and the blur treats what lies outside the
image as the mean colour.

The map is the mask; of the variant that deletes, what is perturbed. Several areas are optimised side by side, and the map is
their mean. For a contrast of two classes the logit is the difference of the two.

At the beginning the mask is the same everywhere, and rounding decides which of its values count as the largest. So two
computers, or two programs, may end with masks that differ here and there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from explainers.baselines import blur_pyramid, blur_towards_zero
from explainers.context import Context
from explainers.contract import AuxiliaryOutput, Citation, Method, RawMap
from explainers.networks.classifier import Classifier
from explainers.parameters import choice, integer, real, switch
from explainers.passes import Passes
from explainers.resampling import size_of
from explainers.target import Target

LEVELS, STRONGEST_BLUR = 8, 20.0  # of the pyramid; the deviation is in pixels of a 224-pixel input
STEP, REACH = 7, 3  # pixels between cells of a 224-pixel input; sigma, in cells
COLDNESS = 20.0  # of the soft maximum
RATE, MOMENTUM = 0.01, 0.9
AREA_WEIGHT, GROWTH = 300.0, 1.0035
ALL_AREAS = "2.5, 5, 10, 20"
_WORK = 80  # multiplications of a network's layers that take as long as one number of the soft maximum and its slope
_BLOCK = 200_000  # numbers of the soft maximum that are computed together on a CPU, so that they stay in its cache


@dataclass(frozen=True)
class Params:
    """The areas, the game that the mask plays, and its optimisation."""

    area: str = choice("10", "2.5", "5", "10", "20", "30", ALL_AREAS, label="Area in percent", help=(
        "How much of the picture the mask keeps, in percent. The last choice optimises four masks and shows their mean, as the "
        "authors do in the pointing game; it takes four times as long."))
    variant: str = choice("preserve", "preserve", "delete", "dual", label="Variant", help=(
        "preserve: the logit shall be high where only the area is kept. delete: low where only the area is perturbed. dual: both "
        "at once, which takes twice as long."))
    perturbation: str = choice("blur", "blur", "fade", label="Perturbation", help=(
        "What happens to the rest of the picture. blur: it is blurred. fade: it becomes the mean colour."))
    iterations: int = integer(800, low=1, high=2000, step=10, label="Iterations", help=(
        "Steps of the optimisation. The authors take 800. Before a few hundred the mask is far from its area."))
    flip: bool = switch(True, label="Flip", help="Show the network the mirrored picture at every second step.")
    smooth: float = real(0.0, low=0.0, high=0.2, label="Smoothing of the map", help=(
        "Standard deviation of a final blur, as a fraction of the picture's side. The authors' pointing game has 0.09."))

    @property
    def areas(self) -> tuple[float, ...]:
        """The areas as fractions."""
        return tuple(float(percent) / 100 for percent in self.area.split(","))


def passes(params: Params) -> Passes:
    images = params.iterations * len(params.areas) * (2 if params.variant == "dual" else 1)
    return Passes(forward=images, backward=images)


def overhead(params: Params, network: Classifier) -> Passes:
    """The soft maxima's work in forward passes of the network with as many multiplications."""
    smooth, multiplications = SmoothMask(network.input_size, torch.device("cpu")), sum(s.macs for s in network.shapes.values())
    numbers = params.iterations * len(params.areas) * smooth.weights.numel() * math.prod(n + 2 * REACH for n in smooth.cells)
    return Passes(forward=_WORK * numbers / multiplications if multiplications else 0.0)


class _SoftMaximum(torch.autograd.Function):
    """(N, cells, phases) from cells' neighbours (N, K, cells) and their weights (K, phases): the soft maximum of their products.

    With v = p w and e = exp(20 v), the value is m = sum(v e) / sum(e), and its slope by p_k is w_k e_k (1 + 20 (v_k - m)) / sum(e).
    """

    @staticmethod
    def forward(ctx: Any, neighbours: Tensor, weights: Tensor) -> Tensor:
        values, slopes = [], []
        blocks = neighbours.split(max(1, _block(neighbours) // weights.numel()), 2)
        for block in blocks:
            v = block[..., None] * weights[:, None]  # (N, K, cells, phases)
            e = (COLDNESS * v).exp_()
            total = e.sum(1, keepdim=True)
            m = (v * e).sum(1, keepdim=True) / total
            values.append(m[:, 0])
            if ctx.needs_input_grad[0]:
                slopes.append(v.sub_(m).mul_(COLDNESS).add_(1).mul_(e).div_(total).mul_(weights[:, None]))
        ctx.slopes = slopes
        return torch.cat(values, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        sizes = [slope.shape[2] for slope in ctx.slopes]
        gradients = gradient.split(sizes, 1)
        parts = [torch.einsum("nkcf,ncf->nkc", slope, part) for slope, part in zip(ctx.slopes, gradients, strict=True)]
        return torch.cat(parts, 2), None


def _block(like: Tensor) -> int:
    """How many numbers of the soft maximum are computed together."""
    return max(1, _BLOCK // len(like)) if like.device.type == "cpu" else 2**62


class SmoothMask:
    """Turns cells (N, 1, h, w) into the mask (N, 1, H, W) of an image with a margin of sigma on each side.

    Cell i is at pixel ``step`` i of the image. A pixel's value comes from the 9 x 9 cells around it. Pixels at the same place
    relative to the cells, of which there are ``step`` x ``step`` phases, have the same weights.
    """

    def __init__(self, size: tuple[int, int], device: torch.device):
        self.size = size
        self.step = max(1, round(STEP * size[1] / 224))
        self.margin = REACH * self.step
        self.cells = (math.ceil(size[0] / self.step), math.ceil(size[1] / self.step))
        self.radius = REACH + 1
        self.weights = self._weights().to(device)

    def _weights(self) -> Tensor:
        """(K, phases): of each of the cells around a pixel, for each of the pixel's phases."""
        around = self.step * torch.arange(-self.radius, self.radius + 1)
        along = (torch.arange(self.step) - around[:, None]).float()  # (9, step): the distance from a cell, along one axis
        distance = torch.hypot(along[:, None, :, None], along[None, :, None, :]).view(len(around) ** 2, -1)
        return torch.exp(-2 * (distance / self.margin - 0.5).clamp(min=0).square())

    def with_margin(self, cells: Tensor) -> Tensor:
        """(N, 1, H + 2 margins, W + 2 margins), a few pixels more where the image is no multiple of the step."""
        rows, columns = (count + 2 * REACH for count in self.cells)
        around = F.unfold(cells, 2 * self.radius + 1, padding=REACH + self.radius)
        phases = _SoftMaximum.apply(around, self.weights).view(-1, rows, columns, self.step, self.step)
        whole = phases.transpose(2, 3).reshape(-1, 1, rows * self.step, columns * self.step)
        return whole[..., :whole.shape[2] - self.step + 1, :whole.shape[3] - self.step + 1].clamp(0, 1)

    def of_image(self, whole: Tensor) -> Tensor:
        """(N, 1, H, W): a mask without its margin."""
        return whole[..., self.margin:self.margin + self.size[0], self.margin:self.margin + self.size[1]]


class Perturbation:
    """The image (1, C, H, W) perturbed in ``LEVELS`` strengths, the strongest first and the image itself last."""

    def __init__(self, x: Tensor, kind: str):
        if kind == "fade":
            self.levels = x * torch.linspace(0, 1, LEVELS, device=x.device).view(-1, 1, 1, 1)
        else:
            self.levels = blur_pyramid(x, LEVELS, STRONGEST_BLUR * x.shape[-1] / 224)

    def under(self, mask: Tensor) -> Tensor:
        """(N, C, H, W): for each pixel the level that the mask (N, 1, H, W) chooses; between two levels a blend of them."""
        height = (LEVELS - 1) * mask
        below = height.detach().floor().long().clamp(max=LEVELS - 2)
        low, high = (self._taken(level) for level in (below, below + 1))
        return low + (height - below) * (high - low)

    def _taken(self, level: Tensor) -> Tensor:
        """(N, C, H, W): the pixels of the levels (N, 1, H, W)."""
        channels = self.levels.shape[1]
        return torch.cat([self.levels.gather(0, one.expand(1, channels, -1, -1)) for one in level])


def inside_area(masks: Tensor, areas: tuple[float, ...]) -> Tensor:
    """(N, 1, H, W): 1 at the largest values of each mask, as many as its area has pixels, and 0 at the others.

    Of equal values the last in reading order count as the largest.
    """
    return torch.stack([_largest(mask, area) for mask, area in zip(masks.detach(), areas, strict=True)])


def _largest(mask: Tensor, area: float) -> Tensor:
    values = mask.flatten()
    outside = int(len(values) * (1 - area))
    if outside == 0:
        return torch.ones_like(mask)
    threshold = values.kthvalue(outside).values
    tied = values == threshold
    smaller = outside - (values < threshold).sum()  # how many of the tied values are outside the area
    return ((values > threshold) | (tied & (tied.cumsum(0) > smaller))).view(mask.shape).to(mask.dtype)


def perturbed_images(perturbation: Perturbation, masks: Tensor, variant: str) -> tuple[Tensor, Tensor]:
    """The images (M, C, H, W) that the network sees, and the signs (M,) with which their logits count."""
    kept, removed = masks, 1 - masks
    shown = {"preserve": [kept], "delete": [removed], "dual": [kept, removed]}[variant]
    signs = {"preserve": [1.0], "delete": [-1.0], "dual": [1.0, -1.0]}[variant]
    images = torch.cat([perturbation.under(mask) for mask in shown])
    return images, torch.tensor(signs, device=masks.device).repeat_interleave(len(masks))


def _logits_and_gradients(network: Classifier, images: Tensor, target: Target, context: Context,
                          preview: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """The target's logit (M,) for each image, and its gradient (M, C, H, W) by the image."""
    def one_batch(a: int, b: int) -> tuple[Tensor, Tensor]:
        batch = images[a:b].detach().requires_grad_(True)
        with torch.enable_grad():
            logits = target.score(network.logits(batch))
            return logits.detach(), torch.autograd.grad(logits.sum(), batch)[0]

    batches = [batch for _, _, batch in context.batches(len(images), one_batch, preview)]
    return torch.cat([logits for logits, _ in batches]), torch.cat([gradients for _, gradients in batches])


@dataclass
class Optimum:
    """The masks (N, 1, H, W) before the last step; before each step the reward, and what the area's term takes off, as means over
    the areas."""

    masks: Tensor
    rewards: list[float]
    penalties: list[float]


def optimise(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> Optimum:
    """Gradient descent on the cells of one mask for each area, all of them in one batch."""
    areas, size = params.areas, size_of(x)
    context.progress(0, params.iterations)
    perturbation, smooth_mask = Perturbation(x, params.perturbation), SmoothMask(size, x.device)
    context.progress(0, params.iterations)
    cells = torch.ones(len(areas), 1, *smooth_mask.cells, device=x.device, requires_grad=True)
    descent = torch.optim.SGD([cells], lr=RATE, momentum=MOMENTUM, dampening=MOMENTUM)
    optimum, weight = Optimum(torch.ones(len(areas), 1, *size, device=x.device), [], []), AREA_WEIGHT
    for i in range(params.iterations):
        with torch.enable_grad():
            whole = smooth_mask.with_margin(cells)
            masks = smooth_mask.of_image(whole)
            images, signs = perturbed_images(perturbation, masks, params.variant)
            images = images.flip(3) if params.flip and i % 2 == 0 else images
            penalty = weight * (whole - inside_area(whole, areas)).square().mean((1, 2, 3)).sum()
        optimum.masks = masks.detach()
        logits, gradients = _logits_and_gradients(
            network, images, target, context.part(i, i + 1, params.iterations), lambda: optimum.masks.mean((0, 1)))
        optimum.rewards.append(float((signs * logits).sum()) / len(areas))
        optimum.penalties.append(float(penalty.detach()) / len(areas))
        weights = (-signs.view(-1, 1, 1, 1) * gradients, torch.ones_like(penalty))
        cells.grad = torch.autograd.grad((images, penalty), cells, weights)[0]
        descent.step()
        with torch.no_grad():
            cells.clamp_(0, 1)
        weight *= GROWTH
    return optimum


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    optimum = optimise(network, x, target, params, context)
    native = optimum.masks.mean(0)
    if params.smooth:
        native = blur_towards_zero(native[None], params.smooth * min(size_of(x)))[0]
    kept = [100 * float(mask.mean()) for mask in optimum.masks]
    asked = [100 * area for area in params.areas]
    return RawMap(native, extras={
        "masks": optimum.masks.cpu(), "variant": params.variant, "perturbation": params.perturbation,
        "reward": optimum.rewards, "area_penalty": optimum.penalties,
        "mean_mask": ", ".join(f"{mean:.1f} % for {area:g} %" for mean, area in zip(kept, asked, strict=True))})


def _shown(x: Tensor, extras: Any) -> Tensor:
    """The images (M, C, H, W) that the masks make of the image, as the network saw them but for the flips."""
    masks = extras["masks"].to(x.device)
    return perturbed_images(Perturbation(x, extras["perturbation"]), masks, extras["variant"])[0]


METHOD = Method(
    title="Extremal Perturbation", short="Extremal", family="optimisation", attribute=attribute, passes=passes, params=Params,
    signed=False, previews=True, overhead=overhead, cheap={"iterations": 12}, draft={"iterations": 300},
    citation=Citation("Fong, Patrick, Vedaldi", "Understanding deep networks via extremal perturbations and smooth masks", "ICCV 2019",
                        "section 3"),
    idea="Among all smooth masks that keep a given area of the picture and blur the rest, find the one with the highest logit.",
    equation=r"A = \arg\max_m\; f_c(x \otimes m) - w \lVert \operatorname{sort}(m) - r_a \rVert^2",
    limits="The area is chosen, not found: the mask fills it even where less would do, or where nothing in the picture supports the "
           "class. It is a fraction of the picture with a margin, so of the picture itself the mask can keep a third more. Its values "
           "are mostly near 0 or 1, so they order pixels hardly at all, and thin objects are covered by blobs.",
    auxiliary_outputs=(
        AuxiliaryOutput("masks", "Masked input", "pictures", make=_shown, help=(
            "What the network sees at the end: the picture under the mask of each area; of the dual variant first what is kept, then "
            "what is left without it.")),
        AuxiliaryOutput("reward", "Reward", "trace", unit="logit", help=(
            "Before each step: the logit that the mask keeps, of the variant that deletes with its sign changed, of the dual variant "
            "the difference of both. The mean over the areas.")),
        AuxiliaryOutput("area_penalty", "Area penalty", "trace", unit="logit", follows=False, help=(
            "Before each step: what is taken off the reward because the mask is not yet 1 in its area and 0 elsewhere.")),
        AuxiliaryOutput("mean_mask", "Mean of the mask", "text", (
            "How much of the picture each mask keeps, beside the area asked for.")),
    ),
)
