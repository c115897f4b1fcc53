"""What the methods on attention share: carrying relevance from token to token, and the map of a row of tokens."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from explainers.networks.classifier import Classifier


def carried(layers: Iterable[Tensor]) -> Tensor:
    """The product (T, T) of matrices (T, T), the first layer's on the right: how much of each first token is in each last one."""
    total: Tensor | None = None
    for layer in layers:
        total = layer if total is None else layer @ total
    assert total is not None, "the requirement of the method allows no network without attention"
    return total


def identity(layer: Tensor) -> Tensor:
    """The identity (T, T), which stands for the residual connection around an attention layer (T, T)."""
    return torch.eye(layer.shape[-1], dtype=layer.dtype, device=layer.device)


def map_of_read_tokens(network: Classifier, relevance: Tensor) -> Tensor:
    """The map (1, h, w) of a matrix (T, T) from image tokens to last tokens: the mean of the rows that the logits are read from.

    The row of the class token is usually the only one. Prefix tokens stand for no place and are left out of the map.
    """
    tokens = network.features.tokens
    assert tokens is not None, "the requirement of the method allows no network without tokens"
    return torch.stack([relevance[row] for row in tokens.read]).mean(0)[tokens.prefix:].reshape(1, *tokens.grid)
