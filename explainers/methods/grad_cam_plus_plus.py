r"""Grad-CAM++: Grad-CAM whose weights count each cell of a feature map by its own coefficient (Chattopadhay et al. 2018).

Let F be a channel's feature map and g the gradient of the logit by it. The paper explains exp(logit), whose derivatives of every
order are powers of g. Its equation 19 for the coefficients, g^2 / (2 g^2 + sum(F) g^3), is then 1 / (2 + sum(F) g), and the
weight of the channel (equation 5) is the sum of max(0, g) / (2 + sum(F) g) over the cells.

pytorch-grad-cam adds 1e-6 to the denominator of equation 19 before it is reduced. That is as large as g^2 itself behind a mean
over many cells, and changes the weights; here nothing is added. The authors' program also divides the coefficients of a channel
by their sum, which the paper does not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from explainers.context import Context
from explainers.contract import Citation, Method, RawMap
from explainers.methods.grad_cam import LayerParams, layer_gradient, passes_on
from explainers.networks.classifier import Classifier
from explainers.passes import Passes
from explainers.requirements import FEATURE_MAPS, GRAPH
from explainers.target import Target


def channel_weights(maps: Tensor, gradient: Tensor) -> Tensor:
    """The weights (1, C, 1, 1) of feature maps (1, C, h, w), from the gradient of the logit by them.

    Where a layer has negative values the paper's denominator can become 0 or negative, which would turn the sign of a positive
    gradient; such cells count nothing.
    """
    denominator = 2 + maps.sum((2, 3), keepdim=True) * gradient
    usable = (gradient > 0) & (denominator > 0)
    return torch.where(usable, gradient / torch.where(usable, denominator, 1.0), 0.0).sum((2, 3), keepdim=True)


def attribute(network: Classifier, x: Tensor, target: Target, params: LayerParams, context: Context) -> RawMap:
    maps, gradient = layer_gradient(network, x, target, params.layer, context)
    return RawMap((channel_weights(maps, gradient) * maps).sum(1).clamp(min=0))


METHOD = Method(
    title="Grad-CAM++", family="activation", attribute=attribute, params=LayerParams, signed=False,
    passes=lambda params: Passes(forward=1, backward=1), passes_on=passes_on, needs=(GRAPH, FEATURE_MAPS),
    citation=Citation("Chattopadhay, Sarkar, Howlader, Balasubramanian", "Grad-CAM++: generalized gradient-based visual "
                      "explanations for deep convolutional networks", "WACV 2018", "section 3.2"),
    idea="Grad-CAM with weights that count only cells with a positive gradient, so that several small objects of a class weigh "
         "as much as a large one.",
    equation=r"A = \max\!\Big(0, \sum_k w_k F_k\Big), \quad w_k = \sum_{i,j} "
             r"\frac{\max(0, g_{k,ij})}{2 + g_{k,ij} \sum_{a,b} F_{k,ab}}, \quad g_k = \frac{\partial f_c}{\partial F_k}",
    limits="As coarse as the layer. Features that speak against the class are left out, so it shows less of the class and more "
           "of what is conspicuous than Grad-CAM. Doubling the logit does not double the map.",
)
