"""What is going to run, what it costs, and the run itself: cheap maps by themselves, costly ones when asked for.

A run happens in the page's body, never in a fragment, so that any change of a widget abandons it: the progress callback
touches the session, and Streamlit then ends a script that a newer one has replaced.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import streamlit as st

import explainers as ex
from components import gate, session
from components.workspace import Workspace
from explainers.contract import Method, Passes

PLACE = "maps"  # the gate through which the maps of a page go

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One method with its parameters on the way to a map. Exactly one of ``found``, ``trouble`` and ``cost`` decides its
    state: it is there, it cannot be, or it still has to run."""

    method: Method
    params: dict[str, Any] = field(default_factory=dict)
    cost: ex.Cost | None = None
    found: ex.Attribution | None = None
    trouble: str = ""

    @property
    def pending(self) -> bool:
        return self.found is None and not self.trouble

    @property
    def control(self) -> bool:
        """Whether it knows nothing of the network, and is there to be beaten."""
        return self.method.family == "control"

    @property
    def fits(self) -> bool:
        """Whether it may first have to fit statistics on a reference set, which its cost leaves out."""
        return "reference" in self.method.needs


@dataclass(frozen=True)
class Plan:
    """The jobs in the order of the panels; ``now`` are the keys of those that run now, ``waiting`` those that wait."""

    jobs: tuple[Job, ...]
    key: str
    now: tuple[str, ...]
    waiting: tuple[str, ...]
    stopped: bool

    def seconds(self, keys: Sequence[str]) -> float:
        return sum(job.cost.seconds for job in self.jobs if job.method.key in keys)


def job_for(workspace: Workspace, method: Method, params: dict[str, Any]) -> Job:
    """Look up the map, and what it would cost."""
    network, sight = workspace.network, workspace.sight
    reason = network.lacks(method)
    if reason:
        return Job(method, params, trouble=reason)
    try:
        found = session.engine().cached(
            network, sight.x, method.key, target=workspace.explained, seed=workspace.seed, reference=workspace.reference, **params)
        cost = session.engine().cost(network, method.key, **params)
    except ex.ExplainerError as error:
        return Job(method, params, trouble=str(error))
    return Job(method, params, cost=cost, found=found)


def request(workspace: Workspace, job: Job) -> ex.Request:
    """The map that the job stands for, as the engine names it."""
    return session.engine().request(workspace.network, workspace.sight.x, job.method.key, target=workspace.explained,
                                    seed=workspace.seed, reference=workspace.reference, **job.params)


def plan(workspace: Workspace, jobs: Sequence[Job]) -> Plan:
    """Decide what runs now: everything if it was asked for, else what is cheap, the cheapest first."""
    fitted_on = workspace.reference.identity if workspace.reference else ""
    key = repr((workspace.network.fingerprint, workspace.picture.digest, workspace.explained, workspace.seed, fitted_on,
                [(job.method.key, sorted(job.params.items())) for job in jobs]))
    pending = sorted((job for job in jobs if job.pending), key=lambda job: job.cost.seconds)
    stopped = gate.stopped(PLACE, key)
    now, total = [], 0.0
    for job in pending:
        total += job.cost.seconds
        if gate.opens(PLACE, key, total, free=not job.fits):
            now.append(job.method.key)
    waiting = [job.method.key for job in pending if job.method.key not in now]
    return Plan(tuple(jobs), key, tuple(now), tuple(waiting), stopped)


Report = Callable[[Job, int, int, np.ndarray | None], None]


def run(workspace: Workspace, planned: Plan, report: Report, finished: Callable[[Job], None]) -> tuple[Job, ...]:
    """Compute what ``now`` names; a job that fails is told so and leaves the others alone."""
    done = {job.method.key: job for job in planned.jobs}
    for key in planned.now:
        done[key] = run_one(workspace, done[key], report)
        finished(done[key])
    return tuple(done.values())


def run_one(workspace: Workspace, job: Job, report: Report) -> Job:
    """The job with its map, or with what went wrong."""
    def tick(step: int, steps: int, preview: Any) -> None:
        "stop" in st.session_state  # noqa: B015  a newer run ends this one here
        report(job, step, steps, preview)

    try:
        found = session.engine().explain(
            workspace.network, workspace.sight.x, job.method.key, target=workspace.explained, seed=workspace.seed,
            progress=tick, reference=workspace.reference, **job.params)
    except ex.ExplainerError as error:
        return replace(job, trouble=str(error))
    except Exception as error:
        log.exception("%s failed", job.method.key)
        return replace(job, trouble=f"{job.method.title} failed ({type(error).__name__}); the log has the details.")
    return replace(job, found=found)


def offer(place: str, key: str, what: str, passes: Passes, seconds: float, fits: bool = False) -> None:
    """The button of what waits at a gate, and what it costs; ``fits`` if that leaves out the fit of a method."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"offer-{place}"):
        st.button(f"{what}, about {seconds_in_words(seconds)}", key=f"run-{place}", type="primary", on_click=gate.ask,
                  args=(place, key), help="Runs what is not yet known. What is estimated at three seconds or less runs by itself.")
        st.caption(f"{passes_in_words(passes)}{', after a fit' if fits else ''}{'. Stopped.' if gate.stopped(place, key) else ''}")


def passes_in_words(passes: Passes) -> str:
    """``50 F + 50 B``; a method that leaves the network alone takes none."""
    parts = [f"{_count(number)} {unit}" for number, unit in ((passes.forward, "F"), (passes.backward, "B")) if number]
    return " + ".join(parts) or "no passes"


def _count(number: float) -> str:
    """Passes may be parts of one: two decimals then, and never a plain zero."""
    return f"{number:,.0f}" if float(number).is_integer() or number >= 100 else f"{max(number, 0.01):.2f}".rstrip("0").rstrip(".")


def seconds_in_words(seconds: float) -> str:
    """A duration with as many digits as matter."""
    if seconds < 0.095:
        return f"{max(1, round(1000 * seconds))} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


