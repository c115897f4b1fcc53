r"""Gradient-weighted attention: attention rollout of what raises the class's logit.

Each block's attention A is weighted by the gradient of the logit with respect to it. What is positive is averaged over the heads and
carried on, with the residual connection as the identity:

    A' = mean over heads of (dlogit/dA * A)^+;    R <- R + A' R, from R = I and the first block on.

The map is the row of the class token (the mean of the rows that the logits are read from, where these are several). R starts as the
identity, which is taken off at the end: it would give every patch the same value where the logits are read from the patches.

Source: Chefer, Gur, Wolf 2021, "Generic attention-model explainability", equations 5 and 6, for a network with self-attention only.
Their other paper of that year, "Transformer interpretability beyond attention visualization", replaces A by its relevance under
layer-wise relevance propagation. It is another method, which is not here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from explainers.context import Context
from explainers.contract import Citation, Method, RawMap
from explainers.methods.attention import carried, identity, map_of_read_tokens
from explainers.networks.attention import attention_layers, record
from explainers.networks.classifier import Classifier
from explainers.parameters import NoParameters
from explainers.passes import Passes
from explainers.requirements import ATTENTION
from explainers.target import Target


def attribute(network: Classifier, x: Tensor, target: Target, params: NoParameters, context: Context) -> RawMap:
    probabilities: list[Tensor] = []
    with torch.enable_grad():
        score = target.score(network.logits(x, record(attention_layers(network), probabilities))).sum()
        gradients = torch.autograd.grad(score, probabilities)
    weighted = [(gradient * layer.detach())[0].clamp(min=0).mean(0) for gradient, layer in zip(gradients, probabilities, strict=True)]
    relevance = carried(layer + identity(layer) for layer in weighted)
    return RawMap(map_of_read_tokens(network, relevance - identity(relevance)))


METHOD = Method(
    title="Gradient-weighted attention (Chefer)", short="Chefer attention", family="attention", attribute=attribute, signed=False,
    passes=lambda params: Passes(forward=1, backward=1), needs=(ATTENTION,),
    citation=Citation("Chefer, Gur, Wolf", "Generic attention-model explainability for interpreting bi-modal and encoder-decoder "
                      "transformers", "ICCV 2021", "section 3.2"),
    idea="Attention rollout that follows the class: each block's attention is weighted by the gradient of the logit, and only what "
         "raises the logit is carried on.",
    equation=r"R \leftarrow R + \bar{A}_l R, \quad \bar{A}_l = \frac{1}{H} \sum_h "
             r"\Big(\frac{\partial f_c}{\partial A_{l,h}} \odot A_{l,h}\Big)^{\!+}",
    limits="It shows only what raises the logit, never evidence against the class. It sees the attention but not the values that are "
           "attended to, nor the dense layers. It is as coarse as the patches.",
)
