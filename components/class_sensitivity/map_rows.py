"""The rows of the class sensitivity page: for each method its maps, the matrix of the classes, and a verdict; and a table of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape

import numpy as np
import streamlit as st
from PIL import Image

from components.class_sensitivity import class_exports
from components.class_sensitivity.class_choice import NAMES, Choice
from components.class_sensitivity.class_maps import ClassMaps, ClassRow
from components.drawing import colour, display_controls, heatmaps
from components.drawing.colour import Display, Shown
from components.drawing.masked import SMALL
from components.drawing.numbers import fixed, percent, significant
from components.state.workspace import Workspace
from explainers.metrics import class_sensitivity as metric


def draw(workspace: Workspace, choice: Choice) -> None:
    """Make the maps that are due, each row drawn again with every map; around them the verdict, the table and the downloads."""
    if not choice.methods:
        st.info("Choose at least one method in the sidebar.")
        return
    maps = ClassMaps(workspace, choice)
    summary, run = st.container(key="verdict"), st.container()
    places = []
    for method_map in choice.methods:
        with st.container(key=f"class-row-{method_map.key}"):
            places.append(st.empty())
    table = st.container(key="class-table")
    foot = st.container(horizontal=True, vertical_alignment="center", gap="small", key="class-foot")
    with foot, st.popover("How maps are drawn", help="Sign, backdrop and the like. Nothing is computed again."):
        display = display_controls.draw(scale=False)

    def show(place: int, row: ClassRow) -> None:
        places[place].html(section(workspace, choice, row, shown_of(row, display), display))

    for place, row in enumerate(maps.rows):
        show(place, row)
    with run:
        maps.schedule.offer("Explain the classes")
        rows = maps.run(show)
    with summary:
        _summary(workspace, choice, rows)
    with table:
        _table(workspace, choice, rows)
    with foot:
        class_exports.draw(workspace, rows, [shown_of(row, display) for row in rows], display)


def shown_of(row: ClassRow, display: Display) -> list[Shown | None]:
    """The row's maps on one scale of colours, None where one is missing. A map of zeros, which has no scale, takes the others'."""
    maps = [(attribution.heatmap(), attribution.signed) if attribution else None for attribution in row.attributions]
    prepared = iter(colour.prepare([signed_map for signed_map in maps if signed_map and signed_map[0].any()], display))
    shown = [next(prepared) if signed_map and signed_map[0].any() else None for signed_map in maps]
    limit = max((shown_map.limit for shown_map in shown if shown_map), default=1.0)
    zeros = [replace(colour.prepare([signed_map], display)[0], limit=limit) if signed_map and not signed_map[0].any() else None
             for signed_map in maps]
    return [zero or shown_map for shown_map, zero in zip(shown, zeros, strict=True)]


def _summary(workspace: Workspace, choice: Choice, rows: Sequence[ClassRow]) -> None:
    """Name the methods whose map stays the same, before anything is read from the maps."""
    same = [f"{row.title} ({fixed(row.pair.rank)})" for row in rows
            if row.pair and metric.verdict(row.pair.rank, row.pair.l2_unit).level == "same"]
    words = choice.pair_words(workspace.network.categories)
    if same:
        st.html(f'<div class="verdict warned"><p>Hardly follow the class, by the rank correlation of the maps for {escape(words)}: '
                f'{escape(", ".join(same))}.</p></div>')
    elif all(row.pair for row in rows):
        st.html(f'<p class="verdict">No method keeps the same map, or nearly, for {escape(words)}.</p>')


def section(workspace: Workspace, choice: Choice, row: ClassRow, maps: Sequence[Shown | None], display: Display) -> str:
    """One method: its name and verdict, the maps with their shared scale, and the matrix of the classes."""
    head = f'<h2 class="class-head">{escape(row.title)}</h2>'
    if row.reason:
        return f'<section class="class-row">{head}<p class="same">{escape(row.reason)}</p></section>'
    scale = _ramp(maps, display.backdrop)
    cells = "".join(_figure(workspace, row, place, maps[place], display, "" if place else scale) for place in range(len(maps)))
    return (f'<section class="class-row">{head}{_verdict(workspace, choice, row)}'
            f'<div class="class-grid" style="--columns: {len(row.targets)}; --classes: {len(choice.classes)}">{cells}'
            f"{_matrix(workspace.network.categories, choice, row)}</div></section>")


def _verdict(workspace: Workspace, choice: Choice, row: ClassRow) -> str:
    if row.pair is None or row.distances is None:
        return "<p>Its maps are not all there yet.</p>"
    names = workspace.network.categories
    flat = " and ".join(target.words(names) for target in row.distances.flat if target.first in choice.pair)
    verdict = metric.verdict(row.pair.rank, row.pair.l2_unit, choice.pair_words(names), flat)
    return f'<p class="{verdict.level}">{escape(verdict.words)}</p>'


def _figure(workspace: Workspace, row: ClassRow, place: int, shown_map: Shown | None, display: Display, scale: str) -> str:
    """One map under its class and the class's probability, with what is wrong with it below."""
    seen, target, attribution = workspace.input.seen, row.targets[place], row.attributions[place]
    title = escape(target.words(workspace.network.categories))
    beside = "contrast" if target.contrast is not None else percent(float(workspace.input.probabilities[target.first]))
    coarse = ' class="coarse"' if min(seen.size) < SMALL else ""
    if shown_map is None or attribution is None:
        picture, note = heatmaps.data_uri(colour.backdrop(seen, "Grey") or seen), "not computed"
        image = f'<img{coarse} src="{picture}" style="opacity:0.35" alt="No map yet for {title}">'
    else:
        image = f'<img{coarse} src="{_source(seen, shown_map, display.backdrop)}" alt="{escape(row.title)}, map for {title}">'
        note = "; ".join(attribution.flags)
    flag = f'<p class="lost">{escape(note)}</p>' if note else ""
    return f'<figure><figcaption title="{title}"><b>{title}</b><span>{beside}</span></figcaption>{image}{scale}{flag}</figure>'


def _source(seen: Image.Image, shown_map: Shown, backdrop: str) -> str:
    """The map over its backdrop."""
    on_dark = backdrop == "None" and st.context.theme.type == "dark"
    return heatmaps.sharp_uri(Image.fromarray(colour.over(shown_map, seen, backdrop, on_dark)))


def _ramp(maps: Sequence[Shown | None], backdrop: str) -> str:
    """The one scale of colours of a row; in the dark it stands on the grey that the maps stand on."""
    shown_map = next((shown_map for shown_map in maps if shown_map is not None), None)
    if shown_map is None:
        return ""
    low, high = shown_map.range
    dark = st.context.theme.type == "dark"
    scale = colour.ramp(shown_map, dark and backdrop == "None")
    ground = ", #9d9d9d" if dark and backdrop != "None" else ""
    ends = "".join(f"<span>{significant(value)}</span>" for value in (low, high))
    return f'<div class="class-scale"><div style="background: {scale}{ground}"></div><p>{ends}</p></div>'


def _matrix(names: Sequence[str], choice: Choice, row: ClassRow) -> str:
    """Class against class, the same order down and across; the more alike, the stronger the colour."""
    if row.distances is None:
        return ""
    matrix = row.distances.matrices[choice.measure]
    distance = choice.measure.startswith("l2")
    top = 2.0 if choice.measure == "l2_unit" else max(float(np.nan_to_num(matrix).max()), 1e-12)
    lines = []
    for i, target in enumerate(row.distances.targets):
        name, cells = escape(target.words(names)), []
        for j, value in enumerate(matrix[i]):
            alike = 0.0 if np.isnan(value) else max(0.0, 1 - value / top if distance else float(value))
            cells.append(f'<td style="background: rgba(15,145,132,{0.6 * alike:.2f})"{" class=self" if i == j else ""}>'
                         f"{fixed(value, 3 if len(matrix) < 4 else 2)}</td>")
        lines.append(f'<tr><th title="{name}">{name}</th>{"".join(cells)}</tr>')
    return (f'<figure class="matrix"><figcaption><b>{NAMES[choice.measure]}</b><span>{"0" if distance else "1"}: the same map</span>'
            f"</figcaption><table>{''.join(lines)}</table></figure>")


def _table(workspace: Workspace, choice: Choice, rows: Sequence[ClassRow]) -> None:
    """All measures of the pair, a row a method, the maps most alike first."""
    pairs = [(row.title, row.pair) for row in rows if row.pair]
    if not pairs:
        return
    pairs.sort(key=lambda row: -np.nan_to_num(row[1].rank, nan=-2))
    body = "".join(f"<tr><td>{escape(title)}</td>{''.join(f'<td>{fixed(getattr(pair, name))}</td>' for name in NAMES)}</tr>"
                   for title, pair in pairs)
    head = "".join(f"<th>{name}</th>" for name in NAMES.values())
    words = escape(choice.pair_words(workspace.network.categories))
    st.html(f'<h2 class="class-head">The maps for {words}, by every measure</h2><div class="wide"><table class="numbers">'
            f"<tr><th>Method</th>{head}</tr>{body}</table></div>")
