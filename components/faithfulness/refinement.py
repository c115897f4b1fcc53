"""Curves that become finer while a person looks: a few steps at once, then more, and last the protocol's own.

    refinement = Refinement(answers, settings)
    refinement.offer()                           # the button of what is too costly to run by itself
    measured = refinement.curves()               # the finest curves that are known so far
    ...                                          # the page draws them
    refinement.refine()                          # measures the next finer ones, if they are due, and runs the page again
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

import explainers as ex
from components.compute import asked
from components.compute.schedule import Schedule
from components.compute.task import Failed, Task
from components.drawing.downloads import Answer
from components.drawing.foreign_words import in_markdown
from components.faithfulness import map_curves
from components.faithfulness.map_curves import MapCurves, Measured
from components.state.engine import engine
from components.state.last_result import last
from explainers.keys import key_of
from explainers.metrics.protocols import COARSE_STEPS, FEWER_STEPS, Params
from explainers.resampling import size_of

PLACE = "curves"
START = "curves-start"  # steps of the first curves, in the session


class Refinement:
    """The curves of some maps at several levels: by these settings with few steps, and last without that limit."""

    def __init__(self, answers: Sequence[Answer], settings: Params) -> None:
        self._answers = list(answers)
        try:
            self.levels = levels(answers, settings, self._first_steps(settings))
        except ex.ExplainerError:  # such as a map that is not finite: measuring fails with the same sentence, which is then shown
            self.levels = [settings]
        self._measurements = [map_curves.measurements(answers, level) for level in self.levels]
        self._results = [self._lookup(at) for at in range(len(self.levels))]
        # The tasks are the same whatever is known, because their key decides whether a person asked for them, or stopped them.
        self._schedule = Schedule(PLACE, [self._task(at) for at in range(len(self.levels))], in_order=True)
        self._bar: DeltaGenerator | None = None  # where the bar stands; drawn by ``offer``

    def _first_steps(self, settings: Params) -> int:
        """The steps of the first curves: fewer than usual where only those are quick enough to be measured unasked.

        It is decided once, because the tasks depend on it.
        """
        def decide() -> int:
            return next((steps for steps in (COARSE_STEPS[0], *FEWER_STEPS) if self._seconds(replace(settings, most_steps=steps))
                         <= asked.FREE_SECONDS), COARSE_STEPS[0])

        return last(START, key_of(settings, [answer.question for answer in self._answers]), decide)

    def _seconds(self, settings: Params) -> float:
        """What measuring the maps by these settings is estimated to take."""
        return engine().cost_together(map_curves.measurements(self._answers, settings)).seconds

    def _lookup(self, at: int) -> list[Any] | None:
        """The results of all maps at this level, or None."""
        results = [engine().lookup(measurement) for measurement in self._measurements[at]]
        return None if any(result is None for result in results) else results

    def _task(self, at: int) -> Task:
        """Measure one level. It counts as known where a finer one is."""
        limit = self.levels[at].most_steps
        task = map_curves.task(self._answers, self.levels[at], f"Insertion and deletion{f', {limit} steps' if limit else ''}")
        return replace(task, lookup=lambda: next(filter(None, self._results[at:]), None))

    @property
    def _finest(self) -> int | None:
        """The finest level at which all maps are measured."""
        return next((at for at in reversed(range(len(self.levels))) if self._results[at]), None)

    @property
    def failed(self) -> bool:
        """Whether a level could not be measured."""
        return any(isinstance(state, Failed) for state in self._schedule.states)

    def offer(self) -> None:
        """The button of the levels that wait."""
        count = len(self._answers)
        finer = self._finest is not None or bool(self._schedule.now)
        self._schedule.offer("Finer curves" if finer else f"Measure {f'{count} maps' if count > 1 else 'one map'}")
        self._bar = st.empty()  # takes the place of a bar that a former run drew, at once

    def curves(self) -> list[MapCurves]:
        """The maps with the finest curves that all of them have. Where there are none, each with the finest of its own."""
        for reason in dict.fromkeys(state.reason for state in self._schedule.states if isinstance(state, Failed)):
            st.error(in_markdown(reason))
        return map_curves.paired(self._answers, [self._of_one(number) for number in range(len(self._answers))])

    def _of_one(self, number: int) -> Measured | None:
        """One map's result at the finest level of all; without such a level its own finest, and None where there is none."""
        finest = self._finest
        for at in reversed(range(len(self.levels))) if finest is None else (finest,):
            result = engine().lookup(self._measurements[at][number])
            if result is not None:
                return result, self.levels[at]
        return None

    def refine(self) -> None:
        """Measure the coarsest level that is due, under a bar above what is drawn, and run the page again to show it."""
        due = self._schedule.now
        if not due or self.failed:
            return
        self._schedule.now = due[:1]
        with (self._bar or st).container():
            self._schedule.run()
        if self.failed or self._lookup(due[0].at):  # else the cache did not keep it, and the page would measure it again and again
            st.rerun()


def levels(answers: Sequence[Answer], settings: Params, first: int = COARSE_STEPS[0]) -> list[Params]:
    """The settings with few steps, as far as these are fewer than the finest curve has, and last the settings themselves.

    first: the number of steps to begin with. Raises ExplainerError for maps that cannot be ordered.
    """
    size = answers[0].question.network.input_size
    full = max(settings.steps(size_of(settings.cells(answer.attribution, size))) for answer in answers)
    return [*(replace(settings, most_steps=steps) for steps in (first, *COARSE_STEPS[1:]) if steps < full), settings]
