"""What a checkpoint asks for, tried out before it costs anything: on torch's meta device, whose tensors have shapes and no values.

A few bytes can name an architecture of gigabytes, a million classes or pictures of 2048 pixels. So a network is first built without
memory, compared with the weights, and run on a picture without values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from explainers.errors import ExplainerError
from explainers.memory import ran_out
from explainers.networks.classifier import Classifier

# Of the values of all layers for one picture. A run needs about three times as much, and so fits into what a batch may take.
MAX_ACTIVATION_BYTES = 800 * 2**20
_META = torch.device("meta")
_MAKERS = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)


class _NoWeights(TorchFunctionMode):
    """Makes the tensors of layers without memory, and leaves small constants that a network computes while it is built."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = dict(kwargs or {})
        if func in _MAKERS and options.get("device") is None:
            options["device"] = _META
        return func(*args, **options)


class _Counter(TorchDispatchMode):
    """Adds up the bytes of all that is computed."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.total += sum(value.numel() * value.element_size() for value in tree_leaves(result) if isinstance(value, Tensor))
        return result


def without_memory(build: Callable[[], nn.Module]) -> nn.Module:
    """The network that ``build`` makes, with weights that have only shapes."""
    try:
        with _META:
            return build()
    except (NotImplementedError, RuntimeError):  # a network that computes numbers of layers with tensors, such as a RegNet
        with _NoWeights():
            return build().to(_META)


def shapes(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without their values, to be compared with a network without memory."""
    return {name: tensor.to(_META) for name, tensor in weights.items()}


def activation_bytes(module: nn.Module, side: int, title: str) -> int:
    """The bytes of all that a network without memory computes for one picture (3, side, side).

    Raises ExplainerError where it refuses such a picture.
    """
    try:
        with torch.no_grad(), _Counter() as counter:
            module.eval()(torch.empty(1, 3, side, side, device=_META))
    except Exception as error:  # a network refuses a size in many ways: RuntimeError, AssertionError, ValueError ...
        if ran_out(error):
            raise
        raise ExplainerError(f"{title} cannot be used on pictures of {side} pixels ({type(error).__name__}); give another input_size, "
                             "or leave it out.") from error
    return counter.total


def check_size(module: nn.Module, side: int, usual: int, title: str) -> None:
    """Raises ExplainerError for pictures that the network refuses, or that are larger than its ``usual`` ones and need too much."""
    if side == usual:
        return
    needed = activation_bytes(module, side, title)
    if side > usual and needed > MAX_ACTIVATION_BYTES:
        raise ExplainerError(f"{title} would need {3 * needed / 1e9:.2g} GB for one picture of {side} pixels; give an input_size of "
                             f"about {int(side * (MAX_ACTIVATION_BYTES / needed) ** 0.5)} or less.")


def check_logits(network: Classifier) -> None:
    """Raises ExplainerError for a network whose logits of a grey picture are not finite: its weights are finite, but too large."""
    logits = network.logits(torch.zeros(1, network.channels, *network.input_size, device=network.device))
    if not bool(torch.isfinite(logits).all()):
        raise ExplainerError(f"{network.title} gives logits that are NaN or infinite; its weights are damaged, so use others.")
