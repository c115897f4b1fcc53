"""What a network returns, and what of it are the logits.

A network may return a tuple, a dict or an object that holds the logits among other values, or probabilities in place of logits.
``recognise`` finds out by tracing the network and by running it on a few images, and says in ``notes`` what was taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from explainers.errors import ExplainerError
from explainers.memory import ran_out
from explainers.networks.graph import Graph
from explainers.networks.tracing import IN_PLACE, frozen_copy

_NAMES = ("logits", "logit", "pred_logits", "output", "outputs", "out", "scores", "preds")  # the most likely first
_TOLERANCE = 1e-4
_IMAGES = 3  # on which a network's output is examined


@dataclass(frozen=True)
class Recognised:
    """A frozen network whose output is (N, K), the logits; its graph, or why it has none; and a line on each thing recognised."""

    module: nn.Module
    graph: Graph | None
    untraceable: str
    notes: tuple[str, ...] = ()


class Part(nn.Module):
    """A network of whose output one part is taken, ``path`` being the keys, indices or names of attributes that lead to it."""

    def __init__(self, network: nn.Module, path: tuple[tuple[str, Any], ...]):
        super().__init__()
        self.network, self.path = network, path

    def forward(self, x: Tensor) -> Tensor:
        value = self.network(x)
        for way, key in self.path:
            value = value[key] if way == "item" else getattr(value, key)
        return torch.flatten(value, 1)


class LogProbabilities(nn.Module):
    """The logarithms of a network's probabilities: its logits up to a constant for each image."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).clamp_min(torch.finfo(torch.float32).tiny).log()


def recognise(module: nn.Module, size: tuple[int, int, int], classes: int, title: str) -> Recognised:
    """The network with logits as its output. size: of an image, (C, H, W). classes: how many names of classes there are.

    Raises ExplainerError for a network that refuses such images, whose output holds no logits, or more or fewer than ``classes``.
    """
    traced = _trace(module, size)
    if traced.graph is not None and isinstance(last := traced.graph.layer(traced.graph.output), nn.Linear):
        _check_count(last.out_features, classes, title)
        return traced
    value = _run(traced.module, size, title)
    notes: tuple[str, ...] = ()
    if not _are_logits(value):
        path, note = _find(value, classes, title)
        traced = _trace(Part(module, path), size)
        value, notes = _run(traced.module, size, title), (note,) if note else ()
    _check_count(value.shape[1], classes, title)
    return _with_logits(traced, value, size, notes)


def count_outputs(module: nn.Module, size: tuple[int, int, int], title: str) -> int:
    """How many logits a network returns for an image of this size (C, H, W). Raises ExplainerError as ``recognise`` does."""
    value = _run(module, size, title)
    if _are_logits(value):
        return value.shape[1]
    path, _ = _find(value, 0, title)
    return Part(nn.Identity(), path)(value).shape[1]


def _trace(module: nn.Module, size: tuple[int, int, int]) -> Recognised:
    try:
        like = next(module.parameters(), torch.zeros(()))
        graph = Graph(module, torch.zeros(1, *size, device=like.device))
    except Exception as error:  # torch.fx raises many kinds; each only switches off the methods that need a graph
        if ran_out(error):
            raise
        return _untraced(module, size, f"torch.fx cannot trace it ({type(error).__name__}: {_first_line(error)})")
    if ("other" in graph.kinds.values() or IN_PLACE in graph.module.meta) and not _same_values(graph.module, module, size):
        return _untraced(module, size, "the graph that torch.fx makes of it computes other values")
    return Recognised(graph.module, graph, "")


def _untraced(module: nn.Module, size: tuple[int, int, int], reason: str) -> Recognised:
    """A network without a graph. Raises ExplainerError where it does not compute the same without its in-place layers."""
    frozen = frozen_copy(module)
    if any(getattr(layer, "inplace", False) for layer in module.modules()) and not _same_values(frozen, module, size):
        raise ExplainerError("This network uses a value again that a layer has changed in place; give its layers inplace=False.")
    return Recognised(frozen, None, reason)


def _same_values(copied: nn.Module, module: nn.Module, size: tuple[int, int, int]) -> bool:
    """Whether a traced or frozen copy computes what the network does: tracing cannot see views that are changed in place."""
    own = _run(module, size, "This network")
    traced = _run(copied, size, "This network")
    return not isinstance(own, Tensor) or torch.allclose(own, traced, rtol=1e-4, atol=1e-5 * float(own.abs().max()) + 1e-7)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:200]


def _run(module: nn.Module, size: tuple[int, int, int], title: str) -> Any:
    like = next(module.parameters(), torch.zeros(()))
    images = torch.randn(_IMAGES, *size, generator=torch.Generator().manual_seed(0)).to(like.device)
    try:
        with torch.no_grad():
            return module(images)
    except Exception as error:  # a network may fail in any way
        if ran_out(error):
            raise
        shown = ", ".join(map(str, size))
        raise ExplainerError(f"{title} refuses pictures of size ({shown}), {type(error).__name__}: {_first_line(error)}; "
                             "check its input size and channels.") from error


def _are_logits(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 2


# Which part of an output


def _find(value: Any, classes: int, title: str) -> tuple[tuple[tuple[str, Any], ...], str]:
    """The path to the logits in an output, and a note. Named parts come first, then parts with as many values as classes."""
    if isinstance(value, Tensor) and value.dim() > 2 and value.shape[1:].numel() == value.shape[1]:
        return (), ""  # (N, K, 1, 1), which only needs to be flattened
    parts = {path: part for path, part in _parts(value, ()) if _may_be_logits(part)}
    named = [path for name in _NAMES for path in parts if path[-1][1] == name]
    fitting = [path for path, part in parts.items() if part.shape[1:].numel() == classes]
    path = next((path for path in (*named, *fitting) if path in fitting), next(iter((*named, *parts)), None))
    if path is None:
        raise ExplainerError(f"{title} returns {_words(value)}, in which there are no logits; a classifier returns one value for each "
                             "class, of shape (N, classes).")
    place = "".join(f"[{key!r}]" if way == "item" else f".{key}" for way, key in path)
    return path, f"The network returns {_words(value)}; output{place} is taken as the logits."


def _parts(value: Any, path: tuple[tuple[str, Any], ...]) -> Iterator[tuple[tuple[tuple[str, Any], ...], Tensor]]:
    if isinstance(value, Tensor):
        if path:
            yield path, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _parts(part, (*path, ("item", key)))
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for name in value._fields:
            yield from _parts(getattr(value, name), (*path, ("attribute", name)))
    elif isinstance(value, (tuple, list)):
        for index, part in enumerate(value):
            yield from _parts(part, (*path, ("item", index)))
    elif value is not None:
        names = [field.name for field in fields(value)] if is_dataclass(value) else vars(value) if hasattr(value, "__dict__") else ()
        for name in names:
            yield from _parts(getattr(value, name, None), (*path, ("attribute", name)))


def _may_be_logits(part: Tensor) -> bool:
    return part.dim() >= 2 and part.shape[0] == _IMAGES and part.shape[1:].numel() == part.shape[1] and part.is_floating_point()


def _words(value: Any) -> str:
    """What an output is, for a sentence."""
    if isinstance(value, Tensor):
        return f"values of shape (N, {', '.join(map(str, value.shape[1:]))})" if value.dim() else "a single number"
    if isinstance(value, Mapping):
        return f"a dict with {', '.join(map(str, value))[:100]}"
    kind = type(value).__name__
    return f"a {kind} of {len(value)} values" if isinstance(value, (tuple, list)) else f"an object ({kind})"


def _check_count(outputs: int, classes: int, title: str) -> None:
    if outputs != classes:
        raise ExplainerError(f"{title} has {outputs} outputs, but {classes} names of classes are given.")


# Probabilities in place of logits


def _with_logits(traced: Recognised, value: Tensor, size: tuple[int, int, int], notes: tuple[str, ...]) -> Recognised:
    """The network without the softmax or sigmoid at its end."""
    if traced.graph is not None:
        ending = traced.graph.drop_ending()
        if ending:
            notes = (*notes, f"The network ends in a {ending}; the values before it are taken as the logits.")
        elif _are_probabilities(value):
            notes = (*notes, "The network returns probabilities; their logarithms are taken, which equal the logits up to a constant "
                             "for each picture.")
            return _renoted(_trace(LogProbabilities(traced.module), size), notes)
        return _renoted(traced, notes)
    if _are_probabilities(value):
        notes = (*notes, "The network ends in a softmax and its layers cannot be followed; the logarithms of its probabilities are "
                         "taken, which equal the logits up to a constant for each picture.")
        return Recognised(LogProbabilities(traced.module), None, traced.untraceable, notes)
    if _are_probabilities(value.exp()):
        notes = (*notes, "The network returns logarithms of probabilities, which equal the logits up to a constant for each picture.")
    return _renoted(traced, notes)


def _renoted(traced: Recognised, notes: tuple[str, ...]) -> Recognised:
    return Recognised(traced.module, traced.graph, traced.untraceable, notes)


def _are_probabilities(values: Tensor) -> bool:
    """Whether the rows lie in 0..1 and sum to 1. Rows that are all the same, as of a constant network, tell nothing."""
    inside = bool(((values >= 0) & (values <= 1)).all())
    return inside and bool((values != values[0]).any()) and bool((values.sum(1) - 1).abs().max() < _TOLERANCE)
