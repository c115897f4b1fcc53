"""The class sensitivity page's picture part: a row of maps for each method, its matrix, and what the numbers say of it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from io import BytesIO

import numpy as np
import streamlit as st
from PIL import Image

from components import class_exports, class_maps, colour, display_controls, heatmaps
from components.class_choice import NAMES, Choice
from components.class_maps import Row
from components.colour import Display, Shown
from components.numbers import fixed, significant
from components.overview import percent
from components.runs import Job
from components.workspace import Workspace, in_words
from explainers.contract import Target
from explainers.metrics import class_sensitivity as metric

COARSE = 64  # pixels a side below which a map is enlarged with sharp edges


def draw(workspace: Workspace, choice: Choice) -> None:
    """Compute what is due, each row drawn anew with every map; around them the verdict, the table and the downloads."""
    if not choice.methods:
        st.info("Choose at least one method in the sidebar.")
        return
    rows = class_maps.known(workspace, choice)
    summary, run = st.container(), st.container()
    places = [st.empty() for _ in choice.methods]
    table = st.container()
    foot = st.container(horizontal=True, vertical_alignment="center", gap="small", key="class-foot")
    with foot, st.popover("How maps are drawn", help="Sign, backdrop and the like. Nothing is computed anew."):
        display = display_controls.draw(scale=False)

    def show(place: int, row: Row) -> None:
        places[place].html(section(workspace, choice, row, shown_of(row, display), display))

    for place, row in enumerate(rows):
        show(place, row)
    with run:
        rows = class_maps.run(workspace, choice, rows, show)
    with summary:
        _summary(workspace, choice, rows)
    with table:
        _table(workspace, choice, rows)
    with foot:
        class_exports.draw(workspace, choice, rows, [shown_of(row, display) for row in rows], display)


def shown_of(row: Row, display: Display) -> list[Shown | None]:
    """The row's maps on one scale of colours, None where one is missing. A map of zeros, which has no scale, takes the others'."""
    maps = [(job.found.heatmap(), job.found.signed) if job.found is not None else None for job in row.jobs]
    prepared = iter(colour.prepare([one for one in maps if one is not None and one[0].any()], display))
    shown = [next(prepared) if one is not None and one[0].any() else None for one in maps]
    limit = max((one.limit for one in shown if one is not None), default=1.0)
    empty = [colour.prepare([one], display)[0] if one is not None and not one[0].any() else None for one in maps]
    return [replace(nothing, limit=limit) if nothing is not None else one for one, nothing in zip(shown, empty, strict=True)]


def _summary(workspace: Workspace, choice: Choice, rows: Sequence[Row]) -> None:
    """Name the methods whose map stays the same, before anything is read from the maps."""
    same = []
    for row in rows:
        if row.found is None:
            continue
        pair = row.found.between(*choice.pair)
        if metric.verdict(pair.rank, pair.l2_unit).level == "same":
            same.append(f"{row.method.title} ({fixed(pair.rank)})")
    words = choice.pair_in_words(workspace.network.categories)
    if same:
        st.html(f'<div class="verdict warned"><p>Hardly follow the class, by the rank correlation of the maps for {escape(words)}: '
                f'{escape(", ".join(same))}.</p></div>')
    elif all(row.found is not None for row in rows):
        st.html(f'<p class="verdict">No method keeps the same map, or nearly, for {escape(words)}.</p>')


def section(workspace: Workspace, choice: Choice, row: Row, maps: Sequence[Shown | None], display: Display) -> str:
    """One method: its name and verdict, the maps with their shared scale, and the matrix of the classes."""
    names = workspace.network.categories
    head = f"<h3>{escape(row.method.title)}</h3>"
    trouble = next((job.trouble for job in row.jobs if job.trouble), "")
    if trouble:
        return f'<section class="class-row">{head}<p class="same">{escape(trouble)}</p></section>'
    verdict = "<p>Its maps are not all there yet.</p>"
    if row.found is not None:
        pair = row.found.between(*choice.pair)
        flat = " and ".join(names[target] for target in choice.pair if target in row.found.flat)
        said = metric.verdict(pair.rank, pair.l2_unit, choice.pair_in_words(names), flat)
        verdict = f'<p class="{said.level}">{escape(said.words)}</p>'
    scale = _ramp(maps, display.backdrop)
    cells = "".join(_figure(workspace, target, job, one, display, "" if place else scale)
                    for place, (target, job, one) in enumerate(zip(row.targets, row.jobs, maps, strict=True)))
    matrix = _matrix(names, choice, row) if row.found is not None else ""
    return (f'<section class="class-row">{head}{verdict}'
            f'<div class="class-grid" style="--columns: {len(row.targets)}; --classes: {len(choice.classes)}">{cells}{matrix}</div>'
            "</section>")


def _figure(workspace: Workspace, target: Target, job: Job, one: Shown | None, display: Display, scale: str) -> str:
    sight, names = workspace.sight, workspace.network.categories
    title = escape(in_words(target, names))
    share = "contrast" if isinstance(target, tuple) else percent(float(sight.probabilities[target]))
    coarse = ' class="coarse"' if min(sight.seen.size) < COARSE else ""
    if one is None:
        picture, note = heatmaps.data_uri(colour.backdrop(sight.seen, "Grey")), "not computed"
        image = f'<img{coarse} src="{picture}" style="opacity:0.35" alt="No map yet for {title}">'
    else:
        image = (f'<img{coarse} src="{_source(sight.seen, one, display.backdrop)}" '
                 f'alt="{escape(job.method.title)}, map for {title}">')
        note = "; ".join(job.found.flags)
    flag = f'<p class="lost">{escape(note)}</p>' if note else ""
    return f'<figure><figcaption title="{title}"><b>{title}</b><span>{share}</span></figcaption>{image}{scale}{flag}</figure>'


def _source(seen: Image.Image, one: Shown, backdrop: str) -> str:
    """The map over its backdrop as a JPEG that keeps the colours of single pixels."""
    on_dark = backdrop == "None" and st.context.theme.type == "dark"
    buffer = BytesIO()
    Image.fromarray(colour.over(one, seen, backdrop, on_dark)).save(buffer, "JPEG", quality=92, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _ramp(maps: Sequence[Shown | None], backdrop: str) -> str:
    """The one scale of colours of a row; in the dark it stands on the grey that the maps stand on."""
    one = next((one for one in maps if one is not None), None)
    if one is None:
        return ""
    low, high = one.range
    dark = st.context.theme.type == "dark"
    scale = colour.ramp(one, dark and backdrop == "None")
    ground = ", #9d9d9d" if dark and backdrop != "None" else ""
    ends = "".join(f"<span>{significant(value)}</span>" for value in (low, high))
    return f'<div class="class-scale"><div style="background: {scale}{ground}"></div><p>{ends}</p></div>'


def _matrix(names: Sequence[str], choice: Choice, row: Row) -> str:
    """Class against class, the same order down and across; the more alike, the stronger the colour."""
    matrix = row.found.matrices[choice.measure]
    distance = choice.measure.startswith("l2")
    top = 2.0 if choice.measure == "l2_unit" else max(float(np.nan_to_num(matrix).max()), 1e-12)
    lines = []
    for i, target in enumerate(row.found.targets):
        cells = []
        for j, value in enumerate(matrix[i]):
            alike = 0.0 if np.isnan(value) else max(0.0, 1 - value / top if distance else float(value))
            cells.append(f'<td style="background: rgba(15,145,132,{0.6 * alike:.2f})"{" class=self" if i == j else ""}>'
                         f"{fixed(value, 3 if len(matrix) < 4 else 2)}</td>")
        lines.append(f'<tr><th title="{escape(names[target])}">{escape(names[target])}</th>{"".join(cells)}</tr>')
    return (f'<figure class="matrix"><figcaption><b>{NAMES[choice.measure]}</b><span>{"0" if distance else "1"}: the same map</span>'
            f"</figcaption><table>{''.join(lines)}</table></figure>")


def _table(workspace: Workspace, choice: Choice, rows: Sequence[Row]) -> None:
    """All measures of the pair, a row a method, the maps most alike first."""
    there = [row for row in rows if row.found is not None]
    if not there:
        return
    pairs = {row.method.key: row.found.between(*choice.pair) for row in there}
    ordered = sorted(there, key=lambda row: -np.nan_to_num(pairs[row.method.key].rank, nan=-2))
    body = "".join(
        f"<tr><td>{escape(row.method.title)}</td>"
        + "".join(f"<td>{fixed(getattr(pairs[row.method.key], name))}</td>" for name in NAMES) + "</tr>" for row in ordered)
    head = "".join(f"<th>{name}</th>" for name in NAMES.values())
    words = escape(choice.pair_in_words(workspace.network.categories))
    st.html(f'<h3 class="class-head">The maps for {words}, by every measure</h3><div class="wide"><table class="numbers">'
            f"<tr><th>Method</th>{head}</tr>{body}</table></div>")


