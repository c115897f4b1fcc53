"""A classifier with some of its weights drawn anew: a copy, so that the network itself is never touched.

Three ways to draw. ``reinitialise``: as torch's own layers start, written out here because ``reset_parameters`` draws from the
global generator: dense and convolution weights and biases from U(-b, b) with b = 1 / sqrt(inputs of one output), which is Kaiming's
uniform with a = sqrt(5); attention's joint projection Xavier uniform with zero biases; norms back to the identity, their running
statistics to mean 0 and variance 1. A parameter that is in no such layer (a token, a position embedding) is drawn as by ``normal``.
``normal``: each tensor from N(0, s^2), s its own standard deviation; norms back to the identity. ``permute``: the entries of each
tensor in another order; running statistics stay as they are.

Every parameter has a generator of its own, made of the seed and its name: what is drawn for it does not depend on what else is.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from itertools import chain
from math import sqrt

import torch
from torch import Tensor, nn

from explainers.errors import ParameterError
from explainers.networks.classifier import Classifier
from explainers.networks.stages import Stage

WAYS = ("reinitialise", "permute", "normal")
_STATISTICS = {"running_mean": 0.0, "running_var": 1.0, "num_batches_tracked": 0.0}


def randomised(network: Classifier, stages: Sequence[Stage], how: str = "reinitialise", seed: int = 0) -> Classifier:
    """A new classifier with the parameters of ``stages`` drawn anew; everything else is shared with ``network``.

    how: one of ``WAYS``. Its fingerprint is made of the network's and of the tensors that differ from it, so no stages, or
    weights that come out the same, give the network's own. Raises ParameterError for an unknown way or parameter.
    """
    if how not in WAYS:
        raise ParameterError(f"how must be one of {', '.join(map(repr, WAYS))}, not {how!r}.")
    network.measure()  # shapes and layers do not depend on the weights: the copy keeps them
    before = _tensors(network.module)
    drawn: dict[str, Tensor] = {}
    for name in chain.from_iterable(stage.parameters for stage in stages):
        if name not in before:
            raise ParameterError(f"{network.title} has no parameter {name!r}.")
        drawn |= _drawn(network.module, name, how, _generator(seed, name))
    changed = {name: value for name, value in drawn.items() if not torch.equal(value, before[name].cpu())}
    made = copy.copy(network)
    made.meter = None
    made.module = _with(network.module, changed)
    if network.graph is not None:
        made.graph = copy.copy(network.graph)  # walks the same nodes, and finds the other module's layers at them
        made.graph.module = made.module
    made.fingerprint = _fingerprint(network.fingerprint, changed)
    return made


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return dict(chain(module.named_parameters(), module.named_buffers()))


def _with(module: nn.Module, changed: dict[str, Tensor]) -> nn.Module:
    """A copy of a module that shares every tensor but ``changed``."""
    tensors = _tensors(module)
    copied = copy.deepcopy(module, {id(tensor): tensor for name, tensor in tensors.items() if name not in changed})
    with torch.no_grad():
        for name, tensor in _tensors(copied).items():
            if name in changed:
                tensor.copy_(changed[name])
    return copied


def _fingerprint(of: str, changed: dict[str, Tensor]) -> str:
    if not changed:
        return of
    digest = hashlib.sha256(of.encode())
    for name, tensor in sorted(changed.items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _generator(seed: int, name: str) -> torch.Generator:
    mixed = hashlib.sha256(f"{seed} {name}".encode()).digest()[:8]
    return torch.Generator().manual_seed(int.from_bytes(mixed) % 2**63)


def _drawn(module: nn.Module, name: str, how: str, generator: torch.Generator) -> dict[str, Tensor]:
    """The parameter's new value on the CPU, and with a norm's scale its statistics'."""
    path, _, local = name.rpartition(".")
    layer = module.get_submodule(path)
    value = getattr(layer, local).detach().cpu()
    if how == "permute":
        order = torch.randperm(value.numel(), generator=generator)
        return {name: value.reshape(-1)[order].reshape(value.shape)}
    weight = getattr(layer, "weight", None)
    if value.ndim == 1 and local in {"weight", "bias"} and (weight is None or weight.ndim == 1) and not isinstance(layer, nn.PReLU):
        statistics = {f"{path}.{buffer}".strip("."): _full(getattr(layer, buffer), at) for buffer, at in _STATISTICS.items()
                      if getattr(layer, buffer, None) is not None}
        return {name: _full(value, 1.0 if local == "weight" else 0.0)} | statistics
    if how == "normal":
        return {name: _normal(value, generator)}
    return {name: _initial(layer, local, value, generator)}


def _full(like: Tensor, value: float) -> Tensor:
    return torch.full_like(like, value, device="cpu")


def _normal(value: Tensor, generator: torch.Generator) -> Tensor:
    """From N(0, s^2) with the standard deviation of the entries, or their magnitude where they are all the same."""
    spread = value.double().std(correction=0) or value.double().abs().max()
    return (torch.randn(value.shape, generator=generator) * spread).to(value.dtype)


def _initial(layer: nn.Module, local: str, value: Tensor, generator: torch.Generator) -> Tensor:
    if local == "in_proj_bias":
        return torch.zeros_like(value)
    if local == "in_proj_weight":
        bound = sqrt(6 / sum(value.shape))
    elif local in {"weight", "bias"} and getattr(layer, "weight", value).ndim > 1:
        bound = 1 / sqrt(layer.weight[0].numel())
    else:
        return _normal(value, generator)
    return ((2 * torch.rand(value.shape, generator=generator) - 1) * bound).to(value.dtype)
