"""The layers whose values are maps, which methods such as Grad-CAM and IBA use, and how each value holds its map.

A convolution's value is a map already, (N, C, h, w). Swin transformers put the channels last, (N, h, w, C). Vision transformers
compute with tokens, (N, T, C): the first few, such as the class token, stand for no place (prefix tokens), and each of the others
stands for one patch of the picture, row by row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

from explainers.networks.graph import Graph, Shape

_MAPS = {"relu", "relu6", "add", "cat", "conv", "batch_norm", "affine", "nonlinear", "softmax", "max_pool", "layer_norm", "other"}
_CHANNELS_LAST = {"add", "layer_norm", "linear"}
_TOKENS = {"add", "layer_norm"}
_PERMUTATIONS = {"permute", torch.permute}
_MOST_PREFIX_TOKENS = 16  # a class token, a distillation token, and up to 14 registers


@dataclass(frozen=True)
class Layout:
    """How a layer's value holds a map of ``size`` (C, h, w).

    kind: "channels first" for (N, C, h, w), "channels last" for (N, h, w, C), or "tokens" for (N, prefix + h w, C).
    """

    size: tuple[int, ...]
    kind: str = "channels first"
    prefix: int = 0

    def take(self, value: Tensor) -> Tensor:
        """The map (N, C, h, w) in a value; of a value with channels first it is the value itself."""
        if self.kind == "channels first":
            return value
        if self.kind == "channels last":
            return value.movedim(-1, 1)
        return value[:, self.prefix:].transpose(1, 2).unflatten(2, self.size[1:])

    def put(self, value: Tensor, maps: Tensor) -> Tensor:
        """A value with the map replaced by ``maps`` (N, C, h, w). Prefix tokens stay those of ``value``, of which there are 1 or N."""
        if self.kind == "channels first":
            return maps
        if self.kind == "channels last":
            return maps.movedim(1, -1)
        return torch.cat((value[:, :self.prefix].expand(len(maps), -1, -1), maps.flatten(2).transpose(1, 2)), dim=1)


@dataclass(frozen=True)
class Tokens:
    """The tokens of a vision transformer whose blocks all work on one row of tokens.

    prefix: how many tokens at the start stand for no place. grid: the rows and columns of the others. read: the tokens from which
    the logits are computed after the last block, such as (0,) for a class token; empty for a network with constant logits.
    nodes: the nodes, in order, whose value is the whole row of tokens (N, T, C) and on which the logits depend alone.
    """

    prefix: int
    grid: tuple[int, int]
    read: tuple[int, ...]
    nodes: tuple[str, ...]

    @property
    def count(self) -> int:
        return self.prefix + self.grid[0] * self.grid[1]


@dataclass(frozen=True)
class FeatureLayers:
    """The sizes of the layers that hold a map, by node name, and the layer that class activation maps use.

    layouts: of those whose channels do not come first. tokens: None for a network that is no vision transformer of one grid.
    """

    sizes: Mapping[str, tuple[int, ...]]  # (C, h, w)
    default: str | None
    layouts: Mapping[str, Layout] = field(default_factory=dict)
    tokens: Tokens | None = None

    def layout(self, name: str) -> Layout:
        """How the value of a feature layer holds its map."""
        return self.layouts.get(name) or Layout(self.sizes[name])


def feature_layers(graph: Graph, shapes: Mapping[str, Shape]) -> FeatureLayers:
    """Layers that feature-map methods can use. The default is the last activation before the head's pooling.

    In torchvision's VGG that is the ReLU before the last pool (14 x 14), in its ResNet the output of layer4, in SqueezeNet the
    last fire module (13 x 13). The papers and TorchRay use the same layers. In a vision transformer with a class token it is the
    input of the last block: after the last attention the patches no longer reach the class token.
    """
    spatial = {name: layout for name, shape in shapes.items() if (layout := _map_layout(graph, name, shapes)) is not None}
    rows = _token_layouts(graph, shapes) if graph.named("attention") or graph.named("softmax") else {}
    reach = _reach(graph, shapes, rows)
    spatial |= {name: layout for name, layout in rows.items()
                if graph.kinds[name] in _TOKENS and any(token >= layout.prefix for token in reach[name])}
    weighted = [name for name in graph.nodes if graph.kinds[name] in {"conv", "linear", "affine"}]
    order = list(graph.nodes)
    head = order.index(weighted[-1]) if weighted else 0
    spatial = {name: spatial[name] for name in order if name in spatial and graph.commands(name)}
    before_head = [n for n in spatial if order.index(n) < head and graph.kinds[n] not in {"conv", "max_pool"}]
    return FeatureLayers({name: layout.size for name, layout in spatial.items()}, before_head[-1] if before_head else None,
                         {name: layout for name, layout in spatial.items() if layout.kind != "channels first"},
                         _tokens(rows, reach))


def _map_layout(graph: Graph, name: str, shapes: Mapping[str, Shape]) -> Layout | None:
    """The layout of a square map (inputs are square, so maps are too) of more than one cell; None for a value that is none."""
    size, kind = shapes[name].size, graph.kinds[name]
    if len(size) != 3:
        return None
    if size[1] == size[2] > 1 and kind in _MAPS and not _puts_channels_last(graph, name, shapes):
        return Layout(size)
    turned_back = any(user.target in _PERMUTATIONS for user in graph.nodes[name].users)  # then the turned map is offered
    if size[0] == size[1] > 1 and kind in _CHANNELS_LAST and not turned_back and _puts_channels_last(graph, name, shapes):
        return Layout((size[2], *size[:2]), "channels last")
    return None


def _puts_channels_last(graph: Graph, name: str, shapes: Mapping[str, Shape]) -> bool:
    """Whether a square map (C, h, h) or (h, h, C) has its channels last; where C = h, this follows from the layers."""
    size = shapes[name].size
    if len(size) != 3 or size[0] != size[1] or size[0] != size[2]:
        return len(size) == 3 and size[0] == size[1] > 1
    node: fx.Node = graph.nodes[name]
    if node.target in _PERMUTATIONS:
        order = node.args[1] if isinstance(node.args[1], (tuple, list)) else node.args[1:]
        return tuple(order) == (0, 2, 3, 1)
    if graph.kinds[name] in {"linear", "layer_norm"}:  # both work along the last dimension
        return True
    source = next((source.name for source in node.all_input_nodes if source.name in shapes), None)
    return graph.kinds[name] != "conv" and source is not None and _puts_channels_last(graph, source, shapes)


# Tokens


def _token_layouts(graph: Graph, shapes: Mapping[str, Shape]) -> dict[str, Layout]:
    """The layouts of the values (T, C) that alone decide the logits and that have a token for each cell of the map before them."""
    side = 0
    prefixes: dict[int, int | None] = {}
    layouts: dict[str, Layout] = {}
    for name, shape in shapes.items():
        if not layouts and len(shape.size) == 3 and shape.size[1] == shape.size[2] > 1 and graph.kinds[name] != "placeholder":
            side = shape.size[1]
        if side and len(shape.size) == 2 and 0 <= shape.size[0] - side**2 <= _MOST_PREFIX_TOKENS and graph.commands(name):
            count, channels = shape.size
            if count not in prefixes:
                prefixes[count] = _prefix(graph, name, side, shapes)
            if (prefix := prefixes[count]) is not None:
                layouts[name] = Layout((channels, side, side), "tokens", prefix)
    return layouts


@torch.no_grad()
def _prefix(graph: Graph, name: str, side: int, shapes: Mapping[str, Shape]) -> int | None:
    """How many tokens precede those of the cells, in the first value of so many tokens; None where they are arranged otherwise.

    Three pictures that differ from an empty one in the first, the second and the last cell show which tokens stand for these cells.
    """
    device = _device(graph)
    images = torch.zeros(4, *shapes[graph.input].size)
    cell = images.shape[-1] // side
    noise = torch.randn(images.shape[1], cell, cell, generator=torch.Generator().manual_seed(0))
    images[1, :, :cell, :cell] = noise
    images[2, :, :cell, cell:2 * cell] = noise
    images[3, :, (side - 1) * cell:side * cell, (side - 1) * cell:side * cell] = noise
    values = graph.run(images.to(device), stop=name)
    first, second, last = (values[1:] - values[:1]).abs().sum(-1).argmax(1).tolist()
    rest = shapes[name].size[0] - side**2
    return first if (first, second, last) == (rest, rest + 1, rest + side**2 - 1) else None


def _reach(graph: Graph, shapes: Mapping[str, Shape], rows: Mapping[str, Layout]) -> dict[str, tuple[int, ...]]:
    """Which tokens of each value the logits depend on, by the gradient for a random image; takes a pass forward and back."""
    if not rows:
        return {}
    device, generator = _device(graph), torch.Generator().manual_seed(0)
    with torch.inference_mode(False), torch.enable_grad():
        x = torch.randn(1, *shapes[graph.input].size, generator=generator).to(device).requires_grad_(True)
        logits, values = graph.run(x, keep=rows)
        score = (logits * torch.randn(logits.shape, generator=generator).to(device)).sum()
        gradients = torch.autograd.grad(score, [values[name] for name in rows])
    return {name: tuple(gradient[0].abs().sum(-1).nonzero().flatten().tolist())
            for name, gradient in zip(rows, gradients, strict=True)}


def _device(graph: Graph) -> torch.device:
    return next(graph.module.parameters(), torch.zeros(())).device


def _tokens(rows: Mapping[str, Layout], reach: Mapping[str, tuple[int, ...]]) -> Tokens | None:
    """What the rows of tokens have in common with the last one, and what is read of that."""
    if not rows:
        return None
    last = list(rows)[-1]
    alike = tuple(name for name, layout in rows.items() if layout.prefix == rows[last].prefix and layout.size[1] == rows[last].size[1])
    return Tokens(rows[last].prefix, (rows[last].size[1], rows[last].size[2]), reach[last], alike)
