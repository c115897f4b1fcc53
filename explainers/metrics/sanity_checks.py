r"""Does the map follow the weights? The parameter-randomisation test: randomise weights, explain again, compare the maps.

    s_k = similarity( A(x; w),  A(x; w with the weights of stages 1 ... k randomised) ),     stage 1 the last layer

for the class that the network with trained weights predicts, or another that stays the same throughout. A map that depends on what
the network has learned changes when the weights are randomised; one that stays the same shows the picture or the architecture, not
the decision. ``cascading`` goes from the last layer down, each stage on top of those before; ``independent`` randomises one stage at
a time and leaves the others as they are; ``last_layer`` randomises only the first stage. The similarities are those of
``map_distances``: SSIM, Spearman's rank correlation of the signed maps and of their magnitudes, and the correlation of histograms of
oriented gradients.

The whole method runs on the randomised network, including the statistics that it fits. How far the predictions moved is measured as
well, because where they did not change, the map need not change either. An unchanged map does not prove a method bad, nor a changed
one good: noise passes this test.

Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim 2018, section 3; the last layer alone as by Ruiz, Agudo and Moreno-Noguer for DMBP.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
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
GetOrCompute = Callable[..., Any]  # (name, parts, compute, kind=...), as of an engine or of a context


@dataclass(frozen=True)
class Params:
    """Which weights are randomised, in what order, and how."""

    mode: str = choice("cascading", *MODES, label="Weights", help=(
        "cascading: from the last layer down, each stage on top of those before. independent: one stage at a time. last_layer: only "
        "the first of the stages."))
    how: str = choice("reinitialise", *WAYS, label="New values", help=(
        "reinitialise: as a layer starts before training. permute: each tensor's own values in another order. normal: a normal "
        "distribution with the spread of the tensor's values."))
    stages: int = integer(8, low=1, high=100, label="Stages at most", help=(
        "Layers are grouped into this many stages, blocks kept whole."))
    draw_seed: int = integer(0, low=0, high=2**31 - 1, label="Seed of the weights", help="The same seed draws the same weights.")


@dataclass(frozen=True)
class Change:
    """One step of a check: the ``stages`` that are randomised together, and the ``title`` of the stage that this step adds."""

    title: str
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Predictions:
    """How a change of the weights moved the predictions of one image.

    probability: of the target, for a contrast of its first class. rank: Spearman's correlation of the logits before and after, nan
    where they are all equal. top: the most probable class.
    """

    probability_before: float
    probability: float
    rank: float
    top_before: int
    top: int

    @property
    def changed(self) -> bool:
        """Whether another class is the most probable one."""
        return self.top != self.top_before


@dataclass(frozen=True)
class Step:
    """The map after a change. ``heatmap``: (H, W) float32, signed, at the input's resolution. ``flags``: those of the map."""

    title: str
    distances: Distances
    predictions: Predictions
    heatmap: np.ndarray
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class SanityCheck:
    """The map with trained weights, (H, W) like those of the steps, and one step for each change."""

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
    parts = stages(network, _MOST_STAGES if mode == "last_layer" else wanted)
    if mode == "last_layer":
        return (Change(parts[0].title, parts[:1]),)
    return tuple(Change(stage.title, parts[0 if mode == "cascading" else at:at + 1]) for at, stage in enumerate(parts))


def predictions(network: Classifier, other: Classifier, x: Tensor, target: Target) -> Predictions:
    """How the predictions of one image (1, C, H, W) by ``other`` differ from those by ``network``; one forward pass each."""
    with torch.inference_mode():
        logits, moved = (each.logits(x)[0].float().cpu() for each in (network, other))
    before, after = logits.softmax(0), moved.softmax(0)
    index = target.first
    finite = bool(logits.isfinite().all() and moved.isfinite().all())
    rank = map_distances.rank(logits.numpy()[None], moved.numpy()[None]) if finite else math.nan
    return Predictions(float(before[index]), float(after[index]), rank, int(before.argmax()), int(after.argmax()))


def step(title: str, before: np.ndarray | Prepared, after: Attribution, moved: Predictions) -> Step:
    """The step that follows from the map (H, W) with trained weights and the map on the randomised network."""
    heatmap = after.heatmap()
    return Step(title, map_distances.compare(before, heatmap), moved, heatmap, after.flags)


def steps(network: Classifier, x: Tensor, explain: Explain, changes: Sequence[Change], *, target: Target | PlainTarget | None = None,
          how: str = "reinitialise", seed: int = 0, original: Attribution | None = None) -> Iterator[Step]:
    """One step for each change, as soon as its map is there. ``original``: the map with trained weights, where it is known."""
    target = network.target(x, target)
    before = original or explain(network, x, target)
    prepared = Prepared(before.heatmap())
    for change in changes:
        other = randomised(network, change.stages, how, seed)
        after = explain(other, x, target)
        yield step(change.title, prepared, after, predictions(network, other, x, target))


@dataclass(frozen=True)
class StepQuestion:
    """One step of a check, ready to be run: a question with trained weights, and the change after which it is asked again.

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

    def changed_network(self) -> Classifier:
        """The network with the change's weights drawn anew."""
        return randomised(self.question.network, self.change.stages, self.how, self.seed)

    def run(self, explain: Callable[[Question], Attribution], get_or_compute: GetOrCompute,
            changed: Callable[[], Classifier] | None = None) -> Step:
        """The step, from the cache if it is known. explain, get_or_compute: those of an engine or of a context.

        changed: gives ``changed_network()``, where the caller keeps it for several methods. Raises ExplainerError, Cancelled.
        """
        return self.titled(get_or_compute(STEP, self.parts, lambda: self._compute(explain, get_or_compute, changed), kind=Step))

    def titled(self, step: Step) -> Step:
        """A step from the cache with this change's title: stages that are grouped otherwise may hold the same weights."""
        return replace(step, title=self.change.title)

    def _compute(self, explain: Callable[[Question], Attribution], get_or_compute: GetOrCompute,
                 changed: Callable[[], Classifier] | None) -> Step:
        question = self.question
        before = explain(question).heatmap()
        other = (changed or self.changed_network)()
        after = explain(replace(question, network=other))
        moved = get_or_compute(PREDICTIONS, (METRIC.version, question.network, question.image_digest, question.target, *self.weights),
                               lambda: predictions(question.network, other, question.x, question.target), kind=Predictions)
        return step(self.change.title, before, after, moved)


def evaluate(questions: Sequence[Question], params: Params, context: Context) -> list[SanityCheck]:
    """The test for each question: its method, settings and seed with trained weights and on the randomised networks."""
    return [_evaluate_one(question, params, context.part(number, number + 1, len(questions)))
            for number, question in enumerate(questions)]


def _evaluate_one(question: Question, params: Params, context: Context) -> SanityCheck:
    changes = schedule(question.network, params.mode, params.stages)
    parts = [context.part(number, number + 1, len(changes) + 1) for number in range(len(changes) + 1)]
    original = parts[0].explain(question)
    steps = []
    for change, part in zip(changes, parts[1:], strict=True):
        def explain(asked: Question, part: Context = part) -> Attribution:
            return original if asked is question else part.explain(asked)

        steps.append(StepQuestion(question, change, params.how, params.draw_seed).run(explain, context.get_or_compute))
    return SanityCheck(params.mode, params.how, params.draw_seed, question.target, original.heatmap(), tuple(steps))


def passes_of_questions(params: Params, questions: Sequence[Question], maps: Sequence[Attribution]) -> Passes:
    """Two images for each change: the predictions before and after it."""
    return Passes(forward=2 * sum(len(schedule(question.network, params.mode, params.stages)) for question in questions))


def measure(network: Classifier, x: Tensor, explain: Explain, *, target: Target | PlainTarget | None = None, mode: str = "cascading",
            how: str = "reinitialise", stages: int = 8, seed: int = 0, progress: Progress | None = None) -> SanityCheck:
    """The parameter-randomisation test of one method on one image (1, C, H, W), preprocessed.

    explain: ``explain(network, x, target)`` gives an Attribution; it is called with trained weights and after every change, on
    a classifier of its own. target: None for the network's top-1 class. how: ``randomised.WAYS``. seed: of the new weights, not of the
    method. The method runs once more than there are changes, fits included; each change costs two forward passes as well.
    Raises ExplainerError, Cancelled.
    """
    changes = schedule(network, mode, stages)
    target = network.target(x, target)
    report(progress, 0, len(changes) + 1)
    original = explain(network, x, target)
    report(progress, 1, len(changes) + 1)
    made = []
    for each in steps(network, x, explain, changes, target=target, how=how, seed=seed, original=original):
        made.append(each)
        report(progress, len(made) + 1, len(changes) + 1)
    return SanityCheck(mode, how, seed, target, original.heatmap(), tuple(made))


def verdict(steps: Sequence[Step], mode: str = "cascading") -> str:
    """What the steps show, in words with their numbers. Raises ExplainerError for no steps."""
    if not steps:
        raise ExplainerError("There is no step to judge: run the check first.")
    if mode == "independent":
        return _by_stage(steps)
    head = _at_the_head(steps[0])
    if mode == "last_layer" or len(steps) == 1:
        return head
    return f"{head} {_at_the_end(steps[-1], len(steps))}"


def similarity(distances: Distances) -> float:
    """The mean of SSIM and both rank correlations, of those that are defined; nan where none is."""
    values = _defined(distances)
    return sum(values) / len(values) if values else math.nan


def stays(distances: Distances) -> bool:
    """Whether it is the same map: SSIM and both rank correlations above ``KEPT``, as far as they are defined."""
    return min(_defined(distances), default=0.0) > KEPT


def level(step: Step) -> str:
    """How much of the map is left after a change: "same", "most", "much" or "little" of it.

    "unmoved": it is the same map, and so are the predictions, which says nothing. "unknown": the maps cannot be compared.
    """
    value = similarity(step.distances)
    if math.isnan(value):
        return "unknown"
    if stays(step.distances):
        return "unmoved" if step.predictions.rank > KEPT else "same"
    return "little" if value < LOST else "most" if value > NEARLY else "much"


def _defined(distances: Distances) -> list[float]:
    return [value for value in (distances.ssim, distances.rank, distances.rank_absolute) if not math.isnan(value)]


def _at_the_head(step: Step) -> str:
    left, numbers = level(step), _numbers(step.distances)
    if left == "unknown":
        return f"With the last layer randomised, the maps cannot be compared: {_why(step)}."
    if left == "unmoved":
        return f"Without the last layer's weights the map stays ({numbers}), and so do the predictions{_moved(step)}: no verdict."
    if left == "same":
        return f"It does not follow the last layer's weights: without them the map stays as it was ({numbers}){_moved(step)}."
    word = {"most": "It hardly follows", "much": "It follows in part", "little": "It follows"}[left]
    return f"{word} the last layer's weights: without them the map changes ({numbers}){_moved(step)}."


def _at_the_end(step: Step, count: int) -> str:
    left, numbers = level(step), _numbers(step.distances)
    start = f"With all {count} stages randomised"
    if left == "unknown":
        return f"{start}, the maps cannot be compared: {_why(step)}."
    if left in ("same", "unmoved"):
        return f"{start} it is still the same map ({numbers}): nothing in it was learned."
    if left == "little":
        return f"{start}, little of it is left ({numbers})."
    return f"{start}, {left} of it is still there ({numbers}): that part was not learned."


def _by_stage(steps: Sequence[Step]) -> str:
    comparable = [step for step in steps if not math.isnan(similarity(step.distances))]
    if not comparable:
        return f"The maps cannot be compared: {_why(steps[0])}."
    least = min(comparable, key=lambda step: similarity(step.distances))
    unmoved = [step.title for step in comparable if stays(step.distances)]
    most = f"It changes the most without the weights of: {least.title} ({_numbers(least.distances)})."
    if not unmoved:
        return f"{most} No stage leaves it as it was."
    return f"{most} It does not follow the weights of: {', '.join(unmoved)}."


def _numbers(distances: Distances) -> str:
    named = (("SSIM", distances.ssim), ("rank", distances.rank), ("|rank|", distances.rank_absolute))
    return ", ".join(f"{name} {round(value, 2) + 0.0:.2f}" for name, value in named if not math.isnan(value)).replace("-", "\u2212")


def _moved(step: Step) -> str:
    moved = step.predictions
    return f", while the class's probability goes from {_percent(moved.probability_before)} to {_percent(moved.probability)}"


def _percent(value: float) -> str:
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
    idea="Randomises the network's weights, from the last layer down, and explains again. A map that stays as it was does not show "
         "what the network has learned. Lower similarity is better.",
    equation=r"s_k = \mathrm{sim}\big(A(x; w),\, A(x; \tilde w_{1 \dots k}, w_{k+1 \dots})\big)",
    limits="Noise passes it, and so does any unstable map. SSIM and HOG count the picture's edges in both maps as similarity; compare "
           "with the edge control.",
)
