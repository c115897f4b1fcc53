r"""InputIBA: how much of each pixel the network must see to name the class, told with the features' help.

IBA at the input itself fails: pixels do not follow a Gaussian, so the information is overrated everywhere and the mask goes
flat. InputIBA asks a deep layer first, where a Gaussian is a fair model:

1. the feature bottleneck of IBA finds what the layer must let through;
2. a prior on the input, found by an adversarial game (see ``input_iba_prior``), says which share G of each pixel those
   features come from;
3. a bottleneck on the pixels, Z = L I + (1 - L) e with e ~ N(0, 1) in normalised colours, is priced only for what it lets
   through beyond the prior (Proposition 3, see ``bottleneck``). beta 20, 60 steps of Adam at rate 1, 10 copies.

The map is sigmoid(alpha), the mask before smoothing, averaged over the colours: in [0, 1], at the input's resolution.

Where paper and code differ. The paper writes that the game's target is made with the mask; the code hands over the KL in nats,
which is not bounded by 1: ``prior_target``. The paper's noise is the bottleneck's, the code's comes in ten random strengths:
``prior_noise``. The code compares features after the ReLU behind the layer and has the smoothing off in the feature
bottleneck: ``after_relu``, ``smooth_features``. The feature bottleneck's beta is the paper's 10; the code has 20. Theta's
steps, the 5 to 1 of critic and generator and the output are the code's.

When it misleads: the prior starts at IBA's map and moves little, so where IBA looks away the pixels are dear and stay dark; it
is no second opinion on IBA. Its noise is drawn: another seed gives another map. What suffices is shown, never what speaks
against the class. The layer of ``auto`` is IBA's; a wide one, as VGG16's with 512 channels, makes a critic of 64 million
weights, and most of the time goes there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from explainers.context import Context
from explainers.contract import Extra, Method, Passes, RawMap, Reference, Target, choice, integer, real, switch
from explainers.methods import iba
from explainers.methods.bottleneck import Descent, Found, Signal, draws, squeeze
from explainers.methods.input_iba_prior import Game, Prior, Targets, batches, generator_batches, play
from explainers.networks.classifier import Classifier

FEATURE_STEPS = 10
PREVIEWS = 12  # of the last stage


@dataclass(frozen=True)
class Params:
    """The three stages."""

    layer: str = iba.LAYER
    beta: float = real(20.0, low=0.0, high=1000.0, step=1.0, label="Price of pixels (beta)", help=(
        "How much the class may suffer for a pixel that is replaced by noise. Higher keeps fewer pixels."))
    steps: int = integer(60, low=1, high=500, label="Steps", help="Steps of the optimiser on the pixels. The paper takes 60.")
    copies: int = iba.COPIES
    feature_beta: float = real(10.0, low=0.0, high=1000.0, step=1.0, label="Price of features (beta)", help=(
        "The same for the layer's features. The paper has 10, the authors' code 20."))
    smooth_features: bool = switch(False, label="Smooth the feature mask", help=(
        "As IBA does by itself; the authors of InputIBA have it off."))
    epochs: int = integer(20, low=0, high=100, label="Epochs of the prior", help=(
        "How long the adversarial game is played. 0 takes IBA's map as the prior at once: the game moves it little."))
    batch: int = integer(32, low=2, high=256, label="Batch of the prior", help="Images a step of the game. Fewer take less memory.")
    samples: int = integer(200, low=4, high=2000, label="Samples of the prior", help="Targets of the game an epoch.")
    prior_target: str = choice("mask", "mask", "information", label="Target of the prior", help=(
        "mask: features as the bottleneck lets them through, as in the paper. information: weighted with their nats, as in the "
        "authors' code."))
    prior_noise: str = choice("reference", "reference", "random", label="Noise of the target", help=(
        "reference: the feature bottleneck's own, as in the paper. random: ten groups of random strength, as in the authors' code."))
    after_relu: bool = switch(True, label="Compare after the ReLU", help=(
        "Whether the game compares features after the ReLU that follows the layer, as the authors' code does."))
    images: int = iba.IMAGES

    @property
    def feature_descent(self) -> Descent:
        return Descent(self.feature_beta, FEATURE_STEPS, self.copies, sigma=1.0 if self.smooth_features else 0.0)

    @property
    def game(self) -> Game:
        return Game(self.epochs, self.batch, self.samples, self.prior_target, self.prior_noise, self.after_relu)


def _count(params: Params, below: float, above: float) -> Passes:
    features, pixels = FEATURE_STEPS * params.copies, params.steps * params.copies
    made = params.epochs * sum(batches(params.samples, params.batch))
    nudged = params.epochs * sum(generator_batches(params.samples, params.batch))
    return Passes(forward=below * (1 + made) + above * features + pixels, backward=below * nudged + above * features + pixels)


def passes_on(params: Params, network: Classifier) -> Passes:
    """Features: the part above the layer. The game: the part below it, without its critic. Pixels: the whole network."""
    node = iba.bottleneck_layer(network, params.layer)
    return _count(params, network.share(None, node), network.share(node))


def relu_follows(network: Classifier, node: str) -> bool:
    return any(network.graph.kinds[user.name] in {"relu", "relu6"} for user in network.graph.nodes[node].users)


def _stages(params: Params, network: Classifier) -> tuple[int, int, int, int]:
    """Where fitting, features, game and pixels end, in expected work."""
    node = iba.bottleneck_layer(network, params.layer)
    whole = passes_on(params, network)
    fit, pixels = params.images * network.share(None, node) / 10, 2 * params.steps * params.copies
    features = 2 * network.share(node) * FEATURE_STEPS * params.copies
    game = max(0, whole.forward + whole.backward - features - pixels)
    ends = [fit, fit + features, fit + features + game, fit + features + game + pixels]
    return tuple(max(i + 1, round(100 * end)) for i, end in enumerate(ends))


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    node, size = iba.bottleneck_layer(network, params.layer), tuple(x.shape[-2:])
    fitted, featured, played, end = _stages(params, network)
    signal = iba.feature_signal(network, x, node, params.images, context.part(0, fitted, end))
    context.progress(fitted, end)
    part = context.part(fitted, featured, end)
    features = squeeze(network, signal, target, params.feature_descent, part, draws(network, context, 0))
    first = iba.bits_a_pixel(features.nats, size)

    bend = params.after_relu and relu_follows(network, node)
    targets = Targets(signal, features.mask, features.nats, params.game, bend, draws(network, context, 1))
    start = F.interpolate(first[None], size=size, mode="bilinear", align_corners=False)
    part = context.part(featured, played, end)
    prior = play(network, x, node, targets, start, params.game, part, draws(network, context, 2), lambda: start[0, 0].cpu())
    context.progress(played, end)

    pixels = squeeze(network, Signal(x, torch.zeros_like(x), torch.ones_like(x)), target,
                     Descent(params.beta, params.steps, params.copies), context.part(played, end, end),
                     draws(network, context, 3), prior.mask, seen, max(1, params.steps // PREVIEWS))
    return RawMap(seen(pixels)[None], extras=_extras(node, first, features, prior, pixels))


def seen(pixels: Found) -> Tensor:
    """(H, W): sigmoid(alpha) over the colours."""
    return pixels.alpha.sigmoid().mean((0, 1)).cpu()


def _extras(node: str, first: Tensor, features: Found, prior: Prior, pixels: Found) -> dict[str, object]:
    return {
        "layer": node, "feature_map": first[0].cpu(), "lambda_G": prior.mask.through.mean((0, 1)).cpu(),
        **{f"feature_{name}": fact for name, fact in iba.facts(features).items()},
        "critic_loss": prior.critic, "generator_loss": prior.generator, "theta_moved": prior.moved, **iba.facts(pixels)}


METHOD = Method(
    title="Input Information Bottleneck (InputIBA)", family="optimisation", attribute=attribute, params=Params,
    passes=lambda params: _count(params, 1, 1), passes_on=passes_on, needs=("graph", "features", "reference"), signed=False,
    reference=Reference("Zhang, Khakzar, Li, Farshad, Kim, Navab", "Fine-grained neural network explanation by identifying input "
                        "features with predictive information", "NeurIPS 2021", "section 3"),
    idea="Replace pixels by noise wherever the class survives it. What a bottleneck on deep features lets through decides which "
         "pixels are cheap to keep.",
    equation=r"\min_\Lambda\; -\log p_c(Z) + \beta\, \overline{D_{\mathrm{KL}}[P(Z|I)\,\|\,P(Z)]}, \quad "
             r"Z = \Lambda I + (1 - \Lambda)\,\varepsilon, \quad P(Z) \text{ from } \lambda_G",
    limits="It follows IBA's map, which its prior starts from, and refines it; it is no second opinion. Random: another seed gives "
           "another map. Slow.",
    shows=(
        Extra("bits", "Capacity of the pixels", "number", "What passes beyond the prior, over all pixels.", unit="bits"),
        Extra("feature_bits", "Capacity of the features", "number", "The information that passes the layer.", unit="bits"),
        Extra("layer", "Layer", "text", "Where the feature bottleneck stands."),
        Extra("feature_map", "1. Feature bottleneck", "strength", "Bits a pixel that pass the layer: the prior starts here."),
        Extra("lambda_G", "2. Prior", "share", "The share of each pixel that these features come from, which costs nothing to keep."),
        Extra("evidence", "Evidence lost", "trace", "\u2212log p of the class behind the pixels' bottleneck, before each step.",
              unit="nats"),
        Extra("information", "Information", "trace", "The mean information of a pixel beyond the prior, before each step.",
              unit="nats a value"),
    ),
)
