"""PatternNet and PatternAttribution: the signal that the logit reads in the image, and what its parts contribute.

Both go back through the network like a gradient, with the forward pass's ReLU gates, but with other weights: PatternNet with each
layer's patterns A in place of the weights W (see ``patterns``), PatternAttribution with W * A. They start with the logit y, so
for a linear network PatternNet's map is the signal a y, and PatternAttribution's w * a y, which sums to y because w . a = 1.
(Kindermans et al. 2018.)

What the paper leaves open: a ReLU6 passes the signal on wherever its input is positive, max-pooling hands it to the winner,
average pooling is not changed. A batch norm that is merged with no layer passes the signal on, divided by its scale for
PatternNet. A sum of two paths uses its own pattern.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from explainers.context import Context
from explainers.contract import AuxiliaryOutput, Citation, Method, RawMap
from explainers.methods import patterns
from explainers.methods.patterns import Patterns, is_sum_of_maps
from explainers.methods.relevance import Layer, gradient_by, merged_norms, pixels_and_rest, scale_and_shift
from explainers.methods.slopes import with_slope
from explainers.networks.classifier import Classifier
from explainers.networks.graph import Call, Rule
from explainers.parameters import integer
from explainers.passes import Passes
from explainers.requirements import GRAPH, PIECEWISE_LINEAR, REFERENCE_SET
from explainers.target import Target


@dataclass(frozen=True)
class Params:
    """How many images the patterns are fitted on."""

    images: int = integer(200, low=2, high=10000, label="Reference images", help=(
        "How many images of the reference set the patterns are fitted on, once. If the set is smaller, all of it."))


def rules_of(network: Classifier, fitted: Patterns, times_weights: bool) -> Mapping[str, Rule]:
    """The rules of a walk whose gradient goes through the patterns, or with ``times_weights`` through weights times patterns."""
    graph = network.walkable
    merged = merged_norms(graph)

    def weighted(call: Call, x: Tensor) -> Tensor:
        layer = Layer.of(call.module, graph.layer(merged[call.name]) if call.name in merged else None)
        pattern = fitted[call.name].to(x.device)
        return with_slope(layer(x.detach()), (1, layer.apply(x, pattern * layer.weight if times_weights else pattern)))

    def norm(call: Call, x: Tensor) -> Tensor:
        if call.name in merged.values():
            return x
        assert call.module is not None
        scale = scale_and_shift(call.module)[0].view(-1, *(1,) * (x.dim() - 2))
        slope = (scale != 0).to(x.dtype) if times_weights else torch.where(scale == 0, 0.0, 1 / scale)
        return with_slope(call.plain(x.detach()), (slope, x))

    def add(call: Call, *addends: Tensor) -> Tensor:
        if not is_sum_of_maps(addends):
            return call.plain(*addends)
        slopes = fitted[call.name].to(addends[0].device).view(2, -1, *(1,) * (addends[0].dim() - 2))
        return with_slope(call.plain(*addends), *zip(slopes, addends, strict=True))

    def relu6(call: Call, x: Tensor) -> Tensor:
        return with_slope(call.plain(x.detach()), ((x.detach() > 0).to(x.dtype), x))

    return {"conv": weighted, "linear": weighted, "batch_norm": norm, "add": add, "relu6": relu6}


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    return signal(network, x, target, params, context, times_weights=False)


def signal(network: Classifier, x: Tensor, target: Target, params: Params, context: Context, times_weights: bool) -> RawMap:
    """The map of PatternNet, or with ``times_weights`` that of PatternAttribution."""
    fitted, drawn = patterns.fitted(network, x, params.images, context)

    def logit_times_itself(logits: Tensor) -> Tensor:
        """Its gradient is the logit, with which the signal starts."""
        return target.score(logits * logits.detach())

    logits, gradient = gradient_by(network, x, logit_times_itself, rules_of(network, fitted, times_weights))
    extras = {"parts": pixels_and_rest(gradient, target.score(logits))} if times_weights else {}
    return RawMap(gradient[0], {**extras, "reference_images": drawn.count}, flags=drawn.flags)


REFERENCE_IMAGES = AuxiliaryOutput(
    "reference_images", "Reference images", "number", "How many images the patterns were fitted on.")
CITATION = Citation("Kindermans, Schütt, Alber, Müller, Erhan, Kim, Dähne", "Learning how to explain neural networks: PatternNet "
                    "and PatternAttribution", "ICLR 2018")
declare = partial(
    Method, family="decomposition", params=Params, linear=True, passes=lambda params: Passes(forward=1, backward=1),
    overhead=lambda params, network: Passes(forward=1), needs=(GRAPH, PIECEWISE_LINEAR, REFERENCE_SET), cheap={"images": 12},
    fit=lambda params, network, target, reference: patterns.fit_of(params.images, network, reference), citation=CITATION)

METHOD = declare(
    title="PatternNet", attribute=attribute,
    idea="The signal that the logit reads in the image. A network's weights also cancel what is irrelevant, so each layer's "
         "weights are replaced by the directions that carry its signal, estimated on reference images.",
    equation=r"A = a_c\, f_c(x), \qquad a = \frac{E_+[x y] - E_+[x]\, E[y]}{w^\top E_+[x y] - w^\top E_+[x]\, E[y]}",
    limits="It shows an estimate of what excites the units, which follows the image more than the class or the upper layers' "
           "weights. The estimate is linear in each unit, and with few reference images it is poor. The paper does not define it "
           "for networks with shortcuts; there it uses an extension.",
    auxiliary_outputs=(REFERENCE_IMAGES,),
)
