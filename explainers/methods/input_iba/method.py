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

When it misleads: the prior starts at IBA's map and moves little, so pixels where IBA is low are expensive to keep and stay dark.
It shows what suffices, never what speaks against the class. Time: ``auto`` chooses IBA's layer, and a wide one, such as VGG16's
with 512 channels, needs a critic of 64 million weights, which takes most of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from explainers.context import Context
from explainers.contract import AuxiliaryOutput, Citation, Method, RawMap
from explainers.methods import iba
from explainers.methods.bottleneck import Descent, MaskOptimum, Signal, device_generator, optimise_mask
from explainers.methods.input_iba.prior import (
    Prior,
    PriorSettings,
    Targets,
    batches,
    critic_multiplications,
    critic_samples,
    generator_batches,
    train_prior,
)
from explainers.networks.classifier import Classifier
from explainers.parameters import choice, integer, real, switch
from explainers.passes import Passes
from explainers.requirements import FEATURE_MAPS, GRAPH, REFERENCE_SET
from explainers.resampling import size_of
from explainers.target import Target

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
    epochs: int = integer(20, low=0, high=100, label="Prior epochs", help=(
        "Epochs of the prior's adversarial training. 0 takes IBA's map as the prior; training moves it little."))
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
        return PriorSettings(self.epochs, self.batch, self.samples, self.prior_target, self.prior_noise, self.after_relu)


def _count(params: Params, below: float, above: float) -> Passes:
    runs = above * FEATURE_STEPS * params.copies + params.steps * params.copies
    return Passes(forward=below + runs, backward=runs) + _prior_count(params, below)


def _prior_count(params: Params, below: float) -> Passes:
    return Passes(forward=below * params.epochs * sum(batches(params.samples, params.batch)),
                  backward=below * params.epochs * sum(generator_batches(params.samples, params.batch)))


def _prior_passes(params: Params, network: Classifier) -> Passes:
    """The passes of the prior's training, through the part of the network below the layer."""
    return _prior_count(params, network.cost_fraction(None, iba.bottleneck_layer(network, params.layer)))


def passes_on(params: Params, network: Classifier) -> Passes:
    """The features run the part above the layer, the prior the part below it, the pixels the whole network; critics do not count."""
    node = iba.bottleneck_layer(network, params.layer)
    return _count(params, network.cost_fraction(None, node), network.cost_fraction(node))


def overhead(params: Params, network: Classifier) -> Passes:
    """The critic's work in forward passes of the network with as many multiplications."""
    node = iba.bottleneck_layer(network, params.layer)
    multiplications = critic_samples(params.prior_settings) * critic_multiplications(network.shapes[node].size)
    return Passes(forward=multiplications / sum(shape.macs for shape in network.shapes.values()))


def _of_features(params: Params, network: Classifier) -> float:
    """The fraction of the prior's training that its passes through the network take; the rest is the critic's."""
    passes, critic = _prior_passes(params, network), overhead(params, network).forward
    return (passes.forward + passes.backward) / max(passes.forward + passes.backward + critic, 1e-9)


def relu_follows(network: Classifier, node: str) -> bool:
    graph = network.walkable
    return any(graph.kinds[user.name] in {"relu", "relu6"} for user in graph.nodes[node].users)


def _stages(params: Params, network: Classifier, context: Context) -> tuple[int, ...]:
    """Where fitting, features, prior and pixels end, for the progress."""
    above = network.cost_fraction(iba.bottleneck_layer(network, params.layer)) * FEATURE_STEPS * params.copies
    pixels = params.steps * params.copies
    prior = _prior_passes(params, network) + overhead(params, network)
    return iba.stages([iba.fit_work(params.layer, params.images, network, context), Passes(above, above), prior,
                       Passes(pixels, pixels)])


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    node, size = iba.bottleneck_layer(network, params.layer), size_of(x)
    fit_end, features_end, prior_end, end = _stages(params, network, context)
    signal = iba.feature_signal(network, x, node, params.images, context.part(0, fit_end, end))
    context.progress(fit_end, end)
    part = context.part(fit_end, features_end, end)
    features = optimise_mask(network, signal, target, params.feature_descent, part, device_generator(network, context, 0),
                             preview=lambda optimum: iba.preview(optimum, size))
    feature_map = iba.bits_a_pixel(features.nats, size)

    settings, rectify = params.prior_settings, params.after_relu and relu_follows(network, node)
    targets = Targets(signal, features.mask, features.nats, settings, rectify, device_generator(network, context, 1))
    start = F.interpolate(feature_map[None], size=size, mode="bilinear", align_corners=False)
    part = context.part(features_end, prior_end, end)
    prior = train_prior(network, x, node, targets, start, settings, part, device_generator(network, context, 2),
                        lambda: start[0, 0].cpu(), _of_features(params, network))
    context.progress(prior_end, end)

    pixels = optimise_mask(network, Signal(x, torch.zeros_like(x), torch.ones_like(x)), target,
                           Descent(params.beta, params.steps, params.copies), context.part(prior_end, end, end),
                           device_generator(network, context, 3), prior.mask, pixel_map, max(1, params.steps // PREVIEWS))
    return RawMap(pixel_map(pixels)[None], extras=_extras(node, feature_map, features, prior, pixels))


def pixel_map(pixels: MaskOptimum) -> Tensor:
    """(H, W): sigmoid(alpha), averaged over the colours."""
    return pixels.alpha.sigmoid().mean((0, 1)).cpu()


def _extras(node: str, feature_map: Tensor, features: MaskOptimum, prior: Prior, pixels: MaskOptimum) -> dict[str, object]:
    return {
        "layer": node, "feature_map": feature_map[0].cpu(), "lambda_G": prior.mask.keep.mean((0, 1)).cpu(),
        **{f"feature_{name}": value for name, value in iba.bottleneck_extras(features).items()},
        "critic_loss": prior.critic_losses, "generator_loss": prior.generator_losses, "theta_moved": prior.moved,
        **iba.bottleneck_extras(pixels)}


METHOD = Method(
    title="Input Information Bottleneck (InputIBA)", short="InputIBA", family="optimisation", attribute=attribute, params=Params,
    previews=True, version=2, cheap={"images": 16, "steps": 4, "epochs": 2, "batch": 8, "samples": 20},
    draft={"epochs": 0, "steps": 30, "copies": 4, "images": 100},
    overhead=overhead, fit=lambda params, network, target, reference: iba.fit_of(params.layer, params.images, network, reference),
    passes=lambda params: _count(params, 1, 1), passes_on=passes_on, needs=(GRAPH, FEATURE_MAPS, REFERENCE_SET), signed=False,
    citation=Citation("Zhang, Khakzar, Li, Farshad, Kim, Navab", "Fine-grained neural network explanation by identifying input "
                        "features with predictive information", "NeurIPS 2021", "section 3"),
    idea="Replace pixels by noise wherever the class survives it. A bottleneck on deep features first decides which pixels cost "
         "little to keep.",
    equation=r"\min_\Lambda\; -\log p_c(Z) + \beta\, \overline{D_{\mathrm{KL}}[P(Z|I)\,\|\,P(Z)]}, \quad "
             r"Z = \Lambda I + (1 - \Lambda)\,\varepsilon, \quad P(Z) \text{ from } \lambda_G",
    limits="It refines IBA's map, which its prior starts from, and is no second opinion. It is random: another seed gives another "
           "map. A wide layer makes it slow: the critic of its prior is then far larger than the network.",
    auxiliary_outputs=(
        AuxiliaryOutput("bits", "Capacity of the pixels", "number", "The information beyond the prior, over all pixels.",
                        unit="bits"),
        AuxiliaryOutput("feature_bits", "Capacity of the features", "number", "The information that passes the layer.", unit="bits"),
        AuxiliaryOutput("layer", "Layer", "text", "The layer whose features the feature bottleneck mixes with noise."),
        AuxiliaryOutput("feature_map", "1. Feature bottleneck", "strength", "IBA's map in bits per pixel; the prior starts from it."),
        AuxiliaryOutput("lambda_G", "2. Prior", "fraction", "The fraction of each pixel that the prior keeps, which costs nothing."),
        AuxiliaryOutput("evidence", "Cross-entropy", "trace", "\u2212log p of the class behind the pixel bottleneck, per step.",
                        unit="nats"),
        AuxiliaryOutput("information", "Information", "trace", "The information beyond the prior, averaged over pixels and colours, "
                        "before each step.", unit="nats per value"),
    ),
)
