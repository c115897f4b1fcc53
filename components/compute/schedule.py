"""The one scheduler: of the tasks of a page, what is known, what runs now, and what waits for a button.

    schedule = Schedule("curves", tasks)
    schedule.offer("Measure 3 maps")             # a button with its cost, if something waits, and one for drafts
    states = schedule.run()                      # runs what is due under a bar with Stop; results in the order of the tasks

What is estimated to take three seconds or less in all runs by itself, the cheapest first; the rest waits to be asked for, and a
task that waits may have a draft. What is finished stays when a run is stopped. Tasks run in the page's body, never in a fragment: the
progress callback touches the session, so Streamlit ends a script that a newer one has replaced.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import streamlit as st

import explainers as ex
from components.compute import asked
from components.compute.bar import Bar
from components.compute.task import Failed, Pending, Ready, State, Task
from components.compute.time_left import TimeLeft
from components.compute.turn_words import still_to_come, until_its_turn
from components.drawing.numbers import passes_in_words, seconds_in_words
from components.state.engine import engine
from explainers.keys import key_of

log = logging.getLogger(__name__)

DRAFT_SAVES = 0.7  # a draft is offered where its estimated time is at most this fraction of the whole task's

Show = Callable[[int, State], None]
"""``show(place, state)``: called after each task that ran, with its place among the tasks."""


class View(AbstractContextManager["View"], Protocol):
    """What is drawn while tasks run."""

    def start(self, task_key: str) -> None:
        """Called before each task, with its key."""

    def report(self, place: int, text: str, fraction: float, preview: Any) -> None:
        """Called at every step. ``fraction``: of the whole run. preview: the map so far, or None."""


@dataclass(frozen=True)
class Job:
    """A task that runs now: the one at place ``at``, or its draft."""

    at: int
    task: Task
    cost: ex.Cost
    draft: bool = False  # whether the button of the drafts makes it run


class Schedule:
    """Tasks at one place of a page, and their states; ``drafts`` holds those of their drafts, None where none is needed.

    in_order: run them as they are listed, not the cheapest first, where one needs what another leaves behind.
    """

    def __init__(self, place: str, tasks: Sequence[Task], in_order: bool = False) -> None:
        self.place = place
        self.tasks = list(tasks)
        self.key = key_of([task.key for task in tasks])
        self.states: list[State] = [self._state(task) for task in self.tasks]
        self.drafts: list[State | None] = [None] * len(self.tasks)
        jobs = [Job(at, task, self.cost(at)) for at, task in enumerate(self.tasks) if isinstance(self.states[at], Pending)]
        if not in_order:
            jobs.sort(key=lambda job: job.cost.seconds)
        self.now = self._due(jobs, 0.0)
        self.waiting = [job.at for job in jobs if job not in self.now]
        self._draft_jobs = self._jobs_of_drafts()
        self.now += self._due(self._draft_jobs, sum(job.cost.seconds for job in self.now))
        self.now.sort(key=lambda job: job.at if in_order else job.cost.seconds)
        running = [job.task.key for job in self.now]
        self.waiting = [at for at in self.waiting if self.tasks[at].key not in running]

    def _due(self, jobs: Sequence[Job], total: float) -> list[Job]:
        """The jobs that run now. total: seconds of what runs beside them; a job that has to wait leaves room for cheaper ones."""
        due = []
        for job in jobs:
            skipped = asked.is_skipped(self.place, self.key, job.task.key)
            if not skipped and asked.may_run(self.place, self.key, total + job.cost.seconds, job.task.fits, job.draft):
                due.append(job)
                total += job.cost.seconds
        return due

    def _jobs_of_drafts(self) -> list[Job]:
        """What the button of the drafts runs: the drafts of what waits and, if there are any, what is cheap and has no draft."""
        drafts, cheap = [], []
        for at in self.waiting:
            draft, whole = self.tasks[at].draft, self.cost(at)
            if draft:
                state = self.drafts[at] = self._state(draft)
                if isinstance(state, Pending) and state.cost.seconds <= DRAFT_SAVES * whole.seconds:
                    drafts.append(Job(at, draft, state.cost, draft=True))
            elif whole.seconds <= asked.FREE_SECONDS:
                cheap.append(Job(at, self.tasks[at], whole, draft=True))
        return sorted(drafts + cheap, key=lambda job: job.cost.seconds) if drafts else []

    def _state(self, task: Task) -> State:
        if task.refusal:
            return Failed(task.refusal)
        try:
            value = task.lookup()
            if value is not None:
                return Ready(value)
            reason = asked.failure(task.key)
            stopped = self.stopped or asked.is_skipped(self.place, self.key, task.key)
            return Failed(reason) if reason else Pending(task.cost(), stopped)
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
        """The buttons of what waits, with its cost. ``what`` completes "..., about 5 s". Nothing is drawn where nothing waits."""
        if not self.waiting:
            st.empty()  # replaces a former button at once; else the browser shows it until the run has ended
            return
        cost = self.waiting_cost()
        fit = " with a fit" if any(self.tasks[at].fits for at in self.waiting) else ""
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"offer-{self.place}", width="content"):
            st.button(f"{what}, about {seconds_in_words(cost.seconds)}{fit}", key=f"run-{self.place}", type="primary",
                      on_click=asked.ask, args=(self.place, self.key),
                      help="Computes what is missing. What takes about three seconds or less in all runs by itself, except methods "
                           "that first have to be fitted on reference images.")
            self._offer_drafts()
            if caption:
                st.caption(f"{passes_in_words(cost.passes)}{'. Stopped.' if self.stopped else ''}")

    def _offer_drafts(self) -> None:
        """The button of the drafts, unless they run already."""
        waiting = [job for job in self._draft_jobs if job not in self.now]
        if not any(job.task is self.tasks[job.at].draft for job in waiting):
            return
        seconds = sum(job.cost.seconds for job in waiting)
        st.button(f"Draft, about {seconds_in_words(seconds)}", key=f"draft-{self.place}", on_click=asked.ask_drafts,
                  args=(self.place, self.key, tuple(job.task.key for job in waiting)),
                  help="A rougher answer in less time: fewer steps, samples or masks, as each draft says. The other button "
                       "replaces it by the full answer.")

    def run(self, show: Show | None = None, view: View | None = None) -> list[State]:
        """Run what is due. A task that fails gets its reason and leaves the others alone."""
        spot = None if view else st.empty()  # also without a run, so that what follows keeps its place and replaces a former button
        if not self.now:
            return self.states
        left = TimeLeft([job.cost.seconds for job in self.now])
        with view or Bar(self.place, self.key, spot, several=len(self.now) > 1) as drawn:
            for number, job in enumerate(self.now):
                state = self._run_one(job, number, left, drawn)
                (self.states if job.task is self.tasks[job.at] else self.drafts)[job.at] = state
                asked.use_free(self.place, self.key, job.cost.seconds, job.draft)
                left.finished(number)
                if show:
                    show(job.at, state)
        self.now = []
        return self.states

    def _run_one(self, job: Job, number: int, left: TimeLeft, view: View) -> State:
        task = job.task
        count = f", {number + 1} of {len(self.now)}" if len(self.now) > 1 else ""

        def progress(done: int, total: int, preview: Any = None) -> None:
            "stop" in st.session_state  # noqa: B015  Streamlit ends a replaced script here
            if total:
                left.running(number, done / total)
                text = still_to_come(engine(), left.seconds)
            else:  # see ``explainers.progress``
                left.wait()
                text = until_its_turn(engine(), left.seconds)
            view.report(job.at, f"{task.label}{count}, {text}", left.fraction, preview)

        view.start(task.key)
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
