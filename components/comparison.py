"""The compare page's two parts: each method's settings and cost, and the maps, computed as they are needed."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

import explainers as ex
from components import colour, controls, gate, heatmaps, runs
from components.colour import Display
from components.progress import Progress
from components.workspace import Workspace, in_words

UNITS = "F: images forward, B: gradients back"


CostLines = dict[str, DeltaGenerator]


def settings(workspace: Workspace) -> tuple[runs.Plan, CostLines]:
    """A row with one button a method, its settings behind it and its cost below; and Explain, when something waits.

    The cost lines are returned as well: they change when the maps are there.
    """
    known = ex.methods()
    jobs, lines = [], {}
    with st.container(key="settings", horizontal=True, gap="small", vertical_alignment="top"):
        for key in workspace.methods:
            job, lines[key] = _method_settings(workspace, known[key])
            jobs.append(job)
        planned = runs.plan(workspace, jobs)
        if jobs:
            st.container(key="units", width="content").caption(UNITS)
        if planned.waiting:
            seconds = runs.seconds_in_words(planned.seconds(planned.waiting))
            fits = any(job.fits for job in planned.jobs if job.method.key in planned.waiting)
            st.button(f"Explain, about {seconds}{' after a fit' if fits else ''}", key="explain", type="primary", on_click=gate.ask,
                      args=(runs.PLACE, planned.key),
                      help="Runs the maps that wait. Maps estimated at three seconds or less in all run by themselves, except those "
                           "that first fit statistics on reference images.")
    return planned, lines


def _method_settings(workspace: Workspace, method: ex.Method) -> tuple[runs.Job, DeltaGenerator]:
    with st.container(key=f"settings-{method.key}", width="content", gap=None):
        job = runs.job_for(workspace, method, controls.settings(method, workspace.network))
        line = st.empty()
        line.caption(_cost_line(job))
    return job, line


def _cost_line(job: runs.Job) -> str:
    if job.trouble:
        return "failed" if job.cost else "off for this network"
    passes = runs.passes_in_words(job.cost.passes)
    if job.found:
        return f"{passes}, ready"
    return f"{passes}, about {runs.seconds_in_words(job.cost.seconds)}{', after a fit' if job.fits else ''}"


def maps(workspace: Workspace, planned: runs.Plan, lines: CostLines, display: Display) -> tuple[runs.Job, ...]:
    """Compute what is due, then draw everything in one figure."""
    if not planned.jobs:
        st.info("Choose at least one method in the sidebar.")
        return ()
    bar_place, grid_place, figure_place = st.empty(), st.empty(), st.empty()
    progress = Progress(planned, workspace.sight.seen, display, bar_place, grid_place, figure_place)
    jobs = runs.run(workspace, planned, progress.report, progress.finished)
    progress.fold()
    for job in jobs:
        if job.method.key in planned.now:
            lines[job.method.key].caption(_cost_line(job))
    with figure_place.container():
        heatmaps.draw(workspace.sight.seen, _panels(workspace, planned, jobs, display), display, _alt(workspace, jobs))
    return jobs


def quietly(workspace: Workspace, planned: runs.Plan, lines: CostLines) -> tuple[runs.Job, ...]:
    """Compute what is due under a bar, and draw no map: for pages that ask something of the maps."""
    if not planned.now:
        return planned.jobs
    with gate.bar(runs.PLACE, planned.key) as report:
        jobs = runs.run(workspace, planned, lambda job, step, steps, preview: report(job.method.title, step, steps), lambda job: None)
    for job in jobs:
        if job.method.key in planned.now and job.method.key in lines:
            lines[job.method.key].caption(_cost_line(job))
    return jobs


def _panels(workspace: Workspace, planned: runs.Plan, jobs: Sequence[runs.Job], display: Display) -> list[heatmaps.Panel]:
    found = [job for job in jobs if job.found is not None]
    prepared = colour.prepare([(job.found.heatmap(), job.found.signed) for job in found], display)
    shown = {job.method.key: one for job, one in zip(found, prepared, strict=True)}
    panels = [heatmaps.Panel("What the network sees", lines=(f"{workspace.network.title}",))]
    for job in jobs:
        if job.found is None:
            state = "Stopped." if planned.stopped else "Waits for Explain."
            panels.append(heatmaps.Panel(job.method.title, lines=() if job.trouble else (state,),
                                         warnings=(job.trouble,) if job.trouble else (), pending=True))
            continue
        cost = f"{runs.passes_in_words(job.found.passes)}, {runs.seconds_in_words(job.found.seconds)}"
        target = in_words(job.found.target, workspace.network.categories)
        fitted = _fitted_on(workspace, job)
        panels.append(heatmaps.Panel(
            job.method.title, shown[job.method.key], lines=(f"for {target}", cost, *fitted), warnings=job.found.flags))
    return panels


def _fitted_on(workspace: Workspace, job: runs.Job) -> tuple[str, ...]:
    """The line of a map whose method was fitted; copies of the image say so themselves, as a warning."""
    reference = workspace.reference
    if reference is None or reference.note or not job.fits:
        return ()
    wanted = job.found.params.get("images", reference.size)
    return (f"fitted on {reference.title}" if wanted >= reference.size else f"fitted on {wanted} of {reference.title}",)


def _alt(workspace: Workspace, jobs: Sequence[runs.Job]) -> str:
    titles = ", ".join(job.method.title for job in jobs)
    return f"Attribution maps of {workspace.picture.title} for {workspace.explained_in_words} by {titles}"
