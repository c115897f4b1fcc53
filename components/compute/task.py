"""One thing to compute, a map or a measurement, and what is known of its result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import explainers as ex
from components.state.engine import engine
from explainers.keys import key_of
from explainers.progress import Progress


@dataclass(frozen=True)
class Ready:
    """The result is there."""

    value: Any


@dataclass(frozen=True)
class Pending:
    """The result has to be computed. ``stopped``: it was, until a person pressed Stop or Skip."""

    cost: ex.Cost
    stopped: bool = False


@dataclass(frozen=True)
class Failed:
    """There will be no result; ``reason`` is a sentence that says why."""

    reason: str


State = Ready | Pending | Failed


@dataclass(frozen=True)
class Task:
    """What ``Schedule`` runs.

    label: its name in the bar. key: a digest of all that decides the result. cost: estimated; asked only while the result is not
    known. lookup: the result if it is known, else None. compute: ``compute(progress)`` gives the result; raises ExplainerError.
    fits: statistics have to be fitted first, so it never runs unasked. refusal: why it can never run. draft: a task that gives a
    rougher result of the same kind in less time.
    """

    label: str
    key: str
    cost: Callable[[], ex.Cost]
    lookup: Callable[[], Any]
    compute: Callable[[Progress], Any]
    fits: bool = False
    refusal: str = ""
    draft: Task | None = None


def map_task(question: ex.Question, label: str = "", draft: ex.Question | None = None) -> Task:
    """The task of making one map. draft: the question of its draft, if it has one."""
    label = label or question.method.title
    return Task(label, question.key, lambda: engine().cost(question), lambda: engine().cached(question),
                lambda progress: engine().explain(question, progress=progress), must_fit(question),
                question.lacks or "", map_task(draft, f"{label}, draft") if draft else None)


def must_fit(question: ex.Question) -> bool:
    """Whether statistics are still to be fitted for a map."""
    try:
        return engine().must_fit(question)
    except ex.ExplainerError:  # such as a layer that the network lacks: the task's cost raises it again, and the map says so
        return False


def measurement_task(measurements: Sequence[ex.Measurement], label: str, fits: bool = False) -> Task:
    """The task of measuring several subjects by one metric in common batches; its result is the list of theirs."""
    def lookup() -> list[Any] | None:
        results = [engine().lookup(measurement) for measurement in measurements]
        return None if any(result is None for result in results) else results

    key = key_of([measurement.key for measurement in measurements])
    return Task(label, key, lambda: engine().cost_together(measurements), lookup,
                lambda progress: engine().measure_together(measurements, progress), fits)


def refused(label: str, reason: str) -> Task:
    """A task that can never run, such as a method that cannot explain the network."""
    def never(*_: Any) -> Any:
        raise ex.ExplainerError(reason)

    return Task(label, key_of(label, reason), lambda: ex.Cost(ex.Passes(), 0.0), lambda: None, never, refusal=reason)
