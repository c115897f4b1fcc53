"""Layers that extend one of torch's own, turned into torch's own layers, so that methods see what a network computes.

Libraries such as timm subclass torch's layers: a convolution that first pads its input as TensorFlow does, a batch norm that ends in
an activation. Taken as one layer, such a subclass would hide its ReLU from guided backpropagation, and its padding from the indices
of a max-pool. Here each is split into torch's own layers, or takes the class of its parent where it computes the same. Other
subclasses keep their class, and the graph shows the functions that they call.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
# timm's layers that pad as TensorFlow does, with the value that they pad with.
_SAME_PADDING = {"Conv2dSame": 0.0, "StdConv2dSame": 0.0, "ScaledStdConv2dSame": 0.0, "AvgPool2dSame": 0.0,
                 "MaxPool2dSame": float("-inf")}


def make_plain(module: nn.Module, example: Tensor) -> nn.Module:
    """Change the layers of ``module`` in place, and return it. It then computes the same for images of the size of ``example``.

    example: (1, C, H, W), on the module's device. Padding that depends on the size of the input is fixed to its size. A layer that
    is called with several sizes stays as it is.
    """
    padding = _paddings(module, example)
    replaced: dict[int, nn.Module] = {}
    for path, layer in list(module.named_modules(remove_duplicate=False)):
        if id(layer) not in replaced:
            replaced[id(layer)] = _split(layer, padding.get(id(layer)))
        if path and replaced[id(layer)] is not layer:
            parent, _, name = path.rpartition(".")
            setattr(module.get_submodule(parent), name, replaced[id(layer)])
    return replaced[id(module)]


def _split(layer: Any, padding: tuple[int, int, int, int] | None) -> nn.Module:
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if padding is not None and any(padding):
        parts["pad"] = nn.ConstantPad2d(padding, _SAME_PADDING[type(layer).__name__])
    if padding is not None and hasattr(layer, "same_pad"):
        layer.same_pad = False
    parts["layer"] = layer
    drop, act = getattr(layer, "drop", None), getattr(layer, "act", None)
    if isinstance(layer, _NORMS) and isinstance(act, nn.Module) and isinstance(drop, nn.Module):
        layer.drop, layer.act = nn.Identity(), nn.Identity()
        parts["drop"], parts["act"] = drop, act
    _take_class_of_parent(layer, padded=padding is not None)
    return layer if len(parts) == 1 else nn.Sequential(parts)


def _take_class_of_parent(layer: Any, padded: bool) -> None:
    """Give a subclass of one of torch's layers the class of that layer, where both compute the same or only padding differed."""
    parent: Any = next((kind for kind in type(layer).__mro__ if kind.__module__.startswith("torch.nn.")), nn.Module)
    if parent is type(layer) or parent is nn.Module or issubclass(parent, _CONTAINERS):
        return
    if padded and type(layer).__name__ in {"Conv2dSame", "MaxPool2dSame", "AvgPool2dSame"} or _computes_the_same(layer, parent):
        layer.__class__ = parent


def _computes_the_same(layer: nn.Module, parent: type[nn.Module]) -> bool:
    """Whether a layer computes what ``parent`` would with the same weights, tried with random values unless all is inherited."""
    kinds = type(layer).__mro__[: type(layer).__mro__.index(parent)]
    if not any(name in vars(kind) for kind in kinds for name in ("forward", "_conv_forward", "__call__")):
        return True
    size = _input_size(layer)
    if size is None:
        return False
    like = next(layer.parameters(), torch.zeros(()))
    x = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(like)
    try:
        with torch.no_grad():
            own, parents = layer(x), parent.forward(layer, x)
            return own.shape == parents.shape and torch.allclose(own, parents, atol=1e-6)
    except Exception:  # a layer that refuses such an input, for whatever reason, is not taken for its parent
        return False


def _input_size(layer: Any) -> tuple[int, ...] | None:
    """The size of a small input for a layer, with odd sides, for which padding as TensorFlow does differs; None if not known."""
    if isinstance(layer, nn.Conv2d):
        extents = (2 * d * k + 1 for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
        return 2, layer.in_channels, *extents
    if isinstance(layer, nn.Linear):
        return 2, layer.in_features
    if isinstance(layer, nn.BatchNorm2d):
        return 2, layer.num_features, 5, 5
    if isinstance(layer, nn.GroupNorm):
        return 2, layer.num_channels, 5, 5
    if isinstance(layer, nn.LayerNorm):
        return 2, *layer.normalized_shape
    elementwise = (nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.LeakyReLU, nn.ELU,
                   nn.Identity, nn.Dropout, nn.Dropout2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
    return (2, 3, 17, 17) if isinstance(layer, elementwise) else None


# Padding


def _paddings(module: nn.Module, example: Tensor) -> dict[int, tuple[int, int, int, int]]:
    """The padding (left, right, top, bottom) of every layer that pads by the size of its input, by the layer's ``id``."""
    layers = [layer for layer in module.modules() if type(layer).__name__ in _SAME_PADDING and getattr(layer, "same_pad", True)]
    if not layers:
        return {}
    sizes: dict[int, set[tuple[int, ...]]] = {}
    hooks = [layer.register_forward_pre_hook(partial(_note_size, sizes)) for layer in layers]
    try:
        with torch.no_grad():
            module(example)
    finally:
        for hook in hooks:
            hook.remove()
    return {id(layer): _padding(layer, *sizes[id(layer)]) for layer in layers if len(sizes.get(id(layer), ())) == 1}


def _note_size(sizes: dict[int, set[tuple[int, ...]]], layer: nn.Module, args: tuple[Any, ...]) -> None:
    sizes.setdefault(id(layer), set()).add(tuple(args[0].shape[-2:]))


def _padding(layer: Any, size: tuple[int, ...]) -> tuple[int, int, int, int]:
    """TensorFlow's "SAME" padding: the output has ceil(side / stride) cells a side, and the odd cell is padded at the end."""
    totals = []
    for axis in (1, 0):
        kernel, stride, dilation = (_along(getattr(layer, name, 1), axis) for name in ("kernel_size", "stride", "dilation"))
        totals.append(max((ceil(size[axis] / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size[axis], 0))
    across, down = totals
    return across // 2, across - across // 2, down // 2, down - down // 2


def _along(value: int | tuple[int, ...], axis: int) -> int:
    return value if isinstance(value, int) else value[axis]
