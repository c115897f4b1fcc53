"""The stages of a network, from the logits down: groups of layers with weights that are not cut where branches run side by side.

A residual block, a fire or an inception module, a dense block or an encoder layer stays whole: its layers stand between two
points of the graph that everything passes through, and the module that holds them all is the block. Layers outside blocks are
stages of their own, a norm goes with the layer that it follows, and neighbours are joined until there are no more than wanted.
The last layer is always alone. A network that cannot be traced has its modules in the order in which it registers them, and
its blocks are the modules that it repeats.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from explainers.errors import ExplainerError
from explainers.networks.classifier import Classifier
from explainers.networks.graph import Graph

_CONTAINERS = {nn.Sequential, nn.ModuleList, nn.ModuleDict}  # these alone hold no block together; their subclasses may
_WEIGHTS = ("weight", "in_proj_weight")
_APART = 2  # neighbours of different modules join as late as if they held this many layers more


@dataclass(frozen=True)
class Stage:
    """Layers that are randomised together. ``parameters`` are names in the state dict of the network's module."""

    title: str
    parameters: tuple[str, ...]


@dataclass
class _Layer:
    """The parameters of one module, or one parameter that no layer holds. ``kind``: "Convolution", "Dense layer", "Layer", or
    "" for what only goes along with a layer (norms, tokens, scales)."""

    path: str
    parameters: list[str]
    kind: str
    block: str = ""


@dataclass
class _Group:
    """Neighbouring layers on their way to a stage; ``names`` are the paths of the layers and blocks in it."""

    names: list[str]
    kind: str
    parameters: list[str]

    @property
    def parent(self) -> str:
        return _parent(self.names[0])


def stages(network: Classifier, wanted: int = 8) -> tuple[Stage, ...]:
    """From the last layer down to the image: at most ``wanted`` stages, fewer where there are fewer layers and blocks.

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
    module, found = network.module, {}
    names = {id(parameter): name for name, parameter in module.named_parameters()}  # one name for weights that layers share
    order = list(names.values()) if network.graph is None else []
    for node in network.graph.nodes.values() if network.graph else ():
        if node.op == "get_attr":
            order.append(names.get(id(_at(module, node.target))))
        elif node.op == "call_module":
            order += [names[id(parameter)] for parameter in module.get_submodule(node.target).parameters()]
    order = [name for name in order if name]
    for name in dict.fromkeys(order):
        path = _holder(module, name)
        if path not in found:
            found[path] = _Layer(path, [], _kind(module, path))
        found[path].parameters.append(name)
    return list(found.values())


def _at(module: nn.Module, name: str) -> Any:
    return getattr(module.get_submodule(_parent(name)), name.rpartition(".")[2])


def _holder(module: nn.Module, name: str) -> str:
    """The path of the layer that holds a parameter; a parameter beside the submodules of a larger module stands for itself."""
    path = _parent(name)
    holder = module.get_submodule(path)
    plain = any(True for _ in holder.children()) and not isinstance(holder, nn.MultiheadAttention)
    return name if plain or (not path and name not in _WEIGHTS) else path


def _kind(module: nn.Module, path: str) -> str:
    try:
        layer = module.get_submodule(path)
    except AttributeError:  # a parameter that stands for itself
        return ""
    weight = next((getattr(layer, name) for name in _WEIGHTS if getattr(layer, name, None) is not None), None)
    if weight is None or weight.ndim < 2:
        return ""
    return "Convolution" if weight.ndim > 2 else "Dense layer" if isinstance(layer, nn.Linear) else "Layer"


def _find_blocks(network: Classifier, layers: list[_Layer]) -> None:
    """Write into each layer the path of the block that it belongs to; the widest block counts, and the last layer has none."""
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
    """The class of every module by its path. Tracing keeps only the layers, and notes for each where it came from."""
    if network.graph is None:
        return {path: type(module) for path, module in network.module.named_modules()}
    found: dict[str, type] = {}
    for node in network.graph.nodes.values():
        for path, kind in node.meta.get("nn_module_stack", {}).values():
            found[path] = kind
    return found


def _repeated(weighted: list[_Layer], types: dict[str, type]) -> set[str]:
    """Without a graph: the modules of several layers whose class appears more than once."""
    counts = Counter(types.values())
    return {path for path, kind in types.items() if path and counts[kind] > 1 and kind not in _CONTAINERS
            and sum(_within(layer.path, path) for layer in weighted) > 1}


def _blocks_by_graph(graph: Graph, layers: list[_Layer], types: dict[str, type]) -> tuple[set[str], list[list[_Layer]]]:
    """The modules that hold the branches between two points that all passes through; and branches that no module holds."""
    by_path = {layer.path: layer for layer in layers}
    weighted = [layer for layer in layers if layer.kind]
    blocks: set[str] = set()
    loose: list[list[_Layer]] = []
    for nodes in _sections(graph):
        paths = [node.target if node.op == "call_module" else _parent(str(node.target)) for node in nodes]
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
    """The runs of nodes between points that everything from the image passes through, branches only."""
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
    sections, open_nodes, furthest = [], [], 0
    for index, node in enumerate(order):
        if node in varying and furthest <= index:
            sections.append(open_nodes)
            open_nodes = []
        else:
            open_nodes.append(node)
        furthest = max(furthest, reach.get(node, 0))
    return [section for section in sections if section]


def _grouped(layers: list[_Layer]) -> list[_Group]:
    """Blocks, and layers outside them with the norms that follow, in the order in which they run."""
    groups: list[_Group] = []
    waiting: list[str] = []  # parameters of what goes along with a layer that is still to come
    of_block: dict[str, _Group] = {}
    last = next(layer for layer in reversed(layers) if layer.kind)
    for place, layer in enumerate(layers):
        if layer.block in of_block:
            of_block[layer.block].parameters += layer.parameters
        elif layer.kind or layer.block:
            groups.append(_Group([layer.block or layer.path], "Block" if layer.block else layer.kind, waiting + layer.parameters))
            waiting = []
            if layer.block:
                of_block[layer.block] = groups[-1]
        elif groups and not _leads(layer, layers[place + 1:], groups[-1], last):
            groups[-1].parameters += layer.parameters
        else:
            waiting += layer.parameters
    return groups


def _leads(layer: _Layer, following: list[_Layer], before: _Group, last: _Layer) -> bool:
    """Whether a norm stands before its layer: it shares the module with the next one, and not with the one before."""
    upcoming = next((one for one in following if one.kind), None)
    if upcoming is None or upcoming is last or upcoming.block:
        return False
    parent = _parent(layer.path)
    return parent != "" and _within(upcoming.path, parent) and not _within(before.names[-1], parent)


def _join_one(groups: list[_Group]) -> None:
    """Join the two smallest neighbours, rather those of one module; the last layer joins only when nothing else is left."""
    pairs = range(len(groups) - 2 if len(groups) > 2 else 1)
    best = min(pairs, key=lambda at: len(groups[at].names) + len(groups[at + 1].names)
               + _APART * (groups[at].parent != groups[at + 1].parent))
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
    """The path of the module that holds all of these layers, the nearest one."""
    split = [path.split(".")[:-1] for path in paths]
    shared = []
    for names in zip(*split, strict=False):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    return ".".join(shared)
