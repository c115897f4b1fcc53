"""Curves of several methods in one plotly figure, and each method's colour, the same wherever it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import explainers as ex
from components.drawing.heatmaps import MUTED, ink

# Distinguishable with any colour vision, on a light and on a dark ground.
PALETTE = ("#2683c6", "#d55e00", "#009e73", "#cc79a7", "#d99a00", "#7a5fc0", "#8c6d46")
GREY = "#8b9499"
DASHES = ("solid", "dash", "dot", "dashdot")
PANEL_HEIGHT, AXIS, BELOW = 330, 48, 44  # pixels: a figure, at the left of its panels, under them
FEW_STEPS = 12  # that all have a number under the axis
CONFIG = {"displaylogo": False, "modeBarButtonsToRemove": ["toImage", "autoScale2d", "zoomIn2d", "zoomOut2d", "select2d", "lasso2d"]}


@dataclass(frozen=True)
class Style:
    """How a method's line is drawn."""

    colour: str
    dash: str = "solid"
    width: float = 2.2


def styles(keys: Sequence[str]) -> dict[str, Style]:
    """A style for each method, in the order of the workspace; the controls are grey and differ by their dashes."""
    methods = ex.methods()
    coloured = [key for key in keys if not methods[key].is_control]
    controls = [key for key, method in methods.items() if method.is_control]
    return {key: Style(PALETTE[place % len(PALETTE)], DASHES[place // len(PALETTE) % len(DASHES)])
            for place, key in enumerate(coloured)} | {
        key: Style(GREY, DASHES[1 + place % 3], 1.6) for place, key in enumerate(controls)}


@dataclass(frozen=True)
class Curve:
    """One line. ``name``: in the legend, where each method stands once. ``key``: lines of one key are switched on and off together."""

    key: str
    name: str
    style: Style
    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Panel:
    """One pair of axes. ``better`` says which way is better."""

    title: str
    better: str
    across: str  # what the horizontal axis counts
    curves: tuple[Curve, ...]


def figure(panels: Sequence[Panel], legend: str, up: str, low: float = 0.0, at: float | None = None,
           height: int = PANEL_HEIGHT) -> dict[str, Any]:
    """The panels side by side; ``up`` names the vertical axis, from ``low`` to 1; ``at`` is marked; one legend, if it has a name."""
    traces: list[dict[str, Any]] = []
    layout = panels_layout(height, BELOW) | {"showlegend": bool(legend)}
    layout["legend"] |= {"title": {"text": legend, "font": {"size": 12}}, "tracegroupgap": 0, "itemsizing": "trace"}
    gap = 0.05 if len(panels) < 4 else 0.025
    width = (1 - gap * (len(panels) - 1)) / len(panels)
    for place, panel in enumerate(panels):
        axis, left = "" if place == 0 else str(place + 1), place * (width + gap)
        layout |= _axes(axis, left, width, panel.across, up if place == 0 else "", low)
        layout["annotations"].append(heading(panel.title, panel.better, left))
        traces += [_trace(curve, axis, first=place == 0) for curve in panel.curves]
        if at is not None:
            layout["shapes"].append({"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "xref": f"x{axis}",
                                     "yref": f"y{axis} domain", "line": {"color": ink(), "width": 1, "dash": "dot"}})
    return {"data": traces, "layout": layout}


def panels_layout(height: int, below: int) -> dict[str, Any]:
    """What figures with panels side by side have in common. ``below``: pixels under the axes, for their ticks and names."""
    return {"height": height, "margin": {"l": AXIS, "r": 4, "t": 30, "b": below}, "hovermode": "x unified", "dragmode": "zoom",
            "hoverlabel": {"namelength": -1}, "annotations": [], "shapes": [],
            "legend": {"x": 1.01, "y": 1.02, "yanchor": "top", "font": {"size": 12}, "bgcolor": "rgba(0,0,0,0)"}}


def heading(title: str, note: str, left: float) -> dict[str, Any]:
    """A panel's title, and beside it in grey a note on how to read it. left: the panel's left edge, 0 to 1."""
    return {"text": f'<b>{title}</b>  <span style="color:{MUTED}">{note}</span>', "x": left, "xanchor": "left", "y": 1,
            "yanchor": "bottom", "yshift": 4, "xref": "paper", "yref": "paper", "showarrow": False,
            "font": {"size": 13, "color": ink()}}


def steps_layout(across: str, up: str, last: int) -> dict[str, Any]:
    """The layout of a small chart over the whole steps from 0 to ``last``: a legend on top, quiet axes, nothing to zoom."""
    muted = {"size": 11, "color": MUTED}
    return {
        "margin": {"l": 52, "r": 10, "t": 8, "b": 40}, "hovermode": "x unified", "dragmode": False, "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 12}},
        "xaxis": {"title": {"text": across, "font": muted, "standoff": 6}, "tickfont": muted, "showgrid": False, "zeroline": False,
                  "fixedrange": True, **({"dtick": 1} if last <= FEW_STEPS else {"nticks": 8})},
        "yaxis": {"title": {"text": up, "font": muted, "standoff": 6}, "tickfont": muted, "zeroline": False, "nticks": 6,
                  "fixedrange": True}}


def _axes(axis: str, left: float, width: float, across: str, up: str, low: float) -> dict[str, Any]:
    room = 0.02 * (1 - low)
    return {
        f"xaxis{axis}": {"domain": [left, left + width], "anchor": f"y{axis}", "range": [-0.01, 1.01], "tickformat": ".0%",
                         "title": {"text": across, "font": {"size": 12}, "standoff": 6}, "zeroline": False, "showgrid": False,
                         "hoverformat": ".1%"},
        f"yaxis{axis}": {"anchor": f"x{axis}", "range": [low - room, 1 + room], "zeroline": low < 0, "nticks": 6,
                         "title": {"text": up, "font": {"size": 12}, "standoff": 8}, **({"matches": "y"} if axis else {})},
    }


def _trace(curve: Curve, axis: str, first: bool) -> dict[str, Any]:
    return {"type": "scatter", "mode": "lines", "x": curve.x, "y": curve.y, "name": curve.name, "legendgroup": curve.key,
            "showlegend": first, "xaxis": f"x{axis}", "yaxis": f"y{axis}", "hovertemplate": "%{y:.3f}",
            "line": {"color": curve.style.colour, "dash": curve.style.dash, "width": curve.style.width}}
