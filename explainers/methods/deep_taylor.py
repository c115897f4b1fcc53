"""Deep Taylor decomposition (DTD): the positive part of the logit, split by z+ in all layers but those that take the image.

Each layer's relevance is decomposed by a Taylor expansion at a root point (Montavon et al. 2017). For inputs that are not
negative the root on the segment to (x_i where w_ij < 0, else 0) gives the z+ rule, without biases. For the image the paper has
two rules: z^B for pixels between black and white, and w^2 for unbounded values. innvestigate, whose maps the MIP-IN paper
compares with, uses z+ there, too, with both signs of the normalised pixels; that is the choice ``z_plus``.

The relevance at the top is max(0, logit), so a class with a negative logit gets a map that is zero everywhere, and a flag. A
contrast's map is the difference of the two classes' maps. No bias takes relevance, so that the map sums to max(0, logit), except
for what reaches units without a positive contribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from explainers.context import Context
from explainers.contract import AuxiliaryOutput, Citation, Method, RawMap
from explainers.methods.relevance import (
    Composite,
    FirstRule,
    can_be_negative,
    pixels_and_rest,
    relevance,
    through,
    w_squared_rule,
    z_box_rule,
    z_plus_rule,
)
from explainers.networks.classifier import Classifier
from explainers.parameters import choice
from explainers.passes import Passes
from explainers.requirements import GRAPH, PIECEWISE_LINEAR, RELU
from explainers.target import Target


@dataclass(frozen=True)
class Params:
    """The rule of the layers that take the image."""

    first: str = choice("z_box", "z_box", "w_squared", "z_plus", label="First layer", help=(
        "How the first layer hands relevance to the pixels. z_box: by how far they are from black or white, in the direction "
        "that the layer's weights have. w_squared: by the squared weights alone, whatever the pixels are. z_plus: by positive "
        "contributions, as in all other layers."))


def first_rule(name: str, network: Classifier) -> FirstRule | None:
    """The rule of the layers that take the image; None for z+."""
    if name == "z_plus":
        return None
    if name == "w_squared":
        return w_squared_rule
    black, white = (network.preprocessing.normalise(torch.full((1, network.channels, 1, 1), value)) for value in (0.0, 1.0))
    return z_box_rule(black.flatten().to(network.device), white.flatten().to(network.device))


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    z_plus = z_plus_rule(bias=False)
    composite = Composite(z_plus, z_plus, through, first_rule(params.first, network))

    def score(logits: Tensor) -> Tensor:
        return target.score(logits.clamp(min=0))

    logits, native = relevance(network, x, score, composite)
    negative = [index for index in target.classes if float(logits[0, index]) <= 0]
    flags = tuple(f"the logit of class {index} is not positive, so Deep Taylor gives it no relevance" for index in negative)
    return RawMap(native, {"parts": pixels_and_rest(native, score(logits))}, signed=can_be_negative(network, target), flags=flags)


METHOD = Method(
    title="Deep Taylor Decomposition", short="Deep Taylor", family="decomposition", attribute=attribute, params=Params,
    linear=True, passes=lambda params: Passes(forward=1, backward=1), needs=(GRAPH, RELU, PIECEWISE_LINEAR),
    overhead=lambda params, network: Passes(forward=1),
    citation=Citation("Montavon, Lapuschkin, Binder, Samek, Müller", "Explaining nonlinear classification decisions with deep "
                      "Taylor decomposition", "Pattern Recognition 65, 2017"),
    idea="The positive part of the logit is handed back layer by layer. Each unit splits what it gets among its inputs in "
         "proportion to their positive contributions only.",
    equation=r"R_i = \sum_j \frac{x_i w_{ij}^+}{\sum_{i'} x_{i'} w_{i'j}^+} R_j, \qquad R_{\mathrm{top}} = \max(0, f_c(x))",
    limits="It does not look for evidence against the class, and a class with a negative logit gets an empty map. It depends "
           "little on the class and on the upper layers' weights: positive contributions alone mostly lead to what is salient in "
           "the image. The paper derives its rules for plain ReLU networks. Sums of two paths, as in a ResNet, split in "
           "proportion here, so that an addend of the other sign gets negative relevance.",
    auxiliary_outputs=(
        AuxiliaryOutput("parts", "What becomes of the logit", "parts", (
            "The sum of the map, and what is lost at units without a positive contribution. Together they are the logit's "
            "positive part."), unit="logit", parts=("Pixels", "Lost")),
    ),
)
