"""The one scheduler: of the tasks of a page, what is known, what runs now, and what waits for a button.

    schedule = Schedule("curves", tasks)
    schedule.offer("Measure 3 maps")             # a button with its cost, if something waits
    states = schedule.run()                      # runs what is due under a bar with Stop; results in the order of the tasks

What is estimated to take three seconds or less in all runs by itself, the cheapest first; the rest waits to be asked for. What is
finished stays when a run is stopped. Tasks run in the page's body, never in a fragment: the progress callback touches the session,
so Streamlit ends a script that a newer one has replaced.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import streamlit as st

import explainers as ex
from components.compute import asked
from components.compute.bar import Bar
from components.compute.task import Failed, Pending, Ready, State, Task
from components.compute.time_left import TimeLeft
from components.drawing.numbers import passes_in_words, seconds_in_words
from explainers.keys import key_of

log = logging.getLogger(__name__)

Show = Callable[[int, State], None]
"""``show(place, state)``: called after each task that ran, with its place among the tasks."""


class View(AbstractContextManager["View"], Protocol):
    """What is drawn while tasks run."""

    def report(self, place: int, text: str, fraction: float, preview: Any) -> None:
        """Called at every step. ``fraction``: of the whole run. preview: the map so far, or None."""


class Schedule:
    """Tasks at one place of a page, and their states.

    in_order: run them as they are listed, not the cheapest first, where one needs what another leaves behind.
    """

    def __init__(self, place: str, tasks: Sequence[Task], in_order: bool = False) -> None:
        self.place = place
        self.tasks = list(tasks)
        self.key = key_of([task.key for task in tasks])
        self.states: list[State] = [self._state(task) for task in self.tasks]
        pending = [at for at, state in enumerate(self.states) if isinstance(state, Pending)]
        if not in_order:
            pending.sort(key=lambda at: self.cost(at).seconds)
        self.now: list[int] = []
        total = 0.0  # seconds of what runs now; a task that has to wait leaves room for cheaper ones after it
        for at in pending:
            seconds = self.cost(at).seconds
            if asked.may_run(place, self.key, total + seconds, self.tasks[at].fits):
                self.now.append(at)
                total += seconds
        self.waiting = [at for at in pending if at not in self.now]

    def _state(self, task: Task) -> State:
        if task.refusal:
            return Failed(task.refusal)
        try:
            value = task.lookup()
            if value is not None:
                return Ready(value)
            reason = asked.failure(task.key)
            return Failed(reason) if reason else Pending(task.cost(), self.stopped)
        except ex.ExplainerError as error:
            return Failed(str(error))

    @property
    def stopped(self) -> bool:
        """Whether Stop was pressed for these tasks."""
        return asked.is_stopped(self.place, self.key)

    def cost(self, at: int) -> ex.Cost:
        """What the task at this place is estimated to take; nothing once it has ended."""
        state = self.states[at]
        return state.cost if isinstance(state, Pending) else ex.Cost(ex.Passes(), 0.0)

    def waiting_cost(self) -> ex.Cost:
        """What all tasks that wait are estimated to take."""
        return sum((self.cost(at) for at in self.waiting), ex.Cost(ex.Passes(), 0.0))

    def offer(self, what: str, caption: bool = True) -> None:
        """The button of what waits, with its cost. ``what`` completes "..., about 5 s". Nothing is drawn where nothing waits."""
        if not self.waiting:
            st.empty()  # replaces a former button at once; else the browser shows it until the run has ended
            return
        cost = self.waiting_cost()
        fit = " after a fit" if any(self.tasks[at].fits for at in self.waiting) else ""
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"offer-{self.place}", width="content"):
            st.button(f"{what}, about {seconds_in_words(cost.seconds)}{fit}", key=f"run-{self.place}", type="primary",
                      on_click=asked.ask, args=(self.place, self.key),
                      help="Runs what is not known yet. What is estimated at three seconds or less in all runs by itself, except "
                           "what first fits statistics on reference images.")
            if caption:
                st.caption(f"{passes_in_words(cost.passes)}{'. Stopped.' if self.stopped else ''}")

    def run(self, show: Show | None = None, view: View | None = None) -> list[State]:
        """Run what is due. A task that fails gets its reason and leaves the others alone."""
        spot = None if view else st.empty()  # also without a run, so that what follows keeps its place and replaces a former button
        if not self.now:
            return self.states
        left = TimeLeft([self.cost(at).seconds for at in self.now])
        with view or Bar(self.place, self.key, spot) as drawn:
            for number, at in enumerate(self.now):
                seconds = self.cost(at).seconds
                self.states[at] = self._run_one(at, number, left, drawn)
                asked.use_free(self.place, self.key, seconds)
                left.finished(number)
                if show:
                    show(at, self.states[at])
        self.now = []
        return self.states

    def _run_one(self, at: int, number: int, left: TimeLeft, view: View) -> State:
        task = self.tasks[at]
        count = f", {number + 1} of {len(self.now)}" if len(self.now) > 1 else ""

        def progress(done: int, total: int, preview: Any = None) -> None:
            "stop" in st.session_state  # noqa: B015  Streamlit ends a replaced script here
            left.running(number, done / total if total else 0.0)
            view.report(at, f"{task.label}{count}, about {seconds_in_words(left.seconds)} left", left.fraction, preview)

        try:
            value = task.lookup()  # an earlier task of this run may have brought it along
            return Ready(task.compute(progress) if value is None else value)
        except ex.ExplainerError as error:
            reason = str(error)
        except Exception as error:
            log.exception("%s failed", task.label)
            reason = f"{task.label} failed ({type(error).__name__}); the log has the details."
        asked.remember_failure(task.key, reason)
        return Failed(reason)
