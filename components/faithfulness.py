"""The faithfulness page's frame: the maps that are judged, the controls among them, and which measurement is open."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

import explainers as ex
from components import comparison, insertion_deletion, localisation, runs, sensitivity
from components.workspace import Workspace

SECTIONS = {
    "Insertion and deletion": insertion_deletion.draw,
    "Sensitivity-n": sensitivity.draw,
    "Localisation": localisation.draw,
}


def maps(workspace: Workspace) -> tuple[runs.Job, ...]:
    """The methods' settings, and their maps with those of all controls, computed as on the compare page."""
    planned, lines = comparison.settings(workspace)
    if not workspace.methods:
        st.info("Choose at least one method in the sidebar. Until then only the controls are measured.")
    known = ex.methods()
    extra = [runs.job_for(workspace, method, {}) for key, method in known.items()
             if method.family == "control" and key not in workspace.methods]
    now = tuple(job.method.key for job in extra if job.pending)
    planned = replace(planned, jobs=planned.jobs + tuple(extra), now=planned.now + now)
    return comparison.quietly(workspace, planned, lines)


def draw(workspace: Workspace, jobs: tuple[runs.Job, ...]) -> None:
    """One measurement at a time; only the open one computes."""
    names = list(SECTIONS)
    chosen = st.segmented_control("Measurement", names, default=names[0], required=True, key="measurement", bind="query-params",
                                  label_visibility="collapsed", help="Which question is put to the maps.")
    SECTIONS[chosen](workspace, jobs)
