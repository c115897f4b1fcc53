r"""AttnLRP: layer-wise relevance propagation (LRP) with rules for the layers of a transformer (Achtibat et al. 2024).

Relevance R is passed on as the gradient g = R / z of the value z it belongs to (see ``relevance``). In this form the rules are:

    dense layers, convolutions   the epsilon rule, or the gamma rule (below)
    softmax                      R_i = x_i (R'_i - s_i sum_j R'_j), with the probabilities s and their relevance R'. This is x times
                                 the plain gradient of the softmax, which therefore needs no rule (proposition 3.1)
    products of two values       half to each factor (proposition 3.3); so queries and keys get a quarter of the plain gradient of
                                 attention, and values get half
    layer norm                   the deviation that it divides by counts as a constant (proposition 3.4)
    GELU and the like            all relevance passes through: f(x) / x counts as a constant factor

Epsilon is 0: in this form no relevance is divided by a value, so that nothing needs it. The authors' 1e-6 and 1e-9 only prevent
divisions by 0.

The gamma rule gives the contributions c_ij = x_i w_ij that have the sign of z_j the weight 1 + gamma:

    R_i = sum_j (c_ij + gamma c_ij [c_ij z_j > 0]) / (z_j + gamma sum_k c_kj [c_kj z_j > 0]) R_j

This is zennit's ``Gamma``, which is meant for inputs and outputs of either sign. The epsilon rule alone is noisy in vision
transformers, so the authors use gamma in the convolution of the patches and in the dense layers. The dense layers that make
queries, keys and values keep the epsilon rule, and so does the one that takes the attention's output. The defaults 0.25 and 0.05
are in the middle of the values that the authors' example for torchvision's ViT-B/16 tries; they advise a search for each network.

What the biases, the class token, the position embeddings and the softmax absorb is in no pixel: ``extras["parts"]`` has
their sum beside that of the pixels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, fx, nn

from explainers.context import Context
from explainers.contract import AuxiliaryOutput, Citation, Method, RawMap
from explainers.methods.relevance import (
    Composite,
    Layer,
    LayerRule,
    epsilon_rule,
    gradient_by,
    pixels_and_rest,
    rules_of,
)
from explainers.methods.slopes import with_slope
from explainers.networks.classifier import Classifier
from explainers.networks.graph import Call, Graph, Rule
from explainers.parameters import real, switch
from explainers.passes import Passes
from explainers.requirements import GRAPH, TRANSFORMER_RULES
from explainers.target import Target

_MATRIX_PRODUCTS, _PRODUCTS = {"matmul", "bmm"}, {"matmul", "bmm", "mul"}
_MIXING_KINDS = {"conv", "add", "layer_norm", "nonlinear", "relu", "relu6"}  # what separates attention from other dense layers


# Which nodes get a rule of their own


def products(graph: Graph) -> tuple[str, ...]:
    """The nodes that multiply two values that both depend on the image."""
    varying, names = {graph.nodes[graph.input]}, []
    for name in graph.between():
        node = graph.nodes[name]
        if node.target in {"size", getattr} or not varying.intersection(node.all_input_nodes):
            continue
        varying.add(node)
        if _name(node) in _PRODUCTS and sum(factor in varying for factor in node.args) == 2:
            names.append(name)
    return tuple(names)


def projections(graph: Graph) -> set[str]:
    """The dense layers that make queries, keys and values, and those that take what attention returns."""
    start = [graph.nodes[name] for name in graph.named("attention")]
    start += [graph.nodes[name] for name in products(graph) if _name(graph.nodes[name]) in _MATRIX_PRODUCTS]
    return _nearest_dense(graph, start, lambda node: node.all_input_nodes) | _nearest_dense(graph, start, lambda node: node.users)


def _nearest_dense(graph: Graph, start: Iterable[fx.Node], neighbours: Callable[[fx.Node], Iterable[fx.Node]]) -> set[str]:
    """The dense layers that can be reached by way of nodes that only rearrange or multiply values."""
    waiting, seen, dense = list(start), set(start), set()
    while waiting:
        for node in neighbours(waiting.pop()):
            kind = graph.kinds[node.name]
            if kind == "linear":
                dense.add(node.name)
            elif kind not in _MIXING_KINDS and node not in seen:
                seen.add(node)
                waiting.append(node)
    return dense


def _name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target))


def with_own_kinds(network: Classifier) -> Classifier:
    """A view of the network in which ``products`` and ``projections`` are kinds of nodes, so that rules can be given to them."""
    view, graph = copy.copy(network), copy.copy(network.walkable)
    own = dict.fromkeys(products(graph), "product") | dict.fromkeys(projections(graph), "projection")
    graph.kinds = graph.kinds | own
    view.graph = graph
    return view


# Rules: each returns the layer's value, whose gradient is the relevance over the value


def gamma_rule(gamma: float) -> LayerRule:
    """The gamma rule (see the top of this file). The bias is a contribution, too, so it absorbs its share of the relevance.

    The contributions of the sign of z_j sum to (z_j + sign(z_j) m_j) / 2, where m_j = sum_i |x_i w_ij| + |b_j|.
    """
    if gamma == 0:
        return epsilon_rule(0.0)

    def rule(layer: Layer, x: Tensor) -> Tensor:
        z = layer(x)
        magnitude = layer.apply(x.abs(), layer.weight.abs(), None if layer.bias is None else layer.bias.abs())
        whole = (1 + gamma / 2) * z + gamma / 2 * z.detach().sign() * magnitude
        return _as_factor(z, whole)
    return rule


def _as_factor(value: Tensor, x: Tensor) -> Tensor:
    """``value`` as the product of ``x`` and a factor that the gradient sees as a constant; it must be 0 where ``x`` is 0."""
    return (value.detach() / x.detach()).nan_to_num(0.0) * x


def _elementwise(call: Call, x: Tensor) -> Tensor:
    """GELU and the like, which let all relevance through."""
    return _as_factor(call.plain(x.detach()), x)


def _fraction(x: Tensor, factor: float) -> Tensor:
    """``x``, whose gradient is multiplied by ``factor``."""
    return with_slope(x, (factor, x))


def _product(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """Half of the relevance to each factor; all of it to the one factor where the other lets none through."""
    if a.requires_grad and b.requires_grad:
        a, b = _fraction(a, 0.5), _fraction(b, 0.5)
    value: Tensor = call.plain(a, b)
    return value


def _attention(call: Call, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(Q K^T) V: half to the probabilities, which queries and keys share, and half to the values."""
    mixed: Tensor = call.plain(_fraction(query, 0.25), _fraction(key, 0.25), _fraction(value, 0.5))
    return mixed


def _attention_of_values(call: Call, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    mixed: Tensor = call.plain(query.detach(), key.detach(), value)
    return mixed


def _plain(call: Call, x: Tensor) -> Tensor:
    value: Tensor = call.plain(x)
    return value


def _constant(call: Call, x: Tensor) -> Tensor:
    value: Tensor = call.plain(x.detach())
    return value


def _layer_norm(call: Call, x: Tensor) -> Tensor:
    """(x - mean) * weight / deviation + bias, of which the gradient sees the deviation as a constant."""
    norm = call.module
    assert isinstance(norm, nn.LayerNorm)
    dims = tuple(range(-len(norm.normalized_shape), 0))
    centred = x - x.mean(dims, keepdim=True)
    scale = (centred.detach().square().mean(dims, keepdim=True) + norm.eps).rsqrt()
    value = centred * (scale if norm.weight is None else scale * norm.weight)
    return value if norm.bias is None else value + norm.bias


@dataclass(frozen=True)
class Params:
    """The rules of dense layers and convolutions, and what attention hands on."""

    gamma_dense: float = real(0.05, low=0.0, high=10.0, step=0.01, label="Gamma (dense layers)", help=(
        "How much more the contributions count that have the sign of a unit's value, in the dense layers outside attention. "
        "0 is the epsilon rule, which is noisy."))
    gamma_patches: float = real(0.25, low=0.0, high=100.0, step=0.05, label="Gamma (patches)", help=(
        "The same for convolutions, usually the one that makes tokens of the patches. The best values differ between networks."))
    attention_weights: bool = switch(True, label="Through the attention weights", help=(
        "Hand relevance to queries and keys, too. Off, all of it goes to the values, as in CP-LRP (Ali et al. 2022)."))


def rules(view: Classifier, params: Params) -> Mapping[str, Rule]:
    """The rules of a walk through a view of ``with_own_kinds``, whose gradient is the relevance over the image."""
    composite = Composite(conv=gamma_rule(params.gamma_patches), dense=gamma_rule(params.gamma_dense), norm=_plain)
    own: dict[str, Rule] = {"product": _product, "layer_norm": _layer_norm, "nonlinear": _elementwise}
    if params.attention_weights:
        return {**rules_of(view, composite), **own, "attention": _attention}
    return {**rules_of(view, composite), **own, "attention": _attention_of_values, "softmax": _constant}


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    view = with_own_kinds(network)
    logits, gradient = gradient_by(view, x, target.score, rules(view, params))
    native = gradient[0] * x[0]
    return RawMap(native, {"parts": pixels_and_rest(native, target.score(logits))})


def overhead(params: Params, network: Classifier) -> Passes:
    """What the gamma rule computes beside the layers' own values: the sums of magnitudes and their gradients.

    The magnitudes of the weights take about as long as the sums, because they are made anew for each map.
    """
    kinds = with_own_kinds(network).walkable.kinds
    gammas = {"linear": params.gamma_dense, "conv": params.gamma_patches}
    twice = sum(shape.macs for name, shape in network.shapes.items() if gammas.get(kinds[name]))
    fraction = twice / sum(shape.macs for shape in network.shapes.values())
    return Passes(forward=2 * fraction, backward=fraction)


METHOD = Method(
    title="AttnLRP", family="attention", attribute=attribute, params=Params, linear=True,
    passes=lambda params: Passes(forward=1, backward=1), overhead=overhead, needs=(GRAPH, TRANSFORMER_RULES),
    citation=Citation("Achtibat, Hatefi, Dreyer, Jain, Wiegand, Lapuschkin, Samek", "AttnLRP: attention-aware layer-wise relevance "
                      "propagation for transformers", "ICML 2024", "section 3"),
    idea="The logit is handed back layer by layer through the whole transformer, also through attention, layer norm and GELU, each "
         "of which has a rule for how it splits its relevance. The map is one of pixels, not of patches.",
    equation=r"R^{\mathrm{softmax}}_i = x_i \Big(R_i - s_i \sum_j R_j\Big), \qquad "
             r"R^{A}_{ji} = \tfrac{1}{2} \sum_p \frac{A_{ji} V_{ip}}{O_{jp}} R_{jp}",
    limits="Much of the logit is often in no pixel, but in biases, the class token and the position embeddings: see the parts below "
           "the map. With gamma 0 it is noisy. Larger gammas smooth it, and make the maps of two classes more alike, up to "
           "their sign. Pixels of the mean colour get nothing, and the grid of patches can show.",
    auxiliary_outputs=(
        AuxiliaryOutput("parts", "What the logit is made of", "parts", (
            "The sum of the map, and what biases, class token, position embeddings and softmax absorb. Together they are "
            "the logit."), unit="logit", parts=("Pixels", "All else")),
    ),
)
