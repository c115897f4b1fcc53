"""Grad-CAM: the feature maps of one layer, weighted by the mean gradient of the target logit, and Guided Grad-CAM.

The map has the layer's resolution and is upsampled for viewing; its edges say nothing finer than one cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from explainers.context import Context
from explainers.contract import Method, Passes, RawMap, Reference, Target, choice, layer, switch
from explainers.methods.guided import GUIDED
from explainers.networks.classifier import Classifier

_LAYER_HELP = ("The feature maps that are weighted. auto: the last ones before the head. Earlier layers give finer but less "
               "class-specific maps.")


@dataclass(frozen=True)
class Params:
    """The layer, and what is kept."""

    layer: str = layer(label="Layer", help=_LAYER_HELP)
    relu: bool = switch(True, label="Keep positive only", help=(
        "As in the paper. Off: also show where the features speak against the class."))


def class_activation(network: Classifier, x: Tensor, target: Target, layer_name: str, relu: bool = True) -> Tensor:
    """(1, h, w) at the layer's resolution."""
    node = network.feature_layer(layer_name)
    with torch.no_grad():
        maps = network.walk(x, stop=node)
    maps.requires_grad_(True)
    with torch.enable_grad():
        total = network.score(network.walk(maps, start=node), target).sum()
        gradient = torch.autograd.grad(total, maps)[0]
    cam = (gradient.mean((2, 3), keepdim=True) * maps.detach()).sum(1)  # (1, h, w)
    return cam.clamp(min=0) if relu else cam


def passes_on(params: Params, network: Classifier) -> Passes:
    """The part below the layer once, the part above it forward and back."""
    return Passes(forward=1, backward=network.share(network.feature_layer(params.layer)))


def grad_cam(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    return RawMap(class_activation(network, x, target, params.layer, params.relu), signed=not params.relu)


@dataclass(frozen=True)
class GuidedParams:
    """The layer, and how its map is enlarged before the product."""

    layer: str = layer(label="Layer", help=_LAYER_HELP)
    upsampling: str = choice("nearest", "nearest", "bilinear", label="Upsampling", help=(
        "How the class activation map is enlarged: nearest keeps its cells, bilinear blends them."))


def guided_grad_cam(network: Classifier, x: Tensor, target: Target, params: GuidedParams, context: Context) -> RawMap:
    cam = class_activation(network, x, target, params.layer)[None]
    options = {"align_corners": False} if params.upsampling == "bilinear" else {}
    enlarged = F.interpolate(cam, size=x.shape[-2:], mode=params.upsampling, **options)[0]
    return RawMap(network.gradient(x, target, GUIDED)[0] * enlarged)


_SELVARAJU = Reference("Selvaraju, Cogswell, Das, Vedantam, Parikh, Batra", "Grad-CAM: visual explanations from deep networks via "
                       "gradient-based localization", "ICCV 2017", "section 3")

METHODS = {
    "grad_cam": Method(
        title="Grad-CAM", family="activation", attribute=grad_cam, params=Params,
        passes=lambda params: Passes(forward=1, backward=1), passes_on=passes_on, needs=("graph", "features"),
        reference=_SELVARAJU,
        idea="Which regions of the last feature maps speak for the class: each map weighted by its mean gradient, added up.",
        equation=r"A = \max\!\Big(0, \sum_k \alpha_k F_k\Big), \quad \alpha_k = \frac{1}{hw} \sum_{i,j} "
                 r"\frac{\partial f_c}{\partial F_{k,ij}}",
        limits="As coarse as the layer. Evidence against the class is cut off unless you keep it."),
    "guided_grad_cam": Method(
        title="Guided Grad-CAM", family="activation", attribute=guided_grad_cam, params=GuidedParams,
        passes=lambda params: Passes(forward=2, backward=2),
        passes_on=lambda params, network: passes_on(params, network) + Passes(forward=1, backward=1),
        needs=("graph", "relu", "features"), reference=_SELVARAJU,
        idea="Guided backpropagation's detail, kept only where Grad-CAM sees the class.",
        equation=r"A = A_{\text{guided}} \odot \operatorname{up}(A_{\text{Grad-CAM}})",
        limits="The detail is guided backpropagation's, which hardly depends on the class; only the region does."),
}
