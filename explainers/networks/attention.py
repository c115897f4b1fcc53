"""The attention probabilities of a vision transformer, as tensors that autograd can differentiate.

torch's function for attention never shows them. ``record`` makes the rules with which a walk computes them openly,
softmax(Q K^T / sqrt(d)), and keeps them; the values of the network stay the same up to rounding. No hooks are registered.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor

from explainers.networks.classifier import Classifier
from explainers.networks.graph import Call, Rule


def attention_layers(network: Classifier) -> tuple[str, ...]:
    """The nodes, in order, at which every token attends to all tokens of the network's row of patches; empty where there are none.

    These are calls of torch's function for attention, or, in a network without such calls, the softmax of its own attention. Their
    probabilities must be (N, heads, T, T); a network that puts the heads beside the images of the batch is not recognised.
    """
    graph, tokens = network.graph, network.features.tokens
    if graph is None or tokens is None:
        return ()
    fused = [name for name in graph.named("attention") if len(network.shapes[name].size) == 3
             and network.shapes[name].size[1] == network.shapes[graph.nodes[name].args[1].name].size[1] == tokens.count]
    own = [name for name in graph.named("softmax") if network.shapes[name].size[1:] == (tokens.count, tokens.count)]
    return tuple(fused or own)


def blocks(network: Classifier) -> tuple[tuple[str, str], ...]:
    """The residual blocks with attention, each as the node of its input and the node of its output, both rows of tokens.

    Empty where two attentions have no sum of the whole row between them.
    """
    tokens, attention = network.features.tokens, attention_layers(network)
    if tokens is None or not attention:
        return ()
    order = {name: place for place, name in enumerate(network.walkable.nodes)}
    inputs = [max((name for name in tokens.nodes if order[name] < order[layer]), key=order.__getitem__, default="")
              for layer in attention]
    sums = [name for name in tokens.nodes if network.walkable.kinds[name] == "add"]
    last = sums[-1] if sums else ""
    cuts = (*inputs, last)
    rising = all(cuts) and all(order[a] < order[b] for a, b in pairwise(cuts)) and order[last] > order[attention[-1]]
    return tuple(pairwise(cuts)) if rising else ()


def record(names: tuple[str, ...], into: list[Tensor]) -> Mapping[str, Rule]:
    """Rules that append the probabilities (N, heads, T, T) of each of the nodes ``names`` to ``into``, in the order of the walk.

    Where gradients are enabled, each can be differentiated with respect to, also where the image needs no gradient.
    """
    def kept(probabilities: Tensor) -> Tensor:
        if torch.is_grad_enabled() and not probabilities.requires_grad:
            probabilities = probabilities.detach().requires_grad_(True)
        into.append(probabilities)
        return probabilities

    def attention(call: Call, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if call.name not in names:
            plain: Tensor = call.plain(query, key, value)
            return plain
        probabilities = kept(attention_probabilities(call, query, key))
        return probabilities @ _for_each_query(value, query)

    def softmax(call: Call, scores: Tensor) -> Tensor:
        probabilities: Tensor = call.plain(scores)
        return kept(probabilities) if call.name in names else probabilities

    return {"attention": attention, "softmax": softmax}


def attention_probabilities(call: Call, query: Tensor, key: Tensor) -> Tensor:
    """softmax(Q K^T scale), with the mask and the scale of the call."""
    scale = call.options.get("scale")
    scores = query @ _for_each_query(key, query).transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    mask = call.options.get("attn_mask")
    if call.options.get("is_causal"):
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1)


def _for_each_query(x: Tensor, query: Tensor) -> Tensor:
    """Keys or values, repeated where several heads of queries share one head of them (grouped-query attention)."""
    repeats = query.shape[1] // x.shape[1] if query.dim() == 4 else 1
    return x if repeats == 1 else x.repeat_interleave(repeats, dim=1)
