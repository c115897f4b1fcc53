"""Tracing a network into a canonical graph: a frozen copy, in which every ReLU call is a node and no node works in place."""

from __future__ import annotations

import copy
import inspect
import operator
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx._symbolic_trace import _assert_is_none
from torch.nn import functional as F

from explainers.networks.plain_layers import make_plain

IN_PLACE = "changed_in_place"  # in the ``meta`` of a traced network of whose values some are changed in place
_OUT_OF_PLACE = {operator.iadd: operator.add, operator.imul: operator.mul, operator.isub: operator.sub,
                 torch.relu: F.relu, torch.relu_: F.relu, F.relu_: F.relu}
_ATTENTION_OPTIONS = ("attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")  # of F.scaled_dot_product_attention, in order

_tracing = threading.Lock()  # two traces at a time would take back each other's changes of nn.Module


class _ThreadTracer(fx.Tracer):
    """A tracer that records only what its own thread runs.

    torch.fx replaces methods of nn.Module in the whole process while it traces; networks that other threads run are left alone here.
    """

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    @property
    def idle(self) -> bool:
        """Whether what runs now is not to be recorded."""
        return threading.get_ident() != self._thread

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        return forward(*args, **kwargs) if self.idle else super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
        return attr_val if self.idle else super().getattr(attr, attr_val, parameter_proxy_cache)


class _SizedProxy(fx.Proxy):
    """The proxy of a value whose sizes are known, except the size of the batch: code that branches on a map's size can be traced.

    ``value`` is what the node computes for an example.
    """

    value: Any = None

    @property
    def shape(self) -> Any:
        """The sizes as integers, after the first, which is a proxy."""
        if not isinstance(self.value, Tensor):
            return fx.proxy.Attribute(self, "shape")
        sizes: Any = fx.proxy.Attribute(self, "shape")
        return (sizes[0], *self.value.shape[1:]) if self.value.dim() else ()

    def size(self, dim: int | None = None) -> Any:
        """As ``Tensor.size``."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> Any:
        """As ``Tensor.dim``."""
        return self.value.dim()

    @property
    def ndim(self) -> Any:
        """As ``Tensor.ndim``."""
        return self.value.dim()


class _SizedTracer(_ThreadTracer):
    """A tracer that runs each node on an example while it traces."""

    def __init__(self, example: Tensor, fixed: Mapping[str, Any]):
        super().__init__()
        self.example, self.fixed, self.running = example, fixed, False

    @property
    def idle(self) -> bool:
        return self.running or super().idle

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _SizedProxy(node, self)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **options: Any) -> Any:
        made: Any = super().create_proxy(kind, target, args, kwargs, *rest, **options)
        self.running = True  # torch.fx records every call of a module while it traces, and this one must not be recorded
        try:
            made.value = self._compute(kind, target, *fx.node.map_aggregate((args, kwargs), _value))
        finally:
            self.running = False
        return made

    def _compute(self, kind: str, target: Any, args: Any, kwargs: Any) -> Any:
        if kind == "placeholder":
            return self.fixed.get(re.sub(r"_\d+$", "", target), self.example)  # torch.fx numbers the arguments that are fixed
        if kind == "get_attr":
            path, _, name = target.rpartition(".")
            return getattr(self.root.get_submodule(path), name)
        if kind == "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
        return None if kind == "output" else (self.root.get_submodule(target) if kind == "call_module" else target)(*args, **kwargs)


def _value(part: Any) -> Any:
    if isinstance(part, fx.proxy.Attribute):
        return getattr(_value(part.root), part.attr)
    return part.value if isinstance(part, _SizedProxy) else part


def trace(module: nn.Module, example: Tensor | None = None) -> fx.GraphModule:
    """The graph of a frozen copy of ``module``. Raises ``fx.proxy.TraceError`` and the like where tracing fails.

    example: an image (1, C, H, W) of the size that the network takes; with it, subclasses of torch's layers are made plain, and
    where a network branches on the sizes of its maps, they are taken as fixed.
    """
    frozen = frozen_copy(module)
    plain = frozen if example is None else make_plain(frozen, example)
    fixed = _further_arguments(plain)
    try:
        traced = _traced(plain, _ThreadTracer(), fixed)
    except (fx.proxy.TraceError, TypeError, ValueError):
        if example is None:
            raise
        with torch.no_grad():
            traced = _traced(plain, _SizedTracer(example, fixed), fixed)
    _canonicalise(traced)
    return traced


def _traced(module: nn.Module, tracer: fx.Tracer, fixed: dict[str, Any]) -> fx.GraphModule:
    with _tracing:
        graph = tracer.trace(module, fixed)
    return fx.GraphModule(tracer.root, graph, type(module).__name__)


def frozen_copy(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose weights need no gradients and whose layers do not work in place; those that did are marked."""
    frozen = copy.deepcopy(module).eval().requires_grad_(False)
    part: Any  # nn.Module declares every attribute as a tensor or a module, but ``inplace`` is a bool
    for part in frozen.modules():
        if getattr(part, "inplace", False):
            part.inplace, part.was_in_place = False, True
    return frozen


def _further_arguments(module: nn.Module) -> dict[str, Any]:
    """What a network's arguments after the image are by default; tracing takes them as fixed."""
    parameters = list(inspect.signature(module.forward).parameters.values())[1:]
    return {parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty}


def _canonicalise(traced: fx.GraphModule) -> None:
    for node in list(traced.graph.nodes):
        module = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
        if node.op == "call_method" and re.fullmatch(r"[a-z]\w*[a-z0-9]_", str(node.target)):
            node.target = str(node.target).removesuffix("_")
            _hand_on(node)
            traced.meta[IN_PLACE] = True
        elif _works_in_place(node, module) and _hand_on(node):
            traced.meta[IN_PLACE] = True
        if isinstance(module, (nn.ReLU, nn.ReLU6)):
            _replace(traced, node, F.relu if isinstance(module, nn.ReLU) else F.relu6, node.args[:1])
        elif node.op == "call_method" and node.target == "relu":
            _replace(traced, node, F.relu, node.args[:1])
        elif node.op == "call_method" and node.target == "add" and len(node.args) == 2:
            _replace(traced, node, operator.add, node.args)
        elif node.op == "call_function":
            node.target = _OUT_OF_PLACE.get(node.target, node.target)
            node.kwargs = {k: v for k, v in node.kwargs.items() if k != "inplace"}
            if node.target in {F.relu, F.relu6}:
                node.args = node.args[:1]
            if node.target is F.scaled_dot_product_attention:  # options by name, so that a rule sees them
                node.kwargs = dict(zip(_ATTENTION_OPTIONS, node.args[3:], strict=False)) | node.kwargs
                node.args = node.args[:3]
    _remove_checks(traced)
    traced.graph.lint()
    traced.recompile()


def _remove_checks(traced: fx.GraphModule) -> None:
    """Remove checks of shapes, and arguments that tracing took as fixed, which only such checks use.

    A layer or function whose value nothing takes may have changed its input in place, so it is noted.
    """
    graph = traced.graph
    for node in list(graph.nodes):
        if node.target in {torch._assert, _assert_is_none}:
            graph.erase_node(node)
        elif node.op in {"call_module", "call_function"} and not node.users and node.target is not getattr:
            traced.meta[IN_PLACE] = True
    graph.eliminate_dead_code()
    for node in [node for node in graph.nodes if node.op == "placeholder"][1:]:
        if not node.users:
            graph.erase_node(node)


def _works_in_place(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a layer or function changes its input, as ``nn.ReLU(inplace=True)`` and ``F.relu(x, inplace=True)`` do."""
    if node.op == "call_function":
        called = node.target in {F.relu, F.relu6} and node.args[1:2] == (True,)
        return node.target in {torch.relu_, F.relu_} or called or node.kwargs.get("inplace") is True
    return getattr(module, "was_in_place", False)


def _hand_on(node: fx.Node) -> bool:
    """Let later nodes take the value of this node, which changed its input in place, not the former input. Whether there are any."""
    changed: Any = node.args[0]
    later = {user for user in changed.users if user > node}
    changed.replace_all_uses_with(node, delete_user_cb=lambda user: user in later)
    return bool(later)


def _replace(traced: fx.GraphModule, node: fx.Node, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    with traced.graph.inserting_after(node):
        new = traced.graph.call_function(function, args)
    node.replace_all_uses_with(new)
    name = node.name
    traced.graph.erase_node(node)
    new.name = name
