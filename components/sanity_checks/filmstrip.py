"""The filmstrip: a row a method, the map with trained weights and one a stage, each with its similarity; and two maps in detail."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape

import numpy as np
import streamlit as st
from PIL import Image

from components.compute.task import Failed, State
from components.drawing import colour, curves, heatmaps
from components.drawing.colour import Display
from components.drawing.foreign_words import in_markdown
from components.drawing.heatmaps import data_uri
from components.drawing.numbers import fixed
from components.sanity_checks.randomisation import Randomisation
from components.sanity_checks.step_rows import StepRow, StepRows, in_words, predictions
from components.state.workspace import Workspace
from explainers.metrics.sanity_checks import Step

REDRAW_EVERY = 0.4  # seconds: the strip is sent whole
SHOWN = 148  # pixels of a map's side at most; smaller ones are enlarged with sharp edges


def draw(workspace: Workspace, steps: StepRows, measure: str, display: Display) -> list[StepRow]:
    """Run what is due above the strip, and show one map after another in it."""
    above = st.container(gap="small")
    with st.container(key="filmstrip"):
        place = st.empty()
    last = 0.0

    def redraw() -> None:
        nonlocal last
        if time.monotonic() - last >= REDRAW_EVERY:
            last = time.monotonic()
            place.html(html(workspace, steps.randomisation, steps.rows, measure, display))

    redraw()
    with above:
        steps.offer()
        rows = steps.run(redraw)
    place.html(html(workspace, steps.randomisation, rows, measure, display))
    return rows


def html(workspace: Workspace, randomisation: Randomisation, rows: Sequence[StepRow], measure: str, display: Display) -> str:
    """The whole strip: stages across, methods down. What is not there yet is an empty frame."""
    changes = randomisation.changes
    prediction = _prediction(workspace, workspace.input.ranked[0], float(workspace.input.probabilities[workspace.target.first]))
    head = [f'<div class="corner"></div><div class="stage"><b>Trained weights</b>{prediction}</div>']
    for change, moved in zip(changes, predictions(rows), strict=True):
        title, _, layers = change.title.partition(" (")
        prediction = _prediction(workspace, moved.top, moved.probability) if moved else ""
        plus = "+ " if randomisation.mode == "cascading" and change is not changes[0] else ""
        where = f'<span title="{escape(layers[:-1])}">{escape(layers[:-1])}</span>'
        head.append(f'<div class="stage"><b>{plus}{escape(title)}</b>{where}{prediction}</div>')
    body = "".join(_row(workspace, row, measure, display) for row in rows)
    return f'<div class="strip"><div class="grid" style="--stages: {len(changes) + 1}">{"".join(head)}{body}</div></div>'


def _prediction(workspace: Workspace, top: int, probability: float) -> str:
    """What the network predicts there: its first choice, and the probability of the explained class."""
    first, names = workspace.target.first, workspace.network.categories
    name, own = escape(names[top]), escape(names[first])
    words = fixed(probability, 2) if probability >= 0.005 else "&lt; 0.01"
    of_which = "" if top == first else f" for {own}"
    return f'<span title="first choice: {name}">predicts {name}</span><span title="probability of {own}">p {words}{of_which}</span>'


def _row(workspace: Workspace, row: StepRow, measure: str, display: Display) -> str:
    title = escape(row.title)
    steps = row.by_change
    maps = [row.original.heatmap() if row.original else None, *(step.heatmap if step else None for step in steps)]
    signed = row.original.signed if row.original else row.entry.method.signed
    shown = iter(colour.prepare([(_small(heatmap), signed) for heatmap in maps if heatmap is not None], display))
    cells = [f'<div class="method">{curves.swatch(row.style)}{title}</div>']
    for heatmap, step, state in zip(maps, [None, *steps], [None, *row.states], strict=True):
        if heatmap is None:
            cells.append(_empty(state))
            continue
        source = data_uri(_thumbnail(workspace.input.seen, next(shown), display))
        cells.append(f'<figure><img src="{source}" alt="{title}, {escape(step.title) if step else "trained weights"}">'
                     f"<figcaption>{_similarity(step, measure)}</figcaption></figure>")
    return "".join(cells)


def _empty(state: State | None) -> str:
    reason = escape(state.reason) if isinstance(state, Failed) else ""
    return f'<figure class="empty"><div></div><figcaption class="lost">{reason}</figcaption></figure>'


def _similarity(step: Step | None, measure: str) -> str:
    if step is None:
        return "&nbsp;"
    value = getattr(step.distances, measure)
    if np.isnan(value):
        return f'<span class="lost">{escape(step.flags[0] if step.flags else "not defined")}</span>'
    return fixed(value, 2)


def _small(heatmap: np.ndarray) -> np.ndarray:
    """Averaged over whole cells down to the strip's size; a map that is small already stays as it is."""
    factor = max(1, heatmap.shape[0] // SHOWN)
    rows, columns = (side // factor for side in heatmap.shape)
    cut = heatmap[:rows * factor, :columns * factor]
    return cut.reshape(rows, factor, columns, factor).mean((1, 3)) if factor > 1 else cut


def _thumbnail(seen: Image.Image, shown: colour.Shown, display: Display) -> Image.Image:
    image = Image.fromarray(colour.over(shown, seen, display.backdrop))
    factor = max(1, SHOWN // image.width)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST) if factor > 1 else image


@st.fragment
def compare_in_detail(workspace: Workspace, randomisation: Randomisation, rows: Sequence[StepRow], display: Display) -> None:
    """Two maps at full size with linked zoom: with trained weights, and after one change. Nothing here computes."""
    ready = {row.title: (row, row.original) for row in rows if row.original and row.steps}
    if not ready:
        return
    with st.container(key="closely", horizontal=True, vertical_alignment="bottom", gap="medium"):
        chosen = st.selectbox("Compare in detail", list(ready), key="closely_method", bind="query-params", width=240,
                              help="The method whose maps are drawn below at the network's own resolution.")
        row, original = ready[chosen]
        titles = [step.title for step in row.steps]
        title = titles[0]
        if len(titles) > 1:
            title = st.select_slider("with new weights", titles, key=f"closely_stage_{randomisation.mode}_{len(titles)}", width=420,
                                     format_func=in_markdown,
                                     help="The stage whose map stands beside the map with trained weights.")
    step = row.steps[titles.index(title)]
    shown = colour.prepare([(original.heatmap(), original.signed), (step.heatmap, original.signed)], display)
    short = row.entry.short_title
    what = "new weights down to:" if randomisation.mode == "cascading" else "new weights:"
    heatmaps.draw(workspace.input.seen, [
        heatmaps.Panel("What the network sees"),
        heatmaps.Panel(f"{short}, trained weights", shown[0], warnings=original.flags),
        heatmaps.Panel(f"{short}, new weights", shown[1], warnings=step.flags,
                       lines=(f"{what} {step.title}", *([", ".join(in_words(step))] if in_words(step) else []))),
    ], display, f"{chosen} with trained weights, and with {what} {step.title}")
