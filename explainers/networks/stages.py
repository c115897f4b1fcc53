"""The stages of a network, from the logits down: groups of neighbouring layers with weights that are randomised together.

A block with parallel branches (a residual block, a fire or an inception module, a dense block, an encoder layer) is never split:
its layers lie between two nodes of the graph that every path passes through, and the smallest module that holds these layers is
the block. Each layer outside blocks is a stage, together with the norms that follow it. Neighbouring stages are joined until
there are no more than wanted; the last layer is joined last. In a network that cannot be traced, layers come in the order in
which its modules are registered, and its blocks are the modules whose class occurs more than once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from explainers.errors import ExplainerError
from explainers.networks.classifier import Classifier
from explainers.networks.graph import Graph

_CONTAINERS = {nn.Sequential, nn.ModuleList, nn.ModuleDict}  # these are no blocks; their subclasses may be
_WEIGHTS = ("weight", "in_proj_weight")
_APART = 2  # joining neighbours of different modules counts as if they held this many layers more


@dataclass(frozen=True)
class Stage:
    """Layers that are randomised together. ``parameters`` are names in the state dict of the network's module."""

    title: str
    parameters: tuple[str, ...]


@dataclass
class _Layer:
    """The parameters of one module, or a parameter that belongs to no layer. ``kind``: "Convolution", "Dense layer", "Layer", or ""
    for what is joined to a neighbouring layer (norms, tokens, scales). ``block``: the path of its block, if it has one."""

    path: str
    parameters: list[str]
    kind: str
    block: str = ""


@dataclass
class _Group:
    """Neighbouring layers that will form a stage; ``names`` are the paths of the layers and blocks in it."""

    names: list[str]
    kind: str
    parameters: list[str]

    @property
    def parent(self) -> str:
        return _parent(self.names[0])


def stages(network: Classifier, wanted: int = 8) -> tuple[Stage, ...]:
    """At most ``wanted`` stages, from the last layer down to the image; fewer if the network has fewer layers and blocks.

    Raises ExplainerError for a network without weights.
    """
    if wanted < 1:
        raise ExplainerError("At least one stage is needed.")
    layers = _layers(network)
    if not any(layer.kind for layer in layers):
        raise ExplainerError(f"{network.title} has no layer with weights that could be randomised.")
    _find_blocks(network, layers)
    groups = _grouped(layers)
    while len(groups) > wanted:
        _join_one(groups)
    last = groups[-1]
    if last.kind in {"Convolution", "Dense layer"} and len(last.names) == 1:
        last.kind = "Last layer"
    return tuple(Stage(_title(group), tuple(group.parameters)) for group in reversed(groups))


def _layers(network: Classifier) -> list[_Layer]:
    """All layers that have parameters, in the order in which they run."""
    module = network.module
    layers: dict[str, _Layer] = {}
    names = {id(parameter): name for name, parameter in module.named_parameters()}  # a weight that layers share has one name
    order = list(names.values()) if network.graph is None else []
    for node in network.graph.nodes.values() if network.graph else ():
        target = str(node.target)
        values = [_at(module, target)] if node.op == "get_attr" else []
        if node.op == "call_module":
            values += module.get_submodule(target).parameters()
        order += [names[id(value)] for value in values if id(value) in names]  # a buffer is no parameter and has no name here
    for name in dict.fromkeys(order):
        path = _holder(module, name)
        layers.setdefault(path, _Layer(path, [], _kind(module, path))).parameters.append(name)
    return list(layers.values())


def _at(module: nn.Module, name: str) -> Any:
    return getattr(module.get_submodule(_parent(name)), name.rpartition(".")[2])


def _holder(module: nn.Module, name: str) -> str:
    """The path of the layer of a parameter; a parameter of a module that has submodules belongs to no layer and is its own path."""
    path = _parent(name)
    holder = module.get_submodule(path)
    composite = any(True for _ in holder.children()) and not isinstance(holder, nn.MultiheadAttention)
    return name if composite or (not path and name not in _WEIGHTS) else path


def _kind(module: nn.Module, path: str) -> str:
    try:
        layer = module.get_submodule(path)
    except AttributeError:  # the path of a parameter that belongs to no layer
        return ""
    weight = next((getattr(layer, name) for name in _WEIGHTS if getattr(layer, name, None) is not None), None)
    if weight is None or weight.ndim < 2:
        return ""
    return "Convolution" if weight.ndim > 2 else "Dense layer" if isinstance(layer, nn.Linear) else "Layer"


def _find_blocks(network: Classifier, layers: list[_Layer]) -> None:
    """Set each layer's ``block``: the outermost block that it is in. The last layer with weights has none."""
    weighted = [layer for layer in layers if layer.kind]
    types = _types(network)
    blocks, loose = _blocks_by_graph(network.graph, layers, types) if network.graph else (_repeated(weighted, types), [])
    alike = {types[path] for path in blocks if types.get(path) not in {None, nn.Module}}
    for path, kind in types.items():
        if kind in alike and path and sum(_within(layer.path, path) for layer in weighted) > 1:
            blocks.add(path)
    for layer in layers:
        layer.block = min((path for path in blocks if _within(layer.path, path)), key=len, default="")
    for section in loose:
        for layer in section:
            layer.block = layer.block or f"{section[0].path} to {section[-1].path}"
    weighted[-1].block = ""


def _types(network: Classifier) -> dict[str, type]:
    """The class of every module by its path. A traced network holds only its layers; its nodes tell the modules they came from."""
    if network.graph is None:
        return {path: type(module) for path, module in network.module.named_modules()}
    stacks = [node.meta.get("nn_module_stack", {}) for node in network.graph.nodes.values()]
    return {path: kind for stack in stacks for path, kind in stack.values()}


def _repeated(weighted: list[_Layer], types: dict[str, type]) -> set[str]:
    """Blocks without a graph: the modules of several layers whose class occurs more than once."""
    counts = Counter(types.values())
    return {path for path, kind in types.items() if path and counts[kind] > 1 and kind not in _CONTAINERS
            and sum(_within(layer.path, path) for layer in weighted) > 1}


def _blocks_by_graph(graph: Graph, layers: list[_Layer], types: dict[str, type]) -> tuple[set[str], list[list[_Layer]]]:
    """Blocks by the graph: the modules that hold parallel branches, and the layers of branches that no such module holds."""
    by_path = {layer.path: layer for layer in layers}
    weighted = [layer for layer in layers if layer.kind]
    blocks: set[str] = set()
    loose: list[list[_Layer]] = []
    for nodes in _sections(graph):
        paths = [str(node.target) if node.op == "call_module" else _parent(str(node.target)) for node in nodes]
        section = [by_path[path] for path in dict.fromkeys(paths) if path in by_path]
        if len(section) < 2 or not any(layer.kind for layer in section):
            continue
        path = _common([layer.path for layer in section])
        while path and types.get(path) in _CONTAINERS:
            path = _parent(path)
        if path and 2 * sum(_within(layer.path, path) for layer in weighted) <= len(weighted):
            blocks.add(path)
        else:
            loose.append(section)
    return blocks, loose


def _sections(graph: Graph) -> list[list[fx.Node]]:
    """The nodes between each two successive nodes that every path from the image passes through; empty runs are left out."""
    image = graph.nodes[graph.input]
    varying, order, reach = {image}, [image], {image: 0}
    for node in graph.nodes.values():
        asks_shape = node.target == "size" or (node.target is getattr and node.args[1] == "shape")
        sources = [] if asks_shape or node.op == "output" else [source for source in node.all_input_nodes if source in varying]
        if sources or node.op == "get_attr":
            order.append(node)
        if sources:
            varying.add(node)
            reach.update(dict.fromkeys([*sources, node], len(order) - 1))
    sections: list[list[fx.Node]] = []
    open_nodes: list[fx.Node] = []
    furthest = 0
    for index, node in enumerate(order):
        if node in varying and furthest <= index:
            sections.append(open_nodes)
            open_nodes = []
        else:
            open_nodes.append(node)
        furthest = max(furthest, reach.get(node, 0))
    return [section for section in sections if section]


def _grouped(layers: list[_Layer]) -> list[_Group]:
    """Blocks, and layers outside blocks with the norms that follow them, in the order in which they run."""
    groups: list[_Group] = []
    waiting: list[str] = []  # parameters that are joined to a later layer
    of_block: dict[str, _Group] = {}
    last = next(layer for layer in reversed(layers) if layer.kind)
    for index, layer in enumerate(layers):
        if layer.block in of_block:
            of_block[layer.block].parameters += layer.parameters
        elif layer.kind or layer.block:
            groups.append(_Group([layer.block or layer.path], "Block" if layer.block else layer.kind, waiting + layer.parameters))
            waiting = []
            if layer.block:
                of_block[layer.block] = groups[-1]
        elif groups and not _leads(layer, layers[index + 1:], groups[-1], last):
            groups[-1].parameters += layer.parameters
        else:
            waiting += layer.parameters
    return groups


def _leads(layer: _Layer, following: list[_Layer], before: _Group, last: _Layer) -> bool:
    """Whether a norm belongs to the layer after it: it is in one module with that layer, and not with the layer before."""
    upcoming = next((after for after in following if after.kind), None)
    if upcoming is None or upcoming is last or upcoming.block:
        return False
    parent = _parent(layer.path)
    return parent != "" and _within(upcoming.path, parent) and not _within(before.names[-1], parent)


def _join_one(groups: list[_Group]) -> None:
    """Join the two neighbours with the fewest layers, preferring those of one module. The last layer is joined only at the end."""
    pairs = range(len(groups) - 2 if len(groups) > 2 else 1)
    best = min(pairs, key=lambda index: len(groups[index].names) + len(groups[index + 1].names)
               + _APART * (groups[index].parent != groups[index + 1].parent))
    first, second = groups[best], groups.pop(best + 1)
    kind = first.kind if first.kind == second.kind else "Layer"
    groups[best] = _Group(first.names + second.names, kind, first.parameters + second.parameters)


def _title(group: _Group) -> str:
    """``Block (layer4.1)``, ``Convolutions (features.0 and features.2)``, ``Blocks (layer1.0 to layer1.2)``."""
    if len(group.names) == 1:
        return f"{group.kind} ({group.names[0]})"
    return f"{group.kind}s ({group.names[0]} {'and' if len(group.names) == 2 else 'to'} {group.names[-1]})"


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _within(path: str, ancestor: str) -> bool:
    return path == ancestor or path.startswith(ancestor + ".")


def _common(paths: list[str]) -> str:
    """The path of the smallest module that holds all of these layers."""
    split = [path.split(".")[:-1] for path in paths]
    shared = []
    for names in zip(*split, strict=False):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    return ".".join(shared)
