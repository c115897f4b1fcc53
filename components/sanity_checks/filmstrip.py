"""The filmstrip: a row a method, the intact network's map and one a stage, each with its likeness; and two maps looked at closely."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape

import numpy as np
import streamlit as st
from PIL import Image

from components.drawing import colour, heatmaps
from components.drawing.colour import Display
from components.drawing.heatmaps import data_uri
from components.drawing.numbers import fixed
from components.sanity_checks.checks import Question, Row, predictions, run
from components.sidebar.sidebar import Workspace
from explainers.metrics.sanity_checks import Step

REVEAL_EVERY = 0.4  # seconds: the strip is sent whole
SHOWN = 148  # pixels of a map's side at most; smaller ones are enlarged with sharp edges
NAMES = {"ssim": "SSIM", "rank": "Rank", "rank_absolute": "|Rank|", "hog": "HOG"}


def draw(workspace: Workspace, question: Question, found: Sequence[Row], measure: str, display: Display) -> list[Row]:
    """Run what is due above the strip, and reveal one map after another in it."""
    above, place = st.container(gap="small"), st.empty()
    last = 0.0

    def reveal(rows: Sequence[Row]) -> None:
        nonlocal last
        if time.monotonic() - last >= REVEAL_EVERY:
            last = time.monotonic()
            place.html(html(workspace, question, rows, measure, display))

    reveal(found)
    with above:
        found = run(workspace, question, found, reveal)
    place.html(html(workspace, question, found, measure, display))
    return found


def html(workspace: Workspace, question: Question, found: Sequence[Row], measure: str, display: Display) -> str:
    """The whole strip: stages across, methods down. What is not there yet is an empty frame."""
    changes = question.changes
    first = workspace.explained[0] if isinstance(workspace.explained, tuple) else workspace.explained
    share = float(workspace.sight.probabilities[first])
    said = _said(workspace, workspace.sight.ranked[0], share)
    head = [f'<div class="corner"></div><div class="stage"><b>As learned</b>{said}</div>']
    for change, moved in zip(changes, predictions(found) or [None] * len(changes), strict=True):
        title, _, layers = change.title.partition(" (")
        said = _said(workspace, moved.top, moved.probability) if moved else ""
        plus = "+ " if question.mode == "cascading" and change is not changes[0] else ""
        place = f'<span title="{escape(layers[:-1])}">{escape(layers[:-1])}</span>'
        head.append(f'<div class="stage"><b>{plus}{escape(title)}</b>{place}{said}</div>')
    body = "".join(_row(workspace, row, measure, display) for row in found)
    return f'<div class="strip"><div class="grid" style="--stages: {len(changes) + 1}">{"".join(head)}{body}</div></div>'


def _said(workspace: Workspace, top: int, share: float) -> str:
    """What the network says of the picture there: its first choice, and the probability of the explained class."""
    name = escape(workspace.network.categories[top])
    own = escape(workspace.network.categories[workspace.target])
    aimed = "" if top == workspace.target else f" for {own}"
    told = fixed(share, 2) if share >= 0.005 else "&lt; 0.01"
    return f'<span title="first choice: {name}">says {name}</span><span title="probability of {own}">p {told}{aimed}</span>'


def _row(workspace: Workspace, row: Row, measure: str, display: Display) -> str:
    title = escape(row.job.method.title)
    cells = [f'<div class="method"><i style="background:{row.style.colour}"></i>{title}</div>']
    maps = [row.job.found.heatmap() if row.job.found else None,
            *(step.heatmap if isinstance(step, Step) else None for step in row.steps)]
    there = [one for one in maps if one is not None]
    shown = iter(colour.prepare([(_small(one), row.job.method.signed if row.job.found is None else row.job.found.signed)
                                 for one in there], display))
    for heatmap, step in zip(maps, [None, *row.steps], strict=True):
        if heatmap is None:
            told = escape(step) if isinstance(step, str) else ""
            cells.append(f'<figure class="empty"><div></div><figcaption class="lost">{told}</figcaption></figure>')
            continue
        source = data_uri(_thumbnail(workspace.sight.seen, next(shown), display))
        cells.append(f'<figure><img src="{source}" alt="{title}, {escape(step.title) if step else "as learned"}">'
                     f"<figcaption>{_likeness(step, measure)}</figcaption></figure>")
    return "".join(cells)


def _likeness(step: Step | None, measure: str) -> str:
    if step is None:
        return "&nbsp;"
    value = getattr(step.distances, measure)
    if np.isnan(value):
        return f'<span class="lost">{escape(step.flags[0] if step.flags else "cannot be told")}</span>'
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
def closely(workspace: Workspace, question: Question, found: Sequence[Row], display: Display) -> None:
    """Two maps at full size with linked zoom: the one as learned, and the one of a stage. Nothing here computes."""
    ready = {row.job.method.title: row for row in found if row.job.found and row.found}
    if not ready:
        return
    with st.container(key="closely", horizontal=True, vertical_alignment="bottom", gap="medium"):
        chosen = st.selectbox("Look closely at", list(ready), key="closely_method", bind="query-params", width=240,
                              help="The method whose maps are drawn below at the network's own resolution.")
        row = ready[chosen]
        titles = [step.title for step in row.found]
        title = titles[0]
        if len(titles) > 1:
            title = st.select_slider("after drawing anew", titles, key=f"closely_stage_{question.mode}_{len(titles)}", width=420,
                                     help="The stage whose map stands beside the map as learned.")
    step = row.found[titles.index(title)]
    shown = colour.prepare([(row.job.found.heatmap(), row.job.found.signed), (step.heatmap, row.job.found.signed)], display)
    what = "drawn anew down to:" if question.mode == "cascading" else "drawn anew:"
    likeness = ", ".join(f"{name} {fixed(getattr(step.distances, key), 2)}" for key, name in NAMES.items()
                         if not np.isnan(getattr(step.distances, key)))
    heatmaps.draw(workspace.sight.seen, [
        heatmaps.Panel("What the network sees"),
        heatmaps.Panel(f"{chosen}, as learned", shown[0], warnings=row.job.found.flags),
        heatmaps.Panel(f"{chosen}, {what} {step.title}", shown[1], lines=(likeness,) if likeness else (), warnings=step.flags),
    ], display, f"{chosen} as learned, and after drawing anew: {step.title}")
