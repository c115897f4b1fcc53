r"""The information bottleneck that IBA and InputIBA share: noise in place of what the network does not need.

A signal S is let through element by element, Z = L S + (1 - L) e with noise e ~ N(mu, sigma^2), and the mask L is lowered
until the class suffers,

    mean over the copies of -log p_c(Z) + beta mean over the elements of KL,

by Adam, from L = sigmoid(5) = 0.993. With r = (S - mu) / sigma and l = L the KL of an element is, in nats,

    ((l r)^2 + (1 - l)^2 - 1) / 2 - ln(1 - l)  >=  0,

the divergence of Z given S from the noise alone. If the noise is not compared with N(mu, sigma^2) but with a prior that
already lets a share G of the signal through, InputIBA's Proposition 3 is the same formula with l = L (1 - G) / (1 - G L):
for G = 0 it is L, and for G = 1 it is 0, the signal is free.

A class's evidence is -log softmax. A contrast (a, b) is explained as the class a in the two-class problem a or b:
-log sigmoid(logit a - logit b), which is the cross-entropy with all other classes left out.

Numbers. In float32 sigmoid(alpha) is exactly 1 from alpha = 17 on, and ln(1 - L) is gone. So 1 - L is computed by itself, as
the smoothed sigmoid(-alpha) (the kernel sums to 1, so that is exact), and 1 - G L as (1 - G) + G (1 - L).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from explainers.context import Context
from explainers.contract import Target
from explainers.networks.classifier import Classifier

OPEN = 5.0
_TINY = 1e-37


def smooth(maps: Tensor, sigma: float) -> Tensor:
    """Gaussian smoothing of (..., h, w) with 2 round(2 sigma) + 1 taps a side, mirrored at the borders; 0 does nothing."""
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


def divergence(through: Tensor, rest: Tensor, normed: Tensor) -> Tensor:
    """The KL in nats of each element: ``through`` is l, ``rest`` is 1 - l with all its digits, ``normed`` is r."""
    small = through < 0.5
    log_rest = torch.where(small, torch.log1p(-through.clamp(max=0.5)), rest.clamp(min=_TINY).log())
    return ((through * normed).square() - through * (1 + rest)) / 2 - log_rest


@dataclass(frozen=True)
class Mask:
    """``through`` + ``rest`` = 1: how much of each element passes, and how much is noise."""

    through: Tensor
    rest: Tensor

    @classmethod
    def of(cls, alpha: Tensor, sigma: float = 0.0) -> Mask:
        return cls(smooth(torch.sigmoid(alpha), sigma), smooth(torch.sigmoid(-alpha), sigma))

    def beyond(self, prior: Mask | None) -> Mask:
        """What this mask lets through that the prior does not let through for nothing."""
        if prior is None:
            return self
        whole = prior.rest + prior.through * self.rest  # 1 - G L
        return Mask(self.through * prior.rest / whole, self.rest / whole)


@dataclass(frozen=True)
class Signal:
    """What is let through, and the noise that replaces it; ``active`` is 0 where there is neither (None: nowhere).

    ``rectified``: the network expects no negative values here, so none is given to it.
    """

    value: Tensor  # (1, C, h, w)
    mean: Tensor
    deviation: Tensor
    active: Tensor | None = None
    rectified: bool = False
    start: str | None = None  # the node whose value it is; None: the input

    @property
    def normed(self) -> Tensor:
        return (self.value - self.mean) / self.deviation

    def noise(self, copies: int, generator: torch.Generator) -> Tensor:
        drawn = torch.randn(copies, *self.value.shape[1:], generator=generator, device=self.value.device)
        return drawn.mul_(self.deviation).add_(self.mean)

    def mixed(self, mask: Mask, noise: Tensor) -> Tensor:
        """Z for each copy of the noise (N, C, h, w)."""
        z = mask.through * self.value + mask.rest * noise
        z = z.clamp(min=0) if self.rectified else z
        return z if self.active is None else z * self.active

    def information(self, mask: Mask, prior: Mask | None = None) -> Tensor:
        """Nats (1, C, h, w)."""
        beyond = mask.beyond(prior)
        found = divergence(beyond.through, beyond.rest, self.normed)
        return found if self.active is None else found * self.active


@dataclass(frozen=True)
class Descent:
    """How the mask is found."""

    beta: float
    steps: int
    copies: int
    rate: float = 1.0
    sigma: float = 1.0  # of the smoothing


@dataclass
class Found:
    """The logits of the mask after the last step; the mask and its nats before it; the loss before each step."""

    alpha: Tensor
    mask: Mask
    nats: Tensor
    evidence: list[float] = field(default_factory=list)
    information: list[float] = field(default_factory=list)  # the mean nats of an element


def draws(network: Classifier, context: Context, index: int) -> torch.Generator:
    """A generator on the network's device for the ``index``-th random thing of this run: noise by the million, drawn in place."""
    seed = int(torch.randint(2**62, (1,), generator=context.generator(index)))
    return torch.Generator(network.device).manual_seed(seed)


def evidence(logits: Tensor, target: Target) -> Tensor:
    """(N,) -log p of the class, or of the first class of a contrast against the second."""
    if isinstance(target, tuple):
        return F.softplus(logits[:, target[1]] - logits[:, target[0]])
    return -logits.log_softmax(-1)[:, target]


def squeeze(network: Classifier, signal: Signal, target: Target, descent: Descent, context: Context, generator: torch.Generator,
            prior: Mask | None = None, preview: Callable[[Found], Tensor] | None = None, each: int = 1) -> Found:
    """Find the mask. Only the part of the network above the signal runs; ``preview`` is shown every ``each`` steps."""
    alpha = torch.full_like(signal.value, OPEN).requires_grad_(True)
    adam = torch.optim.Adam([alpha], lr=descent.rate)
    found = Found(alpha.detach(), Mask.of(alpha.detach(), descent.sigma), torch.zeros_like(signal.value))
    for step in range(descent.steps):
        with torch.enable_grad():
            mask = Mask.of(alpha, descent.sigma)
            z = signal.mixed(mask, signal.noise(descent.copies, generator))
            nats = signal.information(mask, prior)
            price = nats.mean()
        shown = (lambda: preview(found)) if preview and step % each == 0 else None
        part = context.part(step, step + 1, descent.steps)
        losses, pull = _pull(network, z.detach(), signal.start, target, part, shown)
        alpha.grad = torch.autograd.grad((z, price), alpha, (pull / descent.copies, torch.full_like(price, descent.beta)))[0]
        found.mask = Mask(mask.through.detach(), mask.rest.detach())
        found.nats = nats.detach()
        found.evidence.append(float(losses.mean()))
        found.information.append(float(price.detach()))
        adam.step()
        found.alpha = alpha.detach()
    return found


def _pull(network: Classifier, z: Tensor, start: str | None, target: Target, context: Context,
          preview: Callable[[], Tensor] | None) -> tuple[Tensor, Tensor]:
    """(N,) the evidence lost by each copy, and (N, C, h, w) its gradient by that copy."""
    def gradients(a: int, b: int) -> tuple[Tensor, Tensor]:
        part = z[a:b].clone().requires_grad_(True)
        with torch.enable_grad():
            losses = evidence(network.walk(part, start=start), target)
            return losses.detach(), torch.autograd.grad(losses.sum(), part)[0]

    pieces = [piece for _, _, piece in context.batches(len(z), gradients, preview)]
    return torch.cat([losses for losses, _ in pieces]), torch.cat([gradient for _, gradient in pieces])
