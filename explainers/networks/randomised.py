"""Copies of a classifier with some of its weights randomised, in one of three ways.

``reinitialise``: as PyTorch initialises its layers, implemented here because ``reset_parameters`` uses the global generator.
Weights and biases of dense layers and convolutions are drawn from U(-b, b) with b = 1 / sqrt(inputs of one output), which is
Kaiming's uniform with a = sqrt(5); attention's joint projection is Xavier uniform with zero biases; norms become the identity, with
running mean 0 and variance 1. Parameters in no such layer (tokens, position embeddings) are drawn as in ``normal``.
``normal``: each tensor from N(0, s^2), s its own standard deviation; norms become the identity.
``permute``: the entries of each tensor in random order; running statistics are kept.

Each parameter has its own generator, made of the seed and its name, so its values do not depend on what else is randomised.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from itertools import chain
from math import sqrt
from typing import TypeVar

import torch
from torch import Tensor, fx, nn

from explainers.errors import ParameterError
from explainers.networks.classifier import Classifier
from explainers.networks.stages import Stage

M = TypeVar("M", bound=nn.Module)

WAYS = ("reinitialise", "permute", "normal")
_STATISTICS = {"running_mean": 0.0, "running_var": 1.0, "num_batches_tracked": 0.0}


def randomised(network: Classifier, stages: Sequence[Stage], how: str = "reinitialise", seed: int = 0) -> Classifier:
    """A new classifier with the parameters of ``stages`` randomised; everything else is shared with ``network``.

    how: one of ``WAYS``. The new fingerprint is made of the network's and of the tensors that differ; where none differs, it is
    the network's. Raises ParameterError for an unknown way or parameter.
    """
    if how not in WAYS:
        raise ParameterError(f"how must be one of {', '.join(map(repr, WAYS))}, not {how!r}.")
    network.measure()  # shapes and feature layers do not depend on the weights, so the copy takes them over
    before = _tensors(network.module)
    drawn: dict[str, Tensor] = {}
    for name in chain.from_iterable(stage.parameters for stage in stages):
        if name not in before:
            raise ParameterError(f"{network.title} has no parameter {name!r}.")
        drawn |= _drawn(network.module, name, how, _generator(seed, name))
    changed = {name: value for name, value in drawn.items() if not torch.equal(value, before[name].cpu())}
    result = copy.copy(network)
    result.meter = None
    if network.graph is None:
        result.module = _with(network.module, changed)
    else:
        result.graph = copy.copy(network.graph)  # the same nodes, which call the layers of the new module
        result.module = result.graph.module = _with(network.graph.module, changed)
    result.fingerprint = _fingerprint(network.fingerprint, changed)
    result.statistics = None if changed else network.statistics  # they were fitted with the weights that are gone
    return result


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return dict(chain(module.named_parameters(), module.named_buffers()))


def _with(module: M, changed: dict[str, Tensor]) -> M:
    """A copy of a module that shares all tensors with it except ``changed``."""
    tensors = _tensors(module)
    copied = copy.deepcopy(module, {id(tensor): tensor for name, tensor in tensors.items() if name not in changed})
    with torch.no_grad():
        for name, tensor in _tensors(copied).items():
            if name in changed:
                tensor.copy_(changed[name])
    if isinstance(copied, fx.GraphModule):
        copied.graph.owning_module = None  # else module and graph hold each other, and weights that nobody uses stay for long
    return copied


def _fingerprint(original: str, changed: dict[str, Tensor]) -> str:
    if not changed:
        return original
    digest = hashlib.sha256(original.encode())
    for name, tensor in sorted(changed.items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _generator(seed: int, name: str) -> torch.Generator:
    mixed = hashlib.sha256(f"{seed} {name}".encode()).digest()[:8]
    return torch.Generator().manual_seed(int.from_bytes(mixed) % 2**63)


def _drawn(module: nn.Module, name: str, how: str, generator: torch.Generator) -> dict[str, Tensor]:
    """New values on the CPU by name: the parameter's, and for a parameter of a norm also its running statistics'."""
    path, _, local = name.rpartition(".")
    layer = module.get_submodule(path)
    value = getattr(layer, local).detach().cpu()
    if how == "permute":
        order = torch.randperm(value.numel(), generator=generator)
        return {name: value.reshape(-1)[order].reshape(value.shape)}
    weight = getattr(layer, "weight", None)
    if value.ndim == 1 and local in {"weight", "bias"} and (weight is None or weight.ndim == 1) and not isinstance(layer, nn.PReLU):
        statistics = {f"{path}.{buffer}".strip("."): _full(getattr(layer, buffer), number) for buffer, number in _STATISTICS.items()
                      if getattr(layer, buffer, None) is not None}
        return {name: _full(value, 1.0 if local == "weight" else 0.0)} | statistics
    if how == "normal":
        return {name: _normal(value, generator)}
    return {name: _initial(layer, local, value, generator)}


def _full(like: Tensor, value: float) -> Tensor:
    return torch.full_like(like, value, device="cpu")


def _normal(value: Tensor, generator: torch.Generator) -> Tensor:
    """Draws from N(0, s^2), s the standard deviation of the entries, or their magnitude where all are equal."""
    spread = value.double().std(correction=0) or value.double().abs().max()
    return (torch.randn(value.shape, generator=generator) * spread).to(value.dtype)


def _initial(layer: nn.Module, local: str, value: Tensor, generator: torch.Generator) -> Tensor:
    weight = getattr(layer, "weight", value)
    if local == "in_proj_bias":
        return torch.zeros_like(value)
    if local == "in_proj_weight":
        bound = sqrt(6 / sum(value.shape))
    elif local in {"weight", "bias"} and weight.ndim > 1:
        bound = 1 / sqrt(weight[0].numel())
    else:
        return _normal(value, generator)
    return ((2 * torch.rand(value.shape, generator=generator) - 1) * bound).to(value.dtype)
