"""The canonical graph of a network, and walking it: running its nodes one after another.

A copy of the network is traced into a graph in which every ReLU call is a node and no node works in place. A method that changes
the computation at some layers walks this graph with ``rules``: a mapping from a node's kind to a function ``rule(call, *inputs)``
that replaces the layer. No hooks are registered on modules, so any number of threads can walk one graph at the same time.

    def guided(call, x):                         # guided backpropagation as one rule
        return GuidedReLU.apply(x)
    graph.run(x, rules={"relu": guided})
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

Rule = Callable[..., Any]
PLAIN: Mapping[str, Rule] = {}

_MODULE_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), "conv"),
    (nn.Linear, "linear"),
    ((nn.MaxPool2d, nn.AdaptiveMaxPool2d), "max_pool"),
    ((nn.AvgPool2d, nn.AdaptiveAvgPool2d), "avg_pool"),
    (nn.modules.batchnorm._BatchNorm, "batch_norm"),
    (nn.Flatten, "flatten"),
    ((nn.Identity, nn.Dropout, nn.Dropout2d), "identity"),
    ((nn.GELU, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.LeakyReLU, nn.ELU, nn.Softmax), "nonlinear"),
)
_FUNCTION_KINDS: dict[Any, str] = {
    F.relu: "relu", F.relu6: "relu6", operator.add: "add", torch.add: "add", torch.cat: "cat", torch.flatten: "flatten",
    F.max_pool2d: "max_pool", F.avg_pool2d: "avg_pool", F.adaptive_avg_pool2d: "avg_pool", F.gelu: "nonlinear",
    F.silu: "nonlinear", F.hardswish: "nonlinear", F.softmax: "nonlinear", torch.sigmoid: "nonlinear",
}
_PIECEWISE_LINEAR_KINDS = {"conv", "linear", "avg_pool", "max_pool", "flatten", "identity", "add", "cat", "relu", "relu6"}
_CHAIN_KINDS = {"conv", "linear", "max_pool", "avg_pool", "flatten", "identity", "relu", "relu6", "batch_norm"}
_LINEAR_CALLS = {
    operator.sub, operator.neg, operator.getitem, torch.sub, torch.neg, torch.mean, torch.sum, torch.permute, torch.transpose,
    torch.reshape, torch.squeeze, torch.unsqueeze, torch.chunk, torch.split, torch.stack, F.pad, F.interpolate, "sub", "neg",
    "mean", "sum", "permute", "transpose", "contiguous", "squeeze", "unsqueeze", "chunk", "split",
}
_PRODUCTS, _QUOTIENTS = {operator.mul, torch.mul, "mul"}, {operator.truediv, torch.div, "div"}
_OUT_OF_PLACE = {operator.iadd: operator.add, operator.imul: operator.mul, torch.relu: F.relu, torch.relu_: F.relu,
                 F.relu_: F.relu}


@dataclass(frozen=True)
class Call:
    """One node while it runs: ``name`` is unique in the graph; ``plain(*inputs, **options)`` computes what the layer itself would.

    ``inputs`` replace the layer's tensors and lists of tensors, ``options`` its keyword arguments; its other arguments stay.
    """

    name: str
    kind: str
    module: nn.Module | None
    plain: Callable[..., Any]


@dataclass(frozen=True)
class Link:
    """One layer of a chain of layers; ``source`` is the node whose value it takes."""

    name: str
    kind: str
    source: str


@dataclass(frozen=True)
class Shape:
    """The shape of a node's value for one image, and the multiplications that it takes."""

    size: tuple[int, ...]  # without the batch
    macs: int  # multiplications of a conv or dense layer, else 0


class Graph:
    """A frozen, functional copy of a network. Raises ``fx.proxy.TraceError`` and the like where tracing fails."""

    def __init__(self, module: nn.Module):
        self.module = fx.symbolic_trace(frozen_copy(module))
        _canonicalise(self.module)
        self.nodes = {node.name: node for node in self.module.graph.nodes}
        self.kinds = {name: _kind(node, self.module) for name, node in self.nodes.items()}
        self.input = next(name for name, node in self.nodes.items() if node.op == "placeholder")
        self.output = next(n for n in self.module.graph.nodes if n.op == "output").args[0].name
        self._plan = lru_cache(maxsize=64)(self._make_plan)

    def run(self, x: Tensor, rules: Mapping[str, Rule] = PLAIN, *, start: str | None = None, stop: str | None = None,
            keep: Iterable[str] = ()) -> Any:
        """Walk from the input, or from node ``start`` whose value is ``x``, to node ``stop`` (the logits by default).

        With ``keep`` it returns ``(value, {name: value})`` for the named nodes.
        """
        stop = stop or self.output
        start = start or self.input
        walk = fx.Interpreter(self.module, garbage_collect_values=False)
        walk.env = {self.nodes[start]: x}
        kept, wanted = {}, set(keep)
        for node, spent in self._plan(start, stop):
            if node.name != start:
                walk.env[node] = self._step(walk, node, rules)
            if node.name in wanted:
                kept[node.name] = walk.env[node]
            for unused in spent:
                del walk.env[unused]
        value = walk.env[self.nodes[stop]]
        return (value, kept) if wanted else value

    def _step(self, walk: fx.Interpreter, node: fx.Node, rules: Mapping[str, Rule]) -> Any:
        rule = rules.get(self.kinds[node.name])
        if rule is None:
            return walk.run_node(node)
        args, kwargs = walk.fetch_args_kwargs_from_env(node)
        extra = [a for a in args if not isinstance(a, (Tensor, list, tuple))]

        def plain(*inputs: Any, **options: Any) -> Any:
            return getattr(walk, node.op)(node.target, (*inputs, *extra), {**kwargs, **options})

        inputs = [a for a in args if isinstance(a, (Tensor, list, tuple))]
        return rule(Call(node.name, self.kinds[node.name], self.layer(node.name), plain), *inputs)

    def _make_plan(self, start: str, stop: str) -> list[tuple[fx.Node, tuple[fx.Node, ...]]]:
        """The nodes from ``start`` to ``stop`` in order, each with the nodes whose values are not needed after it.

        Raises ValueError where ``stop`` does not depend on ``start``, or depends on the input by another way, too.
        """
        first, last = self.nodes[start], self.nodes[stop]
        needed: set[fx.Node] = set()
        open_nodes = [last]
        while open_nodes:
            node = open_nodes.pop()
            if node not in needed:
                needed.add(node)
                open_nodes += [] if node is first else node.all_input_nodes
        if first not in needed:
            raise ValueError(f"{stop} does not depend on {start}")
        order = [node for node in self.module.graph.nodes if node in needed]
        unfed = [node.name for node in order if node.op == "placeholder" and node is not first]
        if unfed:
            raise ValueError(f"{stop} can be reached around {start}, from {unfed[0]}")
        last_use: dict[fx.Node, fx.Node] = {}
        for node in order:
            if node is not first:
                last_use.update(dict.fromkeys(node.all_input_nodes, node))
        spent: dict[fx.Node, list[fx.Node]] = {}
        for node, user in last_use.items():
            if node is not last:
                spent.setdefault(user, []).append(node)
        return [(node, tuple(spent.get(node, ()))) for node in order]

    def between(self, start: str | None = None, stop: str | None = None) -> tuple[str, ...]:
        """The nodes that run after ``start`` (the input by default) up to ``stop`` (the logits by default), in order."""
        return tuple(node.name for node, _ in self._plan(start or self.input, stop or self.output) if node.name != start)

    def commands(self, name: str) -> bool:
        """Whether the logits depend on the image through this node alone."""
        try:
            self._plan(name, self.output)
        except ValueError:
            return False
        return True

    def named(self, kind: str) -> tuple[str, ...]:
        """The names of all nodes of a kind, in the order in which they run."""
        return tuple(name for name, its_kind in self.kinds.items() if its_kind == kind)

    def layer(self, name: str) -> nn.Module | None:
        """The module that a node calls; None for a node that calls a function or a method."""
        return _layer(self.module, self.nodes[name])

    def chain(self) -> tuple[Link, ...]:
        """The unbranched chain of layers below the logits, from the top down, as far as each has a structure that MIP-IN can invert.

        These are dense layers, convolutions in one group, pooling, ReLU, and batch norm after a dense layer or a convolution.
        """
        links, name = [], self.output
        while name != self.input and self._has_inverse_structure(self.nodes[name]):
            source = self.nodes[name].args[0].name
            links.append(Link(name, self.kinds[name], source))
            name = source
        return tuple(links)

    def _has_inverse_structure(self, node: fx.Node) -> bool:
        kind = self.kinds[node.name]
        if kind not in _CHAIN_KINDS or not (node.args and isinstance(node.args[0], fx.Node)):
            return False
        if kind == "batch_norm":
            return self.kinds[node.args[0].name] in {"conv", "linear"}
        layer = self.layer(node.name)
        return kind != "conv" or (isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.padding_mode == "zeros"
                                  and isinstance(layer.padding, tuple))

    def nonlinear_layers(self) -> tuple[str, ...]:
        """The kinds of layers that are neither affine nor ReLU, ReLU6 or max-pooling; empty for a piecewise linear network."""
        varying: set[fx.Node] = set()  # the nodes whose values depend on the image
        names: dict[str, None] = {}
        for node, _ in self._plan(self.input, self.output):
            asks_shape = node.target == "size" or (node.target is getattr and node.args[1] == "shape")
            if node.name != self.input and (asks_shape or not varying.intersection(node.all_input_nodes)):
                continue
            varying.add(node)
            if node.name != self.input and not self._is_piecewise_linear(node, varying):
                layer = type(self.layer(node.name)) if node.op == "call_module" else node.target
                names[getattr(layer, "__name__", str(layer))] = None
        return tuple(names)

    def _is_piecewise_linear(self, node: fx.Node, varying: set[fx.Node]) -> bool:
        kind = self.kinds[node.name]
        if kind == "batch_norm":  # without running statistics it normalises by those of the batch
            return getattr(self.layer(node.name), "running_mean", None) is not None
        if node.op == "call_module" or kind != "other":
            return kind in _PIECEWISE_LINEAR_KINDS
        factors = [a for a in node.args if isinstance(a, fx.Node) and a in varying]
        if node.target in _PRODUCTS | _QUOTIENTS:
            return len(factors) == 1 and (node.target in _PRODUCTS or factors[0] is node.args[0])
        return node.target in _LINEAR_CALLS

    def measure(self, x: Tensor) -> dict[str, Shape]:
        """The shape of each node's value for the image ``x`` (1, C, H, W); takes one forward pass."""
        names = [name for name, node in self.nodes.items() if node.op not in {"output", "get_attr"}]
        with torch.inference_mode():
            _, values = self.run(x, keep=names)
        return {name: Shape(tuple(value.shape[1:]), self._macs(name, value))
                for name, value in values.items() if isinstance(value, Tensor)}

    def _macs(self, name: str, value: Tensor) -> int:
        layer = self.layer(name)
        if not isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            return 0
        return value[0].numel() * prod(layer.weight.shape[1:])


@dataclass(frozen=True)
class FeatureLayers:
    """The sizes of the layers that have a spatial extent, by node name, and the layer that class activation maps use."""

    sizes: Mapping[str, tuple[int, ...]]  # (C, h, w)
    default: str | None


def feature_layers(graph: Graph, shapes: Mapping[str, Shape]) -> FeatureLayers:
    """Layers that feature-map methods can use. The default is the last activation before the head's pooling.

    In torchvision's VGG that is the ReLU before the last pool (14 x 14), in its ResNet the output of layer4, in SqueezeNet the
    last fire module (13 x 13). The papers and TorchRay use the same layers.
    """
    useful = {"relu", "relu6", "add", "cat", "conv", "batch_norm", "nonlinear", "max_pool", "other"}
    spatial = {  # inputs are square, so maps are (C, h, h); Swin's (h, h, C) is left out
        name: shape.size for name, shape in shapes.items()
        if len(shape.size) == 3 and shape.size[1] == shape.size[2] > 1 and graph.kinds[name] in useful
    }
    weighted = [name for name in graph.nodes if graph.kinds[name] in {"conv", "linear"}]
    order = list(graph.nodes)
    head = order.index(weighted[-1]) if weighted else 0
    before_head = [n for n in spatial if order.index(n) < head and graph.kinds[n] not in {"conv", "max_pool"}]
    spatial = {name: size for name, size in spatial.items() if graph.commands(name)}
    default = next((name for name in reversed(before_head) if name in spatial), None)
    return FeatureLayers(spatial, default)


def pool_with_switches(call: Call, x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    """For a rule: the output of a max-pooling layer, and the index in the flattened plane that each of its values came from."""
    pool = call.module
    if isinstance(pool, nn.AdaptiveMaxPool2d):
        return F.adaptive_max_pool2d_with_indices(x, pool.output_size)
    if isinstance(pool, nn.MaxPool2d):
        return F.max_pool2d(x, pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode, return_indices=True)
    return call.plain(x, *rest, return_indices=True)


def pool_at(switches: Tensor, x: Tensor) -> Tensor:
    """Max-pooling of images (N, C, H, W) that takes the values at given indices, ``switches`` (1, C, h, w), of another image.

    The result has the memory format of ``x``: channels last, or not.
    """
    indices = switches.expand(len(x), -1, -1, -1)
    if x.is_contiguous(memory_format=torch.channels_last):
        indices = indices.movedim(1, -1)
        return x.movedim(1, -1).flatten(1, 2).gather(1, indices.flatten(1, 2)).view(indices.shape).movedim(-1, 1)
    return x.flatten(2).gather(2, indices.flatten(2)).view(indices.shape)


def frozen_copy(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose weights need no gradients and whose layers do not work in place."""
    frozen = copy.deepcopy(module).eval().requires_grad_(False)
    part: Any  # nn.Module declares every attribute as a tensor or a module, but ``inplace`` is a bool
    for part in frozen.modules():
        if getattr(part, "inplace", False):
            part.inplace = False
    return frozen


def _layer(traced: nn.Module, node: fx.Node) -> nn.Module | None:
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def _canonicalise(traced: fx.GraphModule) -> None:
    for node in list(traced.graph.nodes):
        module = _layer(traced, node)
        if isinstance(module, (nn.ReLU, nn.ReLU6)):
            _replace(traced, node, F.relu if isinstance(module, nn.ReLU) else F.relu6, node.args[:1])
        elif node.op == "call_method" and node.target in {"relu", "relu_"}:
            _replace(traced, node, F.relu, node.args[:1])
        elif node.op == "call_method" and node.target in {"add", "add_"} and len(node.args) == 2:
            _replace(traced, node, operator.add, node.args)
        elif node.op == "call_function":
            node.target = _OUT_OF_PLACE.get(node.target, node.target)
            node.kwargs = {k: v for k, v in node.kwargs.items() if k != "inplace"}
            if node.target in {F.relu, F.relu6}:
                node.args = node.args[:1]
    traced.graph.lint()
    traced.recompile()


def _replace(traced: fx.GraphModule, node: fx.Node, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    with traced.graph.inserting_after(node):
        new = traced.graph.call_function(function, args)
    node.replace_all_uses_with(new)
    name = node.name
    traced.graph.erase_node(node)
    new.name = name


def _kind(node: fx.Node, traced: fx.GraphModule) -> str:
    if node.op == "call_module":
        module = _layer(traced, node)
        return next((kind for types, kind in _MODULE_KINDS if isinstance(module, types)), "other")
    if node.op == "call_function":
        return _FUNCTION_KINDS.get(node.target, "other")
    if node.op == "call_method":
        return {"flatten": "flatten", "view": "flatten", "reshape": "flatten"}.get(str(node.target), "other")
    return node.op  # placeholder, output, get_attr
