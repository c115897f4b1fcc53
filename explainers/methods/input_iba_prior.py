r"""InputIBA's prior: which pixels the features that passed the bottleneck come from, told by a small adversarial game.

A generator mixes the image I with coloured noise, Z = G I + (1 - G)(e n + m), with one share G = sigmoid(theta) per input
element and one deviation e and mean m per colour channel. What the network's lower part makes of it, f(Z), should look like
what the feature bottleneck let through, L R + (1 - L) n. How different the two look is told by a critic, a small convolutional
network trained beside it: it learns to score the target above the generator's output (Wasserstein), its weights held within
+-0.01, five updates for one of the generator's.

The numbers are the published code's: 200 targets an epoch, batches of 32, 20 epochs, RMSProp at 5e-5 for the critic and at
0.1 (m), 0.05 (e), 0.003 (theta) for the generator, which moves at the first and every fifth batch of an epoch: 140 and 40
updates. theta starts at IBA's map (bits a pixel, taken as logits). A steady gradient moves it by 0.35 in 40 steps of RMSProp,
one that grows by somewhat more (0.39 was seen), so the game nudges the prior rather than forming it.

What is not computed, without any change of the result: the critic's convolutions have no biases, because the batch norm
behind each takes them out again; the critic never gets a gradient for its own input when it learns, nor for its weights when
the generator does; and the features of a batch are computed once, for the critic's step and the generator's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from explainers.context import Context
from explainers.contract import UnsupportedError
from explainers.methods.bottleneck import Mask, Signal
from explainers.networks.classifier import Classifier

CLIP = 0.01
CRITIC_RATE = 5e-5
RATES = (0.1, 0.05, 0.003)  # of the generator's mean, deviation, theta
GENERATOR_EVERY = 5
GROUPS = 10
_SLOPE = 0.2


@dataclass(frozen=True)
class Game:
    """How long it is played, and for what target."""

    epochs: int
    batch: int
    samples: int
    target: str  # "mask": L as the paper writes; "information": the nats, as the code has it
    noise: str  # "reference": the bottleneck's; "random": ten groups with a random mean and deviation each, as in the code
    after_relu: bool


def batches(samples: int, batch: int) -> list[int]:
    """The sizes of an epoch's batches; a last one of a single sample is left out, since it has no batch statistics."""
    return [size for size in (min(batch, samples - start) for start in range(0, samples, batch)) if size > 1]


def generator_batches(samples: int, batch: int) -> list[int]:
    return batches(samples, batch)[::GENERATOR_EVERY]


class Critic:
    """Three convolutions with batch norm, three dense layers, one score; (C, h, w) features, h and w at least 4."""

    def __init__(self, size: tuple[int, int, int], generator: torch.Generator):
        channels, height, width = size
        if min(height, width) < 4:
            raise UnsupportedError(f"InputIBA's critic needs a layer of 4 x 4 places or more, not {height} x {width}.")
        flat = channels * (height // 4) * (width // 4)
        shapes = [(2 * channels, channels, 4, 4), (4 * channels, 2 * channels, 4, 4), (channels, 4 * channels, 3, 3)]
        self.convolutions = [_uniform(shape, shape[1] * shape[2] * shape[3], generator) for shape in shapes]
        self.norms = [(torch.ones(shape[0], device=generator.device), torch.zeros(shape[0], device=generator.device))
                      for shape in shapes]
        self.dense = [(_uniform((after, before), before, generator), _uniform((after,), before, generator))
                      for before, after in ((flat, 512), (512, 256), (256, 1))]
        self.weights = [*self.convolutions, *(t for pair in self.norms + self.dense for t in pair)]
        for weight in self.weights:
            weight.requires_grad_(True)

    def __call__(self, features: Tensor) -> Tensor:
        """(N,) scores."""
        for weight, (gain, shift), stride in zip(self.convolutions, self.norms, (2, 2, 1), strict=True):
            features = F.conv2d(features, weight, stride=stride, padding=1)
            features = F.leaky_relu(F.batch_norm(features, None, None, gain, shift, training=True), _SLOPE)
        features = features.flatten(1)
        for depth, (weight, bias) in enumerate(self.dense):
            features = F.linear(features if depth == 0 else F.leaky_relu(features, _SLOPE), weight, bias)
        return features[:, 0]


def _uniform(shape: tuple[int, ...], inputs: int, generator: torch.Generator) -> Tensor:
    bound = inputs**-0.5
    return torch.empty(shape, device=generator.device).uniform_(-bound, bound, generator=generator)


class Generator:
    """The mixed image: theta (1, C, H, W), and the noise's deviation and mean for each colour."""

    def __init__(self, x: Tensor, start: Tensor):
        colours = (1, x.shape[1], 1, 1)
        self.image = x
        self.theta = start.expand_as(x).clone().requires_grad_(True)
        self.deviation = torch.ones(colours, device=x.device, requires_grad=True)
        self.mean = torch.zeros(colours, device=x.device, requires_grad=True)
        self.weights = [self.mean, self.deviation, self.theta]

    def __call__(self, noise: Tensor) -> Tensor:
        share = Mask.of(self.theta)
        return share.through * self.image + share.rest * (self.deviation * noise + self.mean)


class Targets:
    """Samples of what the feature bottleneck lets through."""

    def __init__(self, signal: Signal, mask: Mask, nats: Tensor, game: Game, bend: bool, generator: torch.Generator):
        self.signal, self.game, self.bend, self.generator = signal, game, bend, generator
        if game.target == "information":
            mask = Mask(nats, 1 - nats)
        self.mask = mask
        device = signal.value.device
        self.spreads = 5 * torch.rand(GROUPS, generator=generator, device=device)
        self.means = 4 * torch.rand(GROUPS, generator=generator, device=device) - 2

    def epoch(self) -> Iterator[Tensor]:
        """The epoch's batches (N, C, h, w), shuffled and with fresh noise."""
        order = torch.randperm(self.game.samples, generator=self.generator, device=self.signal.value.device)
        for samples in order.split(self.game.batch):
            if len(samples) > 1:
                yield self.draw(samples)

    def draw(self, samples: Tensor) -> Tensor:
        """The samples of these numbers; a number decides the group, and so the kind of noise, where that is random."""
        if self.game.noise == "reference":
            z = self.signal.mixed(self.mask, self.signal.noise(len(samples), self.generator))
            return z.clamp(min=0) if self.bend else z
        group = samples * GROUPS // self.game.samples
        shape = (len(samples), *self.signal.value.shape[1:])
        noise = torch.randn(shape, generator=self.generator, device=self.signal.value.device)
        noise = noise * self.spreads[group].view(-1, 1, 1, 1) + self.means[group].view(-1, 1, 1, 1)
        value = self.signal.value.clamp(min=0) if self.bend else self.signal.value
        return self.mask.through * value + self.mask.rest * noise


@dataclass
class Prior:
    """The share of each input element that is free, and how the game went: both losses, and how far theta came."""

    mask: Mask
    critic: list[float] = field(default_factory=list)
    generator: list[float] = field(default_factory=list)
    moved: float = 0.0


def features_of(network: Classifier, images: Tensor, node: str, bend: bool, grad: bool,
                context: Context) -> list[tuple[Tensor, Tensor]]:
    """(images, features) by pieces that fit; with ``grad`` they stay tied together, to carry a gradient back."""
    def piece(a: int, b: int) -> tuple[Tensor, Tensor]:
        part = images[a:b].clone().requires_grad_(grad)
        with torch.set_grad_enabled(grad):
            features = network.walk(part, stop=node)
            return part, features.clamp(min=0) if bend else features

    return [found for _, _, found in context.batches(len(images), piece)]


def play(network: Classifier, x: Tensor, node: str, targets: Targets, start: Tensor, game: Game, context: Context,
         generator: torch.Generator, preview: Callable[[], Tensor] | None = None) -> Prior:
    """Find the prior. ``start`` (1, 1, H, W) are theta's first logits."""
    maker = Generator(x, start)
    prior = Prior(Mask.of(maker.theta.detach()))
    if not game.epochs:
        return prior
    critic = Critic(tuple(targets.signal.value.shape[1:]), generator)
    rates = [{"params": [weight], "lr": rate} for weight, rate in zip(maker.weights, RATES, strict=True)]
    optimisers = (torch.optim.RMSprop(critic.weights, lr=CRITIC_RATE), torch.optim.RMSprop(rates))
    rounds = len(batches(game.samples, game.batch))
    for epoch in range(game.epochs):
        for i, real in enumerate(targets.epoch()):
            turn = epoch * rounds + i
            moves = i % GENERATOR_EVERY == 0
            part = context.part(turn, turn + 1, game.epochs * rounds, preview if i == 0 else None)
            noise = torch.randn(len(real), *x.shape[1:], generator=generator, device=x.device)
            with torch.no_grad():
                images = maker(noise)
            pieces = features_of(network, images, node, targets.bend, moves, part)
            fake = torch.cat([features.detach() for _, features in pieces])
            prior.critic.append(_teach(critic, real, fake, optimisers[0]))
            if moves:
                prior.generator.append(_nudge(maker, critic, noise, pieces, fake, optimisers[1]))
                prior.mask = Mask.of(maker.theta.detach())
    prior.moved = float((maker.theta.detach() - start).abs().max())
    return prior


def _teach(critic: Critic, real: Tensor, fake: Tensor, optimiser: torch.optim.Optimizer) -> float:
    """One step of the critic; returns its loss."""
    with torch.enable_grad():
        loss = critic(fake).mean() - critic(real).mean()
        gradients = torch.autograd.grad(loss, critic.weights)
    _step(critic.weights, gradients, optimiser)
    torch._foreach_clamp_min_([w.detach() for w in critic.weights], -CLIP)
    torch._foreach_clamp_max_([w.detach() for w in critic.weights], CLIP)
    return float(loss.detach())


def _nudge(maker: Generator, critic: Critic, noise: Tensor, pieces: list[tuple[Tensor, Tensor]], fake: Tensor,
           optimiser: torch.optim.Optimizer) -> float:
    """One step of the generator, on the images whose features are known already; returns its loss."""
    fake = fake.requires_grad_(True)
    with torch.enable_grad():
        loss = -critic(fake).mean()
        pull = torch.autograd.grad(loss, fake)[0].split([len(features) for _, features in pieces])
        back = [torch.autograd.grad(features, part, g)[0] for (part, features), g in zip(pieces, pull, strict=True)]
        gradients = torch.autograd.grad(maker(noise), maker.weights, torch.cat(back))
    _step(maker.weights, gradients, optimiser)
    return float(loss.detach())


def _step(weights: list[Tensor], gradients: tuple[Tensor, ...], optimiser: torch.optim.Optimizer) -> None:
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    optimiser.step()
    for weight in weights:
        weight.grad = None
