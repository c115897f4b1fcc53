"""How similar the maps stay, stage by stage, for all methods in one figure; and beside it how far the predictions moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from components.drawing import curves
from components.drawing.theme import GUIDE, SMALLEST, ink, muted
from components.sanity_checks.randomisation import Randomisation
from components.sanity_checks.step_rows import NAMES, StepRow, predictions

HEIGHT, BELOW, ENTRY = 380, 92, 24  # pixels: the figure, the stages' names under the axes, a line of the legend
TRAINED = "trained"
LONGEST = 18  # letters of a stage's name


def draw(randomisation: Randomisation, rows: Sequence[StepRow], measure: str) -> None:
    """The figure, once there are two points to join."""
    if len(randomisation.changes) < 2 or not any(row.steps for row in rows):
        return
    with st.container(key="curves"):
        drawing = figure(randomisation, rows, measure)
        st.plotly_chart(drawing, key="weight-curves", config=curves.CONFIG,
                        alt=f"How similar each method's map stays, over the stages of new weights. {curves.in_words(drawing)}")


def figure(randomisation: Randomisation, rows: Sequence[StepRow], measure: str) -> dict[str, Any]:
    """Left the similarity of the maps to the original ones, right the probability of the class and the logits' rank correlation."""
    alone = randomisation.mode == "independent"
    changes = randomisation.changes
    first = 1 if alone else 0
    x = np.arange(first, len(changes) + 1)
    traces = [_line(x, _from(1.0, row.similarity(measure), alone), row.title, row.style, "", alone)
              for row in rows]
    traces += _predictions(x, rows, alone)
    values = [value for trace in traces for value in trace["y"] if value is not None]
    low = min([0.0, *values])
    layout = curves.panels_layout(max(HEIGHT, BELOW + ENTRY * (len(rows) + 2)), BELOW)
    ticks = ([] if alone else [TRAINED]) + [_short(change.title) for change in changes]
    quiet = {"size": SMALLEST, "color": muted()}
    panels = (("", 0.0, 0.56, f"{NAMES[measure]} with the map of the trained weights", "lower: it follows the weights"),
              ("2", 0.63, 1.0, "The predictions", "line: probability of the class, dashes: rank of all logits"))
    for axis, left, right, title, hint in panels:
        layout |= {
            f"xaxis{axis}": {"domain": [left, right], "anchor": f"y{axis}", "tickvals": list(x), "ticktext": ticks, "tickangle": -40,
                             "range": [first - 0.15, len(changes) + 0.15], "zeroline": False, "showgrid": False,
                             "tickfont": quiet},
            f"yaxis{axis}": {"anchor": f"x{axis}", "range": [low - 0.03, 1.03], "zeroline": low < 0, "nticks": 6, "tickfont": quiet}}
        layout["annotations"].append(curves.heading(title, hint, left))
    return {"data": traces, "layout": layout}


def _predictions(x: np.ndarray, rows: Sequence[StepRow], alone: bool) -> list[dict[str, Any]]:
    """The two lines of the right panel; none before the first step."""
    moved = predictions(rows)
    known = next((change for change in moved if change), None)
    if known is None:
        return []
    probability = _from(known.probability_before, np.array([change.probability if change else np.nan for change in moved]), alone)
    rank = _from(1.0, np.array([change.rank if change else np.nan for change in moved]), alone)
    return [_line(x, probability, "Probability of the class", curves.Style(ink()), "2", alone),
            _line(x, rank, "Rank of all logits", curves.Style(GUIDE, "dash", "square"), "2", alone)]


def _from(start: float, values: np.ndarray, alone: bool) -> np.ndarray:
    """A cascade starts from the trained weights; stages that are changed alone have no such start."""
    return values if alone else np.concatenate(([start], values))


def _line(x: np.ndarray, y: np.ndarray, name: str, style: curves.Style, axis: str, alone: bool) -> dict[str, Any]:
    """A line with a mark a stage; where stages are changed alone, and so have no order, the marks matter and the line is faint."""
    return {"type": "scatter", "mode": "lines+markers", "x": x.tolist(),
            "y": [None if np.isnan(value) else float(value) for value in y], "name": name,
            "xaxis": f"x{axis}", "yaxis": f"y{axis}", "hovertemplate": "%{y:.2f}", "showlegend": not axis,
            "marker": style.marker,
            "line": {"color": style.colour, "dash": "dot" if alone else style.dash, "width": 1 if alone else style.width}}


def _short(title: str) -> str:
    """The layers of a stage without their kind: ``features.12``, ``layer1.0 to layer1.2``."""
    layers = title.partition(" (")[2][:-1] or title
    return layers if len(layers) <= LONGEST else layers[:LONGEST - 1] + "\u2026"
