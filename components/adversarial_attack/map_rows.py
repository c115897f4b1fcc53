"""What each method says of the picture and of the attacked one: maps side by side, their curves, and a table of all methods."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import Any

import streamlit as st
from PIL import Image

from components.adversarial_attack.attacked_maps import CELLS, AttackedMaps, Row, View, views
from components.compute import method_row
from components.drawing import colour, curves, display_controls
from components.drawing.colour import Display, Shown
from components.drawing.curves import Curve, Panel
from components.drawing.foreign_words import in_markdown
from components.drawing.heatmaps import sharp_uri
from components.drawing.masked import SMALL
from components.drawing.numbers import fixed, percent
from components.state.workspace import Workspace
from explainers.attack import Attack
from explainers.metrics import insertion_deletion

CURVE_HEIGHT = 270
ALIKE = 0.5  # a rank correlation above this: the two maps put the pixels in much the same order
WHAT_CURVES_SAY = (
    f"Protocol I-GOS at {CELLS} by {CELLS} cells: the most important cells are shown first (insertion) or blurred first (deletion). "
    "In the I-GOS paper's figures 8 and 9 a few cells are enough for the class of the picture, and nearly the whole attacked picture "
    "is needed for the class that the attack brought in. A ring marks where a class becomes the first choice, or no longer is.")


def draw(workspace: Workspace, attack: Attack) -> None:
    """Make the maps that are due, each row drawn again with every map, then the curves; above them what they say."""
    st.header("What the methods say of both pictures", anchor=False)
    with st.container(key="settings", horizontal=True, gap="small", vertical_alignment="top"):
        entries, _ = method_row.chosen(workspace)
        with st.popover("How maps are drawn", help="Sign, backdrop and the like. Nothing is computed again."):
            display = display_controls.draw(scale=False, folded=False)
    if not entries:
        st.info("Choose at least one method in the sidebar.")
        return
    shown = views(workspace, attack)
    maps = AttackedMaps(entries, shown, min(workspace.network.input_size))
    offers, running, summary = st.container(), st.container(), st.container(key="attack-summary")
    places = []
    for entry in entries:
        with st.container(key=f"attack-row-{entry.key}"):
            places.append(st.empty())

    def show(place: int) -> None:
        places[place].html(section(maps.row(place), shown, display))

    for place in range(len(entries)):
        show(place)
    with offers:
        maps.schedule.offer("Explain both pictures")
    with running:
        maps.run(show)
    _measure(maps, offers, running)
    for place, row in enumerate(maps.rows):
        if any(row.curves):
            with places[place].container():
                _with_curves(row, shown, display)
    with summary:
        _table(maps.rows, shown)


def _measure(maps: AttackedMaps, offers: Any, running: Any) -> None:
    """The curves of the maps that are there."""
    schedule = maps.curves_schedule()
    if schedule is None:
        return
    with offers:
        schedule.offer("Measure the curves")
    with running:
        for reason in maps.run_curves(schedule):
            st.error(in_markdown(reason))


def _with_curves(row: Row, shown: Sequence[View], display: Display) -> None:
    """A row with its maps on the left and its curves on the right."""
    left, right = st.columns([6, 7], gap="medium")
    left.html(section(row, shown, display))
    with right.container(key=f"curves-attack-{row.entry.key}"):
        drawing = figure(row, shown)
        st.plotly_chart(drawing, key=f"attack-curves-{row.entry.key}", config=curves.CONFIG,
                        alt=f"{row.entry.title}: insertion and deletion curves. {curves.in_words(drawing)}")


def section(row: Row, shown: Sequence[View], display: Display) -> str:
    """One method: its name, what its maps have in common, and the maps."""
    head = f'<h3 class="attack-head">{escape(row.entry.title)}</h3>'
    if row.reason:
        return f'<section>{head}<p class="lost">{escape(row.reason)}</p></section>'
    maps = [colour.prepare([(attribution.heatmap(), attribution.signed)], replace(display, scale="Own"))[0] if attribution else None
            for attribution in row.maps]
    cells = "".join(_figure(row, place, view, maps[place], display) for place, view in enumerate(shown))
    return f'<section>{head}<div class="attacked maps" style="--columns: {len(shown)}">{cells}</div></section>'


def _figure(row: Row, place: int, view: View, shown_map: Shown | None, display: Display) -> str:
    """One map over its picture, under the class and its probability, with the similarity to the first map and warnings below."""
    attribution = row.maps[place]
    coarse = ' class="coarse"' if min(view.seen.size) < SMALL else ""
    if shown_map is None or attribution is None:
        picture, lines = colour.backdrop(view.seen, "Grey") or view.seen, ["not computed"]
        faint, alt = ' style="opacity:0.35"', f"{row.entry.title}, no map yet of {view.title}"
    else:
        on_dark = display.backdrop == "None" and st.context.theme.type == "dark"
        picture, faint = Image.fromarray(colour.over(shown_map, view.seen, display.backdrop, on_dark)), ""
        alt = f"{row.entry.title}, {view.title}"
        similarity = row.similarities[place - 1] if place else None
        lines = []
        if similarity is not None and not math.isnan(similarity):  # it is not defined for a map that is the same everywhere
            lines = [f"rank correlation with the first map: {fixed(similarity, 2)}"]
    warnings = "".join(f'<p class="lost">{escape(flag)}</p>' for flag in (attribution.flags if attribution else ()))
    below = "".join(f"<p>{line}</p>" for line in lines)
    title = escape(view.title)
    return (f'<figure><figcaption title="{title}"><b>{title}</b><span>{percent(view.probability)}</span></figcaption>'
            f'<img{coarse}{faint} src="{sharp_uri(picture)}" alt="{escape(alt)}">{below}{warnings}</figure>')


def figure(row: Row, shown: Sequence[View]) -> dict[str, Any]:
    """Insertion and deletion of one method, a line for each view."""
    def lines(which: str, turns_at: str) -> tuple[Curve, ...]:
        return tuple(Curve(str(place), escape(view.title), curves.numbered_style(place), result.fractions, getattr(result, which),
                           ring=getattr(result, turns_at))
                     for place, (view, result) in enumerate(zip(shown, row.curves, strict=True)) if result)

    panels = [Panel("Insertion", "", "cells shown", lines("insertion", "regained_at")),
              Panel("Deletion", "", "cells blurred", lines("deletion", "lost_at"))]
    drawing = curves.figure(panels, " ", "probability", height=CURVE_HEIGHT)
    drawing["layout"]["legend"] |= {"orientation": "h", "x": 0, "y": -0.24, "title": {"text": ""}}
    return drawing


def _table(rows: Sequence[Row], shown: Sequence[View]) -> None:
    """All methods in numbers: how similar the maps are, and what the curves of each view say."""
    known = [row for row in rows if any(row.maps)]
    if not known:
        return
    insertion, deletion = insertion_deletion.AUCS
    measured = any(any(row.curves) for row in known)
    titles = [f"Rank correlation,<br>{escape(view.title)}" for view in shown[1:]]
    if measured:
        titles += [f"{score.title},<br>{escape(view.title)}" for score in (insertion, deletion) for view in shown]
    lines = []
    for row in known:
        values = [fixed(value) if value is not None else "" for value in row.similarities]
        if measured:
            values += [fixed(score.of(result)) if result else "" for score in (insertion, deletion) for result in row.curves]
        lines.append(f"<tr><td>{escape(row.entry.title)}</td>{''.join(f'<td>{value}</td>' for value in values)}</tr>")
    head = "".join(f"<th>{title}</th>" for title in titles)
    st.html(f'<p class="verdict">{summary(rows, shown)}</p><div class="wide"><table class="numbers attack-numbers">'
            f"<tr><th>Method</th>{head}</tr>{''.join(lines)}</table></div>")
    if measured:
        st.caption(WHAT_CURVES_SAY)


def summary(rows: Sequence[Row], shown: Sequence[View]) -> str:
    """Which methods show much the same map for the class that the attack brought in as for the picture's own, as HTML; empty
    while a map is missing that may be such."""
    if len(shown) < 3:
        return "The network's first choice did not change, so there is no new class to explain."
    values = [row.similarities[-1] for row in rows if not row.reason]
    kept = [f"{escape(row.entry.title)} ({fixed(value, 2)})" for row in rows
            if (value := row.similarities[-1]) is not None and value > ALIKE]
    new, own = (escape(shown[place].name) for place in (2, 0))
    if kept:
        return (f"Much the same map for {new} in the attacked picture as for {own} in the picture, by rank correlation: "
                f"{', '.join(kept)}. Such a map may show the picture more than the class.")
    if None in values or not values:
        return ""  # a map that is still to come may be much the same
    return f"No method gives {new} in the attacked picture much the same map as {own} in the picture."
