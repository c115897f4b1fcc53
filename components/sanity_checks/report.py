"""What the sanity checks say: a verdict a method, the numbers of a single comparison, and the downloads."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from io import BytesIO
from typing import Any

import numpy as np
import streamlit as st

from components.drawing import colour, curves, display_controls, downloads
from components.drawing.colour import Display
from components.drawing.downloads import Answer
from components.drawing.numbers import fixed
from components.sanity_checks.randomisation import Randomisation
from components.sanity_checks.step_rows import NAMES, StepRow, in_words
from components.state import evidence
from components.state.workspace import Workspace
from explainers.metrics import sanity_checks as metric

DPI, SIDE, GAP, LEFT, TOP = 200, 1.0, 0.08, 1.3, 0.55  # inches, except the dots per inch


def view() -> tuple[str, Display]:
    """The similarity that the strip and the curves show, and how maps are drawn."""
    with st.container(key="sanity-view", horizontal=True, vertical_alignment="bottom", gap="medium"):
        chosen = _measure()
        with st.popover("How maps are drawn", help="Sign, scale, backdrop and the like. Nothing is computed again."):
            display = display_controls.draw(folded=False)
    return chosen, display


def _measure() -> str:
    chosen = st.segmented_control(
        "Similarity", list(NAMES.values()), default=NAMES["ssim"], required=True, key="likeness", bind="query-params",
        help="How alike each map is to the one with trained weights; 1 is the same. SSIM: structure of the maps, scaled from 0 to 1. "
             "Rank: order of the pixels (Spearman's correlation). |Rank|: the same without the sign. HOG: contours (histograms of "
             "oriented gradients).")
    return next(key for key, name in NAMES.items() if name == chosen)


def verdicts(randomisation: Randomisation, rows: Sequence[StepRow]) -> None:
    """One line a method whose steps have all ended."""
    for row in rows:
        evidence.record_weights(row.question, row.steps, len(randomisation.changes), randomisation.mode, randomisation.how)
    lines = [f'<dt>{curves.swatch(row.style)}{escape(row.title)}</dt>'
             f"<dd>{escape(row.reason or metric.verdict(row.steps, randomisation.mode))}</dd>" for row in rows if row.ended]
    if lines:
        with st.container(key="verdicts"):
            st.html(f'<dl class="weighed">{"".join(lines)}</dl>')


def table(randomisation: Randomisation, rows: Sequence[StepRow]) -> None:
    """All four similarities, where there is but one comparison and so no curve."""
    ready = [row for row in rows if row.steps]
    if len(randomisation.changes) > 1 or not ready:
        return
    names = "".join(f"<th>{escape(name)}</th>" for name in NAMES.values())
    body = []
    for row in ready:
        values = (getattr(row.steps[0].distances, key) for key in NAMES)
        cells = "".join(f"<td>{'' if np.isnan(value) else fixed(value, 2)}</td>" for value in values)
        body.append(f'<tr><td>{curves.swatch(row.style)}{escape(row.title)}</td>{cells}</tr>')
    head = f"<tr><th>Similarity to the map with trained weights</th>{names}</tr>"
    with st.container(key="similarities"):
        st.html(f'<div class="wide"><table class="numbers">{head}{"".join(body)}</table></div>')


def offer_downloads(workspace: Workspace, randomisation: Randomisation, rows: Sequence[StepRow], display: Display) -> None:
    """The figure, the numbers and what they are, made only when clicked."""
    if not any(row.steps for row in rows):
        return
    downloads.buttons((
        ("Figure (PNG)", "png", "image/png", lambda: figure(workspace, randomisation, rows, display),
         "The strip with all four similarities, for a paper or a slide."),
        ("Numbers (CSV)", "csv", "text/csv", lambda: numbers(rows),
         "A line a method and stage: all similarities, and the predictions."),
        ("Settings (JSON)", "json", "application/json", lambda: settings(workspace, randomisation, rows, display),
         "Network, picture, target, every parameter, the stages and the seed of the weights."),
    ), f"{workspace.picture.name}-{workspace.network.name}-weights")


def numbers(rows: Sequence[StepRow]) -> bytes:
    """The steps as CSV; a similarity that is not defined is empty."""
    lines: list[list[Any]] = [["method", "step", "stage", *metric.SIMILARITIES, "probability_before", "probability", "logit_rank",
                               "top_before", "top", "flags"]]
    for row in rows:
        for number, step in enumerate(row.by_change, 1):
            if step:
                moved = step.predictions
                values = [getattr(step.distances, key) for key in metric.SIMILARITIES] + [moved.probability_before, moved.probability,
                                                                                         moved.rank]
                lines.append([row.key, number, step.title, *map(downloads.cell, values), moved.top_before, moved.top,
                              "; ".join(step.flags)])
    return downloads.csv_of(lines)


def settings(workspace: Workspace, randomisation: Randomisation, rows: Sequence[StepRow], display: Display) -> bytes:
    """Everything that decides the numbers, as JSON."""
    answers = [Answer(row.question, row.original, row.entry.name) for row in rows if row.original]
    facts = downloads.settings(workspace, answers, display)
    facts["weights"] = {"randomised": randomisation.mode, "drawn": randomisation.how, "seed": randomisation.seed, "stages": [
        {"title": change.title, "parameters": [name for stage in change.stages for name in stage.parameters]}
        for change in randomisation.changes]}
    return downloads.json_of(facts)


def _broken(title: str) -> str:
    """A title in lines that fit beside the maps of the figure."""
    return title.replace(" \u00b7 ", "\n").replace(", ", ",\n") if "\u00b7" in title else title.replace(" ", "\n", 1)


def figure(workspace: Workspace, randomisation: Randomisation, rows: Sequence[StepRow], display: Display) -> bytes:
    """The strip by matplotlib: methods down, stages across, all four similarities under each map."""
    from matplotlib.figure import Figure  # takes a second to import, and only a download needs it

    ready = [(row, row.original) for row in rows if row.original and row.steps]
    columns, line = len(randomisation.changes) + 1, SIDE + 0.42
    width, height = LEFT + columns * (SIDE + GAP), TOP + len(ready) * line + 0.2
    made = Figure(figsize=(width, height), dpi=DPI)
    for place, title in enumerate(["Trained weights", *(change.title for change in randomisation.changes)]):
        kind, _, layers = title.partition(" (")
        made.text((LEFT + place * (SIDE + GAP)) / width, 1 - 0.42 / height, f"{kind}\n{layers.rstrip(')')}", fontsize=6, va="center",
                  parse_math=False)
    for down, (row, original) in enumerate(ready):
        bottom = height - TOP - SIDE - down * line
        made.text(0.08 / width, (bottom + SIDE / 2) / height, _broken(row.title), fontsize=8, va="center",
                  parse_math=False)
        steps = [(place, step) for place, step in enumerate(row.by_change, 1) if step]
        shown = colour.prepare([(heatmap, original.signed) for heatmap in (original.heatmap(), *(step.heatmap for _, step in steps))],
                               display)
        for shown_map, (place, words) in zip(shown, [(0, []), *((place, in_words(step)) for place, step in steps)], strict=True):
            left = LEFT + place * (SIDE + GAP)
            axis = made.add_axes((left / width, bottom / height, SIDE / width, SIDE / height))
            axis.imshow(colour.over(shown_map, workspace.input.seen, display.backdrop), interpolation="nearest")
            axis.set_axis_off()
            made.text(left / width, (bottom - 0.06) / height, f"{', '.join(words[:2])}\n{', '.join(words[2:])}", fontsize=5, va="top")
    made.text(0.08 / width, 0.06 / height, f"{workspace.network.title}, maps for {workspace.target_words}; new weights: "
              f"{randomisation.how_in_words}, seed {randomisation.seed}", fontsize=6, color="#555555", parse_math=False)
    buffer = BytesIO()
    made.savefig(buffer, format="png")
    return buffer.getvalue()
