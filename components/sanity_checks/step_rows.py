"""The steps of the sanity checks: for each method a map after every change of the weights, made stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import streamlit as st

import explainers as ex
from components.compute import method_row
from components.compute.method_row import MethodMap
from components.compute.schedule import Schedule
from components.compute.task import Failed, Pending, Ready, State, Task
from components.drawing import curves
from components.drawing.curves import Style
from components.drawing.foreign_words import in_markdown
from components.drawing.numbers import fixed
from components.sanity_checks.randomisation import Randomisation
from components.state.engine import engine
from components.state.workspace import Workspace
from explainers.data.reference import neighbourhood
from explainers.keys import key_of
from explainers.metrics import sanity_checks as metric
from explainers.metrics.map_distances import COMPARE_SECONDS
from explainers.passes import Passes
from explainers.progress import Progress

PLACE = "sanity"
NAMES = {"ssim": "SSIM", "rank": "Rank", "rank_absolute": "|Rank|", "hog": "HOG"}  # the similarities, as people read them


@dataclass(frozen=True)
class StepRow:
    """One entry: its map of the network with trained weights, if it is there, and the state of its step after every change."""

    entry: MethodMap
    question: ex.Question
    original: ex.Attribution | None
    style: Style
    states: tuple[State, ...]

    @property
    def key(self) -> str:
        """The entry's key."""
        return self.entry.key

    @property
    def title(self) -> str:
        """The entry's title."""
        return self.entry.title

    @property
    def by_change(self) -> tuple[metric.Step | None, ...]:
        """A step for each change, None where it is not there."""
        return tuple(state.value if isinstance(state, Ready) else None for state in self.states)

    @property
    def steps(self) -> list[metric.Step]:
        """The steps that are there."""
        return [step for step in self.by_change if step]

    @property
    def ended(self) -> bool:
        """Whether no step is still to come."""
        return not any(isinstance(state, Pending) for state in self.states)

    @property
    def reason(self) -> str:
        """Why a step failed; empty where none did."""
        return next((state.reason for state in self.states if isinstance(state, Failed)), "")

    def similarity(self, measure: str) -> np.ndarray:
        """(changes,) one similarity to the original map after each change; nan where it is unknown or not defined."""
        return np.array([getattr(step.distances, measure) if step else np.nan for step in self.by_change])


def original_maps(workspace: Workspace) -> list[MethodMap]:
    """The methods' settings, and their maps with trained weights as far as these are cheap. Ends the page where none can be made."""
    row = method_row.draw(workspace)
    if not any(method_map.question for method_map in row.maps):
        st.info("None of the chosen methods can explain this network: choose others in the sidebar." if row.maps else
                "Choose at least one method in the sidebar.")
        st.stop()
    with st.container():  # the bar comes and goes in a place of its own: what follows must not move, or it is seen twice for a while
        maps = row.run()
        for method_map in maps:
            if method_map.question and method_map.reason:
                st.caption(in_markdown(f"{method_map.title} is left out: {method_map.reason}"))
    usable = [method_map for method_map in maps if not method_map.reason]
    return usable or st.stop()


class StepRows:
    """The rows of some methods and their schedule: stage by stage, so that one randomised network at a time is needed."""

    def __init__(self, maps: Sequence[MethodMap], randomisation: Randomisation) -> None:
        self.randomisation = randomisation
        self._maps = [(method_map, method_map.question) for method_map in maps if method_map.question]
        self._styles = curves.styles([method_map.key for method_map in maps])
        self.schedule = Schedule(PLACE, [self._task(method_map, question, change) for change in randomisation.changes
                                         for method_map, question in self._maps], in_order=True)

    def _task(self, method_map: MethodMap, question: ex.Question, change: metric.Change) -> Task:
        step = metric.StepQuestion(question, change, self.randomisation.how, self.randomisation.seed)
        pays_for_original = method_map.pending and change is self.randomisation.changes[0]

        def cost() -> ex.Cost:
            original, fit = engine().cost(question), engine().fit_seconds(question)
            height, width = question.network.input_size
            again = engine().fit_seconds(_refitted(question), anew=True)
            seconds = original.seconds - fit + again + COMPARE_SECONDS * height * width
            return ex.Cost(original.passes * (1 + pays_for_original) + Passes(forward=2),
                           seconds + original.seconds * pays_for_original)

        def lookup() -> metric.Step | None:
            known = engine().lookup_computed(metric.STEP, step.parts, metric.Step)
            return step.titled(known) if known else None

        def compute(progress: Progress) -> metric.Step:
            return step.run(partial(engine().explain, progress=progress), partial(engine().get_or_compute, progress=progress),
                            lambda: _changed_network(question.network.fingerprint, step.weights, step))

        return Task(f"{change.title}, {method_map.title}", key_of(metric.STEP, *step.parts), cost, lookup, compute,
                    method_map.method.fits_statistics)

    @property
    def rows(self) -> list[StepRow]:
        """A row a method, with what is known now."""
        count = len(self._maps)
        return [StepRow(method_map, question, method_map.attribution or engine().cached(question),
                        self._styles[method_map.key], tuple(self.schedule.states[place::count]))
                for place, (method_map, question) in enumerate(self._maps)]

    def offer(self) -> None:
        """The button of the steps that wait, with what it takes: in passes, in seconds, and in fits."""
        waiting = self.schedule.waiting
        count, methods = len(waiting), len(self._maps)
        networks = len({at // methods for at in waiting})
        self.schedule.offer(f"Re-initialise weights, {count} map{'s' if count > 1 else ''} on {networks} "
                            f"network{'s' if networks > 1 else ''}")
        fitting = [self._maps[at % methods][1] for at in waiting if self.schedule.tasks[at].fits]
        if fitting:
            st.caption(_what_is_fitted(fitting))

    def run(self, show: Callable[[], None]) -> list[StepRow]:
        """Make the steps that are due; ``show`` is called after each of them."""
        self.schedule.run(lambda at, state: show())
        rows = self.rows
        if any(method_map.pending and row.original for (method_map, _), row in zip(self._maps, rows, strict=True)):
            st.rerun()  # the settings above still say that the maps with trained weights wait
        return rows


def _refitted(question: ex.Question) -> ex.Question:
    """The question with the reference set that a randomised network uses.

    Statistics that are shipped belong to the trained weights, so copies of the picture take their place.
    """
    if question.reference_set is None or question.reference_set.statistics is None:
        return question
    return replace(question, reference=neighbourhood(question.network, question.x))


def _what_is_fitted(questions: Sequence[ex.Question]) -> str:
    """A line on the fits that the estimate includes."""
    titles = list(dict.fromkeys(question.method.title for question in questions))
    fit = "fits its" if len(titles) == 1 else "fit their"
    line = f"With the time in which {' and '.join(titles)} {fit} statistics again on each of the randomised networks"
    if any(question.reference_set and question.reference_set.statistics for question in questions):
        line += ", from copies of the picture: the statistics that come with the network belong to its trained weights"
    return f"{line}."


@st.cache_resource(max_entries=1, show_spinner=False)
def _changed_network(fingerprint: str, weights: tuple, _step: metric.StepQuestion) -> ex.Classifier:
    """The randomised network, which all methods are asked about in turn. One is kept, because each is as large as the network."""
    return _step.changed_network()


def predictions(rows: Sequence[StepRow]) -> list[metric.Predictions | None]:
    """How far the predictions moved after every change, as far as one method's step is there to tell."""
    return [next((step.predictions for step in steps if step), None) for steps in zip(*(row.by_change for row in rows), strict=True)]


def in_words(step: metric.Step) -> list[str]:
    """The similarities of a step that are defined: ``SSIM 0.31``."""
    return [f"{name} {fixed(value, 2)}" for key, name in NAMES.items() if not np.isnan(value := getattr(step.distances, key))]
