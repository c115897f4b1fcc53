r"""Insertion and deletion: how the target's probability changes while pixels are added or removed in the order of a map.

Deletion replaces the pixels of the image x by a baseline, the highest attributions first; insertion starts at a baseline and
brings the image's pixels back in the same order. With s_k the target's probability after k of the n cells, both are curves over
k / n, and each AUC is the area under its curve by the trapezoidal rule, over [0, 1], both ends included. A faithful map has a
high insertion and a low deletion AUC. The protocols differ in baseline, step and resolution (Petsiuk and others 2018, section
4.1; Qi, Khorram, Li 2020, section 4.1; Zhang and others 2021, section 4.2), and the ranking of methods differs between them:
compare numbers of the same protocol only.

Pixels of equal value are ordered by their place, row by row. Only the order counts: any strictly increasing function of a map has
the same curves. By default pixels are ordered by their signed values; they can be ordered by their magnitudes. All maps of a call
go through the network in common batches. The two ends of the curves, which the maps share, go through it once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from explainers.attribution import Attribution
from explainers.baselines import baseline as plain_baseline
from explainers.context import Context, RunOptions
from explainers.contract import Citation, Metric, Score
from explainers.errors import ExplainerError
from explainers.metrics.maps import Map, explained_target, listed, maps_of
from explainers.metrics.protocols import BASELINES, ORDERS, OUTPUTS, PROTOCOLS, Baseline, Params, distinct
from explainers.networks.classifier import Classifier
from explainers.parameters import checked
from explainers.passes import Passes
from explainers.progress import Progress
from explainers.question import Question, one_image
from explainers.resampling import enlarge, size_of
from explainers.target import PlainTarget, Target

__all__ = ["BASELINES", "ORDERS", "OUTPUTS", "PROTOCOLS", "InsertionDeletion", "Top", "auc", "composites", "measure", "passes"]

TOP = 3
COARSE_ERROR = 0.3  # of an AUC, over the number of steps: at most 0.037 with 7 steps and 0.023 with 14, over 3 maps of 3 photographs


@dataclass(frozen=True)
class Top:
    """The three most probable classes at each point: ``classes`` (points, 3) int and ``probabilities`` (points, 3), highest first."""

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

    @property
    def lost_at(self) -> float | None:
        """The first fraction of removed cells at which the target is not the most probable class; None if it always is.

        0 where it is not the first choice in the whole picture. The target of a contrast is lost where the difference is not positive.
        """
        return _first(self.fractions, ~self._leads(self.deletion, self.deletion_top))

    @property
    def regained_at(self) -> float | None:
        """The first fraction of shown cells at which the target is the most probable class; None if it never is.

        0 where the baseline alone already gives that class. A contrast's is regained where the difference is positive.
        """
        return _first(self.fractions, self._leads(self.insertion, self.insertion_top))

    def _leads(self, curve: np.ndarray, top: Top) -> np.ndarray:
        """(points,) bool: where the target is the most probable class, or the first of a contrast is ahead of the second."""
        return curve > 0 if self.target.contrast is not None else top.classes[:, 0] == self.target.first


def auc(values: np.ndarray, fractions: np.ndarray) -> float:
    """The area under a curve by the trapezoidal rule; the last step may be shorter than the others."""
    return float(np.trapezoid(values, fractions))


def _first(fractions: np.ndarray, where: np.ndarray) -> float | None:
    """The first of the fractions where the condition holds; None where it holds nowhere."""
    return float(fractions[where.argmax()]) if where.any() else None


def measure(network: Classifier, x: Tensor, attribution: Map | Sequence[Map], *, target: Target | PlainTarget | None = None,
            seed: int = 0, progress: Progress | None = None, **params: Any) -> InsertionDeletion | list[InsertionDeletion]:
    """The curves of one map, or of each in a list.

    x: (1, C, H, W), preprocessed. attribution: an Attribution, or an array (h, w). target: a class, or ``(a, b)`` for the
    difference of their probabilities; by default what the maps explain, else the top-1 class. seed: of the noise baseline. params: the
    fields of ``Params``: protocol, baseline, step, resolution, output, labels, order_by.

    ``input_iba`` takes an image row's worth of pixels a step (224 at 224); its paper's 10 (``step=10``) are 10,036 passes an
    image. Its paper deletes to black, its authors' code to the mean colour (``baseline=("blur", "zero")``). ``resolution=28``
    with ``i_gos`` is the resolution at which methods of different resolutions can be compared.

    Raises ExplainerError (a map that is not finite, an unknown target), ParameterError, Cancelled.
    """
    maps, several = listed(attribution)
    context = Context(network.metered(), seed, RunOptions(progress))
    results = _measure(context, x, maps, explained_target(maps, target), checked(Params, METRIC.title, params))
    return results if several else results[0]


def evaluate(questions: Sequence[Question], params: Params, context: Context) -> list[InsertionDeletion]:
    """The curves of the maps of questions about one network, image and target, in common batches."""
    return _measure(context, questions[0].x, maps_of(questions, context), questions[0].target, params)


def _measure(context: Context, x: Tensor, maps: Sequence[Map], target: Target | PlainTarget | None,
             params: Params) -> list[InsertionDeletion]:
    network = context.network
    scene = Scene(network, x, params, context)
    for label in params.labels:
        network.target(x, label)
    answers = Answers(network, params, None if target is None else network.target(x, target))
    groups = [scene.curves(order(params.cells(values, scene.size)), params) for values in maps]
    places = _ask(scene, [curve for group in groups for curve in group], answers, context)
    return [_result(answers, params, group, [next(places) for _ in group]) for group in groups]


def passes(network: Classifier, attribution: Map | Sequence[Map], **params: Any) -> Passes:
    """What ``measure`` with these maps and the same settings sends through the network."""
    settings = checked(Params, METRIC.title, params)
    return settings.passes([size_of(settings.cells(values, network.input_size)) for values in listed(attribution)[0]])


def passes_of_questions(params: Params, questions: Sequence[Question], maps: Sequence[Attribution]) -> Passes:
    """What ``evaluate`` sends forward. A map that is not there yet is taken to be as fine as the image."""
    size = questions[0].network.input_size
    shapes = [size_of(params.cells(values, size)) for values in maps]
    cells = (params.resolution, params.resolution) if params.resolution else size
    return params.passes(shapes + [cells] * (len(questions) - len(maps)))


def composites(network: Classifier, x: Tensor, attribution: Map | Sequence[Map], fraction: float, *, seed: int = 0,
               **params: Any) -> tuple[Tensor, Tensor] | list[tuple[Tensor, Tensor]]:
    """What the network saw at one point of ``measure``'s curves: (1, C, H, W) for insertion and for deletion, normalised.

    fraction: of the cells, from 0 to 1. params: as in ``measure``. ``network.preprocessing.pixels`` makes pixels of them.
    Raises ExplainerError for a fraction outside [0, 1], or a map that is not finite.
    """
    if not 0 <= fraction <= 1:
        raise ExplainerError(f"The fraction must be from 0 to 1, not {fraction!r}.")
    chosen = checked(Params, METRIC.title, params)
    maps, several = listed(attribution)
    scene = Scene(network, x, chosen, Context(network, seed))
    pairs = []
    for values in maps:
        ranks = order(chosen.cells(values, scene.size))
        count = torch.tensor([round(fraction * ranks.numel())])
        insertion, deletion = (scene.images(replace(curve, counts=count), 0, 1) for curve in scene.curves(ranks, chosen)[:2])
        pairs.append((insertion, deletion))
    return pairs if several else pairs[0]


def order(values: np.ndarray) -> Tensor:
    """(h, w) int32: the rank of each cell, 0 for the highest value; equal values are ranked by their place, row by row."""
    ranks = np.empty(values.size, np.int32)
    ranks[np.argsort(-values, axis=None, kind="stable")] = np.arange(values.size, dtype=np.int32)
    return torch.from_numpy(ranks.reshape(values.shape))


@dataclass(frozen=True)
class Curve:
    """The points of one curve, without its two ends.

    At a point with count k the k cells of lowest rank show the image and the others the baseline; the other way round if
    ``removes``. ``base`` is the index of the baseline among the scene's.
    """

    ranks: Tensor
    counts: Tensor
    base: int
    removes: bool = False


class Scene:
    """The image and its baselines, and the blends that a curve's points are."""

    def __init__(self, network: Classifier, x: Tensor, params: Params, context: Context):
        self.x = one_image(network, x)
        self.size = size_of(x)
        self.smooth = params.rules.smooth
        self.bases = [self._base(network, name, params, context) for name in distinct(params.baselines)]

    def _base(self, network: Classifier, named: Baseline, params: Params, context: Context) -> Tensor:
        if isinstance(named, Tensor):
            if named.shape != self.x.shape:
                raise ExplainerError(f"The baseline has shape {tuple(named.shape)}; it must have the image's {tuple(self.x.shape)}.")
            return named.detach().to(self.x)
        if named == "mean":
            return self.x.mean((2, 3), keepdim=True).expand_as(self.x)
        if named == "blur":
            return params.rules.blur(self.x)
        return plain_baseline(network, self.x, named, context.generator())

    def curves(self, ranks: Tensor, params: Params) -> list[Curve]:
        """Insertion, deletion, and with other labels insertion from the lowest attribution on; without their shared ends."""
        counts = torch.from_numpy(params.counts(size_of(ranks))[1:-1])
        ranks = ranks.to(self.x.device)
        curves = [Curve(ranks, counts, 0), Curve(ranks, counts, len(self.bases) - 1, removes=True)]
        if params.labels:
            curves.append(Curve(ranks.numel() - 1 - ranks, counts, 0))
        return curves

    def images(self, curve: Curve, start: int, stop: int) -> Tensor:
        """(stop - start, C, H, W): what the network sees at these points. Where the mask is 0 or 1 the blend is exact."""
        counts = curve.counts[start:stop].to(curve.ranks.device).view(-1, 1, 1)
        keep = ((curve.ranks >= counts) if curve.removes else (curve.ranks < counts))[:, None].to(self.x.dtype)
        if size_of(keep) != self.size:
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
    """The network's answers to all images that it was shown, in their order; of the classes only those that are needed are kept."""

    def __init__(self, network: Classifier, params: Params, target: Target | None):
        self.network, self.params, self.target = network, params, target
        self._scores: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._top: list[tuple[Tensor, Tensor]] = []

    def probabilities(self, images: Tensor) -> Tensor:
        """(N, K)."""
        logits = self.network.logits(images)
        return logits.softmax(-1) if self.params.output == "softmax" else logits.sigmoid()

    def add(self, probabilities: Tensor) -> None:
        """Keep what is asked for. Raises ExplainerError if the target is among the other labels."""
        if self.target is None:  # the first image of all is the one that is explained
            self.target = Target.of(int(probabilities[0].argmax()))
        if set(self.params.labels) & set(self.target.classes):
            raise ExplainerError("cIM is for the other labels in the picture: leave the target out of them.")
        values, classes = probabilities.topk(min(TOP, probabilities.shape[1]))
        self._top.append((values.cpu(), classes.cpu()))
        self._scores.append(self.target.score(probabilities).double().cpu())
        self._labels.append(probabilities[:, list(self.params.labels)].double().cpu())

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


def _result(answers: Answers, params: Params, curves: Sequence[Curve], places: Sequence[Tensor]) -> InsertionDeletion:
    assert answers.target is not None  # the first batch of answers sets it
    shape = size_of(curves[0].ranks)
    fractions = params.counts(shape) / (shape[0] * shape[1])
    cim = None
    if params.labels:
        cim = float(np.mean([auc(curve, fractions) for curve in answers.label_scores(places[2]).T]))
    return InsertionDeletion(
        fractions, answers.scores(places[0]), answers.scores(places[1]), answers.top(places[0]), answers.top(places[1]),
        params.protocol, answers.target, params.cells_a_step(shape), shape, params.passes([shape]), cim)


def _or_all(fraction: float | None) -> float:
    """A fraction as a score: 1 where the class is never lost, or never regained, so that averages over pictures are defined."""
    return 1.0 if fraction is None else fraction


METRIC = Metric(
    title="Insertion and deletion",
    judges="map", evaluate=evaluate, passes=passes_of_questions, params=Params, version=2, cheap={"step": 200},
    citation=Citation("Petsiuk, Das, Saenko", "RISE: Randomized input sampling for explanation of black-box models", "BMVC 2018",
                      "section 4.1"),
    scores=(Score("insertion_auc", "Insertion AUC", "higher", lambda curves: curves.insertion_auc),
            Score("deletion_auc", "Deletion AUC", "lower", lambda curves: curves.deletion_auc),
            Score("difference", "Difference", "higher", lambda curves: curves.difference),
            Score("lost_at", "Class lost at", "lower", lambda curves: _or_all(curves.lost_at)),
            Score("regained_at", "Class regained at", "lower", lambda curves: _or_all(curves.regained_at))),
    idea="Show the network a picture that is built up, or taken away, in the order of the map, and watch the class's probability. "
         "A faithful map lets it rise early when pixels are inserted, and fall early when they are deleted.",
    equation=r"\mathrm{AUC} = \int_0^1 p_c\big(m_t \odot x + (1 - m_t) \odot \tilde{x}\big)\, dt",
    limits="Half a picture on a grey or blurred ground is unlike anything that the network was trained on, so the numbers, and even "
           "which method is best, change with the baseline. Only the order of a map counts, not its values.",
)

AUCS = METRIC.scores[:2]


def coarse_error(result: InsertionDeletion, settings: Params) -> float:
    """How far the AUCs of coarse curves may be from those of the finest; 0 where these are the finest. settings: of ``result``."""
    steps = len(result.fractions) - 1
    coarse = settings.most_steps is not None and steps < replace(settings, most_steps=None).steps(result.cells)
    return COARSE_ERROR / steps if coarse else 0.0


def not_better(own: InsertionDeletion, control: InsertionDeletion, error: float = 0.0) -> tuple[Score, ...]:
    """The AUCs by which a map is no better than a control that was measured by the same settings, as far as ``error`` lets tell."""
    return tuple(score for score in AUCS if _lead(score, own, control) <= -error)


def too_close(own: InsertionDeletion, control: InsertionDeletion, error: float) -> tuple[Score, ...]:
    """The AUCs by which it cannot be told whether a map beats a control: they differ by less than ``error``."""
    return tuple(score for score in AUCS if abs(_lead(score, own, control)) < error)


def _lead(score: Score, own: InsertionDeletion, control: InsertionDeletion) -> float:
    """By how much a map is better than a control; negative where it is worse."""
    lead = score.of(own) - score.of(control)
    return lead if score.better == "higher" else -lead
