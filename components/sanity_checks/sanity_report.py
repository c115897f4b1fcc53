"""What the sanity checks say: a verdict a method, the numbers of a single comparison, and the downloads."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from io import BytesIO
from typing import Any

import numpy as np
import streamlit as st

from components.drawing import colour, display_controls, exports
from components.drawing.colour import Display
from components.drawing.numbers import fixed
from components.sanity_checks.checks import Question, Row
from components.sanity_checks.filmstrip import NAMES
from components.sidebar.sidebar import Workspace
from explainers.metrics import sanity_checks as metric

DPI, SIDE, GAP, LEFT, TOP = 200, 1.0, 0.08, 1.3, 0.55  # inches


def view() -> tuple[str, Display]:
    """The measure that the strip and the curves show, and how maps are drawn."""
    with st.container(key="sanity-view", horizontal=True, vertical_alignment="bottom", gap="medium"):
        chosen = _measure()
        with st.popover("How maps are drawn", help="Sign, scale, backdrop and the like. Nothing is computed anew."):
            display = display_controls.draw()
    return chosen, display


def _measure() -> str:
    chosen = st.segmented_control(
        "Likeness", list(NAMES.values()), default=NAMES["ssim"], required=True, key="likeness", bind="query-params",
        help="How alike a map is to the one as learned; 1 is the same. SSIM: structure, each map from 0 to 1. Rank: Spearman's "
             "correlation of the signed values. |Rank|: of their magnitudes. HOG: correlation of histograms of oriented gradients.")
    return next(key for key, name in NAMES.items() if name == chosen)


def verdicts(question: Question, found: Sequence[Row]) -> None:
    """One line a method whose steps are all there."""
    lines = []
    for row in found:
        if row.missing:
            continue
        lost = [step for step in row.steps if isinstance(step, str)]
        told = lost[0] if lost else metric.verdict(row.found, question.mode)
        lines.append(f'<dt><i style="background:{row.style.colour}"></i>{escape(row.job.method.title)}</dt><dd>{escape(told)}</dd>')
    if lines:
        st.html(f'<dl class="weighed">{"".join(lines)}</dl>')


def table(question: Question, found: Sequence[Row]) -> None:
    """All four measures, where there is but one comparison and so no curve."""
    ready = [row for row in found if row.found]
    if len(question.changes) > 1 or not ready:
        return
    head = "".join(f"<th>{escape(name)}</th>" for name in NAMES.values())
    rows = []
    for row in ready:
        values = (getattr(row.found[0].distances, key) for key in NAMES)
        cells = "".join(f"<td>{'' if np.isnan(value) else fixed(value, 2)}</td>" for value in values)
        title = escape(row.job.method.title)
        rows.append(f'<tr><td><i style="background:{row.style.colour}"></i>{title}</td>{cells}</tr>')
    head = f"<tr><th>Likeness to the map as learned</th>{head}</tr>"
    st.html(f'<div class="wide"><table class="numbers">{head}{"".join(rows)}</table></div>')


def downloads(workspace: Workspace, question: Question, found: Sequence[Row], display: Display) -> None:
    """The figure, the numbers and what they are, made only when clicked."""
    if not any(row.found for row in found):
        return
    name = f"{workspace.picture.name}-{workspace.network.name}-weights"
    files = (
        ("Figure (PNG)", "png", "image/png", lambda: figure(workspace, question, found, display),
         "The strip with all four measures, for a paper or a slide."),
        ("Numbers (CSV)", "csv", "text/csv", lambda: numbers(found), "A line a method and stage: all measures, and the predictions."),
        ("Settings (JSON)", "json", "application/json", lambda: settings(workspace, question, found, display),
         "Network, picture, target, every parameter, the stages and the seed of the draw."),
    )
    exports.buttons(files, name)


def numbers(found: Sequence[Row]) -> bytes:
    """The steps as CSV; a measure that cannot be told is empty."""
    lines = [["method", "step", "stage", *metric.SIMILARITIES, "probability_before", "probability", "logit_rank", "top_before",
              "top", "flags"]]
    for row in found:
        for place, step in enumerate(row.steps, 1):
            if isinstance(step, metric.Step):
                moved = step.predictions
                values = [getattr(step.distances, key) for key in metric.SIMILARITIES] + [moved.probability_before, moved.probability,
                                                                                         moved.rank]
                lines.append([row.job.method.key, place, step.title, *map(exports.cell, values), moved.top_before, moved.top,
                              "; ".join(step.flags)])
    return exports.csv_of(lines)


def settings(workspace: Workspace, question: Question, found: Sequence[Row], display: Display) -> bytes:
    """Everything that decides the numbers, as JSON."""
    facts: dict[str, Any] = exports.settings(workspace, [row.job for row in found if row.job.found], display)
    facts["weights"] = {"randomised": question.mode, "drawn": question.how, "seed": question.seed, "stages": [
        {"title": change.title, "parameters": [name for stage in change.stages for name in stage.parameters]}
        for change in question.changes]}
    return exports.json_of(facts)


def figure(workspace: Workspace, question: Question, found: Sequence[Row], display: Display) -> bytes:
    """The strip by matplotlib: methods down, stages across, all four measures under each map."""
    from matplotlib.figure import Figure  # takes a second to import, and only a download needs it

    ready = [row for row in found if row.job.found and row.found]
    columns, line = len(question.changes) + 1, SIDE + 0.42
    width, height = LEFT + columns * (SIDE + GAP), TOP + len(ready) * line + 0.2
    made = Figure(figsize=(width, height), dpi=DPI)
    for place, title in enumerate(["As learned", *(change.title for change in question.changes)]):
        kind, _, layers = title.partition(" (")
        made.text((LEFT + place * (SIDE + GAP)) / width, 1 - 0.42 / height, f"{kind}\n{layers.rstrip(')')}", fontsize=6, va="center")
    for down, row in enumerate(ready):
        bottom = height - TOP - SIDE - down * line
        made.text(0.08 / width, (bottom + SIDE / 2) / height, row.job.method.title.replace(" ", "\n", 1), fontsize=8, va="center")
        cells = [(row.job.found.heatmap(), None)] + [(step.heatmap, step) for step in row.steps if isinstance(step, metric.Step)]
        at = [0] + [place for place, step in enumerate(row.steps, 1) if isinstance(step, metric.Step)]
        shown = colour.prepare([(heatmap, row.job.found.signed) for heatmap, _ in cells], display)
        for place, one, (_, step) in zip(at, shown, cells, strict=True):
            left = LEFT + place * (SIDE + GAP)
            axis = made.add_axes((left / width, bottom / height, SIDE / width, SIDE / height))
            axis.imshow(colour.over(one, workspace.sight.seen, display.backdrop), interpolation="nearest")
            axis.set_axis_off()
            if step is not None:
                told = [f"{name} {fixed(getattr(step.distances, key), 2)}" for key, name in NAMES.items()
                        if not np.isnan(getattr(step.distances, key))]
                made.text(left / width, (bottom - 0.06) / height, "\n".join((", ".join(told[:2]), ", ".join(told[2:]))), fontsize=5,
                          va="top")
    made.text(0.08 / width, 0.06 / height, f"{workspace.network.title}, maps for {workspace.explained_in_words}; weights drawn: "
              f"{question.how}, seed {question.seed}", fontsize=6, color="#555555")
    buffer = BytesIO()
    made.savefig(buffer, format="png")
    return buffer.getvalue()
