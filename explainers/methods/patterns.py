r"""The patterns of PatternNet and PatternAttribution: which direction of a layer's input carries the signal that a unit reads.

A unit's output y = w . x + b depends on its input x = s + d, a signal s = a y along its pattern a, and a distractor d that the
weights w filter out. So the weights show how the distractor is removed, and the pattern where the signal is (Kindermans et al.
2018). With expectations over reference images and, for convolutions, over all places, the estimator for a unit before
a ReLU is their two-component estimator,

    a = (E+[x y] - E+[x] E[y]) / (w . the same),

where E+ is over the cases with y > 0, but E[y] over all cases. For a unit without a ReLU, such as a logit, both are over all
cases, which is their linear estimator. In both cases w . a = 1, unless the unit is never active and gets the pattern
0. y includes the bias and a batch norm behind the layer, which is merged with it, as its weights in w are.

A sum of two paths, as in a residual network, is taken as a unit y = x1 + x2 of each channel, with the weights (1, 1) and two
numbers as pattern, fitted alike. The paper has no rule for it, and libraries refuse such networks or let the signal double there.

The sums that a weight's pattern needs, of x y and of x, are the gradients of a convolution with respect to its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from explainers.context import Context
from explainers.data.reference import ReferenceSet
from explainers.methods.reference_pictures import COPIES, Pictures, pictures
from explainers.methods.relevance import Layer, merged_norms
from explainers.networks.classifier import Classifier
from explainers.networks.graph import Call, Graph, Rule
from explainers.passes import Passes

LEAST = 1e-6  # of the largest w . (...) of a layer: units below it are taken as never active
_PASSING = {"identity", "max_pool", "flatten"}  # what may stand between a unit and its ReLU

Sums = dict[str, Tensor]
Patterns = Mapping[str, Tensor]
"""By node name the pattern of a convolution or dense layer, of its weights' shape, or of a sum, (2, C)."""


def feeds_relus(graph: Graph, name: str) -> bool:
    """Whether only ReLUs take this node's value, directly or through max-pooling."""
    users = list(graph.nodes[name].users)
    return bool(users) and all(
        graph.kinds[user.name] in {"relu", "relu6"} or (graph.kinds[user.name] in _PASSING and feeds_relus(graph, user.name))
        for user in users)


@dataclass(frozen=True)
class Recorder:
    """Adds up, in a walk of reference images, what the patterns need: of each node "xy", "x" and "y", and numbers of cases.

    report: called after each layer, because the sums of one batch take seconds.
    """

    graph: Graph
    merged: Mapping[str, str]
    sums: dict[str, Sums]
    report: Callable[[], None]

    def rules(self) -> Mapping[str, Rule]:
        """The rules of a walk that records each layer with weights and each sum of two paths."""
        return {"conv": self._weighted, "linear": self._weighted, "add": self._add,
                "batch_norm": lambda call, x: x if call.name in self.merged.values() else call.plain(x)}

    def _weighted(self, call: Call, x: Tensor) -> Tensor:
        layer = Layer.of(call.module, self.graph.layer(self.merged[call.name]) if call.name in self.merged else None)
        y = layer(x)
        active = self._active(self.merged.get(call.name, call.name), y)
        xy, x_sums = weight_sums(layer, x, y * active, active)
        self._keep(call.name, xy, x_sums, y, active)
        return y

    def _add(self, call: Call, *addends: Tensor) -> Tensor:
        y: Tensor = call.plain(*addends)
        if is_sum_of_maps(addends):
            active = self._active(call.name, y)
            xy, x = (torch.stack([_over_cases(addend * factor) for addend in addends]) for factor in (y * active, active))
            self._keep(call.name, xy, x, y, active)
        return y

    def _active(self, name: str, y: Tensor) -> Tensor:
        return (y > 0).to(y.dtype) if feeds_relus(self.graph, name) else torch.ones_like(y)

    def _keep(self, name: str, xy: Tensor, x: Tensor, y: Tensor, active: Tensor) -> None:
        cases = torch.full((), y.numel() / y.shape[1])
        self.sums[name] = {"xy": xy, "x": x, "y": _over_cases(y), "active": _over_cases(active), "cases": cases}
        self.report()


def weight_sums(layer: Layer, x: Tensor, *factors: Tensor) -> list[Tensor]:
    """For each factor (N, units, ...) the sums of factor times input over images and places: of the weights' shape, in float64.

    Convolutions are summed over each image in float32, which is many times faster for those of each channel alone.
    """
    dense = isinstance(layer.module, nn.Linear)
    rows = [slice(None)] if dense else [slice(i, i + 1) for i in range(len(x))]
    sums = [exact(torch.zeros_like(layer.weight)) for _ in factors]
    for row in rows:
        inputs = exact(x[row]) if dense else x[row]
        weight = layer.weight.detach().to(inputs.dtype).clone().requires_grad_(True)
        with torch.enable_grad():
            output = layer.apply(inputs, weight)
            for k, factor in enumerate(factors):
                top, more = factor[row].to(inputs.dtype), k + 1 < len(factors)
                sums[k] += torch.autograd.grad(output, weight, top, retain_graph=more)[0]
    return sums


def exact(values: Tensor) -> Tensor:
    """In float64, because covariances are differences of large sums; in float32 where the device has no other."""
    return values if values.device.type == "mps" else values.double()


def is_sum_of_maps(addends: tuple[object, ...]) -> bool:
    """Whether two values of one shape (N, C, ...) are added, and not a constant."""
    shapes = {addend.shape for addend in addends if isinstance(addend, Tensor)}
    return len(addends) == 2 and len(shapes) == 1 and all(isinstance(addend, Tensor) for addend in addends)


def _over_cases(values: Tensor) -> Tensor:
    """The sums (C,) of values (N, C, ...) over images and places."""
    return exact(values).transpose(0, 1).flatten(1).sum(1)


def pattern(sums: Sums, weight: Tensor) -> Tensor:
    """The pattern, of the shape of ``weight``, whose first dimension is that of the units; of a sum it is given units last."""
    columns = (-1, *(1,) * (weight.dim() - 1))
    active = sums["active"].clamp(min=1).view(columns)
    mean = (sums["y"] / sums["cases"]).view(columns)
    covariance = sums["xy"] / active - sums["x"] / active * mean
    read = (weight * covariance).flatten(1).sum(1).view(columns)
    never = read.abs() <= LEAST * read.abs().max()
    return torch.where(never, 0.0, covariance / torch.where(never, 1.0, read))


def fit_key(count: int) -> tuple[str, int]:
    """The key of the patterns that are fitted on so many reference images."""
    return "patterns", count


def fit_of(images: int, network: Classifier, reference: ReferenceSet) -> tuple[list[tuple[object, ...]], Passes]:
    """The key of the patterns, and the passes that take as long as fitting them: forward, and the two sums of each layer.

    Where the set has no pictures here, the patterns belong to the explained image, so those of this key are never there.
    """
    count = min(images, COPIES if reference.statistics is not None else reference.size)
    return [fit_key(count)], Passes(forward=3 * count, backward=5 * count)


def fitted(network: Classifier, x: Tensor, images: int, context: Context) -> tuple[Patterns, Pictures]:
    """The patterns of all layers, fitted once for each reference set, and the pictures that they are fitted on."""
    drawn = pictures(network, x, images, context)
    key = fit_key(drawn.count) if drawn.reference is context.reference else (*fit_key(drawn.count), drawn.reference.identity)
    return context.fit(key, lambda: _fit(network, drawn, context)), drawn


def _fit(network: Classifier, drawn: Pictures, context: Context) -> Patterns:
    graph = network.walkable
    merged = merged_norms(graph)

    @torch.no_grad()
    def sums_of(start: int, stop: int) -> dict[str, Sums]:
        recorder = Recorder(graph, merged, {}, lambda: context.progress(start, drawn.count))
        network.walk(drawn.draw(start, stop).to(network.device), recorder.rules())
        return recorder.sums

    total: dict[str, Sums] = {}
    for _, _, part in context.batches(drawn.count, sums_of):
        for name, sums in part.items():
            kept = total.setdefault(name, {})
            for key, value in sums.items():
                kept[key] = kept.get(key, torch.zeros((), dtype=torch.float64)) + value.cpu().double()
    return {name: _pattern_of(graph, merged, name, sums).float() for name, sums in total.items()}


def _pattern_of(graph: Graph, merged: Mapping[str, str], name: str, sums: Sums) -> Tensor:
    if graph.kinds[name] == "add":
        by_unit = {**sums, "xy": sums["xy"].T, "x": sums["x"].T}
        return pattern(by_unit, torch.ones_like(by_unit["x"])).T
    layer = Layer.of(graph.layer(name), graph.layer(merged[name]) if name in merged else None)
    return pattern(sums, layer.weight.cpu().double())
