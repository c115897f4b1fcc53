"""Layers that extend one of torch's own, turned into torch's own layers, so that methods see what a network computes.

Libraries such as timm subclass torch's layers: a convolution that first pads its input as TensorFlow does, a batch norm that ends in
an activation. Taken as one layer, such a subclass would hide its ReLU from guided backpropagation, and its padding from the indices
of a max-pool. Here each is split into torch's own layers, or takes the class of its parent where it computes the same. Other
subclasses keep their class, and the graph shows the functions that they call.

``nn.MultiheadAttention`` is one layer of torch, but would hide its dense layers and its attention probabilities. Where tokens attend
to themselves it becomes a ``SelfAttention``, of two dense layers and torch's function for attention.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
    padding, attentions = _paddings(module, example), _self_attentions(module, example)
    replaced: dict[int, nn.Module] = {}
    for path, layer in list(module.named_modules(remove_duplicate=False)):
        if id(layer) in attentions and isinstance(layer, nn.MultiheadAttention):
            replaced.setdefault(id(layer), SelfAttention(layer))
        if id(layer) not in replaced:
            replaced[id(layer)] = _split(layer, padding.get(id(layer)))
        if path and replaced[id(layer)] is not layer:
            parent, _, name = path.rpartition(".")
            setattr(module.get_submodule(parent), name, replaced[id(layer)])
    return replaced[id(module)]


class SelfAttention(nn.Module):
    """What ``nn.MultiheadAttention`` computes for tokens that attend to themselves, as layers that can be walked."""

    def __init__(self, attention: nn.MultiheadAttention):
        super().__init__()
        self.heads, self.batch_first = attention.num_heads, attention.batch_first
        self.in_proj = nn.Linear(attention.embed_dim, 3 * attention.embed_dim, bias=attention.in_proj_bias is not None)
        self.in_proj.weight = attention.in_proj_weight
        if attention.in_proj_bias is not None:
            self.in_proj.bias = attention.in_proj_bias
        self.out_proj = nn.Linear(attention.embed_dim, attention.embed_dim, bias=attention.out_proj.bias is not None)
        self.out_proj.weight, self.out_proj.bias = attention.out_proj.weight, attention.out_proj.bias
        self.eval()

    def forward(self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: None = None, need_weights: bool = True,
                attn_mask: None = None, average_attn_weights: bool = True, is_causal: bool = False) -> tuple[Tensor, Tensor | None]:
        """(N, T, C), or (T, N, C) where the batch is not first; and the probabilities where they are asked for."""
        tokens = query if self.batch_first else query.transpose(0, 1)
        q, k, v = self.in_proj(tokens).chunk(3, dim=-1)
        q, k, v = self._by_head(q), self._by_head(k), self._by_head(v)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out = self.out_proj(mixed if self.batch_first else mixed.transpose(0, 1))
        if not need_weights:
            return out, None
        weights = (q @ k.transpose(-2, -1) * (self.in_proj.in_features / self.heads) ** -0.5).softmax(dim=-1)
        return out, weights.mean(dim=1) if average_attn_weights else weights

    def _by_head(self, x: Tensor) -> Tensor:
        """(N, heads, T, C / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _self_attentions(module: nn.Module, example: Tensor) -> set[int]:
    """The ``id`` of every ``nn.MultiheadAttention`` whose every call is plain self-attention of a batch, without masks."""
    layers = [layer for layer in module.modules() if type(layer) is nn.MultiheadAttention and _has_joint_projection(layer)]
    if not layers:
        return set()
    plain: dict[int, bool] = {}
    hooks = [layer.register_forward_pre_hook(partial(_note_attention, plain), with_kwargs=True) for layer in layers]
    try:
        with torch.no_grad():
            module(example)
    finally:
        for hook in hooks:
            hook.remove()
    return {name for name, is_plain in plain.items() if is_plain}


def _has_joint_projection(layer: nn.MultiheadAttention) -> bool:
    return layer.in_proj_weight is not None and layer.bias_k is None and not layer.add_zero_attn


def _note_attention(plain: dict[int, bool], layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    names = ("query", "key", "value", "key_padding_mask", "need_weights", "attn_mask", "average_attn_weights", "is_causal")
    given = dict(zip(names, args, strict=False)) | kwargs
    masked = given.get("key_padding_mask") is not None or given.get("attn_mask") is not None or given.get("is_causal", False)
    itself = given["query"] is given["key"] and given["query"] is given["value"]
    plain[id(layer)] = plain.get(id(layer), True) and itself and not masked and given["query"].dim() == 3


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
