r"""Attention rollout: how much of each patch the attention of all blocks carries to the token that the logits are read from.

In each block the heads' probabilities are fused into one matrix A, and the residual connection passes each token on to itself:

    A' = (1 - r) A + r I, with rows that sum to 1;    rollout = A'_L ... A'_1.

The map is the row of the class token (the mean of the rows that the logits are read from, where these are several, as in a distilled
DeiT or in a network that averages its patches). Source: Abnar, Zuidema 2020, section 3, whose heads are averaged and whose residual
weight r is 0.5. The other fusions are common variants that are not in the paper; they are brought back to rows that sum to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from explainers.context import Context
from explainers.contract import Citation, Method, RawMap
from explainers.methods.attention import carried, identity, map_of_read_tokens
from explainers.networks.attention import attention_layers, record
from explainers.networks.classifier import Classifier
from explainers.parameters import choice, real
from explainers.passes import Passes
from explainers.requirements import ATTENTION
from explainers.target import Target


@dataclass(frozen=True)
class Params:
    """How heads become one matrix, and how much the residual connection passes on."""

    fusion: str = choice("mean", "mean", "max", "min", label="Fusion of heads", help=(
        "How the attention heads of a block become one. mean: as in the paper. max, min: the largest or smallest of the heads."))
    residual: float = real(0.5, low=0.0, high=0.95, step=0.05, label="Residual weight", help=(
        "How much of each token a block passes on unchanged. 0 counts attention alone."))


def fused(probabilities: Tensor, params: Params) -> Tensor:
    """One matrix (T, T) whose rows sum to 1, of probabilities (1, heads, T, T)."""
    heads = probabilities[0]
    layer = {"mean": heads.mean(0), "max": heads.amax(0), "min": heads.amin(0)}[params.fusion]
    layer = layer / layer.sum(-1, keepdim=True).clamp(min=1e-30)
    return (1 - params.residual) * layer + params.residual * identity(layer)


@torch.no_grad()
def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    probabilities: list[Tensor] = []
    network.logits(x, record(attention_layers(network), probabilities))
    return RawMap(map_of_read_tokens(network, carried(fused(layer, params) for layer in probabilities)))


METHOD = Method(
    title="Attention Rollout", short="Rollout", family="attention", attribute=attribute, params=Params, signed=False,
    passes=lambda params: Passes(forward=1), needs=(ATTENTION,),
    citation=Citation("Abnar, Zuidema", "Quantifying attention flow in transformers", "ACL 2020", "section 3"),
    idea="Multiply the attention of all blocks, with half of each token passed on unchanged: how much of each patch arrives at the "
         "class token.",
    equation=r"A = \Big(\prod_{l=L}^{1} \tfrac{1}{2} \big(\bar{A}_l + I\big)\Big)_{\mathrm{class}}, \quad "
             r"\bar{A}_l = \frac{1}{H} \sum_h \mathrm{softmax}\!\Big(\tfrac{Q_h K_h^\top}{\sqrt{d}}\Big)",
    limits="It is the same for every class: it shows where the network looked, not what for. It knows only the attention, neither "
           "what the tokens hold nor what the dense layers make of them. It is as coarse as the patches.",
)
