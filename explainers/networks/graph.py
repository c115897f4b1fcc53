"""The canonical graph of a network, and walking it: running its nodes one after another.

A copy of the network is traced into a graph in which every ReLU call is a node and no node works in place. A method that changes
the computation at some layers walks this graph with ``rules``: a mapping from a node's kind to a function ``rule(call, *inputs)``
that replaces the layer. No hooks are registered on modules, so any number of threads can walk one graph at the same time.

    def guided(call, x):                         # guided backpropagation as one rule
        return GuidedReLU.apply(x)
    graph.run(x, rules={"relu": guided})
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from explainers.networks.tracing import trace

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
    ((nn.ConstantPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d), "pad"),
    ((nn.GELU, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.LeakyReLU, nn.ELU), "nonlinear"),
    (nn.Softmax, "softmax"),
    (nn.LayerNorm, "layer_norm"),
)
_FUNCTION_KINDS: dict[Any, str] = {
    F.relu: "relu", F.relu6: "relu6", operator.add: "add", torch.add: "add", torch.cat: "cat", torch.flatten: "flatten",
    F.max_pool2d: "max_pool", F.avg_pool2d: "avg_pool", F.adaptive_avg_pool2d: "avg_pool", F.gelu: "nonlinear",
    F.silu: "nonlinear", F.hardswish: "nonlinear", F.softmax: "softmax", torch.softmax: "softmax", torch.sigmoid: "nonlinear",
    F.pad: "pad", F.layer_norm: "layer_norm", F.scaled_dot_product_attention: "attention",
    F.conv2d: "affine", F.linear: "affine", F.batch_norm: "affine",  # calls with weights, which have no layer to look into
}
_PIECEWISE_LINEAR_KINDS = {"conv", "linear", "avg_pool", "max_pool", "flatten", "identity", "add", "cat", "relu", "relu6", "pad"}
_CHAIN_KINDS = {"conv", "linear", "max_pool", "avg_pool", "flatten", "identity", "relu", "relu6", "batch_norm"}
_LINEAR_CALLS = {
    operator.sub, operator.neg, operator.getitem, torch.sub, torch.neg, torch.mean, torch.sum, torch.permute, torch.transpose,
    torch.reshape, torch.squeeze, torch.unsqueeze, torch.chunk, torch.split, torch.stack, F.interpolate, "sub", "neg",
    "mean", "sum", "permute", "transpose", "contiguous", "squeeze", "unsqueeze", "chunk", "split",
}
_PRODUCTS, _QUOTIENTS = {operator.mul, torch.mul, "mul"}, {operator.truediv, torch.div, "div"}
_ENDINGS: tuple[tuple[tuple[Any, ...], str], ...] = (  # what may stand after the logits
    ((nn.Softmax, F.softmax, torch.softmax, "softmax"), "softmax"),
    ((nn.LogSoftmax, F.log_softmax, torch.log_softmax, "log_softmax"), "log-softmax"),
    ((nn.Sigmoid, F.sigmoid, torch.sigmoid, "sigmoid"), "sigmoid"),
    ((torch.log, "log"), "logarithm"),
)


@dataclass(frozen=True)
class Call:
    """One node while it runs: ``name`` is unique in the graph; ``plain(*inputs, **options)`` computes what the layer itself would.

    ``inputs`` replace the layer's tensors and lists of tensors, ``options`` its keyword arguments; its other arguments stay.
    ``options`` are the keyword arguments with which the network calls it.
    """

    name: str
    kind: str
    module: nn.Module | None
    plain: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)


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
    macs: int  # multiplications of a convolution, a dense layer or attention, else 0


class Graph:
    """A frozen, functional copy of a network. Raises ``fx.proxy.TraceError`` and the like where tracing fails.

    example: an image (1, C, H, W) of the size that the network takes; with it, subclasses of torch's layers are made plain (see
    ``plain_layers``).
    """

    def __init__(self, module: nn.Module, example: Tensor | None = None):
        self.module = trace(module, example)
        self._read()

    def _read(self) -> None:
        self.nodes = {node.name: node for node in self.module.graph.nodes}
        self.kinds = {name: _kind(node, self.module) for name, node in self.nodes.items()}
        self.input = next(name for name, node in self.nodes.items() if node.op == "placeholder")
        self.output = next(n for n in self.module.graph.nodes if n.op == "output").args[0].name
        self._plan = lru_cache(maxsize=64)(self._make_plan)

    def drop_ending(self) -> str:
        """Make the values before a softmax, log-softmax or sigmoid at the end the output. Its name, or "" where there is none."""
        output = next(node for node in self.module.graph.nodes if node.op == "output")
        last: Any = output.args[0]
        names: list[str] = []
        while (name := self._ending(last)) or (names and self.kinds[last.name] == "identity"):
            names += [name] if name else []
            last = last.args[0]
        if not names or set(names) == {"logarithm"}:
            return ""
        output.args = (last,)
        self.module.graph.eliminate_dead_code()
        self.module.recompile()
        self._read()
        return " and a ".join(reversed(names))

    def _ending(self, node: fx.Node) -> str:
        """The name of what this node computes, if it may stand after the logits; dim must be that of the classes."""
        layer = self.layer(node.name)
        called = type(layer) if layer is not None else node.target
        if not (node.args and isinstance(node.args[0], fx.Node)):
            return ""
        dim = layer.dim if isinstance(layer, (nn.Softmax, nn.LogSoftmax)) else node.kwargs.get("dim", (*node.args, None)[1])
        return next((name for targets, name in _ENDINGS if called in targets and dim in {None, 1, -1}), "")

    def run(self, x: Tensor, rules: Mapping[str, Rule] = PLAIN, *, start: str | None = None, stop: str | None = None,
            keep: Iterable[str] = ()) -> Any:
        """Walk from the input, or from node ``start`` whose value is ``x``, to node ``stop`` (the logits by default).

        With ``keep`` it returns ``(value, {name: value})`` for the named nodes.
        """
        stop = stop or self.output
        start = start or self.input
        values: dict[fx.Node, Any] = {self.nodes[start]: x}
        kept, wanted = {}, set(keep)
        for node, spent in self._plan(start, stop):
            if node.name != start:
                values[node] = self._step(node, values, rules)
            if node.name in wanted:
                kept[node.name] = values[node]
            for unused in spent:
                del values[unused]
        value = values[self.nodes[stop]]
        return (value, kept) if wanted else value

    def _step(self, node: fx.Node, values: Mapping[fx.Node, Any], rules: Mapping[str, Rule]) -> Any:
        """The value of a node from the values of the nodes that it takes, as ``fx.Interpreter`` computes it.

        The interpreter also lists all modules before every walk and prepares a report of every step, which takes as long as some
        layers of a small network.
        """
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        function = self._function(node)
        rule = rules.get(self.kinds[node.name])
        if rule is None:
            return function(*args, **kwargs)
        extra = [a for a in args if not isinstance(a, (Tensor, list, tuple))]

        def plain(*inputs: Any, **options: Any) -> Any:
            return function(*inputs, *extra, **{**kwargs, **options})

        inputs = [a for a in args if isinstance(a, (Tensor, list, tuple))]
        return rule(Call(node.name, self.kinds[node.name], self.layer(node.name), plain, kwargs), *inputs)

    def _function(self, node: fx.Node) -> Callable[..., Any]:
        """What computes the node's value from its arguments."""
        if node.op == "call_module":
            return self.module.get_submodule(str(node.target))
        if node.op == "call_method":
            return lambda value, *args, **kwargs: getattr(value, str(node.target))(*args, **kwargs)
        if node.op == "get_attr":
            return lambda: _attribute(self.module, str(node.target))
        assert callable(node.target)  # a plan holds no "output", and of the placeholders only the input, whose value is given
        return node.target

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

        These are dense layers, convolutions in one group, pooling, ReLU, and batch norm after a dense layer or a convolution. There
        a factor that does not depend on the image is a batch norm, too, as that of normalisation without implicit bias (NIB).
        """
        links, name = [], self.output
        while name != self.input:
            node = self.nodes[name]
            scaled = self._scaled(node)
            if scaled is None and not self._has_inverse_structure(node):
                break
            kind, source = (self.kinds[name], node.args[0].name) if scaled is None else ("batch_norm", scaled.name)
            links.append(Link(name, kind, source))
            name = source
        return tuple(links)

    def _scaled(self, node: fx.Node) -> fx.Node | None:
        """The output of a convolution or dense layer that this node multiplies by, or divides by, what is the same for all images."""
        if node.target not in _PRODUCTS | _QUOTIENTS or len(node.args) != 2:
            return None
        layers = [a for a in node.args if isinstance(a, fx.Node) and self.kinds[a.name] in {"conv", "linear"}]
        others = [a for a in node.args if a not in layers]
        if len(layers) != 1 or (node.target in _QUOTIENTS and layers[0] is not node.args[0]):
            return None
        varies = any(isinstance(a, fx.Node) and self._depends_on_the_image(a) for a in others)
        return None if varies else layers[0]

    def _depends_on_the_image(self, node: fx.Node) -> bool:
        try:
            self._plan(self.input, node.name)
        except ValueError:
            return False
        return True

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
        if kind == "affine":  # by batch statistics, batch norm is not affine
            own_statistics = node.target is not F.batch_norm or isinstance((*node.args, None)[1], fx.Node)
            return own_statistics and not varying.intersection(node.all_input_nodes[1:])
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
        return {name: Shape(tuple(value.shape[1:]), self._macs(name, value, values))
                for name, value in values.items() if isinstance(value, Tensor) and value.dim()}

    def _macs(self, name: str, value: Tensor, values: Mapping[str, Any]) -> int:
        """The multiplications of a convolution or dense layer, of a call of the function that it is made of, or of attention."""
        layer, node = self.layer(name), self.nodes[name]
        if self.kinds[name] == "attention":  # of queries with keys, and of probabilities with values
            query, key = (values[source.name] for source in node.args[:2])
            return (query.numel() + value.numel()) * key.shape[-2]
        weight = layer.weight if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)) else None
        if node.target in {F.conv2d, F.linear} and len(node.args) > 1 and isinstance(node.args[1], fx.Node):
            source = node.args[1]
            weight = _attribute(self.module, str(source.target)) if source.op == "get_attr" else values[source.name]
        return 0 if weight is None else value[0].numel() * prod(weight.shape[1:])


def pool_with_switches(call: Call, x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    """For a rule: the output of a max-pooling layer, and the index in the flattened plane that each of its values came from."""
    pool = call.module
    if isinstance(pool, nn.AdaptiveMaxPool2d):
        return F.adaptive_max_pool2d_with_indices(x, pool.output_size)
    if isinstance(pool, nn.MaxPool2d):
        return F.max_pool2d(x, pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode, return_indices=True)
    return call.plain(x, *rest, return_indices=True)


def pool_at(switches: Tensor, x: Tensor) -> Tensor:
    """Max-pooling of images (N, C, H, W) that takes the values at given indices: ``switches``, (N, C, h, w), or (1, C, h, w) for all.

    The result has the memory format of ``x``: channels last, or not.
    """
    indices = switches.expand(len(x), -1, -1, -1)
    if x.is_contiguous(memory_format=torch.channels_last):
        indices = indices.movedim(1, -1)
        return x.movedim(1, -1).flatten(1, 2).gather(1, indices.flatten(1, 2)).view(indices.shape).movedim(-1, 1)
    return x.flatten(2).gather(2, indices.flatten(2)).view(indices.shape)


def _layer(traced: nn.Module, node: fx.Node) -> nn.Module | None:
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def _attribute(module: nn.Module, name: str) -> Any:
    path, _, local = name.rpartition(".")
    return getattr(module.get_submodule(path), local)


def _kind(node: fx.Node, traced: fx.GraphModule) -> str:
    if node.op == "call_module":
        module = _layer(traced, node)
        return next((kind for types, kind in _MODULE_KINDS if isinstance(module, types)), "other")
    if node.op == "call_function":
        training = node.kwargs.get("training", (*node.args, True, True, True)[2])
        if node.target is F.dropout and training is False:
            return "identity"
        return _FUNCTION_KINDS.get(node.target, "other")
    if node.op == "call_method":
        return {"flatten": "flatten", "view": "flatten", "reshape": "flatten", "softmax": "softmax"}.get(str(node.target), "other")
    return node.op  # placeholder, output, get_attr
