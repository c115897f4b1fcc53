"""Layer-wise relevance propagation (LRP) with the epsilon rule, and three composites of other rules.

The logit is split among the inputs of each layer in proportion to their contributions x_i w_ij to its output z_j, which epsilon
keeps away from 0. A bias takes its share of z_j and hands it to no pixel, so the map sums to the logit minus what biases and
epsilon absorb; ``extras["parts"]`` has both numbers. In a ReLU network without biases and with epsilon 0 the map is gradient x
input (Ancona et al. 2018, proposition 1).

epsilon is zennit's 1e-6 by default. Captum has 1e-9, innvestigate 1e-7, and Bach et al. (2015) show values from 0.01 to 100. The
composites are zennit's: epsilon in dense layers, z+ or alpha 2, beta 1 in convolutions, and in the layers that take the image z+
or the flat rule. Unlike zennit's, a batch norm without a layer to merge with takes the rule of a linear layer under ``epsilon``.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from explainers.context import Context
from explainers.contract import AuxiliaryOutput, Citation, Method, RawMap
from explainers.methods.relevance import (
    Composite,
    alpha_beta_rule,
    damped,
    epsilon_rule,
    flat_rule,
    pixels_and_rest,
    relevance,
    through,
    z_plus_rule,
)
from explainers.networks.classifier import Classifier
from explainers.parameters import choice, real
from explainers.passes import Passes
from explainers.requirements import GRAPH, PIECEWISE_LINEAR
from explainers.target import Target


@dataclass(frozen=True)
class Params:
    """The rules of the layers."""

    rule: str = choice("epsilon", "epsilon", "epsilon_plus", "epsilon_plus_flat", "alpha2_beta1", label="Rules", help=(
        "epsilon: the epsilon rule in every layer. epsilon_plus: in dense layers only, and in convolutions only positive "
        "contributions count (z+). epsilon_plus_flat: the same, and the first layer gives all of its inputs the same. "
        "alpha2_beta1: convolutions count positive contributions twice and subtract negative ones."))
    epsilon: float = real(1e-6, low=0.0, high=100.0, step=0.001, label="Epsilon", help=(
        "Added to a unit's value before it divides, with the value's sign. It absorbs relevance of units with small values: "
        "higher values give sparser maps. 1e-6 (zennit's) only prevents a division by 0."))


def composite_of(params: Params) -> Composite:
    """The rules that the settings name."""
    dense = epsilon_rule(params.epsilon)
    if params.rule == "epsilon":
        return Composite(dense, dense, lambda call, x: damped(call.plain(x), params.epsilon))
    conv = alpha_beta_rule(2, 1, bias=True) if params.rule == "alpha2_beta1" else z_plus_rule(bias=True)
    return Composite(conv, dense, through, flat_rule if params.rule == "epsilon_plus_flat" else None)


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    logits, native = relevance(network, x, target.score, composite_of(params))
    return RawMap(native, {"parts": pixels_and_rest(native, target.score(logits))})


def overhead(params: Params, network: Classifier) -> Passes:
    """What the rules compute beside the layers' own outputs: the contributions of one sign, or of both, and their gradients."""
    kinds = {"epsilon": 0, "alpha2_beta1": 2}.get(params.rule, 1)
    return Passes(forward=kinds, backward=max(0, kinds - 1))


METHOD = Method(
    title="LRP (epsilon)", short="LRP", family="decomposition", attribute=attribute, params=Params, linear=True,
    passes=lambda params: Passes(forward=1, backward=1), needs=(GRAPH, PIECEWISE_LINEAR),
    overhead=overhead,
    citation=Citation("Bach, Binder, Montavon, Klauschen, Müller, Samek", "On pixel-wise explanations for non-linear classifier "
                      "decisions by layer-wise relevance propagation", "PLOS ONE 10(7), 2015"),
    idea="The logit is handed back layer by layer. Each unit splits its relevance among its inputs, in proportion to what each "
         "contributed to the unit's value.",
    equation=r"R_i = \sum_j \frac{x_i w_{ij}}{z_j + \varepsilon \operatorname{sign} z_j} R_j",
    limits="With a small epsilon it is almost gradient x input, as noisy and as blind for pixels of the mean colour. What biases "
           "absorb is in no pixel: see the parts below the map. The composites give smoother maps that depend less on the class "
           "and on the upper layers, because negative contributions are dropped or weighted.",
    auxiliary_outputs=(
        AuxiliaryOutput("parts", "What the logit is made of", "parts", (
            "The sum of the map, and what the biases and epsilon absorb. Together they are the logit."),
            unit="logit", parts=("Pixels", "Biases and epsilon")),
    ),
)
