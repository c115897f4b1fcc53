r"""InputIBA's prior (Zhang and others 2021, section 3.3): which pixels the features kept by the bottleneck come from.

A generator mixes the image I with coloured noise, Z = G I + (1 - G)(e n + m), n ~ N(0, 1), with one fraction G = sigmoid(theta)
per input element and one deviation e and mean m per colour channel. The features f(Z) of this mixture should be distributed like
the features in the feature bottleneck, L R + (1 - L) n. A critic, a small convolutional network trained alongside, measures the
difference: it learns to score targets above the generator's features (a Wasserstein GAN with weights clipped to +-0.01).

The numbers are those of the authors' code: 200 targets per epoch, batches of 32, 20 epochs, RMSProp at 5e-5 for the critic and at
0.1 (m), 0.05 (e) and 0.003 (theta) for the generator. The critic is updated with every batch, 140 times; the generator with
the first and sixth batch of each epoch, 40 times. theta starts at IBA's map, with bits per pixel taken as logits. In 40
steps RMSProp moves theta by 0.35 under a constant gradient and by little more under a growing one (0.39 was measured), so
training only nudges the prior.

Does the training find the evidence? It did not on a few generated scenes of two objects: the change of theta hardly correlated
with the object's mask, whether theta started at IBA's map or constant, moved ten times as fast, or was trained three times as long.
With its weights clipped the critic's scores shrink to a constant, so it gives no direction; with a wider clip, or none, they grow
without bound, and theta still does not follow the object. A start on both sides of one half, ``standardised``, helps, but as much
without the training as with it.

Three computations of the authors' code are left out because they do not change the result. The critic's convolutions have no
biases, since the batch norm after each subtracts them. The critic's update computes no gradient for the critic's input, and the
generator's none for the critic's weights. The features of a batch are computed once for both updates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from explainers.context import Context
from explainers.errors import UnsupportedError
from explainers.methods.bottleneck import Mask, Signal
from explainers.networks.classifier import Classifier

CLIP = 0.01  # largest magnitude of the critic's weights
CRITIC_RATE = 5e-5
RATES = (0.1, 0.05, 0.003)  # learning rates of the generator's mean, deviation and theta
GENERATOR_EVERY = 5  # batches
GROUPS = 10  # of samples with the same random noise
_SLOPE = 0.2  # of the leaky ReLUs


@dataclass(frozen=True)
class PriorSettings:
    """The length of the prior's training and the kind of its targets."""

    epochs: int
    batch: int
    samples: int
    target: str  # what the targets' L is: the "mask" (paper), or the "information" in nats (code)
    noise: str  # "reference", the feature bottleneck's (paper), or "random", ten groups of random mean and deviation (code)
    after_relu: bool  # compare features after the ReLU that follows the layer


def batches(samples: int, batch: int) -> list[int]:
    """The sizes of an epoch's batches. A last batch of one sample is left out, because batch norm cannot use it."""
    return [size for size in (min(batch, samples - start) for start in range(0, samples, batch)) if size > 1]


def generator_batches(samples: int, batch: int) -> list[int]:
    """The sizes of those batches of an epoch that also update the generator."""
    return batches(samples, batch)[::GENERATOR_EVERY]


def critic_multiplications(size: Sequence[int]) -> float:
    """The multiplications of the critic's forward pass for one sample of features (C, h, w)."""
    channels, height, width = size
    convolutions = zip(_kernels(channels), ((height // 2) * (width // 2), (height // 4) * (width // 4), (height // 4) * (width // 4)),
                       strict=True)
    return sum(prod(kernel) * places for kernel, places in convolutions) + sum(a * b for a, b in _dense(size))


def critic_samples(settings: PriorSettings) -> float:
    """How many samples' forward passes of the critic take as long as a whole training.

    An update of the critic runs each batch with its targets forward and back, for about three forward passes of both; an update of
    the generator takes about two of the batch.
    """
    updates = 6 * sum(batches(settings.samples, settings.batch)) + 2 * sum(generator_batches(settings.samples, settings.batch))
    return settings.epochs * updates


def _kernels(channels: int) -> list[tuple[int, int, int, int]]:
    """The shapes of the critic's convolutions."""
    return [(2 * channels, channels, 4, 4), (4 * channels, 2 * channels, 4, 4), (channels, 4 * channels, 3, 3)]


def _dense(size: Sequence[int]) -> list[tuple[int, int]]:
    """The inputs and outputs of the critic's dense layers."""
    channels, height, width = size
    return [(channels * (height // 4) * (width // 4), 512), (512, 256), (256, 1)]


class Critic:
    """Three convolutions with batch norm and three dense layers give features of ``size`` (C, h, w), at least 4 x 4, one score."""

    def __init__(self, size: Sequence[int], generator: torch.Generator):
        channels, height, width = size
        if min(height, width) < 4:
            raise UnsupportedError(f"InputIBA's critic needs a layer of 4 x 4 places or more, not {height} x {width}.")
        shapes = _kernels(channels)
        self.convolutions = [_uniform(shape, shape[1] * shape[2] * shape[3], generator) for shape in shapes]
        self.norms = [(torch.ones(shape[0], device=generator.device), torch.zeros(shape[0], device=generator.device))
                      for shape in shapes]
        self.dense = [(_uniform((after, before), before, generator), _uniform((after,), before, generator))
                      for before, after in _dense(size)]
        self.weights = [*self.convolutions, *(t for pair in self.norms + self.dense for t in pair)]
        for weight in self.weights:
            weight.requires_grad_(True)

    def __call__(self, features: Tensor) -> Tensor:
        """The scores (N,) of features (N, C, h, w)."""
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
    """Mixes the image with noise. It learns theta (1, C, H, W), initially ``start``, and the noise's deviation and mean per colour."""

    def __init__(self, x: Tensor, start: Tensor):
        colours = (1, x.shape[1], 1, 1)
        self.image = x
        self.theta = start.expand_as(x).clone().requires_grad_(True)
        self.deviation = torch.ones(colours, device=x.device, requires_grad=True)
        self.mean = torch.zeros(colours, device=x.device, requires_grad=True)
        self.weights = [self.mean, self.deviation, self.theta]

    def __call__(self, noise: Tensor) -> Tensor:
        mask = Mask.of(self.theta)
        return mask.keep * self.image + mask.noise * (self.deviation * noise + self.mean)


class Targets:
    """Samples of the features in the feature bottleneck. ``rectify``: clamp them at 0, as the ReLU after the layer does."""

    def __init__(self, signal: Signal, mask: Mask, nats: Tensor, settings: PriorSettings, rectify: bool, generator: torch.Generator):
        self.signal, self.settings, self.rectify, self.generator = signal, settings, rectify, generator
        if settings.target == "information":
            mask = Mask(nats, 1 - nats)
        self.mask = mask
        device = signal.value.device
        self.deviations = 5 * torch.rand(GROUPS, generator=generator, device=device)
        self.means = 4 * torch.rand(GROUPS, generator=generator, device=device) - 2

    def epoch(self) -> Iterator[Tensor]:
        """The epoch's batches (N, C, h, w), shuffled and with fresh noise."""
        order = torch.randperm(self.settings.samples, generator=self.generator, device=self.signal.value.device)
        for samples in order.split(self.settings.batch):
            if len(samples) > 1:
                yield self.draw(samples)

    def draw(self, samples: Tensor) -> Tensor:
        """Features (N, C, h, w) for N sample numbers. With random noise, a sample's number decides the group it belongs to."""
        if self.settings.noise == "reference":
            z = self.signal.mixed(self.mask, self.signal.draw_noise(len(samples), self.generator))
            return z.clamp(min=0) if self.rectify else z
        group = samples * GROUPS // self.settings.samples
        shape = (len(samples), *self.signal.value.shape[1:])
        noise = torch.randn(shape, generator=self.generator, device=self.signal.value.device)
        noise = noise * self.deviations[group].view(-1, 1, 1, 1) + self.means[group].view(-1, 1, 1, 1)
        value = self.signal.value.clamp(min=0) if self.rectify else self.signal.value
        return self.mask.keep * value + self.mask.noise * noise


@dataclass
class Prior:
    """The mask G of the prior; both losses before each update; and the largest change of an element of theta."""

    mask: Mask
    critic_losses: list[float] = field(default_factory=list)
    generator_losses: list[float] = field(default_factory=list)
    moved: float = 0.0


def features_of(network: Classifier, images: Tensor, node: str, rectify: bool, grad: bool,
                context: Context) -> list[tuple[Tensor, Tensor]]:
    """(images, features) in batches that fit into memory. With ``grad`` autograd can go from the features to the images."""
    def one_batch(a: int, b: int) -> tuple[Tensor, Tensor]:
        part = images[a:b].clone().requires_grad_(grad)
        with torch.set_grad_enabled(grad):
            features = network.take_map(network.walk(part, stop=node), node)
            return part, features.clamp(min=0) if rectify else features

    return [batch for _, _, batch in context.batches(len(images), one_batch)]


def train_prior(network: Classifier, x: Tensor, node: str, targets: Targets, start: Tensor, settings: PriorSettings,
                context: Context, generator: torch.Generator, preview: Callable[[], Tensor] | None = None,
                of_features: float = 0.5) -> Prior:
    """Train generator and critic. ``start`` (1, 1, H, W) are theta's initial logits; 0 epochs return them as the prior.

    of_features: the fraction of an update's time that computing the features takes, for the progress; the critic takes the rest.
    """
    mixer = Generator(x, start)
    prior = Prior(Mask.of(mixer.theta.detach()))
    if not settings.epochs:
        return prior
    critic = Critic(targets.signal.value.shape[1:], generator)
    rates = [{"params": [weight], "lr": rate} for weight, rate in zip(mixer.weights, RATES, strict=True)]
    optimisers = (torch.optim.RMSprop(critic.weights, lr=CRITIC_RATE), torch.optim.RMSprop(rates))
    updates = len(batches(settings.samples, settings.batch))
    total = 100 * settings.epochs * updates
    context.progress(0, total)
    for epoch in range(settings.epochs):
        for i, real in enumerate(targets.epoch()):
            update = epoch * updates + i
            trains_generator = i % GENERATOR_EVERY == 0
            part = context.part(100 * update, 100 * update + round(100 * of_features), total, preview if i == 0 else None)
            noise = torch.randn(len(real), *x.shape[1:], generator=generator, device=x.device)
            with torch.no_grad():
                images = mixer(noise)
            pieces = features_of(network, images, node, targets.rectify, trains_generator, part)
            fake = torch.cat([features.detach() for _, features in pieces])
            prior.critic_losses.append(_update_critic(critic, real, fake, optimisers[0]))
            context.progress(100 * update + round(100 * of_features), total)  # a large critic takes seconds
            if trains_generator:
                prior.generator_losses.append(_update_generator(mixer, critic, noise, pieces, fake, optimisers[1]))
                prior.mask = Mask.of(mixer.theta.detach())
    prior.moved = float((mixer.theta.detach() - start).abs().max())
    return prior


def sharpened(feature_map: Tensor) -> Mask:
    """The prior that keeps the fraction map / maximum of each pixel, for IBA's map (1, 1, H, W); nothing where the map is 0."""
    keep = feature_map.clamp(min=0) / feature_map.max().clamp(min=1e-30)
    return Mask(keep, 1 - keep)


def standardised(feature_map: Tensor) -> Mask:
    """The prior sigmoid((map - mean) / deviation), for IBA's map (1, 1, H, W): above one half where IBA is above its own mean."""
    return Mask.of((feature_map - feature_map.mean()) / feature_map.std().clamp(min=1e-30))


def _update_critic(critic: Critic, real: Tensor, fake: Tensor, optimiser: torch.optim.Optimizer) -> float:
    """One step of the critic on targets ``real`` and generated features ``fake``; returns its loss before the step."""
    with torch.enable_grad():
        loss = critic(fake).mean() - critic(real).mean()
        gradients = torch.autograd.grad(loss, critic.weights)
    _step(critic.weights, gradients, optimiser)
    for weight in critic.weights:
        weight.detach().clamp_(-CLIP, CLIP)
    return float(loss.detach())


def _update_generator(mixer: Generator, critic: Critic, noise: Tensor, pieces: list[tuple[Tensor, Tensor]], fake: Tensor,
                      optimiser: torch.optim.Optimizer) -> float:
    """One step of the generator; returns its loss before it. ``pieces``: from ``features_of``. ``fake``: their features, detached."""
    fake = fake.requires_grad_(True)
    with torch.enable_grad():
        loss = -critic(fake).mean()
        by_feature = torch.autograd.grad(loss, fake)[0].split([len(features) for _, features in pieces])
        by_image = [torch.autograd.grad(features, part, g)[0] for (part, features), g in zip(pieces, by_feature, strict=True)]
        gradients = torch.autograd.grad(mixer(noise), mixer.weights, torch.cat(by_image))
    _step(mixer.weights, gradients, optimiser)
    return float(loss.detach())


def _step(weights: list[Tensor], gradients: tuple[Tensor, ...], optimiser: torch.optim.Optimizer) -> None:
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient
    optimiser.step()
    for weight in weights:
        weight.grad = None
