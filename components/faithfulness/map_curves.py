"""Insertion and deletion curves of the maps on the page: the task that measures them, and each map with its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import explainers as ex
from components.compute.task import Task, measurement_task
from components.drawing import curves
from components.drawing.curves import Style
from components.drawing.downloads import Answer
from components.state import evidence
from components.state.entries import Name
from explainers.metrics import insertion_deletion as metric
from explainers.metrics.protocols import Params

SCORES = {score.name: score for score in metric.METRIC.scores}
AUCS = metric.AUCS
ARROWS = {"higher": "\u2191", "lower": "\u2193"}

Measured = tuple[metric.InsertionDeletion, Params]
"""A result, and the settings by which it was measured."""


@dataclass(frozen=True)
class MapCurves:
    """One map with its curves, how they are drawn, and the settings by which they were measured. name: see ``Answer``."""

    question: ex.Question
    attribution: ex.Attribution
    style: Style
    result: metric.InsertionDeletion
    settings: Params
    name: Name | None = None

    @property
    def steps(self) -> int:
        """How many steps the curves have."""
        return len(self.result.fractions) - 1

    @property
    def all_steps(self) -> int:
        """How many steps they have without the limit of a coarse measurement."""
        return replace(self.settings, most_steps=None).steps(self.result.cells)

    @property
    def coarse(self) -> bool:
        """Whether the curves have fewer steps for now than they will have."""
        return self.error > 0

    @property
    def error(self) -> float:
        """How far the AUCs of coarse curves may be from those of the finest; 0 where the curves are not coarse."""
        return metric.coarse_error(self.result, self.settings)

    @property
    def answer(self) -> Answer:
        """The question with its map."""
        return Answer(self.question, self.attribution, self.name)

    @property
    def key(self) -> str:
        """The map's name in files; no other has it."""
        return self.answer.key

    @property
    def title(self) -> str:
        """The map's name for people; no other has it."""
        return self.answer.title

    @property
    def is_control(self) -> bool:
        """Whether the map knows nothing of the network."""
        return self.question.method.is_control


def measurements(answers: Sequence[Answer], settings: Params) -> list[ex.Measurement]:
    """One measurement a map, all by the same settings."""
    return [ex.judge("insertion_deletion", answer.question, **vars(settings)) for answer in answers]


def task(answers: Sequence[Answer], settings: Params, label: str) -> Task:
    """Measure all maps in common batches. The results are cached for each map by itself, so a new map measures only itself."""
    return measurement_task(measurements(answers, settings), label)


def paired(answers: Sequence[Answer], measured: Sequence[Measured | None]) -> list[MapCurves]:
    """The maps that were measured, with their styles. ``measured`` is in the order of ``answers``."""
    style = curves.styles([answer.key for answer in answers])
    return [MapCurves(answer.question, answer.attribution, style[answer.key], *result_and_settings, answer.name)
            for answer, result_and_settings in zip(answers, measured, strict=True) if result_and_settings]


def record(measured: Sequence[MapCurves]) -> None:
    """Keep what the curves say of each map beside the controls, for the line of evidence below it on the compare page."""
    for settings in dict.fromkeys(judged.settings for judged in measured):
        evidence.record_curves([(judged.question, judged.result) for judged in measured if judged.settings == settings], settings)


def so_far(measured: Sequence[MapCurves]) -> str:
    """How coarse the curves are for now, in words: "8 of 224 steps"; empty where none is coarse."""
    counts = dict.fromkeys(f"{map_curves.steps} of {map_curves.all_steps} steps" for map_curves in measured if map_curves.coarse)
    return " or ".join(counts)


def better_in_words(score: ex.Score) -> str:
    """Which way a score is better, for the heading of a panel."""
    return f"{score.better} is better {ARROWS[score.better]}"
