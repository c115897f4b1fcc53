"""How alike the maps stay, stage by stage, for all methods in one figure; and beside it how far the predictions moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from components.drawing import curves
from components.drawing.heatmaps import MUTED
from components.sanity_checks.checks import Question, Row, predictions, similarity
from components.sanity_checks.filmstrip import NAMES

HEIGHT, BELOW, ENTRY = 380, 92, 24  # pixels: the figure, the stages' names under the axes, a line of the legend
LEARNED = "as learned"
LONGEST = 18


def draw(question: Question, found: Sequence[Row], measure: str) -> None:
    """The figure, once there are two points to join."""
    if len(question.changes) < 2 or not any(row.found for row in found):
        return
    with st.container(key="curves"):
        st.plotly_chart(figure(question, found, measure), key="weight-curves", config=curves.CONFIG,
                        alt=f"{NAMES[measure]} of each method's map with the map as learned, over the stages")


def figure(question: Question, found: Sequence[Row], measure: str) -> dict[str, Any]:
    """Left the likeness of the maps to those as learned, right the probability of the class and the logits' rank correlation."""
    alone = question.mode == "independent"
    first = 1 if alone else 0
    ticks = ([] if alone else [LEARNED]) + [_short(change.title) for change in question.changes]
    x = np.arange(first, len(question.changes) + 1)
    traces = [_line(x, _led(similarity(row, measure), 1.0, alone), row.job.method.title, row.style.colour, row.style.dash, "", alone)
              for row in found]
    moved = predictions(found)
    known = next((one for one in moved if one), None)
    if known:
        share = np.array([one.probability if one else np.nan for one in moved])
        rank = np.array([one.rank if one else np.nan for one in moved])
        traces += [_line(x, _led(share, known.probability_before, alone), "Probability of the class", curves.ink(), "solid", "2",
                         alone),
                   _line(x, _led(rank, 1.0, alone), "Rank of all logits", MUTED, "dash", "2", alone)]
    values = [value for trace in traces for value in trace["y"] if value is not None]
    low = min([0.0, *values])
    layout = curves.panels_layout(max(HEIGHT, BELOW + ENTRY * (len(found) + 2)), BELOW)
    panels = (("", 0.0, 0.56, f"{NAMES[measure]} with the map as learned", "lower: it follows the weights"),
              ("2", 0.63, 1.0, "The predictions", "line: probability of the class, dashes: rank of all logits"))
    for axis, left, right, title, told in panels:
        layout |= {
            f"xaxis{axis}": {"domain": [left, right], "anchor": f"y{axis}", "tickvals": list(x), "ticktext": ticks, "tickangle": -40,
                             "range": [first - 0.15, len(question.changes) + 0.15], "zeroline": False, "showgrid": False,
                             "tickfont": {"size": 11}},
            f"yaxis{axis}": {"anchor": f"x{axis}", "range": [low - 0.03, 1.03], "zeroline": low < 0, "nticks": 6}}
        layout["annotations"].append(curves.heading(title, told, left))
    return {"data": traces, "layout": layout}


def _led(values: np.ndarray, start: float, alone: bool) -> np.ndarray:
    """A cascade starts from the network as learned; stages drawn alone have no such start."""
    return values if alone else np.concatenate(([start], values))


def _line(x: np.ndarray, y: np.ndarray, name: str, colour: str, dash: str, axis: str, alone: bool) -> dict[str, Any]:
    """A line with a mark a stage. Stages drawn alone are no course of events: marks, and a faint thread to follow."""
    return {"type": "scatter", "mode": "lines+markers", "x": x.tolist(), "y": [None if np.isnan(one) else float(one) for one in y],
            "name": name, "xaxis": f"x{axis}", "yaxis": f"y{axis}", "hovertemplate": "%{y:.2f}", "showlegend": not axis,
            "marker": {"size": 6, "color": colour},
            "line": {"color": colour, "dash": "dot" if alone else dash, "width": 1 if alone else 2.2}}


def _short(title: str) -> str:
    """The layers of a stage without their kind: ``features.12``, ``layer1.0 to layer1.2``."""
    layers = title.partition(" (")[2][:-1] or title
    return layers if len(layers) <= LONGEST else layers[:LONGEST - 1] + "\u2026"
