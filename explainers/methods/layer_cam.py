"""Layer-CAM: each cell of a layer's feature maps, weighted by its own positive gradient (Jiang et al. 2021)."""

from __future__ import annotations

from torch import Tensor

from explainers.context import Context
from explainers.contract import Citation, Method, RawMap
from explainers.methods.grad_cam import LayerParams, layer_gradient, passes_on
from explainers.networks.classifier import Classifier
from explainers.passes import Passes
from explainers.requirements import FEATURE_MAPS, GRAPH
from explainers.target import Target


def attribute(network: Classifier, x: Tensor, target: Target, params: LayerParams, context: Context) -> RawMap:
    maps, gradient = layer_gradient(network, x, target, params.layer, context)
    return RawMap((gradient.clamp(min=0) * maps).sum(1).clamp(min=0))


METHOD = Method(
    title="Layer-CAM", family="activation", attribute=attribute, params=LayerParams, signed=False,
    passes=lambda params: Passes(forward=1, backward=1), passes_on=passes_on, needs=(GRAPH, FEATURE_MAPS),
    citation=Citation("Jiang, Zhang, Hou, Cheng, Wei", "LayerCAM: exploring hierarchical class activation maps for localization",
                      "IEEE Transactions on Image Processing 2021", "section III"),
    idea="Weight each cell of the feature maps by its own gradient instead of the mean over the map, so that earlier, finer "
         "layers give useful maps, too.",
    equation=r"A = \max\!\Big(0, \sum_k \max\!\Big(0, \frac{\partial f_c}{\partial F_k}\Big) \odot F_k\Big)",
    limits="Evidence against the class is left out. At the last layer before a mean over the map, all cells have the same "
           "gradient, and it differs from Grad-CAM only by the negative weights that it drops. The paper fuses several layers; "
           "this is the map of one.",
)
