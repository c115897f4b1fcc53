r"""Relevance propagation: the target's score is handed back from layer to layer, each layer splitting it among its inputs by a
rule.

Relevance R and gradient g are two forms of the same thing. Where z is the value that a relevance belongs to, this file passes g =
R / z on, because in this form most layers need no rule at all. Autograd's own backward pass then splits the relevance of a sum,
of average pooling and of any other linear layer in proportion to the inputs' contributions. It gives that of max-pooling to the
winner, and lets that of a ReLU through. No relevance is ever divided by a small input. Only the layers with weights need a rule,
which replaces the gradient by another one:

    epsilon         R_i = x_i sum_j w_ij R_j / (z_j + e sign z_j)                     (Bach et al. 2015)
    alpha, beta     R_i = sum_j (alpha p_ij / p_j - beta n_ij / n_j) R_j              (also there)

with sign 0 = +1. Here p_ij are the positive and n_ij the negative contributions x_i w_ij, p_j and n_j their sums, for inputs of
either sign; z+ is alpha 1 and beta 0. A rule writes its layer's output as z + s(x) - s(x) with the wanted gradient in the first
s(x).

Batch norm after a convolution or dense layer is merged with it: the layer's rule uses the merged weights and returns what the
batch norm would, and the batch norm's rule then returns its input.

The layers that take the image can have a rule of their own. Their rules give relevance to inputs that are 0, so these rules
return the relevance R itself in place of the gradient R / x.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from explainers.methods.slopes import with_slope
from explainers.networks.classifier import Classifier
from explainers.networks.graph import Call, Graph, Rule
from explainers.target import Target

STABILISER = 1e-6  # keeps denominators away from 0 where a rule has no epsilon of its own


@dataclass(frozen=True)
class Layer:
    """A convolution or dense layer, with the batch norm behind it merged into ``weight`` and ``bias``."""

    module: nn.Module
    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, module: nn.Module | None, norm: nn.Module | None) -> Layer:
        """The layer of a "conv" or "linear" node, followed by the batch norm ``norm`` or by none."""
        assert isinstance(module, (nn.modules.conv._ConvNd, nn.Linear))
        if norm is None:
            return cls(module, module.weight, module.bias)
        scale, shift = scale_and_shift(norm)
        bias = shift if module.bias is None else shift + scale * module.bias
        return cls(module, module.weight * scale.view(-1, *(1,) * (module.weight.dim() - 1)), bias)

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The layer's output for other weights of the same shape; padding, stride and groups are its own."""
        if isinstance(self.module, nn.Linear):
            return F.linear(x, weight, bias)
        output: Tensor = self.module._conv_forward(x, weight, bias)  # type: ignore[operator]
        return output

    def __call__(self, x: Tensor) -> Tensor:
        return self.apply(x, self.weight, self.bias)


Enter = Callable[[Tensor], Tensor]
"""Turns a colour, (C,) or (1,) for all channels, into what an image of that colour would be where it enters a first layer."""
LayerRule = Callable[[Layer, Tensor], Tensor]
FirstRule = Callable[[Layer, Tensor, Enter], Tensor]


@dataclass(frozen=True)
class Composite:
    """Which rule each layer gets.

    conv, dense: the rules of convolutions and of dense layers. first: that of layers which take the image, None for no special
    rule;    top: that of the last layer with
    weights, None for the same as all. norm: that of a batch norm which follows no convolution or dense layer.
    """

    conv: LayerRule
    dense: LayerRule
    norm: Rule
    first: FirstRule | None = None
    top: LayerRule | None = None


# Batch norm


def scale_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Batch norm with running statistics as scale * x + shift, both (C,)."""
    assert isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.running_mean is not None and norm.running_var is not None
    scale = torch.rsqrt(norm.running_var + norm.eps)
    scale = scale if norm.weight is None else scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias


def merged_norms(graph: Graph) -> dict[str, str]:
    """For each convolution or dense layer that only a batch norm follows, the name of that batch norm."""
    merged = {}
    for name in graph.named("batch_norm"):
        source = graph.nodes[name].all_input_nodes[0]
        if graph.kinds[source.name] in {"conv", "linear"} and len(source.users) == 1:
            merged[source.name] = name
    return merged


# Rules: each returns the layer's output, whose gradient is the relevance over the value (of the first layers: the relevance)


def quotient(value: Tensor, whole: Tensor, epsilon: float = STABILISER) -> Tensor:
    """``value / (whole + epsilon sign(whole))`` without a gradient, and 0 where ``whole`` is 0."""
    value, whole = value.detach(), whole.detach()
    away = torch.add(whole, whole.sign(), alpha=epsilon) if epsilon else whole
    return (value / away).masked_fill_(whole == 0, 0.0)


def stabilised(values: Tensor, epsilon: float) -> Tensor:
    """``values`` moved away from 0 by epsilon; 0 becomes +epsilon."""
    return torch.where(values < 0, values - epsilon, values + epsilon)


def epsilon_rule(epsilon: float) -> LayerRule:
    """The epsilon rule. The bias is part of the denominator, so it absorbs its share of the relevance."""
    def rule(layer: Layer, x: Tensor) -> Tensor:
        return damped(layer(x), epsilon)
    return rule


def damped(z: Tensor, epsilon: float) -> Tensor:
    """The value of a linear layer, whose gradient is multiplied by z / (z + epsilon sign z)."""
    return with_slope(z, (quotient(z, z, epsilon), z)) if epsilon else z


def alpha_beta_rule(alpha: float, beta: float, bias: bool) -> LayerRule:
    """Positive and negative contributions split apart. bias: whether the bias absorbs its share of the relevance."""
    def rule(layer: Layer, x: Tensor) -> Tensor:
        z = layer(x.detach())
        terms = []
        for factor, sign in ((alpha, 1), (-beta, -1)):
            if factor:
                part = contributions(layer, x, sign, bias)
                terms.append((factor * quotient(z, part), part))
        return with_slope(z, *terms)
    return rule


def z_plus_rule(bias: bool) -> LayerRule:
    """Only positive contributions count."""
    return alpha_beta_rule(1, 0, bias)


def contributions(layer: Layer, x: Tensor, sign: int, bias: bool) -> Tensor:
    """The sums of the contributions x_i w_ij that have this sign, and of the bias, if it counts and has this sign."""
    same, opposite = (_part(layer.weight, s) for s in (sign, -sign))
    offset = _part(layer.bias, sign) if bias and layer.bias is not None else None
    if float(x.detach().min()) >= 0:
        return layer.apply(x, same, offset)
    return layer.apply(x.clamp(min=0), same, offset) + layer.apply(x.clamp(max=0), opposite)


def _part(values: Tensor, sign: int) -> Tensor:
    return values.clamp(min=0) if sign > 0 else values.clamp(max=0)


def through(call: Call, x: Tensor) -> Tensor:
    """A layer that acts on each value alone, such as ReLU6, and lets all relevance through: the gradient is output / input."""
    output = call.plain(x.detach())
    return with_slope(output, (quotient(output, x, 0.0), x))


def flat_rule(layer: Layer, x: Tensor, enter: Enter) -> Tensor:
    """For a first layer: every input of a unit gets the same relevance (Lapuschkin et al. 2019; ``Flat`` in zennit)."""
    return _by_weights(layer, x, enter, torch.ones_like(layer.weight))


def w_squared_rule(layer: Layer, x: Tensor, enter: Enter) -> Tensor:
    """For a first layer: relevance in proportion to the squared weights (w^2 of Montavon et al. 2017)."""
    return _by_weights(layer, x, enter, layer.weight.square())


def _by_weights(layer: Layer, x: Tensor, enter: Enter, weight: Tensor) -> Tensor:
    z = layer(x.detach())
    whole = layer.apply(enter(layer.weight.new_ones(1)), weight)
    return with_slope(z, (quotient(z, whole), layer.apply(x, weight)))


def z_box_rule(low: Tensor, high: Tensor) -> FirstRule:
    """For a first layer: relevance in proportion to (x - low) w+ + (x - high) w-, which is how far each product x w is above its
    least value for pixels from ``low`` to ``high`` (C,): z^B of Montavon et al. (2017). Pixels outside count as at the edge. The
    bias takes none."""
    def rule(layer: Layer, x: Tensor, enter: Enter) -> Tensor:
        lowest, highest = enter(low), enter(high)
        values = x.detach().maximum(lowest).minimum(highest)
        above, below = _part(layer.weight, 1), _part(layer.weight, -1)

        def contributions(up: Tensor, down: Tensor) -> Tensor:
            return layer.apply(up, above) + layer.apply(down, below)

        z, whole = layer(x.detach()), contributions(values - lowest, values - highest)
        return with_slope(z, (quotient(z, whole), contributions(x * (values - lowest), x * (values - highest))))
    return rule


# The walk


def first_layers(graph: Graph) -> dict[str, str]:
    """The convolutions and dense layers that take the image, perhaps padded or flattened, each with the node that it takes.

    Empty where something else takes the image, too, because then not all relevance would arrive through these layers.
    """
    carriers, first = {graph.input}, {}
    for name in graph.between():
        node = graph.nodes[name]
        sources = [source.name for source in node.all_input_nodes]
        if not carriers.intersection(sources) or node.target in {"size", getattr}:
            continue
        if graph.kinds[name] in {"identity", "pad", "flatten"}:
            carriers.add(name)
        elif graph.kinds[name] in {"conv", "linear"}:
            first[name] = sources[0]
        else:
            return {}
    return first


def last_layer(graph: Graph) -> str:
    """The last convolution or dense layer, empty for a network that has none."""
    return next((name for name in reversed(graph.between()) if graph.kinds[name] in {"conv", "linear"}), "")


def rules_of(network: Classifier, composite: Composite) -> Mapping[str, Rule]:
    """The rules of a walk whose gradient is the relevance over the image (see the top of this file)."""
    graph = network.walkable
    merged = merged_norms(graph)
    first = first_layers(graph) if composite.first else {}
    top = last_layer(graph) if composite.top else ""

    def weighted(call: Call, x: Tensor) -> Tensor:
        layer = Layer.of(call.module, graph.layer(merged[call.name]) if call.name in merged else None)
        if composite.top and call.name == top:
            return composite.top(layer, x)
        if composite.first and call.name in first:
            return composite.first(layer, x, lambda colour: _entering(network, colour, first[call.name]))
        return (composite.dense if call.kind == "linear" else composite.conv)(layer, x)

    def norm(call: Call, x: Tensor) -> Tensor:
        return x if call.name in merged.values() else composite.norm(call, x)

    return {"conv": weighted, "linear": weighted, "batch_norm": norm, "relu6": through}


def _entering(network: Classifier, colour: Tensor, node: str) -> Tensor:
    """What an image of one colour, (C,) or (1,), is at a node before the first layer, such as its padding."""
    image = colour.view(1, -1, 1, 1).expand(1, network.channels, *network.input_size).contiguous()
    entering: Tensor = network.walkable.run(image, stop=node)
    return entering


def gradient_by(network: Classifier, x: Tensor, score: Callable[[Tensor], Tensor], rules: Mapping[str, Rule],
                start: str | None = None) -> tuple[Tensor, Tensor]:
    """The logits (1, K), and the gradient of ``score(logits)`` by the rules. x: the image, or the value of node ``start``."""
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = network.walk(x, rules, start=start)
        gradient = torch.autograd.grad(score(logits).sum(), x)[0]
    return logits.detach(), gradient


def relevance(network: Classifier, x: Tensor, score: Callable[[Tensor], Tensor], composite: Composite) -> tuple[Tensor, Tensor]:
    """The logits (1, K) of the image ``x`` (1, C, H, W), and the relevance (C, H, W) of its values for ``score(logits)``."""
    logits, gradient = gradient_by(network, x, score, rules_of(network, composite))
    has_first_rule = bool(composite.first and first_layers(network.walkable))
    return logits, gradient[0] if has_first_rule else gradient[0] * x[0]


def can_be_negative(network: Classifier, target: Target) -> bool:
    """Whether a map of positive contributions can have negative values: that of a contrast, and where the network has sums of two
    paths, since an addend that is negative while the sum is positive gets negative relevance."""
    return target.contrast is not None or bool(network.walkable.named("add"))


def pixels_and_rest(relevance: Tensor, whole: Tensor) -> list[float]:
    """The sum of a map, and what is missing from it to the ``whole``."""
    pixels = float(relevance.sum(dtype=torch.float64))
    return [pixels, float(whole) - pixels]
