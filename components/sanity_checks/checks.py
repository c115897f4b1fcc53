"""The sanity checks page: which weights are drawn anew and how, what that costs, and the run, one map a stage after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import streamlit as st

import explainers as ex
from components.compare import comparison
from components.compute import gate, runs
from components.compute.runs import Job
from components.drawing import curves
from components.drawing.curves import Style
from components.sidebar.sidebar import LARGEST_SEED, Workspace
from components.state import session
from explainers.metrics import sanity_checks as metric
from explainers.metrics.map_distances import Prepared
from explainers.networks.randomised import WAYS, randomised

NAME, VERSION = "sanity_check", 1  # raise the version when the same question would give other steps
PLACE = "sanity"
MODES = {"Cascading": "cascading", "Independent": "independent", "Last layer only": "last_layer"}
DRAWN = dict(zip(("As new", "Permuted", "Normal"), WAYS, strict=True))
COMPARE_SECONDS = 4e-6  # for a pixel of two maps, roughly
FEWEST, MOST = 6, 10


@dataclass(frozen=True)
class Question:
    """What the page asks: the ``changes`` in order, how weights are drawn, and the seed of the draw."""

    mode: str
    how: str
    seed: int
    changes: tuple[metric.Change, ...]


@dataclass(frozen=True)
class Row:
    """One method: its map of the intact network, and a step a change; None while unknown, a sentence where it failed."""

    job: Job
    style: Style
    steps: tuple[metric.Step | str | None, ...]

    @property
    def missing(self) -> tuple[int, ...]:
        """The changes whose map is not there."""
        return tuple(place for place, step in enumerate(self.steps) if step is None)

    @property
    def found(self) -> list[metric.Step]:
        """The steps whose map is there."""
        return [step for step in self.steps if isinstance(step, metric.Step)]


def controls(workspace: Workspace) -> Question:
    """Which weights, how many stages, how they are drawn."""
    with st.container(key="sanity-controls", horizontal=True, vertical_alignment="bottom", gap="medium"):
        mode = MODES[st.segmented_control(
            "Weights drawn anew", list(MODES), default="Cascading", required=True, key="randomise", bind="query-params",
            help="Cascading: from the last layer down, each stage on top of those before. Independent: one stage at a time, the rest "
                 "as learned. Last layer only: the one comparison that the DMBP paper makes.")]
        how = DRAWN[st.segmented_control(
            "Drawn", list(DRAWN), default="As new", required=True, key="drawn", bind="query-params",
            help="As new: as a layer starts before training, norms back to the identity. Permuted: each layer's own values in another "
                 "order. Normal: from a normal distribution with the spread of the layer's values.")]
        few = len(metric.schedule(workspace.network, "cascading", MOST)) <= FEWEST  # no choice is left: all stages are shown
        wanted = st.slider("Stages at most", FEWEST, MOST, 8, key="stages", bind="query-params", width=150,
                           disabled=few or mode == "last_layer",
                           help="Layers are grouped into this many stages, blocks kept whole. Off where the network has no more than "
                                f"{FEWEST}.")
        seed = st.number_input("Seed of the draw", 0, LARGEST_SEED, 0, key="draw_seed", bind="query-params", width=130,
                               help="The same seed draws the same weights. The methods' own seed is in the sidebar.")
    return Question(mode, how, int(seed), metric.schedule(workspace.network, mode, wanted))


def rows(workspace: Workspace, question: Question, jobs: Sequence[Job]) -> list[Row]:
    """What is known already, a row for each method that can explain this network."""
    able = [job for job in jobs if not job.trouble]
    style = curves.styles([job.method.key for job in able])
    return [Row(job, style[job.method.key],
                tuple(_known(workspace, question, job, change) for change in question.changes)) for job in able]


def maps(workspace: Workspace) -> tuple[Job, ...]:
    """The methods' settings, and their maps of the intact network as far as they are cheap. Ends the page where none can be made."""
    planned, lines = comparison.settings(workspace)
    if all(job.trouble for job in planned.jobs):
        st.info("None of the chosen methods can explain this network: choose others in the sidebar." if planned.jobs else
                "Choose at least one method in the sidebar.")
        st.stop()
    with st.container():  # the bar comes and goes in a place of its own: what follows must not move, or it is seen twice for a while
        jobs = comparison.quietly(workspace, planned, lines)
        for job in jobs:
            if job.trouble and job.cost:
                st.caption(f"{job.method.title} is left out: {job.trouble}")
    return jobs


def run(workspace: Workspace, question: Question, found: Sequence[Row], reveal: Callable[[Sequence[Row]], None]) -> list[Row]:
    """Compute what is missing, if it is cheap or was asked for; ``reveal`` is called after every map. Else a button and its cost."""
    found = list(found)
    missing = [row for row in found if row.missing]
    if not missing:
        return found
    key = repr((question.how, question.seed, [change.title for change in question.changes], question.mode,
                [runs.request(workspace, row.job).key for row in found]))
    compared = COMPARE_SECONDS * workspace.network.input_size[0] ** 2
    seconds = sum(len(row.missing) * (row.job.cost.seconds + compared) + (0 if row.job.found else row.job.cost.seconds)
                  for row in missing)
    if not gate.opens(PLACE, key, seconds, free=not any(row.job.fits for row in missing)):
        _offer(missing, key, seconds)
        return found
    with gate.bar(PLACE, key) as report:
        _compute(workspace, question, found, report, reveal)
    pending = {row.job.method.key for row in missing if row.job.pending}
    if any(row.job.found for row in found if row.job.method.key in pending):
        st.rerun()  # the settings above still say that the maps as learned wait
    return found


def _offer(missing: Sequence[Row], key: str, seconds: float) -> None:
    """The button, and what the run takes: in passes, in seconds, and in fits."""
    count = sum(len(row.missing) for row in missing)
    passes = sum((row.job.cost.passes * (len(row.missing) + (row.job.found is None)) for row in missing), ex.Passes())
    networks = len({place for row in missing for place in row.missing})
    what = f"{count} map{'s' if count > 1 else ''} on {networks} network{'s' if networks > 1 else ''}"
    runs.offer(PLACE, key, f"Draw weights anew, {what}", passes, seconds)
    fitted = [row for row in missing if row.job.fits]
    if fitted:
        titles, verb = " and ".join(row.job.method.title for row in fitted), "fits its" if len(fitted) == 1 else "fit their"
        st.caption(f"{titles} {verb} statistics again on each of the randomised networks. That comes on top of the estimate and can "
                   "take longer than the maps.")


def _compute(workspace: Workspace, question: Question, found: list[Row], report: Any, reveal: Callable[[Sequence[Row]], None]) -> None:
    """Stage by stage, so that one randomised network at a time is needed; ``found`` is filled in place."""
    total, done = sum(len(row.missing) for row in found), 0
    for place, row in enumerate(found):
        if row.missing and row.job.found is None:
            job = runs.run_one(workspace, row.job, lambda job, step, steps, preview: report(job.method.title, step, steps))
            found[place] = replace(row, job=job, steps=(job.trouble,) * len(row.steps) if job.trouble else row.steps)
            reveal(found)
    before = {row.job.method.key: Prepared(row.job.found.heatmap()) for row in found if row.job.found}
    for index, change in enumerate(question.changes):
        moved: list[metric.Predictions] = []  # one comparison of the predictions serves all methods
        for place, row in enumerate(found):
            if index not in row.missing:
                continue
            what = f"{change.title}, {row.job.method.title}"
            report(what, done, total)

            def tick(step: int, steps: int, what: str = what, done: int = done) -> None:
                report(f"{what} at {round(100 * step / steps)} %" if steps > 1 else what, done, total)

            step = _step(workspace, question, row.job, change, before[row.job.method.key], moved, tick)
            found[place] = replace(row, steps=(*row.steps[:index], step, *row.steps[index + 1:]))
            done += 1
            reveal(found)


def _step(workspace: Workspace, question: Question, job: Job, change: metric.Change, before: Prepared,
          moved: list[metric.Predictions], tick: Callable[[int, int], None]) -> metric.Step | str:
    """One method on one randomised network. A failure becomes a sentence, and is not tried again in this session."""
    network, x = workspace.network, workspace.sight.x
    other = _randomised(network.fingerprint, tuple(stage.parameters for stage in change.stages), question.how, question.seed, network,
                        change)
    elsewhere, fresh = replace(workspace, network=other), replace(job, found=None)
    after = runs.run_one(elsewhere, fresh, lambda job, step, steps, preview: tick(step, steps))
    if after.found is None:
        _failures()[repr(_facts(workspace, question, job, change))] = after.trouble
        return after.trouble

    def fields() -> dict[str, Any]:
        if not moved:
            moved.append(metric.predictions(network, other, x, workspace.explained))
        return metric.step(change.title, before, after.found, moved[0]).fields()

    kept = session.engine().measured(NAME, _facts(workspace, question, job, change), fields,
                                     lambda step, steps, preview: tick(step, steps))
    return metric.Step.of(kept)


@st.cache_resource(max_entries=2, show_spinner=False)
def _randomised(fingerprint: str, parameters: tuple[tuple[str, ...], ...], how: str, seed: int, _network: ex.Classifier,
                _change: metric.Change) -> ex.Classifier:
    """The network with some weights drawn anew. Few are kept: each may be as large as the network itself."""
    return randomised(_network, _change.stages, how, seed)


def _known(workspace: Workspace, question: Question, job: Job, change: metric.Change) -> metric.Step | str | None:
    facts = _facts(workspace, question, job, change)
    kept = session.engine().known(NAME, facts)
    return replace(metric.Step.of(kept), title=change.title) if kept else _failures().get(repr(facts))


def _failures() -> dict[str, str]:
    """What went wrong in this session, by the facts of the step."""
    return st.session_state.setdefault("sanity_failures", {})


def _facts(workspace: Workspace, question: Question, job: Job, change: metric.Change) -> tuple[Any, ...]:
    """All that decides a step: the intact network's map, and the weights that are drawn."""
    names = sorted(name for stage in change.stages for name in stage.parameters)
    return VERSION, runs.request(workspace, job).key, tuple(names), question.how, question.seed


def predictions(found: Sequence[Row]) -> list[metric.Predictions | None]:
    """How far the predictions moved at every change, as far as one method's step is there to tell."""
    if not found:
        return []
    return [next((row.steps[place].predictions for row in found if isinstance(row.steps[place], metric.Step)), None)
            for place in range(len(found[0].steps))]


def similarity(row: Row, measure: str) -> np.ndarray:
    """(changes,) one measure of a method's steps; nan where it is unknown or cannot be told."""
    return np.array([getattr(step.distances, measure) if isinstance(step, metric.Step) else np.nan for step in row.steps])
