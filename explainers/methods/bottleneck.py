r"""The information bottleneck shared by IBA and InputIBA: a mask that replaces by noise what the network does not need.

A signal S (an image or a layer's features) is mixed with noise element by element, Z = L S + (1 - L) e with
e ~ N(mu, sigma^2) and a mask L in [0, 1]. Adam, from L = sigmoid(5) = 0.993 on, minimises

    mean over noisy copies of -log p_c(Z)  +  beta * mean over elements of KL.

With r = (S - mu) / sigma and l = L, an element's KL in nats is the divergence of Z given S from the noise alone,

    ((l r)^2 + (1 - l)^2 - 1) / 2 - ln(1 - l)  >=  0.

InputIBA compares Z not with N(mu, sigma^2) but with a prior that itself keeps a fraction G of the signal. Its proposition 3 is
the same formula with l = L (1 - G) / (1 - G L): for G = 0 this is L, and for G = 1 it is 0, so keeping the element costs nothing.

The classification loss of one class is -log softmax. A contrast (a, b) is explained as class a in the two-class problem "a or
b", by -log sigmoid(logit a - logit b), the cross-entropy without all other classes.

Numerics. In float32 sigmoid(alpha) is exactly 1 from alpha = 17 on, and ln(1 - L) would be infinite. So 1 - L is computed
separately, as the smoothed sigmoid(-alpha), which is exact because the smoothing kernel sums to 1; and 1 - G L is computed as
(1 - G) + G (1 - L).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from explainers.context import Context
from explainers.networks.classifier import Classifier
from explainers.target import Target

INITIAL_LOGIT = 5.0  # of every mask value
_TINY = 1e-37  # keeps the logarithm of the noise fraction finite


def smooth(maps: Tensor, sigma: float) -> Tensor:
    """Gaussian smoothing of (..., h, w), mirrored at the borders; the kernel's side is 2 round(2 sigma) + 1, and 1 is the identity."""
    radius = round(2 * sigma)
    if radius == 0:
        return maps
    offsets = torch.arange(-radius, radius + 1, dtype=maps.dtype, device=maps.device)
    taps = torch.exp(-offsets.square() / (2 * sigma**2))
    taps = taps / taps.sum()
    height, width = maps.shape[-2:]
    flat = maps.reshape(-1, 1, height, width)
    flat = F.pad(flat, (radius,) * 4, mode="reflect" if min(height, width) > radius else "replicate")
    return F.conv2d(F.conv2d(flat, taps.view(1, 1, -1, 1)), taps.view(1, 1, 1, -1)).reshape(maps.shape)


def divergence(keep: Tensor, noise: Tensor, standardised: Tensor) -> Tensor:
    """Each element's KL in nats. keep: l. noise: 1 - l, computed separately and so precise near 0. standardised: r."""
    small = keep < 0.5
    log_noise = torch.where(small, torch.log1p(-keep.clamp(max=0.5)), noise.clamp(min=_TINY).log())
    return ((keep * standardised).square() - keep * (1 + noise)) / 2 - log_noise


@dataclass(frozen=True)
class Mask:
    """The fractions of signal and of noise in each element; ``keep`` + ``noise`` = 1."""

    keep: Tensor
    noise: Tensor

    @classmethod
    def of(cls, alpha: Tensor, sigma: float = 0.0) -> Mask:
        """The sigmoid of the logits ``alpha``, smoothed with deviation ``sigma``."""
        return cls(smooth(torch.sigmoid(alpha), sigma), smooth(torch.sigmoid(-alpha), sigma))

    def beyond(self, prior: Mask | None) -> Mask:
        """The mask l = L (1 - G) / (1 - G L) of proposition 3: what this mask keeps beyond what the prior keeps anyway."""
        if prior is None:
            return self
        whole = (prior.noise + prior.keep * self.noise).clamp(min=_TINY)  # 1 - G L; 0 where both masks are exactly 1
        return Mask(self.keep * prior.noise / whole, self.noise / whole)


@dataclass(frozen=True)
class Signal:
    """The value that is mixed with noise, and the mean and deviation of that noise; all (1, C, h, w)."""

    value: Tensor
    mean: Tensor
    deviation: Tensor
    active: Tensor | None = None  # 0 for elements that are set to 0, else 1; None uses all
    rectified: bool = False  # whether the mixture is clamped at 0, because the network never sees negative values here
    start: str | None = None  # the feature layer whose map this is; None: the input
    around: Tensor | None = None  # a value of that layer, into which the map is put, see ``Classifier.put_map``

    @property
    def standardised(self) -> Tensor:
        """r = (S - mu) / sigma."""
        return (self.value - self.mean) / self.deviation

    def draw_noise(self, copies: int, generator: torch.Generator) -> Tensor:
        """(copies, C, h, w), drawn on the network's device."""
        drawn = torch.randn(copies, *self.value.shape[1:], generator=generator, device=self.value.device)
        return drawn.mul_(self.deviation).add_(self.mean)

    def mixed(self, mask: Mask, noise: Tensor) -> Tensor:
        """Z (N, C, h, w) for each copy of the noise (N, C, h, w)."""
        z = mask.keep * self.value + mask.noise * noise
        z = z.clamp(min=0) if self.rectified else z
        return z if self.active is None else z * self.active

    def put_into_layer(self, z: Tensor, network: Classifier) -> Tensor:
        """The value of the layer, or the input, whose map is ``z`` (N, C, h, w)."""
        return z if self.start is None or self.around is None else network.put_map(self.around, self.start, z)

    def information(self, mask: Mask, prior: Mask | None = None) -> Tensor:
        """The information in Z about S, in nats (1, C, h, w), beyond what the prior gives."""
        beyond = mask.beyond(prior)
        nats = divergence(beyond.keep, beyond.noise, self.standardised)
        return nats if self.active is None else nats * self.active


@dataclass(frozen=True)
class Descent:
    """Settings of the optimisation: the weight of the information, steps of Adam, noisy copies per step, and learning rate."""

    beta: float
    steps: int
    copies: int
    rate: float = 1.0
    sigma: float = 1.0  # deviation of the mask's smoothing, in elements


@dataclass
class MaskOptimum:
    """The result of ``optimise_mask``. Before each step both terms of the loss are appended to the lists."""

    alpha: Tensor  # the mask's logits after the last step
    mask: Mask  # before the last step, as is nats
    nats: Tensor
    cross_entropy: list[float] = field(default_factory=list)  # the mean over the copies
    information: list[float] = field(default_factory=list)  # the mean nats of an element


def device_generator(network: Classifier, context: Context, index: int) -> torch.Generator:
    """The ``index``-th generator of this run, on the network's device, where millions of numbers are drawn without a copy."""
    seed = int(torch.randint(2**62, (1,), generator=context.generator(index)))
    return torch.Generator(network.device).manual_seed(seed)


def cross_entropy(logits: Tensor, target: Target) -> Tensor:
    """(N,) -log p of the class, or of a contrast's first class in the two-class problem."""
    if target.contrast is None:
        return -logits.log_softmax(-1)[:, target.first]
    return F.softplus(-target.score(logits))


def optimise_mask(network: Classifier, signal: Signal, target: Target, descent: Descent, context: Context,
                  generator: torch.Generator, prior: Mask | None = None,
                  preview: Callable[[MaskOptimum], Tensor] | None = None, preview_every: int = 1) -> MaskOptimum:
    """Minimise the loss over the mask; only the part of the network above the signal runs. ``preview``: the map to report.

    It is reported after every ``preview_every`` steps; before the first step there is none.
    """
    alpha = torch.full_like(signal.value, INITIAL_LOGIT).requires_grad_(True)
    adam = torch.optim.Adam([alpha], lr=descent.rate)
    optimum = MaskOptimum(alpha.detach(), Mask.of(alpha.detach(), descent.sigma), torch.zeros_like(signal.value))
    for step in range(descent.steps):
        with torch.enable_grad():
            mask = Mask.of(alpha, descent.sigma)
            z = signal.mixed(mask, signal.draw_noise(descent.copies, generator))
            nats = signal.information(mask, prior)
            information = nats.mean()
        step_preview = (lambda: preview(optimum)) if preview and step and step % preview_every == 0 else None
        part = context.part(step, step + 1, descent.steps)
        losses, gradients = _losses_and_gradients(network, z.detach(), signal, target, part, step_preview)
        weights = (gradients / descent.copies, torch.full_like(information, descent.beta))
        mask_gradient = torch.autograd.grad((z, information), alpha, weights)[0]
        optimum.mask = Mask(mask.keep.detach(), mask.noise.detach())
        optimum.nats = nats.detach()
        optimum.cross_entropy.append(float(losses.mean()))
        optimum.information.append(float(information.detach()))
        alpha.grad = mask_gradient
        adam.step()
        optimum.alpha = alpha.detach()
    return optimum


def _losses_and_gradients(network: Classifier, z: Tensor, signal: Signal, target: Target, context: Context,
                          preview: Callable[[], Tensor] | None) -> tuple[Tensor, Tensor]:
    """The cross-entropy (N,) of each copy ``z`` (N, C, h, w) of the signal, and its gradient with respect to that copy."""
    def one_batch(a: int, b: int) -> tuple[Tensor, Tensor]:
        copies = z[a:b].clone().requires_grad_(True)
        with torch.enable_grad():
            losses = cross_entropy(network.walk(signal.put_into_layer(copies, network), start=signal.start), target)
            return losses.detach(), torch.autograd.grad(losses.sum(), copies)[0]

    batches = [batch for _, _, batch in context.batches(len(z), one_batch, preview)]
    return torch.cat([losses for losses, _ in batches]), torch.cat([gradients for _, gradients in batches])
