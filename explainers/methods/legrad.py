r"""LeGrad: how sensitive the class's score is to the attention of each block, block by block.

After block l the tokens Z_l are averaged and given to the head of the network (its last norm and dense layer), which gives the score
s_l of that block. Its gradient with respect to the block's own attention A_l is rectified and averaged over heads and queries:

    map = mean over l of  mean over heads and queries of  (d s_l / d A_l)^+.

Each score is differentiated through its own block only, so one walk forward and back serves all blocks. The blocks' scores go through
the head as one batch. Source: Bousselham, Boggust, Chaybouti, Strobelt, Kuehne 2025 (arXiv 2404.03214, 2024), section 3. The paper
takes all blocks; the authors' code takes the last two by default, and averages the tokens whatever the network reads its logits from.
Unlike there, the map is not scaled to [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from explainers.context import Context
from explainers.contract import Citation, Method, RawMap
from explainers.networks.attention import attention_layers, blocks, record
from explainers.networks.classifier import Classifier
from explainers.parameters import choice, integer
from explainers.passes import Passes
from explainers.requirements import ATTENTION, BLOCKS
from explainers.target import Target


@dataclass(frozen=True)
class Params:
    """Which blocks, and what of their tokens the head is given."""

    last_blocks: int = integer(0, low=0, high=100, label="Last blocks", help=(
        "How many blocks are used, from the last one down. 0 uses all, as the paper does; the authors' code has 2."))
    pooling: str = choice("mean", "mean", "own", label="Pooling", help=(
        "What the head is given after each block. mean: the mean of all tokens, as the authors do. own: the tokens as they are, of "
        "which the network reads what it always does, such as the class token."))


def _used(params: Params, network: Classifier) -> tuple[tuple[str, str], ...]:
    """The input and output of each block that is used."""
    return blocks(network)[-params.last_blocks:]


def passes_on(params: Params, network: Classifier) -> Passes:
    """The part below the blocks once, each block once forward and back, and the head once for each block."""
    used = _used(params, network)
    above = sum(network.cost_fraction(*block) for block in used) + len(used) * network.cost_fraction(used[-1][1])
    return Passes(forward=network.cost_fraction(None, used[0][0]) + above, backward=above)


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    used, probabilities = _used(params, network), list[Tensor]()
    with torch.no_grad():
        tokens = network.walk(x, stop=used[0][0])
    outputs = []
    with torch.enable_grad():
        rules = record(attention_layers(network), probabilities)
        for start, stop in used:
            tokens = network.walk(tokens.detach(), rules, start=start, stop=stop)
            outputs.append(tokens.mean(1, keepdim=True).expand_as(tokens) if params.pooling == "mean" else tokens)
        score = target.score(network.walk(torch.cat(outputs), start=used[-1][1])).sum()
        gradients = torch.autograd.grad(score, probabilities)
    row = torch.stack([gradient[0].clamp(min=0).mean((0, 1)) for gradient in gradients]).mean(0)
    layout = network.features.tokens
    assert layout is not None, "the requirement of the method allows no network without tokens"
    return RawMap(row[layout.prefix:].reshape(1, *layout.grid))


METHOD = Method(
    title="LeGrad", family="attention", attribute=attribute, params=Params, signed=False,
    passes=lambda params: Passes(forward=2, backward=2), passes_on=passes_on, needs=(ATTENTION, BLOCKS),
    citation=Citation("Bousselham, Boggust, Chaybouti, Strobelt, Kuehne", "LeGrad: an explainability method for vision transformers "
                      "via feature formation sensitivity", "ICCV 2025", "section 3"),
    idea="Let the head read the class after each block, and ask which patches the block would have to attend to more for a higher "
         "score; averaged over the blocks.",
    equation=r"A = \frac{1}{L} \sum_l \frac{1}{H T} \sum_{h,i} \Big(\frac{\partial s_l}{\partial A_{l,h,i}}\Big)^{\!+}, \quad "
             r"s_l = \mathrm{head}_c\Big(\frac{1}{T} \sum_i Z_{l,i}\Big)",
    limits="It says where more attention would raise the score, not where the attention is. The head was trained for the last block's "
           "tokens, and what it makes of earlier ones is a guess. Evidence against the class is left out.",
)
