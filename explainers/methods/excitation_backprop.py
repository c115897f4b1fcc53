"""Excitation backpropagation: the probability that a random walk from the class down, by positive contributions, ends at a place.

A unit hands its probability to its inputs in proportion to their positive contributions, without biases (Zhang et al. 2018,
section 3). The walk ends at a feature layer, and the map sums the channels there. The paper and TorchRay take the output of
pool4 in VGG16 and of the third stage in ResNet-50: ``auto`` takes the last layer whose map is larger than that of the last
features, after the max-pooling that follows it directly, if any.

contrastive: at the last layer, what leads to the opposite class, with negated weights, is subtracted, and at the end negative
values become 0 (the paper's contrastive attention).

A sum of two paths splits in proportion to its addends, as in TorchRay, so an addend that is negative while the sum is positive
gets a negative value. In the form of ``relevance`` nothing is divided by the sum, so addends that nearly cancel do no harm. Where
a layer's inputs can be negative, which the paper excludes, negative inputs times negative weights count as positive
contributions; TorchRay multiplies such inputs by positive weights and gets negative probabilities. A batch norm is merged with
the layer before it, which is TorchRay's rule (it passes probability through) where its scales are positive.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from explainers.context import Context
from explainers.contract import Citation, Method, RawMap
from explainers.methods.relevance import (
    STABILISER,
    Composite,
    alpha_beta_rule,
    can_be_negative,
    gradient_by,
    rules_of,
    stabilised,
    through,
    z_plus_rule,
)
from explainers.networks.classifier import Classifier
from explainers.parameters import layer, switch
from explainers.passes import Passes
from explainers.requirements import FEATURE_MAPS, GRAPH, PIECEWISE_LINEAR, RELU
from explainers.target import Target


@dataclass(frozen=True)
class Params:
    """Where the walk ends, and whether the opposite class is subtracted."""

    layer: str = layer(label="Layer", help=(
        "The feature layer at which the map is read. auto: the last one of higher resolution than the last features, as in the "
        "paper. Earlier layers give finer maps that depend less on the class."))
    contrastive: bool = switch(False, label="Contrastive", help=(
        "Subtract what leads to the opposite class, and keep what is left above 0. The map then depends much more on the class."))


def walk_end(network: Classifier, name: str) -> str:
    """The node for the ``layer`` parameter."""
    if name != "auto":
        return network.feature_layer(name)
    graph, sizes = network.walkable, network.features.sizes
    last = network.feature_layer("auto")
    larger = [node for node in network.layers if sizes[node][1] > sizes[last][1]]
    if not larger:
        return last
    following = [user.name for user in graph.nodes[larger[-1]].users]
    is_pooled = len(following) == 1 and graph.kinds[following[0]] == "max_pool" and following[0] in sizes
    return following[0] if is_pooled else larger[-1]


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    node = walk_end(network, params.layer)
    with torch.no_grad():
        value = network.walk(x, stop=node)
    z_plus = z_plus_rule(bias=False)
    composite = Composite(z_plus, z_plus, through, top=alpha_beta_rule(1, 1, bias=False) if params.contrastive else None)

    def probability(logits: Tensor) -> Tensor:
        """The relevance at the top is 1 for the class, so the gradient is 1 / logit."""
        return target.score(logits / stabilised(logits.detach(), STABILISER))

    _, gradient = gradient_by(network, value, probability, rules_of(network, composite), node)
    native = (gradient * value)[0].sum(0, keepdim=True)  # (1, h, w)
    if params.contrastive:
        native = native.clamp(min=0)
    return RawMap(native, signed=can_be_negative(network, target) and not params.contrastive)


def passes_on(params: Params, network: Classifier) -> Passes:
    """A forward pass of the whole network, and a backward pass of the part above the layer."""
    return Passes(forward=1, backward=network.cost_fraction(walk_end(network, params.layer)))


METHOD = Method(
    title="Excitation Backpropagation", short="Excitation BP", family="decomposition", attribute=attribute, params=Params,
    linear=True, passes=lambda params: Passes(forward=1, backward=1), passes_on=passes_on,
    overhead=lambda params, network: Passes(forward=network.cost_fraction(walk_end(network, params.layer))),
    needs=(GRAPH, RELU, FEATURE_MAPS, PIECEWISE_LINEAR),
    citation=Citation("Zhang, Bargal, Lin, Brandt, Shen, Sclaroff", "Top-down neural attention by excitation backprop",
                      "IJCV 126, 2018", "section 3"),
    idea="A random walk from the class down: each unit passes its probability to its inputs in proportion to their positive "
         "contributions. The map is the probability of each place of a feature layer.",
    equation=r"P(a_i) = \sum_j \frac{a_i w_{ij}^+}{\sum_{i'} a_{i'} w_{i'j}^+} P(a_j)",
    limits="Without the contrastive variant it depends little on the class, and it does not look for evidence against it. It can "
           "light up at borders and corners. It is as coarse as its layer.",
)
