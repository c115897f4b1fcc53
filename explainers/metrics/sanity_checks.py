r"""Does the map follow the weights? The parameter-randomisation test: draw weights anew, explain again, compare the maps.

    s_k = similarity( A(x; w),  A(x; w with the weights of stages 1 ... k drawn anew) ),     stage 1 the last layer

for the class that the intact network predicts, or another that stays the same throughout. A map that depends on what the network
has learned changes when the learning is gone; one that stays shows the picture, or the architecture, and not the decision.
``cascading`` goes from the last layer down, each stage on top of those before; ``independent`` draws one stage at a time and leaves
the others as they are; ``last_layer`` does only the first. The similarities are those of ``map_distances``: SSIM, Spearman's rank
correlation of the signed maps and of their magnitudes, and the correlation of histograms of oriented gradients.

The whole method runs on the randomised network, what it fits included. How far the predictions moved is measured beside: where they
did not, a map has no reason to. The same map is no proof of a bad method, nor another map of a good one: noise passes this test.

Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim 2018, section 3; the last layer alone as by Ruiz, Agudo and Moreno-Noguer for DMBP.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explainers.attribution import Attribution
from explainers.context import Context
from explainers.contract import Citation, Metric, Score
from explainers.errors import ExplainerError, ParameterError
from explainers.metrics import map_distances
from explainers.metrics.map_distances import Distances, Prepared
from explainers.networks.classifier import Classifier
from explainers.networks.randomised import WAYS, randomised
from explainers.networks.stages import Stage, stages
from explainers.parameters import choice, integer
from explainers.passes import Passes
from explainers.progress import Progress, report
from explainers.question import Question
from explainers.target import PlainTarget, Target

MODES = ("cascading", "independent", "last_layer")
SIMILARITIES = ("ssim", "rank", "rank_absolute", "hog")
KEPT, NEARLY, LOST = 0.9, 0.75, 0.5  # a map more like the original than this is the same, nearly the same, not another one
_MOST_STAGES = 10

STEP, PREDICTIONS = "sanity_checks step", "sanity_checks predictions"  # names of the results that are cached by themselves

Explain = Callable[[Classifier, Tensor, Target], Attribution]
GetOrCompute = Callable[[str, Sequence[Any], Callable[[], Any]], Any]


@dataclass(frozen=True)
class Params:
    """Which weights are re-initialised, in what order, and how."""

    mode: str = choice("cascading", *MODES, label="Weights", help=(
        "cascading: from the last layer down, each stage on top of those before. independent: one stage at a time. last_layer: only "
        "the first of the stages."))
    how: str = choice("reinitialise", *WAYS, label="Drawn from", help=(
        "reinitialise: as a layer starts before training. permute: each tensor's own values in another order. normal: a normal "
        "distribution with the spread of the tensor's values."))
    stages: int = integer(8, low=1, high=100, label="Stages at most", help="Layers are grouped into this many stages, blocks kept whole.")
    draw_seed: int = integer(0, low=0, high=2**31 - 1, label="Seed of the draw", help="The same seed draws the same weights.")


@dataclass(frozen=True)
class Change:
    """One step of a check: the ``stages`` that are drawn anew together, and the ``title`` of the one that is new in it."""

    title: str
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Predictions:
    """What the change did to the predictions. ``probability``: of the target, of its first class for a contrast. ``rank``:
    Spearman's correlation of the logits before and after, nan where they are all the same."""

    probability_before: float
    probability: float
    rank: float
    top_before: int
    top: int

    @property
    def changed(self) -> bool:
        """Whether the first choice is another class."""
        return self.top != self.top_before


@dataclass(frozen=True)
class Step:
    """One map after a change. ``heatmap`` (H, W) float32, signed, at the input's resolution; ``flags`` as the map's own."""

    title: str
    distances: Distances
    predictions: Predictions
    heatmap: np.ndarray
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class SanityCheck:
    """The map of the intact network, and one step a change."""

    mode: str
    how: str
    seed: int
    target: Target
    heatmap: np.ndarray
    steps: tuple[Step, ...]


def schedule(network: Classifier, mode: str = "cascading", wanted: int = 8) -> tuple[Change, ...]:
    """The changes of a check, in order, with at most ``wanted`` stages. Raises ExplainerError."""
    if mode not in MODES:
        raise ParameterError(f"mode must be one of {', '.join(map(repr, MODES))}, not {mode!r}.")
    found = stages(network, _MOST_STAGES if mode == "last_layer" else wanted)
    if mode == "last_layer":
        return (Change(found[0].title, found[:1]),)
    first = 0 if mode == "cascading" else None
    return tuple(Change(stage.title, found[first if first is not None else at:at + 1]) for at, stage in enumerate(found))


def predictions(network: Classifier, other: Classifier, x: Tensor, target: Target) -> Predictions:
    """How far the predictions of one image (1, C, H, W) are from the intact ``network``'s; one forward pass each."""
    with torch.inference_mode():
        logits = [one.logits(x)[0].float().cpu() for one in (network, other)]
    before, after = (one.softmax(0) for one in logits)
    index = target.first
    finite = all(bool(one.isfinite().all()) for one in logits)
    rank = map_distances.rank(*(one.numpy()[None] for one in logits)) if finite else math.nan
    return Predictions(float(before[index]), float(after[index]), rank, int(before.argmax()), int(after.argmax()))


def step(title: str, before: np.ndarray | Prepared, after: Attribution, moved: Predictions) -> Step:
    """One step from the intact network's map (H, W) and the map on the randomised one."""
    heatmap = after.heatmap()
    return Step(title, map_distances.compare(before, heatmap), moved, heatmap, after.flags)


def steps(network: Classifier, x: Tensor, explain: Explain, changes: Sequence[Change], *, target: Target | PlainTarget | None = None,
          how: str = "reinitialise", seed: int = 0, original: Attribution | None = None) -> Iterator[Step]:
    """One step a change, as soon as its map is there. ``original``: the intact network's map, where it is known."""
    target = network.target(x, target)
    before = original or explain(network, x, target)
    prepared = Prepared(before.heatmap())
    for change in changes:
        other = randomised(network, change.stages, how, seed)
        after = explain(other, x, target)
        yield step(change.title, prepared, after, predictions(network, other, x, target))


@dataclass(frozen=True)
class StepQuestion:
    """One step of a check, ready to be run: the question to the intact network, and the change after which it is asked again.

    how: one of ``randomised.WAYS``. seed: of the new weights.
    """

    question: Question
    change: Change
    how: str = "reinitialise"
    seed: int = 0

    @property
    def weights(self) -> tuple[Any, ...]:
        """What decides the weights of the changed network."""
        return tuple(sorted(name for stage in self.change.stages for name in stage.parameters)), self.how, self.seed

    @property
    def parts(self) -> tuple[Any, ...]:
        """All that decides the step, except its title: the key's parts for ``Engine.lookup_computed(STEP, parts)``."""
        return METRIC.version, self.question, *self.weights

    def run(self, explain: Callable[[Question], Attribution], get_or_compute: GetOrCompute, original: Prepared | None = None) -> Step:
        """The step, from the cache if it is known. explain, get_or_compute: those of an engine or of a context.

        original: the intact network's map, if the caller has it; else it is explained first. Raises ExplainerError, Cancelled.
        """
        return self.titled(get_or_compute(STEP, self.parts, lambda: self._compute(explain, get_or_compute, original)))

    def titled(self, step: Step) -> Step:
        """A step from the cache with this change's title: stages that are grouped otherwise may hold the same weights."""
        return replace(step, title=self.change.title)

    def _compute(self, explain: Callable[[Question], Attribution], get_or_compute: GetOrCompute, original: Prepared | None) -> Step:
        question = self.question
        before = original or Prepared(explain(question).heatmap())
        other = _randomised(question.network, *self.weights)
        after = explain(replace(question, network=other))
        moved = get_or_compute(PREDICTIONS, (METRIC.version, question.network, question.image_digest, question.target, *self.weights),
                               lambda: predictions(question.network, other, question.x, question.target))
        return step(self.change.title, before, after, moved)


@lru_cache(maxsize=1)  # several methods are asked about one changed network in turn; each is as large as the network itself
def _randomised(network: Classifier, parameters: tuple[str, ...], how: str, seed: int) -> Classifier:
    return randomised(network, (Stage("", parameters),), how, seed)


def evaluate(questions: Sequence[Question], params: Params, context: Context) -> list[SanityCheck]:
    """The test for each question: its method, settings and seed on the intact and on the randomised networks."""
    return [_evaluate_one(question, params, context.part(number, number + 1, len(questions)))
            for number, question in enumerate(questions)]


def _evaluate_one(question: Question, params: Params, context: Context) -> SanityCheck:
    changes = schedule(question.network, params.mode, params.stages)
    parts = [context.part(number, number + 1, len(changes) + 1) for number in range(len(changes) + 1)]
    heatmap = parts[0].explain(question).heatmap()
    original = Prepared(heatmap)
    steps = [StepQuestion(question, change, params.how, params.draw_seed).run(part.explain, context.get_or_compute, original)
             for change, part in zip(changes, parts[1:], strict=True)]
    return SanityCheck(params.mode, params.how, params.draw_seed, question.target, heatmap, tuple(steps))


def passes_of_questions(params: Params, questions: Sequence[Question], maps: Sequence[Attribution]) -> Passes:
    """Two images a change: the predictions of the intact and of the randomised network."""
    return Passes(forward=2 * sum(len(schedule(question.network, params.mode, params.stages)) for question in questions))


def measure(network: Classifier, x: Tensor, explain: Explain, *, target: Target | PlainTarget | None = None, mode: str = "cascading",
            how: str = "reinitialise", stages: int = 8, seed: int = 0, progress: Progress | None = None) -> SanityCheck:
    """The parameter-randomisation test of one method on one image (1, C, H, W), preprocessed.

    explain: ``explain(network, x, target)`` gives an Attribution; it is called for the intact network and for every change, on a
    classifier of its own. target: None for the intact network's top-1 class. how: ``randomised.WAYS``. seed: of the weights that are
    drawn, not of the method. It costs the method once more than there are changes, fits included, and two forward passes a change.
    Raises ExplainerError, Cancelled.
    """
    changes = schedule(network, mode, stages)
    target = network.target(x, target)
    report(progress, 0, len(changes) + 1)
    original = explain(network, x, target)
    report(progress, 1, len(changes) + 1)
    found = []
    for one in steps(network, x, explain, changes, target=target, how=how, seed=seed, original=original):
        found.append(one)
        report(progress, len(found) + 1, len(changes) + 1)
    return SanityCheck(mode, how, seed, target, original.heatmap(), tuple(found))


def verdict(found: Sequence[Step], mode: str = "cascading") -> str:
    """What the steps say, in words with their numbers. Raises ExplainerError for no steps."""
    if not found:
        raise ExplainerError("There is no step to judge: run the check first.")
    if mode == "independent":
        return _by_stage(found)
    head = _at_the_head(found[0])
    if mode == "last_layer" or len(found) == 1:
        return head
    return f"{head} {_at_the_end(found[-1], len(found))}"


def likeness(distances: Distances) -> float:
    """The mean of SSIM and both rank correlations, of those that can be told; nan where none can."""
    told = [value for value in (distances.ssim, distances.rank, distances.rank_absolute) if not math.isnan(value)]
    return sum(told) / len(told) if told else math.nan


def stays(distances: Distances) -> bool:
    """Whether it is the same map: SSIM and both rank correlations above ``KEPT``, as far as they can be told."""
    told = [value for value in (distances.ssim, distances.rank, distances.rank_absolute) if not math.isnan(value)]
    return bool(told) and min(told) > KEPT


def _at_the_head(step: Step) -> str:
    alike, numbers = likeness(step.distances), _numbers(step.distances)
    if math.isnan(alike):
        return f"With the last layer drawn anew, the maps cannot be compared: {_why(step)}."
    if stays(step.distances):
        if step.predictions.rank > KEPT:
            return f"Without the last layer's weights the map stays ({numbers}), and so do the predictions{_moved(step)}: no verdict."
        return f"It does not follow the last layer's weights: without them the map stays as it was ({numbers}){_moved(step)}."
    word = "It hardly follows" if alike > NEARLY else "It follows" if alike < LOST else "It follows in part"
    return f"{word} the last layer's weights: without them the map changes ({numbers}){_moved(step)}."


def _at_the_end(step: Step, count: int) -> str:
    alike, numbers = likeness(step.distances), _numbers(step.distances)
    start = f"With all {count} stages drawn anew"
    if math.isnan(alike):
        return f"{start}, the maps cannot be compared: {_why(step)}."
    if stays(step.distances):
        return f"{start} it is still the same map ({numbers}): nothing in it was learned."
    if alike < LOST:
        return f"{start}, little of it is left ({numbers})."
    return f"{start}, {'most' if alike > NEARLY else 'much'} of it is still there ({numbers}): that part was not learned."


def _by_stage(found: Sequence[Step]) -> str:
    told = [step for step in found if not math.isnan(likeness(step.distances))]
    if not told:
        return f"The maps cannot be compared: {_why(found[0])}."
    least = min(told, key=lambda step: likeness(step.distances))
    unmoved = [step.title for step in told if stays(step.distances)]
    one = f"It changes the most without the weights of: {least.title} ({_numbers(least.distances)})."
    if not unmoved:
        return f"{one} No stage leaves it as it was."
    return f"{one} It does not follow the weights of: {', '.join(unmoved)}."


def _numbers(distances: Distances) -> str:
    named = (("SSIM", distances.ssim), ("rank", distances.rank), ("|rank|", distances.rank_absolute))
    return ", ".join(f"{name} {round(value, 2) + 0.0:.2f}" for name, value in named if not math.isnan(value)).replace("-", "\u2212")


def _moved(step: Step) -> str:
    moved = step.predictions
    return f", while the class's probability goes from {_share(moved.probability_before)} to {_share(moved.probability)}"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %" if value >= 0.0005 else "below 0.1 %"


def _why(step: Step) -> str:
    return step.flags[0] if step.flags else "one of them is the same everywhere"


METRIC = Metric(
    title="Parameter-randomisation sanity check", judges="randomised maps", evaluate=evaluate, passes=passes_of_questions,
    params=Params, version=2, cheap={"stages": 3},
    questions=lambda params, question: 1 + len(schedule(question.network, params.mode, params.stages)),
    scores=(Score("ssim", "SSIM after the last change", "lower", lambda check: check.steps[-1].distances.ssim),
            Score("rank", "Rank correlation after the last change", "lower", lambda check: check.steps[-1].distances.rank)),
    citation=Citation("Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim", "Sanity checks for saliency maps", "NeurIPS 2018",
                        "section 3"),
    idea="Draws the network's weights anew, from the last layer down, and explains again. A map that stays as it was does not show "
         "what the network has learned. Lower similarity is better.",
    equation=r"s_k = \mathrm{sim}\big(A(x; w),\, A(x; \tilde w_{1 \dots k}, w_{k+1 \dots})\big)",
    limits="Noise passes it, and so does any unstable map. SSIM and HOG see the picture's edges in both maps as likeness; compare "
           "with the edge control.",
)
