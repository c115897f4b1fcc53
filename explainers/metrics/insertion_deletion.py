r"""Insertion and deletion: what the network says while a picture is built up, or taken away, in the order of a map.

Deletion replaces the pixels of the image x by a baseline, the highest attributions first; insertion starts at a baseline and
brings the image's pixels back in the same order. With s_k the target's probability after k of the n cells, both are curves over
k / n, and each AUC is the area under its curve by the trapezoidal rule, over [0, 1], both ends included. A faithful map has a
high insertion and a low deletion AUC. The protocols differ in baseline, step and resolution (Petsiuk and others 2018, section
4.1; Qi, Khorram, Li 2020, section 4.1; Zhang and others 2021, section 4.2), and methods change places between them: compare
numbers only within one.

Ties are broken by the pixel's place, row by row. The order is all that counts: any strictly increasing function of a map has
its curves. By default that order is of the signed values; it can be of the magnitudes. All maps of a call go through the
network in common batches, and the two ends, which they share, only once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from explainers.baselines import baseline as plain_baseline
from explainers.context import Context, Progress
from explainers.contract import ExplainerError, Metric, Passes, Reference, Target
from explainers.methods.i_gos import enlarge
from explainers.metrics.maps import Map, explained_target, listed
from explainers.metrics.protocols import BASELINES, ORDERS, OUTPUTS, PROTOCOLS, Baseline, Terms, distinct
from explainers.networks.classifier import Classifier

__all__ = ["BASELINES", "ORDERS", "OUTPUTS", "PROTOCOLS", "InsertionDeletion", "Top", "auc", "composites", "measure", "passes"]

TOP = 3


@dataclass(frozen=True)
class Top:
    """The most probable classes at each point: ``classes`` (points, 3) int, ``probabilities`` (points, 3), the first highest."""

    classes: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True)
class InsertionDeletion:
    """One map's curves, each a probability at every one of ``fractions``, from 0 to 1: float64 arrays of one length.

    step: cells a step. cells: (rows, columns) that were ordered. passes: what these curves cost when measured alone. cim: the
    mean AUC of the other labels, lowest attributions first; None without such labels.
    """

    fractions: np.ndarray
    insertion: np.ndarray
    deletion: np.ndarray
    insertion_top: Top
    deletion_top: Top
    protocol: str
    target: Target
    step: int
    cells: tuple[int, int]
    passes: Passes
    cim: float | None = None

    @property
    def insertion_auc(self) -> float:
        """Higher is better."""
        return auc(self.insertion, self.fractions)

    @property
    def deletion_auc(self) -> float:
        """Lower is better."""
        return auc(self.deletion, self.fractions)

    @property
    def difference(self) -> float:
        """Insertion minus deletion AUC: higher is better."""
        return self.insertion_auc - self.deletion_auc

    def fields(self) -> dict[str, Any]:
        """All of it as named tensors, numbers and strings, which a cache can keep."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in ("fractions", "insertion", "deletion"):
            fields[name] = torch.from_numpy(fields[name])
        for name in ("insertion_top", "deletion_top"):
            fields[name] = {part: torch.from_numpy(getattr(fields[name], part)) for part in ("classes", "probabilities")}
        return fields

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> InsertionDeletion:
        """The inverse of ``fields``."""
        plain = {name: value.numpy() if isinstance(value, Tensor) else value for name, value in fields.items()}
        for name in ("insertion_top", "deletion_top"):
            plain[name] = Top(**{part: value.numpy() for part, value in fields[name].items()})
        return cls(**plain)


def auc(values: np.ndarray, fractions: np.ndarray) -> float:
    """The area under a curve by the trapezoidal rule; the last step may be shorter than the others."""
    return float(np.trapezoid(values, fractions))


def measure(network: Classifier, x: Tensor, attribution: Map | Sequence[Map], *, target: Target | None = None,
            protocol: str = "rise", baseline: Baseline | tuple[Baseline, Baseline] | None = None, step: int | None = None,
            resolution: int | None = None, output: str = "softmax", labels: Sequence[int] = (), order_by: str = "value",
            seed: int = 0, progress: Progress | None = None) -> InsertionDeletion | list[InsertionDeletion]:
    """The curves of one map, or of each in a list.

    x: (1, C, H, W), preprocessed. attribution: an Attribution, or an array (h, w). target: a class, or ``(a, b)`` for the
    difference of their probabilities; by default what the maps explain, else the top-1 class. protocol: one of PROTOCOLS.
    baseline: one of BASELINES, or a tensor of x's shape, or a pair for insertion and deletion. zero is the mean colour of the
    training set, mean that of this image, blur the protocol's own. step: cells a step. resolution: cells a side; by default
    the map's own for ``i_gos``, else the image's pixels. output: how logits become probabilities. labels: the other classes in
    the picture, for cIM. order_by: the highest values first, or the largest ``magnitude``s, for maps whose sign is no evidence
    for or against the class (a gradient's says only whether a pixel should be brighter). seed: of the noise baseline.

    ``input_iba`` takes an image row's worth of pixels a step (224 at 224); its paper's 10 (``step=10``) are 10,036 passes an
    image. Its paper deletes to black, its authors' code to the mean colour (``baseline=("blur", "zero")``). ``resolution=28``
    with ``i_gos`` is the resolution at which methods of different resolutions can be compared.

    Raises ExplainerError (a map that is not finite, an unknown target), ParameterError, Cancelled.
    """
    terms = Terms(protocol, baseline, step, resolution, output, tuple(labels), order_by)
    maps, several = listed(attribution)
    view = network.metered()
    context = Context(view, seed, progress)
    scene = Scene(view, x, terms, context)
    for label in terms.labels:
        network.target(x, label)
    aimed = explained_target(maps, target)
    answers = Answers(view, terms, None if aimed is None else network.target(x, aimed))
    groups = [scene.curves(order(terms.cells(one, scene.size)), terms) for one in maps]
    places = _ask(scene, [curve for group in groups for curve in group], answers, context)
    results = []
    for group in groups:
        results.append(_result(answers, terms, group, [next(places) for _ in group]))
    return results if several else results[0]


def passes(network: Classifier, attribution: Map | Sequence[Map], **terms: Any) -> Passes:
    """What ``measure`` with these maps and the same terms (protocol, baseline, step, resolution, labels) sends forward."""
    chosen = Terms(**terms)
    return chosen.passes([chosen.cells(one, network.input_size).shape for one in listed(attribution)[0]])


def composites(network: Classifier, x: Tensor, attribution: Map | Sequence[Map], fraction: float, *, seed: int = 0,
               **terms: Any) -> tuple[Tensor, Tensor] | list[tuple[Tensor, Tensor]]:
    """What the network saw at one point of ``measure``'s curves: (1, C, H, W) for insertion and for deletion, normalised.

    fraction: of the cells, from 0 to 1. terms: as in ``measure``. ``network.preprocessing.pixels`` makes pixels of them.
    Raises ExplainerError for a fraction outside [0, 1], or a map that is not finite.
    """
    if not 0 <= fraction <= 1:
        raise ExplainerError(f"The fraction must be from 0 to 1, not {fraction!r}.")
    chosen = Terms(**terms)
    maps, several = listed(attribution)
    scene = Scene(network, x, chosen, Context(network, seed))
    pairs = []
    for one in maps:
        ranks = order(chosen.cells(one, scene.size))
        count = torch.tensor([round(fraction * ranks.numel())])
        insertion, deletion = (scene.images(replace(curve, counts=count), 0, 1) for curve in scene.curves(ranks, chosen)[:2])
        pairs.append((insertion, deletion))
    return pairs if several else pairs[0]


def order(values: np.ndarray) -> Tensor:
    """(h, w) int32: each cell's place, 0 for the highest value; equal values in the order of their places."""
    ranks = np.empty(values.size, np.int32)
    ranks[np.argsort(-values, axis=None, kind="stable")] = np.arange(values.size, dtype=np.int32)
    return torch.from_numpy(ranks.reshape(values.shape))


@dataclass(frozen=True)
class Curve:
    """Points between the ends: at each, the ``counts`` cells of lowest rank are the image's (or, if ``removes``, the baseline's).

    ``base`` is the place of the baseline among the scene's.
    """

    ranks: Tensor
    counts: Tensor
    base: int
    removes: bool = False


class Scene:
    """The image and its baselines, and the blends that a curve's points are."""

    def __init__(self, network: Classifier, x: Tensor, terms: Terms, context: Context):
        if x.ndim != 4 or x.shape[0] != 1 or not torch.isfinite(x).all():
            raise ExplainerError(f"The image must be one of shape (1, C, H, W) with finite values, not {tuple(x.shape)}.")
        self.x = x.detach().to(network.device, torch.float32)
        self.size = tuple(x.shape[-2:])
        self.smooth = terms.rules.smooth
        self.bases = [self._base(network, one, terms, context) for one in distinct(terms.baselines)]

    def _base(self, network: Classifier, named: Baseline, terms: Terms, context: Context) -> Tensor:
        if isinstance(named, Tensor):
            if named.shape != self.x.shape:
                raise ExplainerError(f"The baseline has shape {tuple(named.shape)}; it must have the image's {tuple(self.x.shape)}.")
            return named.detach().to(self.x)
        if named == "mean":
            return self.x.mean((2, 3), keepdim=True).expand_as(self.x)
        if named == "blur":
            return terms.rules.blur(self.x)
        return plain_baseline(network, self.x, named, context.generator())

    def curves(self, ranks: Tensor, terms: Terms) -> list[Curve]:
        """Insertion, deletion, and with other labels insertion from the lowest attribution on; without their shared ends."""
        counts = torch.from_numpy(terms.counts(tuple(ranks.shape))[1:-1])
        ranks = ranks.to(self.x.device)
        found = [Curve(ranks, counts, 0), Curve(ranks, counts, len(self.bases) - 1, removes=True)]
        if terms.labels:
            found.append(Curve(ranks.numel() - 1 - ranks, counts, 0))
        return found

    def images(self, curve: Curve, start: int, stop: int) -> Tensor:
        """(stop - start, C, H, W): what the network sees at these points. Where the mask is 0 or 1 the blend is exact."""
        counts = curve.counts[start:stop].to(curve.ranks.device).view(-1, 1, 1)
        keep = ((curve.ranks >= counts) if curve.removes else (curve.ranks < counts))[:, None].to(self.x.dtype)
        if tuple(keep.shape[-2:]) != self.size:
            keep = enlarge(keep, self.size) if self.smooth else F.interpolate(keep, size=self.size, mode="nearest")
        return torch.lerp(self.bases[curve.base], self.x, keep)


def _ask(scene: Scene, curves: Sequence[Curve], answers: Answers, context: Context) -> Iterator[Tensor]:
    """Send the ends and then all curves' points through the network, in common batches.

    Yields for each curve where the answers of its points are, from none of the cells to all of them.
    """
    ends = torch.cat((scene.x, *scene.bases))

    def work(start: int, stop: int) -> Tensor:
        parts = [ends[start:stop]] if start < len(ends) else []
        parts += [scene.images(*piece) for piece in _pieces(curves, start - len(ends), stop - len(ends))]
        with torch.inference_mode():
            return answers.probabilities(torch.cat(parts) if len(parts) > 1 else parts[0])

    total = len(ends) + sum(len(curve.counts) for curve in curves)
    for _, _, probabilities in context.batches(total, work):
        answers.add(probabilities)
    begin = len(ends)
    for curve in curves:
        between = torch.arange(begin, begin + len(curve.counts))
        none, full = torch.tensor([1 + curve.base]), torch.tensor([0])
        yield torch.cat((full, between, none) if curve.removes else (none, between, full))
        begin += len(curve.counts)


def _pieces(curves: Sequence[Curve], start: int, stop: int) -> Iterator[tuple[Curve, int, int]]:
    """The stretches of curves, laid end to end, that lie between ``start`` and ``stop``."""
    begin = 0
    for curve in curves:
        first, last = max(start - begin, 0), min(stop - begin, len(curve.counts))
        if first < last:
            yield curve, first, last
        begin += len(curve.counts)


class Answers:
    """What the network said of each image that it saw, in that order: of thousands of classes only those that are asked for."""

    def __init__(self, network: Classifier, terms: Terms, target: Target | None):
        self.network, self.terms, self.target = network, terms, target
        self._scores: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._top: list[tuple[Tensor, Tensor]] = []

    def probabilities(self, images: Tensor) -> Tensor:
        """(N, K)."""
        logits = self.network.logits(images)
        return logits.softmax(-1) if self.terms.output == "softmax" else logits.sigmoid()

    def add(self, probabilities: Tensor) -> None:
        """Keep what is asked for. Raises ExplainerError if the target is among the other labels."""
        if self.target is None:  # the first image of all is the one that is explained
            self.target = int(probabilities[0].argmax())
        if set(self.terms.labels) & set(self.target if isinstance(self.target, tuple) else (self.target,)):
            raise ExplainerError("cIM is for the other labels in the picture: leave the target out of them.")
        values, classes = probabilities.topk(min(TOP, probabilities.shape[1]))
        self._top.append((values.cpu(), classes.cpu()))
        self._scores.append(self.network.score(probabilities, self.target).double().cpu())
        self._labels.append(probabilities[:, list(self.terms.labels)].double().cpu())

    def scores(self, places: Tensor) -> np.ndarray:
        """(points,) float64: the target's probability, or the difference of a pair's, at these places."""
        return torch.cat(self._scores)[places].numpy()

    def label_scores(self, places: Tensor) -> np.ndarray:
        """(points, labels)."""
        return torch.cat(self._labels)[places].numpy()

    def top(self, places: Tensor) -> Top:
        """The most probable classes at these places."""
        values, classes = (torch.cat(column)[places].numpy() for column in zip(*self._top, strict=True))
        return Top(classes, values)


def _result(answers: Answers, terms: Terms, curves: Sequence[Curve], places: Sequence[Tensor]) -> InsertionDeletion:
    shape = tuple(curves[0].ranks.shape)
    fractions = terms.counts(shape) / (shape[0] * shape[1])
    cim = None
    if terms.labels:
        cim = float(np.mean([auc(curve, fractions) for curve in answers.label_scores(places[2]).T]))
    return InsertionDeletion(
        fractions, answers.scores(places[0]), answers.scores(places[1]), answers.top(places[0]), answers.top(places[1]),
        terms.protocol, answers.target, terms.cells_a_step(shape), shape, terms.passes([shape]), cim)


METRIC = Metric(
    title="Insertion and deletion",
    reference=Reference("Petsiuk, Das, Saenko", "RISE: Randomized input sampling for explanation of black-box models", "BMVC 2018",
                        "section 4.1"),
    idea="Show the network a picture that is built up, or taken away, in the order of the map, and watch the class's probability. "
         "A faithful map lets it rise early when pixels are inserted, and fall early when they are deleted.",
    equation=r"\mathrm{AUC} = \int_0^1 p_c\big(m_t \odot x + (1 - m_t) \odot \tilde{x}\big)\, dt",
    limits="Half a picture on a grey or blurred ground is unlike anything that the network was trained on, so the numbers, and even "
           "which method is best, change with the baseline. Only the order of a map counts, not its values.",
)
