r"""InputIBA: how much of each pixel the network must see to recognise the class, starting from a bottleneck on features.

IBA applied to the input itself fails: pixels are not Gaussian, so the information is overestimated everywhere and the mask
becomes flat (Zhang, Khakzar, Li, Farshad, Kim, Navab 2021, section 3.2). InputIBA begins at a deep layer, where a Gaussian is a
fair model:

1. IBA's bottleneck on a layer's features finds what the layer must keep.
2. An adversarially trained prior on the input gives the fraction G of each pixel that these features come from (``prior``).
3. A bottleneck on the pixels, Z = L I + (1 - L) e with e ~ N(0, 1) in normalised colours, pays only for the information beyond
   the prior (proposition 3, see ``bottleneck``): beta 20, 60 steps of Adam at rate 1, 10 copies.

The map is sigmoid(alpha) of the third stage, the mask before smoothing, averaged over colours: in [0, 1], at the input's size.

Where paper and code differ:
- ``prior_target``: the paper makes the prior's target features with the mask; the code with the KL in nats, which may exceed 1.
- ``prior_noise``: the paper's target noise is the feature bottleneck's; the code's comes in ten groups of random mean and deviation.
- ``after_relu``: the code compares features after the ReLU that follows the layer; the paper does not say.
- ``smooth_features``: the code does not smooth the mask of the feature bottleneck.
- ``feature_beta``: 10 in the paper, 20 in the code.
The steps of theta, five critic updates per generator update, and the output are the code's.

The prior decides most of the map, because an element whose fraction G is 1 costs nothing and one whose fraction is 0 costs
the whole formula of IBA. ``prior`` is one of
- "game": the adversarial training, the paper's method. "iba" is its start, which 0 epochs give too: G = sigmoid(IBA's map in
  bits per pixel). Bits are not negative, so no pixel starts below one half, and where all have few bits the prior is nearly
  the same everywhere. A map with such a prior has a flag, and the range of G is among the auxiliary outputs.
- "none": G = 0, a plain bottleneck on the pixels. The paper's figure 1 shows why it is not enough.
- "sharpened": G = IBA's map over its maximum. "standardised": G = sigmoid of the map minus its mean, over its deviation. Neither
  is from the paper. Both were tried with ``beta`` 60, which is not set by itself.

When it misleads: pixels where the prior is low are expensive to keep and stay dark, whatever the network reads from them. The
map shows what suffices, never what speaks against the class. Time: ``auto`` chooses IBA's layer, and a wide one, such as
VGG16's with 512 channels, needs a critic of 64 million weights, which takes most of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from explainers.context import Context
from explainers.contract import AuxiliaryOutput, Citation, Method, RawMap
from explainers.data.reference import ReferenceSet
from explainers.methods import iba
from explainers.methods.bottleneck import Descent, MaskOptimum, Signal, device_generator, optimise_mask
from explainers.methods.feature_statistics import FeatureStatistics
from explainers.methods.input_iba.prior import (
    Prior,
    PriorSettings,
    Targets,
    batches,
    critic_multiplications,
    critic_samples,
    generator_batches,
    sharpened,
    standardised,
    train_prior,
)
from explainers.networks.classifier import Classifier
from explainers.parameters import choice, integer, real, switch
from explainers.passes import Passes
from explainers.requirements import FEATURE_MAPS, GRAPH, REFERENCE_SET
from explainers.resampling import size_of
from explainers.target import Target

PRIORS = ("game", "none", "iba", "sharpened", "standardised")
MADE_OF_THE_MAP = {"sharpened": sharpened, "standardised": standardised}  # the priors that a formula makes of IBA's map
LEAST_SPREAD = 0.05  # standard deviation of the prior's fractions over the pixels; a map whose prior has less has a flag
FEATURE_STEPS = 10  # of Adam, in the feature bottleneck
PREVIEWS = 12  # maps reported during the last stage


@dataclass(frozen=True)
class Params:
    """The settings of the three stages."""

    layer: str = iba.LAYER
    beta: float = real(20.0, low=0.0, high=1000.0, step=1.0, label="Beta", help=(
        "Weight of the pixels' information against the class's cross-entropy. Higher values keep fewer pixels."))
    steps: int = integer(60, low=1, high=500, label="Steps", help="Steps of the optimiser on the pixels. The paper takes 60.")
    copies: int = iba.COPIES
    feature_beta: float = real(10.0, low=0.0, high=1000.0, step=1.0, label="Feature beta", help=(
        "The same weight in the bottleneck on features. The paper has 10, the authors' code 20."))
    smooth_features: bool = switch(False, label="Smooth the feature mask", help=(
        "Smooth it as IBA does. The authors of InputIBA do not."))
    prior: str = choice("game", *PRIORS, label="Prior", help=(
        "Which pixels cost little to keep. game: the paper's adversarial training. none: every pixel costs, a plain bottleneck on the "
        "pixels. iba: the start of that training, from IBA's map. sharpened: IBA's map divided by its maximum, so that less is free "
        "where IBA is low. standardised: above one half where IBA is above its mean. Take beta 60 with the last two."))
    epochs: int = integer(20, low=0, high=500, label="Prior epochs", help=(
        "Epochs of the prior's adversarial training, if there is one. 0 is the same as the prior iba; training moves it little."))
    batch: int = integer(32, low=2, high=256, label="Prior batch", help="Images per step of that training. Fewer take less memory.")
    samples: int = integer(200, low=4, high=2000, label="Prior samples", help="Target samples per epoch of the prior's training.")
    prior_target: str = choice("mask", "mask", "information", label="Prior target", help=(
        "What the features of the prior should look like. mask: the features under the bottleneck's mask, as in the paper. "
        "information: the features weighted by their nats, as in the authors' code."))
    prior_noise: str = choice("reference", "reference", "random", label="Target noise", help=(
        "reference: the noise of the feature bottleneck, as in the paper. random: ten groups of random mean and deviation, as in the "
        "authors' code."))
    after_relu: bool = switch(True, label="Compare after the ReLU", help=(
        "Train the prior on features after the ReLU that follows the layer, as the authors' code does."))
    images: int = iba.IMAGES

    @property
    def feature_descent(self) -> Descent:
        return Descent(self.feature_beta, FEATURE_STEPS, self.copies, sigma=1.0 if self.smooth_features else 0.0)

    @property
    def prior_settings(self) -> PriorSettings:
        epochs = self.epochs if self.prior == "game" else 0
        return PriorSettings(epochs, self.batch, self.samples, self.prior_target, self.prior_noise, self.after_relu)


def _count(params: Params, below: float, above: float) -> Passes:
    pixels = params.steps * params.copies
    return Passes(pixels, pixels) + _feature_count(params, below, above) + _prior_count(params, below)


def _feature_count(params: Params, below: float, above: float) -> Passes:
    """The passes of the feature bottleneck, which a plain bottleneck on the pixels does not need."""
    if params.prior == "none":
        return Passes()
    runs = above * FEATURE_STEPS * params.copies
    return Passes(forward=below + runs, backward=runs)


def _prior_count(params: Params, below: float) -> Passes:
    """The passes of the prior's training."""
    game = params.prior_settings
    return Passes(forward=below * game.epochs * sum(batches(game.samples, game.batch)),
                  backward=below * game.epochs * sum(generator_batches(game.samples, game.batch)))


def _prior_passes(params: Params, network: Classifier) -> Passes:
    """The passes of the prior's training, through the part of the network below the layer."""
    return _prior_count(params, network.cost_fraction(None, iba.bottleneck_layer(network, params.layer)))


def passes_on(params: Params, network: Classifier) -> Passes:
    """The features run the part above the layer, the prior the part below it, the pixels the whole network; critics do not count."""
    node = iba.bottleneck_layer(network, params.layer)
    return _count(params, network.cost_fraction(None, node), network.cost_fraction(node))


def fit_of(params: Params, network: Classifier, target: Target, reference: ReferenceSet) -> tuple[Sequence[tuple[Any, ...]], Passes]:
    """The keys and passes of IBA's statistics; a plain bottleneck on the pixels needs none."""
    return ((), Passes()) if params.prior == "none" else iba.fit_of(params.layer, params.images, network, reference)


def overhead(params: Params, network: Classifier) -> Passes:
    """The critic's work in forward passes of the network with as many multiplications."""
    node = iba.bottleneck_layer(network, params.layer)
    multiplications = critic_samples(params.prior_settings) * critic_multiplications(network.features.sizes[node])
    return Passes(forward=multiplications / sum(shape.macs for shape in network.shapes.values()))


def _of_features(params: Params, network: Classifier) -> float:
    """The fraction of the prior's training that its passes through the network take; the rest is the critic's."""
    passes, critic = _prior_passes(params, network), overhead(params, network).forward
    return (passes.forward + passes.backward) / max(passes.forward + passes.backward + critic, 1e-9)


def relu_follows(network: Classifier, node: str) -> bool:
    graph = network.walkable
    return any(graph.kinds[user.name] in {"relu", "relu6"} for user in graph.nodes[node].users)


@dataclass(frozen=True)
class Stages:
    """Where fitting, features, prior and pixels end, for the progress."""

    fit: int
    features: int
    prior: int
    end: int


def _stages(params: Params, network: Classifier, context: Context) -> Stages:
    node, pixels = iba.bottleneck_layer(network, params.layer), params.steps * params.copies
    fit = Passes() if params.prior == "none" else iba.fit_work(params.layer, params.images, network, context)
    features = _feature_count(params, 0, network.cost_fraction(node))
    prior = _prior_passes(params, network) + overhead(params, network)
    return Stages(*iba.stages([fit, features, prior, Passes(pixels, pixels)]))


@dataclass(frozen=True)
class Guide:
    """What precedes the bottleneck on the pixels: the feature bottleneck, its map (1, h, w) in bits per pixel, and the prior."""

    features: MaskOptimum
    feature_map: Tensor
    prior: Prior
    fitted: FeatureStatistics


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    stages = _stages(params, network, context)
    guide = None if params.prior == "none" else _guide(network, x, target, params, context, stages)
    context.progress(stages.prior, stages.end)
    pixels = optimise_mask(network, Signal(x, torch.zeros_like(x), torch.ones_like(x)), target,
                           Descent(params.beta, params.steps, params.copies), context.part(stages.prior, stages.end, stages.end),
                           device_generator(network, context, 3), guide.prior.mask if guide else None, pixel_map,
                           max(1, params.steps // PREVIEWS))
    extras = iba.bottleneck_extras(pixels)
    if guide is None:
        return RawMap(pixel_map(pixels)[None], extras=extras)
    lambda_g = guide.prior.mask.keep.mean((0, 1)).cpu()
    extras |= _guide_extras(iba.bottleneck_layer(network, params.layer), guide) | {"lambda_G": lambda_g, **_range_of(lambda_g)}
    return RawMap(pixel_map(pixels)[None], extras=extras, flags=(*iba.flags_of(guide.fitted), *_flags_of(lambda_g)))


def _guide(network: Classifier, x: Tensor, target: Target, params: Params, context: Context, stages: Stages) -> Guide:
    """The first two stages: the bottleneck on features and the prior that follows from it."""
    node, size = iba.bottleneck_layer(network, params.layer), size_of(x)
    signal, fitted = iba.feature_signal(network, x, node, params.images, context.part(0, stages.fit, stages.end))
    context.progress(stages.fit, stages.end)
    part = context.part(stages.fit, stages.features, stages.end)
    features = optimise_mask(network, signal, target, params.feature_descent, part, device_generator(network, context, 0),
                             preview=lambda optimum: iba.preview(optimum, size))
    feature_map = iba.bits_a_pixel(features.nats, size)
    enlarged = F.interpolate(feature_map[None], size=size, mode="bilinear", align_corners=False)
    if params.prior in MADE_OF_THE_MAP:
        return Guide(features, feature_map, Prior(MADE_OF_THE_MAP[params.prior](enlarged)), fitted)
    settings, rectify = params.prior_settings, params.after_relu and relu_follows(network, node)
    targets = Targets(signal, features.mask, features.nats, settings, rectify, device_generator(network, context, 1))
    part = context.part(stages.features, stages.prior, stages.end)
    prior = train_prior(network, x, node, targets, enlarged, settings, part, device_generator(network, context, 2),
                        lambda: enlarged[0, 0].cpu(), _of_features(params, network))
    return Guide(features, feature_map, prior, fitted)


def pixel_map(pixels: MaskOptimum) -> Tensor:
    """(H, W): sigmoid(alpha), averaged over the colours."""
    return pixels.alpha.sigmoid().mean((0, 1)).cpu()


def _guide_extras(node: str, guide: Guide) -> dict[str, object]:
    prior = guide.prior
    return {
        "layer": node, "feature_map": guide.feature_map[0].cpu(), "reference_images": guide.fitted.images,
        **{f"feature_{name}": value for name, value in iba.bottleneck_extras(guide.features).items()},
        "critic_loss": prior.critic_losses, "generator_loss": prior.generator_losses, "theta_moved": prior.moved}


def _range_of(lambda_g: Tensor) -> dict[str, object]:
    """The 5, 50 and 95 % quantiles of the prior's fractions (H, W)."""
    values = torch.quantile(lambda_g.flatten(), torch.tensor([0.05, 0.5, 0.95])).tolist()
    return dict(zip(("lambda_G_low", "lambda_G_median", "lambda_G_high"), values, strict=True))


def _flags_of(lambda_g: Tensor) -> tuple[str, ...]:
    """A warning where the prior hardly prefers any pixel to another."""
    if lambda_g.std() >= LEAST_SPREAD:
        return ()
    quartiles = torch.quantile(lambda_g.flatten(), torch.tensor([0.25, 0.5, 0.75])).tolist()
    return ("the prior is nearly the same everywhere (quartiles {:.3f}, {:.3f}, {:.3f}), so it hardly says which pixels matter"
            .format(*quartiles),)


METHOD = Method(
    title="Input Information Bottleneck (InputIBA)", short="InputIBA", family="optimisation", attribute=attribute, params=Params,
    previews=True, version=3, cheap={"images": 16, "steps": 4, "epochs": 2, "batch": 8, "samples": 20},
    draft={"epochs": 0, "steps": 30, "copies": 4, "images": 100},
    overhead=overhead, fit=fit_of,
    passes=lambda params: _count(params, 1, 1), passes_on=passes_on, needs=(GRAPH, FEATURE_MAPS, REFERENCE_SET), signed=False,
    citation=Citation("Zhang, Khakzar, Li, Farshad, Kim, Navab", "Fine-grained neural network explanation by identifying input "
                        "features with predictive information", "NeurIPS 2021", "section 3"),
    idea="Replace pixels by noise wherever the class survives it. A bottleneck on deep features first decides which pixels cost "
         "little to keep.",
    equation=r"\min_\Lambda\; -\log p_c(Z) + \beta\, \overline{D_{\mathrm{KL}}[P(Z|I)\,\|\,P(Z)]}, \quad "
             r"Z = \Lambda I + (1 - \Lambda)\,\varepsilon, \quad P(Z) \text{ from } \lambda_G",
    limits="It refines IBA's map, which its prior starts from, and is no second opinion. The adversarial training hardly "
           "improves that prior: look at its range. It is random: another seed gives another map. A wide layer makes it slow: the "
           "critic of its prior is then far larger than the network.",
    auxiliary_outputs=(
        AuxiliaryOutput("bits", "Capacity of the pixels", "number", "The information beyond the prior, over all pixels.",
                        unit="bits"),
        AuxiliaryOutput("feature_bits", "Capacity of the features", "number", "The information that passes the layer.", unit="bits"),
        AuxiliaryOutput("layer", "Layer", "text", "The layer whose features the feature bottleneck mixes with noise."),
        iba.REFERENCE_IMAGES,
        AuxiliaryOutput("feature_map", "1. Feature bottleneck", "strength", "IBA's map in bits per pixel; the prior starts from it."),
        AuxiliaryOutput("lambda_G", "2. Prior", "fraction", "The fraction of each pixel that the prior keeps, which costs nothing."),
        AuxiliaryOutput("lambda_G_low", "Prior, 5 % quantile", "number", "5 % of the pixels have a smaller fraction of the prior."),
        AuxiliaryOutput("lambda_G_median", "Prior, median", "number", "Half of the pixels have a smaller fraction of the prior."),
        AuxiliaryOutput("lambda_G_high", "Prior, 95 % quantile", "number", "5 % of the pixels have a larger fraction of the prior."),
        AuxiliaryOutput("evidence", "Cross-entropy", "trace", "\u2212log p of the class behind the pixel bottleneck, per step.",
                        unit="nats"),
        AuxiliaryOutput("information", "Information", "trace", "The information beyond the prior, averaged over pixels and colours, "
                        "before each step.", unit="nats per value"),
    ),
)
