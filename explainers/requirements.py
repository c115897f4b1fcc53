"""What a method may need of a network. Each requirement is declared here once, with its label and its check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from explainers.errors import ExplainerError
from explainers.networks.attention import attention_layers, blocks
from explainers.networks.classifier import Classifier
from explainers.networks.stages import stages

_WITH_RULE = {  # layers that are not piecewise linear, and have a rule of relevance (methods/attn_lrp.py)
    "LayerNorm", "scaled_dot_product_attention", "Softmax", "softmax", "matmul", "bmm", "mul", "GELU", "gelu", "SiLU", "silu",
    "Hardswish", "hardswish", "ELU", "LeakyReLU", "Tanh",
}
_REARRANGED = {"unflatten", "unbind", "expand", "repeat", "roll", "clone", "reshape_as", "expand_as"}  # linear calls


@dataclass(frozen=True)
class Requirement:
    """One requirement. ``label`` completes "It needs ..." on a method's card. ``missing(network)`` is None where the network meets the
    requirement, and else completes "This method needs ..." with the reason."""

    name: str
    label: str
    missing: Callable[[Classifier], str | None]


def _no_graph(network: Classifier) -> str | None:
    return f"a network whose layers can be walked, but {network.untraceable}" if network.graph is None else None


def _no_relu(network: Classifier) -> str | None:
    if network.graph is not None and (network.graph.named("relu") or network.graph.named("relu6")):
        return None
    return "ReLU activations, and this network has none that can be found"


def _not_piecewise_linear(network: Classifier) -> str | None:
    nonlinear = network.graph.nonlinear_layers() if network.graph is not None else ("layers that cannot be walked",)
    if not nonlinear:
        return None
    return ("a piecewise linear network (ReLU or ReLU6, max-pooling and affine layers), and this one has "
            f"{', '.join(nonlinear)}")


def _not_invertible(network: Classifier) -> str | None:
    if network.invertible:
        return None
    return ("dense, convolution, ReLU and pooling layers in one chain from the logits down to a feature map, and in this "
            f"network {network.below_the_chain()} comes between")


def _no_feature_maps(network: Classifier) -> str | None:
    return None if network.features.default else "a spatial feature map before the head, and this network has none"


def _no_attention(network: Classifier) -> str | None:
    if network.graph is None:
        return f"a vision transformer whose layers can be walked, but {network.untraceable}"
    tokens = network.features.tokens
    if attention_layers(network) and tokens is not None and tokens.read:
        return None
    need = "a vision transformer such as ViT or DeiT, in which every token attends to all others in each block"
    if not network.attends:
        return f"{need}, and this network has no attention"
    if tokens is None:
        return f"{need}, and this network's attention is confined to windows, or its patches are merged on the way"
    return f"{need}, and this network's attention has another form"


def _no_blocks(network: Classifier) -> str | None:
    if blocks(network):
        return None
    return "blocks of attention with a residual sum of all tokens after each, and this network has others"


def _without_rule(network: Classifier) -> str | None:
    if not network.attends:
        return "attention, and this network has none"
    unknown = [name for name in network.walkable.nonlinear_layers() if name not in _WITH_RULE | _REARRANGED]
    return f"a rule for every layer, and it has none for {', '.join(unknown)}" if unknown else None


def _no_weights(network: Classifier) -> str | None:
    try:
        stages(network, 1)
    except ExplainerError:
        return "layers with weights that can be drawn anew, and this network has none"
    return None


def _always_met(network: Classifier) -> str | None:
    return None


GRAPH = Requirement("graph", "a network whose layers can be walked", _no_graph)
RELU = Requirement("relu", "ReLU activations", _no_relu)
PIECEWISE_LINEAR = Requirement(
    "piecewise_linear", "nothing but affine layers, ReLU or ReLU6, and max-pooling (a piecewise linear network)",
    _not_piecewise_linear)
INVERTIBLE = Requirement(
    "invertible", "an unbranched chain of dense, convolution, ReLU and pooling layers below the logits", _not_invertible)
FEATURE_MAPS = Requirement("feature_maps", "a spatial feature map before the head", _no_feature_maps)
ATTENTION = Requirement("attention", "a vision transformer in which every token attends to all others (ViT, DeiT)", _no_attention)
BLOCKS = Requirement("blocks", "residual blocks of attention", _no_blocks)
TRANSFORMER_RULES = Requirement(
    "transformer_rules", "attention, and no layer but those of a vision transformer that it has a rule for (dense layers, attention "
    "or products and softmax, layer norm, GELU and the like)", _without_rule)
WEIGHTS = Requirement("weights", "layers with weights that can be drawn anew", _no_weights)
REFERENCE_SET = Requirement(  # always met: where a network has no set, copies of the explained image take its place
    "reference_set", "a reference set of images to fit statistics on", _always_met)


def reason_against(title: str, needs: tuple[Requirement, ...], network: Classifier) -> str | None:
    """Why a method of this title cannot explain the network, as one sentence; None if it can."""
    for requirement in needs:
        missing = requirement.missing(network)
        if missing:
            return f"{title} needs {missing}."
    return None
