"""PatternAttribution: PatternNet's signal, weighted at every layer by what the weights make of it (see ``pattern_net``)."""

from __future__ import annotations

from torch import Tensor

from explainers.context import Context
from explainers.contract import AuxiliaryOutput, RawMap
from explainers.methods import pattern_net
from explainers.methods.pattern_net import REFERENCE_IMAGES, Params, declare
from explainers.networks.classifier import Classifier
from explainers.target import Target


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    return pattern_net.signal(network, x, target, params, context, times_weights=True)


METHOD = declare(
    title="PatternAttribution", short="PatternAttr", attribute=attribute,
    idea="How much each pixel's signal contributes to the logit: relevance goes back through each layer's weights times its "
         "patterns, the directions that carry the signal, estimated on reference images.",
    equation=r"R^{l-1} = (W \odot A)^\top R^{l}, \qquad w^\top a = 1",
    limits="The patterns hardly depend on the image, so the map follows the network's filters and gates, and depends little on "
           "the class. With few reference images the estimate is poor. The paper does not define it for networks with shortcuts; "
           "there it uses an extension.",
    auxiliary_outputs=(
        AuxiliaryOutput("parts", "What becomes of the logit", "parts", (
            "The sum of the map, and what is lost at shut ReLUs. Together they are the logit."), unit="logit",
            parts=("Pixels", "Lost")),
        REFERENCE_IMAGES,
    ),
)
