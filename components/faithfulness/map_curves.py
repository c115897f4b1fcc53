"""Insertion and deletion curves of the maps on the page: the task that measures them, and each map with its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import explainers as ex
from components.compute.task import Task, measurement_task
from components.drawing import curves
from components.drawing.curves import Style
from components.drawing.downloads import Answer
from explainers.metrics import insertion_deletion as metric
from explainers.metrics.protocols import Params

SCORES = {score.name: score for score in metric.METRIC.scores}
AUCS = SCORES["insertion_auc"], SCORES["deletion_auc"]
ARROWS = {"higher": "\u2191", "lower": "\u2193"}


@dataclass(frozen=True)
class MapCurves:
    """One map with its curves and how they are drawn."""

    question: ex.Question
    attribution: ex.Attribution
    style: Style
    result: metric.InsertionDeletion

    @property
    def answer(self) -> Answer:
        """The question with its map."""
        return self.question, self.attribution

    @property
    def key(self) -> str:
        """The method's name in Python."""
        return self.question.method.key

    @property
    def title(self) -> str:
        """The method's name for people."""
        return self.question.method.title

    @property
    def is_control(self) -> bool:
        """Whether the map knows nothing of the network."""
        return self.question.method.is_control


def measurements(answers: Sequence[Answer], settings: Params) -> list[ex.Measurement]:
    """One measurement a map, all by the same settings."""
    return [ex.judge("insertion_deletion", question, **vars(settings)) for question, _ in answers]


def task(answers: Sequence[Answer], settings: Params, label: str) -> Task:
    """Measure all maps in common batches. The results are cached for each map by itself, so a new map measures only itself."""
    return measurement_task(measurements(answers, settings), label)


def paired(answers: Sequence[Answer], results: Sequence[metric.InsertionDeletion | None]) -> list[MapCurves]:
    """The maps that have a result, with their styles. ``results`` are in the order of ``answers``."""
    style = curves.styles([question.method.key for question, _ in answers])
    return [MapCurves(question, attribution, style[question.method.key], result)
            for (question, attribution), result in zip(answers, results, strict=True) if result is not None]


def better_in_words(score: ex.Score) -> str:
    """Which way a score is better, for the heading of a panel."""
    return f"{score.better} is better {ARROWS[score.better]}"
