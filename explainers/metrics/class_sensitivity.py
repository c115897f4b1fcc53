r"""Does the map follow the class? One image, one method, several classes: how different are the maps?

    d(a, b) = distance( A(x; logit a),  A(x; logit b) )

for every pair of classes and each measure of ``map_distances``. Deng and others 2021 (section 6.4.2) average the l2 distance over
images; a small one is a sign that the method restores the picture rather than explains the decision. Guided backpropagation and
Deconvnet are known for it (Nie, Zhang, Patel 2018; Mahendran and Vedaldi 2016).

Two classes that a network distinguishes by the same pixels (two breeds of dog) rightly have similar maps, so the pair matters: two
objects in one picture are the clearest test. A map that changes with the class is not necessarily right: noise drawn for each class
passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from explainers.attribution import Attribution
from explainers.context import Context
from explainers.contract import Citation, Metric, Score
from explainers.data.class_pairs import likeliest
from explainers.errors import ExplainerError
from explainers.metrics.map_distances import MEASURES, Average, Distances, Prepared, average, compare
from explainers.parameters import other
from explainers.passes import Passes
from explainers.progress import Progress, report
from explainers.question import Question
from explainers.target import PlainTarget, Target

SAME, ALIKE = 0.95, 0.8  # rank correlations between classes from which a map hardly changes, or changes little
_NEAR = 0.3  # l2 distance of unit maps below which the strengths have not moved either (a cosine above 0.95)

Explain = Callable[[Tensor, Target, Progress | None], Attribution]


@dataclass(frozen=True)
class Params:
    """Which classes' maps are compared."""

    classes: tuple[int, ...] = other((), takes="two or more class indices, or none", label="Classes", help=(
        "The classes whose maps are compared, pair by pair. Without any: the network's two most probable ones."))


@dataclass(frozen=True)
class ClassSensitivity:
    """``matrices[measure][i, j]``: the measure between the maps of ``targets`` i and j, (K, K) float64, nan where it is not defined.

    ``flat``: the targets whose maps are the same everywhere, so that nothing can be compared with them.
    """

    targets: tuple[Target, ...]
    matrices: Mapping[str, np.ndarray]
    flat: tuple[Target, ...] = ()

    def between(self, a: Target | PlainTarget, b: Target | PlainTarget) -> Distances:
        """The measures of one pair. Raises ExplainerError for a target that was not measured."""
        a, b = Target.of(a), Target.of(b)
        for target in (a, b):
            if target not in self.targets:
                maps = ", ".join(str(known.plain) for known in self.targets)
                raise ExplainerError(f"There is no map for {target.plain}; there are maps for {maps}.")
        i, j = self.targets.index(a), self.targets.index(b)
        return Distances(**{name: float(self.matrices[name][i, j]) for name in MEASURES})

    def over_pairs(self) -> dict[str, float]:
        """Each measure's mean over all pairs of different classes for which it is defined; nan where it is for none."""
        upper = np.triu_indices(len(self.targets), 1)
        return {name: average(self.matrices[name][upper].tolist()).mean for name in MEASURES}


@dataclass(frozen=True)
class SetSensitivity:
    """Over a set of images: for each measure the average of the images' own means over their pairs of classes."""

    averages: Mapping[str, Average]
    images: int


def measure(attributions: Sequence[Attribution]) -> ClassSensitivity:
    """Compare the maps of one image, method and seed for two or more targets, at the input's resolution.

    Raises ExplainerError where the maps differ in more than their target, or a target comes twice.
    """
    targets = tuple(attribution.target for attribution in attributions)
    if len(targets) < 2 or len(set(targets)) < len(targets):
        raise ExplainerError("Class sensitivity needs the maps of at least two targets, each of them once.")
    if len({(a.network, a.method, repr(sorted(a.params.items())), a.seed, a.input_size) for a in attributions}) > 1:
        raise ExplainerError("Only the target may differ between the maps: explain with one network, method, seed and parameters.")
    return of_maps(targets, [attribution.heatmap() for attribution in attributions])


def targets_of(params: Params, question: Question) -> tuple[Target, ...]:
    """The single classes whose maps are compared."""
    classes = params.classes or likeliest(question.network, question.x)
    return tuple(Target.of(index) for index in classes)


def evaluate(questions: Sequence[Question], params: Params, context: Context) -> list[ClassSensitivity]:
    """Compare the classes' maps of each question's image, method, settings and seed."""
    results = []
    for question in questions:
        targets = targets_of(params, question)
        parts = [context.part(place, place + 1, len(targets)) for place in range(len(targets))]
        results.append(measure([part.explain(replace(question, target=target)) for part, target in zip(parts, targets, strict=True)]))
    return results


def of_maps(targets: Sequence[Target | PlainTarget], heatmaps: Sequence[np.ndarray]) -> ClassSensitivity:
    """``measure`` for maps (H, W) from anywhere, one for each target."""
    prepared = [Prepared(heatmap) for heatmap in heatmaps]
    matrices = {name: np.full((len(prepared), len(prepared)), math.nan) for name in MEASURES}
    for i, first in enumerate(prepared):
        for j in range(i, len(prepared)):
            distances = compare(first, prepared[j])
            for name in MEASURES:
                matrices[name][i, j] = matrices[name][j, i] = getattr(distances, name)
    checked = tuple(map(Target.of, targets))
    return ClassSensitivity(checked, matrices, tuple(target for target, one in zip(checked, prepared, strict=True) if one.flat))


def over_images(results: Sequence[ClassSensitivity]) -> SetSensitivity:
    """The average over images, its standard error, and how many images had no pair for which it is defined.

    An image counts once, however many classes it was explained for: its pairs are not independent of one another.
    """
    if not results:
        raise ExplainerError("There is no image to average over: measure at least one.")
    each = [result.over_pairs() for result in results]
    return SetSensitivity({name: average([values[name] for values in each]) for name in MEASURES}, len(results))


def measure_set(explain: Explain, images: Tensor, classes: Sequence[Sequence[Target]],
                progress: Progress | None = None) -> SetSensitivity:
    """Class sensitivity of one method over a set of images.

    explain: ``explain(x, target, progress)`` gives the Attribution of one image (1, C, H, W). images: (N, C, H, W), preprocessed.
    classes: for each image, two targets or more. It costs the method once for each image and target. progress: called after every
    map with (done, total, None). Raises ExplainerError, Cancelled.
    """
    if len(images) == 0 or len(classes) != len(images):
        raise ExplainerError(f"Every image needs its classes: {len(images)} images came with {len(classes)} lists of classes.")
    total, done, results = sum(map(len, classes)), 0, []
    for x, targets in zip(images.split(1), classes, strict=True):
        maps = []
        for target in targets:
            maps.append(explain(x, target, None if progress is None else lambda *_: progress(done, total, None)))
            done += 1
            report(progress, done, total)
        results.append(measure(maps))
    return over_images(results)


@dataclass(frozen=True)
class Verdict:
    """``level``: "same" (the map hardly changes with the class), "alike", "different" or "unknown". ``words``: a sentence."""

    level: str
    words: str


def verdict(rank: float, l2_unit: float, unlike: str = "the two classes", flat: str = "") -> Verdict:
    """What the rank correlation and the unit l2 distance between the maps of different classes say.

    unlike: what differs between the maps, for the sentence. flat: the classes whose maps are the same everywhere, where that is known.
    The rank correlation decides. The distance stands beside it, because a few strong pixels may move while all others stay in order.
    """
    if math.isnan(rank):
        which = f"the map for {flat}" if flat else "a map"
        return Verdict("unknown", f"Nothing can be said: {which} is the same everywhere, so there is no shape to compare.")
    numbers = f"rank correlation {rank:.3f}, l2 distance of unit maps {l2_unit:.2f} of at most 2".replace("-", "\u2212")
    if rank >= SAME and l2_unit < _NEAR:
        return Verdict("same", f"Hardly follows the class: nearly the same map for {unlike} ({numbers}).")
    if rank >= SAME:
        return Verdict("same", f"Hardly follows the class: the pixels keep their order for {unlike}; "
                               f"strengths shift ({numbers}).")
    if rank >= ALIKE:
        return Verdict("alike", f"Follows the class a little: the maps for {unlike} are much alike ({numbers}).")
    return Verdict("different", f"Follows the class: the maps for {unlike} differ ({numbers}).")


METRIC = Metric(
    title="Class sensitivity", judges="class maps", evaluate=evaluate, params=Params, version=2,
    passes=lambda params, questions, maps: Passes(forward=0 if params.classes else len(questions)),
    questions=lambda params, question: len(params.classes) or 2,
    scores=(Score("rank", "Rank correlation", "lower", lambda apart: apart.over_pairs()["rank"]),
            Score("ssim", "SSIM", "lower", lambda apart: apart.over_pairs()["ssim"]),
            Score("l2_unit", "l2, unit maps", "higher", lambda apart: apart.over_pairs()["l2_unit"])),
    citation=Citation("Deng, Zou, Chen, Feng, Du, Hu", "Mutual information preserving back-propagation: learn to invert for "
                        "faithful attribution", "KDD 2021", "section 6.4.2"),
    idea="How different a method's maps of one picture are for different classes. A map that stays the same whatever the class shows "
         "the picture, not the decision.",
    equation=r"d(a, b) = \left\lVert \frac{A_a}{\max |A_a|} - \frac{A_b}{\max |A_b|} \right\rVert_2",
    limits="Classes that are distinguished by the same pixels rightly have similar maps. A map that changes is not necessarily right: "
           "noise that is different for each class scores best of all.",
)
