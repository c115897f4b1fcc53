"""What a method shows beside its map: pictures, films, bars, charts and numbers, drawn from its declaration.

A section a method, closed at first, and nothing is made before it is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import cycle
from typing import Any

import streamlit as st

import explainers as ex
from components.compare import parts_bars, tiles
from components.compare.tiles import There
from components.compute.method_row import MethodMap
from components.drawing import curves
from components.drawing.colour import Display
from components.drawing.foreign_words import in_markdown
from components.drawing.numbers import significant
from components.state.workspace import Workspace
from explainers.contract import AuxiliaryOutput

CHART_HEIGHT = 190
FEW_TILES = 3  # that leave room for charts and numbers beside them


def draw(workspace: Workspace, maps: Sequence[MethodMap], display: Display) -> None:
    """A closed section for each map that is there and has something to show."""
    for entry in maps:
        attribution, question = entry.attribution, entry.question
        if attribution is None or question is None or not any(
                output.name in attribution.extras for output in question.auxiliary_outputs):
            continue
        section = st.expander(f"Inside {in_markdown(entry.title)}", key=f"extras.{entry.key}", on_change="rerun")
        if section.open:
            with section:
                _section(workspace, entry, question, attribution, display)


def _section(workspace: Workspace, entry: MethodMap, question: ex.Question, attribution: ex.Attribution, display: Display) -> None:
    there = [(output, value) for output in question.auxiliary_outputs
             if (value := output.of(workspace.input.x, attribution.extras)) is not None]
    on_dark = display.backdrop == "None" and st.context.theme.type == "dark"
    films = tiles.Drawing(workspace, entry.method, attribution, display).films(there)
    count = len(films[0].tiles) if len(films) == 1 and not films[0].title else 0
    beside = 0 < count <= FEW_TILES
    left, right = st.columns([count, 5 - count], gap="large") if beside else (st.container(), st.container())
    if films:
        left.html("".join(tiles.as_html(film, on_dark) for film in films))
    with right:
        _charts_and_facts(entry, there)


def _charts_and_facts(entry: MethodMap, there: There) -> None:
    """The bars, a chart for each unit, and the numbers beside them."""
    bars = parts_bars.as_html([(output, value) for output, value in there if output.kind == "parts"])
    if bars:
        st.html(f'<div class="all-parts">{bars}</div>')
    facts = _facts([(output, value) for output, value in there if output.kind in {"number", "text"}])
    charts: dict[str, list[tuple[AuxiliaryOutput, Any]]] = {}
    for output, value in there:
        if output.kind == "trace" and len(value) > 1:
            charts.setdefault(output.unit, []).append((output, value))
    places = st.columns([3] * len(charts) + [4] * bool(facts), gap="medium") if charts or facts else []
    for place, (unit, traces) in zip(places, charts.items(), strict=False):
        drawing = _chart(unit, traces)
        place.plotly_chart(drawing, key=f"extras.{entry.key}.{unit}", height=CHART_HEIGHT, config={"displayModeBar": False},
                           alt=f"{entry.title} at every {traces[0][0].along}. {curves.in_words(drawing)}")
    if facts:
        places[-1].html(facts)


def _facts(there: There) -> str:
    rows = []
    for output, value in there:
        text = value if output.kind == "text" else f"{_amount(value)} {output.unit}".strip()
        rows.append(f"<dt>{escape(output.title)}</dt><dd><b>{escape(text)}</b><br><span>{escape(output.help)}</span></dd>")
    return f'<dl class="facts extra-facts">{"".join(rows)}</dl>' if rows else ""


def _amount(value: float) -> str:
    return f"{value:,.0f}".replace("-", "\u2212") if 1000 <= abs(value) < 1e6 else significant(value)


def _chart(unit: str, traces: Sequence[tuple[AuxiliaryOutput, Any]]) -> dict[str, Any]:
    """Lines over the steps, as plotly's plain dictionaries."""
    lines = [{"type": "scatter", "mode": "lines" if len(values) > 12 else "lines+markers", "name": output.title, "y": list(values),
              "line": {"color": shade, "width": 2, "dash": dash}, "hovertemplate": "%{y:.4~g}"}
             for (output, values), shade, dash in zip(traces, curves.PALETTE, cycle(curves.DASHES), strict=False)]
    many = len(traces) > 1
    layout = curves.steps_layout(traces[0][0].along, unit, max(len(values) for _, values in traces) - 1)
    layout["yaxis"] |= {"nticks": 5, "zeroline": True}
    return {"data": lines, "layout": layout | {
        "height": CHART_HEIGHT, "margin": {"l": 48, "r": 8, "t": 24, "b": 38}, "showlegend": many,
        "title": {"text": "" if many else traces[0][0].title, "font": {"size": 12}, "x": 0, "y": 0.98}}}
