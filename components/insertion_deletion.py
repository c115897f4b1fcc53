"""The section on insertion and deletion, from the terms to the curves, the words, the table and the downloads."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from components import baseline_views, curve_exports, curve_runs, protocol_controls, rankings, scrub
from components.runs import Job
from components.workspace import Workspace

PLACE = "curves"


def draw(workspace: Workspace, jobs: Sequence[Job]) -> None:
    """Everything below the section's name; ``jobs`` are the methods' and the controls', with or without a map."""
    terms = protocol_controls.draw(workspace)
    there = [job for job in jobs if job.found is not None]
    count = f"{len(there)} maps" if len(there) > 1 else "one map"
    found = curve_runs.measured(workspace, there, [terms], PLACE, f"Measure {count}")[0] if there else []
    if found:
        rankings.verdict(found, terms)
        scrub.draw(workspace, found, terms)
        rankings.table(found)
        curve_exports.draw(workspace, found, terms)
    missing = [f"{job.method.title} ({job.trouble or 'its map waits for Explain'})" for job in jobs if job.found is None]
    if missing:
        st.caption(f"Not measured: {', '.join(missing)}")
    if found:
        baseline_views.draw(workspace, there, terms)
