"""The maps of every method for every class and for the contrast of a pair: looked up, run through the gate, compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from components import gate, runs, session
from components.class_choice import Choice
from components.workspace import Workspace, in_words
from explainers.contract import Method, Passes, Target
from explainers.metrics import class_sensitivity as metric
from explainers.metrics.class_sensitivity import ClassSensitivity
from explainers.metrics.map_distances import MEASURES

PLACE = "class-maps"
MEASUREMENT = "class_sensitivity"


@dataclass(frozen=True)
class Row:
    """One method: a job for each class and, last, for the contrast; and how far the classes' maps are apart, once all are there."""

    targets: tuple[Target, ...]
    jobs: tuple[runs.Job, ...]
    found: ClassSensitivity | None = None

    @property
    def method(self) -> Method:
        """The method of all its jobs."""
        return self.jobs[0].method


def known(workspace: Workspace, choice: Choice) -> list[Row]:
    """One row a method, with every map that is there, and what the others would cost."""
    targets = (*choice.classes, choice.pair)
    rows = [Row(targets, tuple(runs.job_for(_asking(workspace, target), method, params) for target in targets))
            for method, params in choice.methods]
    return [replace(row, found=_compared(workspace, choice, row)) for row in rows]


def _asking(workspace: Workspace, target: Target) -> Workspace:
    """The workspace with another question."""
    pair = target if isinstance(target, tuple) else (target, None)
    return replace(workspace, target=pair[0], contrast=pair[1])


def run(workspace: Workspace, choice: Choice, rows: Sequence[Row], show: Callable[[int, Row], None]) -> list[Row]:
    """Compute what is cheap or was asked for, the cheapest first, under a bar; the rest is offered. What is finished stays.

    show: called with a row's place and the row after each of its maps.
    """
    rows = list(rows)
    places = [(i, j) for i, row in enumerate(rows) for j, job in enumerate(row.jobs) if job.pending]
    key = repr((workspace.network.fingerprint, workspace.picture.digest, workspace.seed,
                workspace.reference.identity if workspace.reference else "",
                [(row.method.key, row.targets, sorted(row.jobs[0].params.items())) for row in rows]))
    now, total = [], 0.0
    for i, j in sorted(places, key=lambda place: rows[place[0]].jobs[place[1]].cost.seconds):
        job = rows[i].jobs[j]
        total += job.cost.seconds
        if gate.opens(PLACE, key, total, free=not job.fits):
            now.append((i, j))
    waiting = [rows[i].jobs[j] for i, j in places if (i, j) not in now]
    if waiting:
        runs.offer(PLACE, key, "Explain the classes", sum((job.cost.passes for job in waiting), Passes()),
                   sum(job.cost.seconds for job in waiting), any(job.fits for job in waiting))
    if not now:
        return rows
    names = workspace.network.categories
    with gate.bar(PLACE, key) as report:
        for number, (i, j) in enumerate(now):
            target = rows[i].targets[j]

            def tick(job, step, steps, preview):
                report(f"{job.method.title} for {in_words(target, names)}, map {number + 1} of {len(now)}", step, steps)

            jobs = list(rows[i].jobs)
            jobs[j] = runs.run_one(_asking(workspace, target), jobs[j], tick)
            row = Row(rows[i].targets, tuple(jobs))
            rows[i] = replace(row, found=_compared(workspace, choice, row))
            show(i, rows[i])
    return rows


def _compared(workspace: Workspace, choice: Choice, row: Row) -> ClassSensitivity | None:
    """The distances between the classes' maps, from the cache where they were measured before."""
    jobs = row.jobs[:len(choice.classes)]
    if any(job.found is None for job in jobs):
        return None
    engine = session.engine()
    keys = tuple(runs.request(_asking(workspace, target), job).key for target, job in zip(choice.classes, jobs, strict=True))

    def compute() -> dict:
        found = metric.measure([job.found for job in jobs])
        return {**{name: found.matrices[name].tolist() for name in MEASURES}, "flat": list(found.flat)}

    found = engine.measured(MEASUREMENT, keys, compute)
    return ClassSensitivity(choice.classes, {name: np.array(found[name]) for name in MEASURES}, tuple(found["flat"]))
