r"""Does the map follow the weights? The parameter-randomisation test: draw weights anew, explain again, compare the maps.

    s_k = similarity( A(x; w),  A(x; w with the weights of stages 1 ... k drawn anew) ),     stage 1 the last layer

for the class that the intact network predicts, or another that stays the same throughout. A map that depends on what the network
has learned changes when the learning is gone; one that stays shows the picture, or the architecture, and not the decision.
``cascading`` goes from the last layer down, each stage on top of those before; ``independent`` draws one stage at a time and leaves
the others as they are; ``last_layer`` does only the first. The similarities are those of ``map_distances``: SSIM, Spearman's rank
correlation of the signed maps and of their magnitudes, and the correlation of histograms of oriented gradients.

The whole method runs on the randomised network, what it fits included. How far the predictions moved is measured beside: where they
did not, a map has no reason to. The same map is no proof of a bad method, nor another map of a good one: noise passes this test.

Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim 2018, section 3; the last layer alone as by Akhtar and others for DMBP.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explainers.context import Progress, report
from explainers.contract import Attribution, ExplainerError, Metric, ParameterError, Reference, Target
from explainers.metrics import map_distances
from explainers.metrics.map_distances import Distances
from explainers.networks.classifier import Classifier
from explainers.networks.randomised import randomised
from explainers.networks.stages import Stage, stages

MODES = ("cascading", "independent", "last_layer")
SIMILARITIES = ("ssim", "rank", "rank_absolute", "hog")
KEPT, NEARLY, LOST = 0.9, 0.75, 0.5  # a map more like the original than this is the same, nearly the same, not another one
_MOST_STAGES = 10

Explain = Callable[[Classifier, Tensor, Target], Attribution]


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

    def fields(self) -> dict[str, Any]:
        """The step as a measurement is kept."""
        return {**vars(self), "distances": vars(self.distances), "predictions": vars(self.predictions),
                "heatmap": torch.from_numpy(self.heatmap)}

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Step:
        """The step that ``fields`` were made of."""
        return cls(fields["title"], Distances(**fields["distances"]), Predictions(**fields["predictions"]),
                   fields["heatmap"].numpy(), tuple(fields["flags"]))


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
    index = target[0] if isinstance(target, tuple) else target
    finite = all(bool(one.isfinite().all()) for one in logits)
    rank = map_distances.rank(*(one.numpy()[None] for one in logits)) if finite else math.nan
    return Predictions(float(before[index]), float(after[index]), rank, int(before.argmax()), int(after.argmax()))


def step(title: str, before: np.ndarray | map_distances.Prepared, after: Attribution, moved: Predictions) -> Step:
    """One step from the intact network's map (H, W) and the map on the randomised one."""
    heatmap = after.heatmap()
    return Step(title, map_distances.compare(before, heatmap), moved, heatmap, after.flags)


def steps(network: Classifier, x: Tensor, explain: Explain, changes: Sequence[Change], *, target: Target | None = None,
          how: str = "reinitialise", seed: int = 0, original: Attribution | None = None) -> Iterator[Step]:
    """One step a change, as soon as its map is there. ``original``: the intact network's map, where it is known."""
    target = network.target(x, target)
    before = original or explain(network, x, target)
    prepared = map_distances.Prepared(before.heatmap())
    for change in changes:
        other = randomised(network, change.stages, how, seed)
        after = explain(other, x, target)
        yield step(change.title, prepared, after, predictions(network, other, x, target))


def measure(network: Classifier, x: Tensor, explain: Explain, *, target: Target | None = None, mode: str = "cascading",
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
    title="Parameter-randomisation sanity check",
    reference=Reference("Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim", "Sanity checks for saliency maps", "NeurIPS 2018",
                        "section 3"),
    idea="Draws the network's weights anew, from the last layer down, and explains again. A map that stays as it was does not show "
         "what the network has learned. Lower similarity is better.",
    equation=r"s_k = \mathrm{sim}\big(A(x; w),\, A(x; \tilde w_{1 \dots k}, w_{k+1 \dots})\big)",
    limits="Noise passes it, and so does any unstable map. SSIM and HOG see the picture's edges in both maps as likeness; compare "
           "with the edge control.",
)
