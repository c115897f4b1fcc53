"""Curves of several methods in one plotly figure, and each method's style, the same wherever it is drawn.

A style is a colour, a dash and a mark together, so that no two methods share a style and methods that share a colour are told apart
without it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np

import explainers as ex
from components.drawing.numbers import fixed, significant
from components.drawing.theme import GUIDE, SMALLEST, ink, muted
from components.state.entries import method_key, number

# Any two differ by CIEDE2000 of at least 12 with normal vision, protanopia, deuteranopia and tritanopia (Machado, Oliveira and
# Fernandes 2009), also from the controls' grey; each has a contrast of 3:1 to a light and a dark ground.
PALETTE = ("#4953f0", "#b2880e", "#067f61", "#dc3262", "#2997cd", "#756903")
GREY = GUIDE
DASHES = ("solid", "dash", "dot", "dashdot")
MARKS = ("circle", "square", "triangle-up", "diamond", "x", "cross", "star", "hexagon")
CONTROL_MARKS = ("circle-open", "square-open", "triangle-up-open", "diamond-open")
SPARE = tuple((DASHES[(mark + shift) % len(DASHES)], MARKS[mark]) for shift in (1, 2, 3) for mark in range(len(MARKS)))
OUTLINES = {  # of the marks in a swatch of 30 x 12 pixels
    "square": "11.5,2.5 18.5,2.5 18.5,9.5 11.5,9.5", "triangle-up": "15,1.5 19.5,10 10.5,10", "diamond": "15,1 20,6 15,11 10,6",
    "x": "12,1.5 15,4.5 18,1.5 19.5,3 16.5,6 19.5,9 18,10.5 15,7.5 12,10.5 10.5,9 13.5,6 10.5,3",
    "cross": "13.5,1 16.5,1 16.5,4.5 20,4.5 20,7.5 16.5,7.5 16.5,11 13.5,11 13.5,7.5 10,7.5 10,4.5 13.5,4.5",
    "star": "15,0.5 16.5,4.3 20.5,4.5 17.4,7 18.5,11 15,8.7 11.5,11 12.6,7 9.5,4.5 13.5,4.3",
    "hexagon": "15,1 19.3,3.5 19.3,8.5 15,11 10.7,8.5 10.7,3.5"}
MOST_MARKS = 12  # on a line
RING = 15  # pixels: the ring around a point, outside of its mark
PANEL_HEIGHT, AXIS, BELOW = 330, 48, 44  # pixels: a figure, at the left of its panels, under them
FEW_STEPS = 12  # that all have a number under the axis
CONFIG = {"displaylogo": False, "modeBarButtonsToRemove": ["toImage", "autoScale2d", "zoomIn2d", "zoomOut2d", "select2d", "lasso2d"]}


@dataclass(frozen=True)
class Style:
    """How a method's line is drawn; ``dash`` and ``mark`` by plotly's names."""

    colour: str
    dash: str = "solid"
    mark: str = "circle"
    width: float = 2.2

    @property
    def marker(self) -> dict[str, Any]:
        """The marks of a line, as plotly takes them; a few on a line with many points."""
        return {"symbol": self.mark, "size": 7, "color": self.colour, "maxdisplayed": MOST_MARKS,
                "line": {"width": 1.5 if self.mark.endswith("-open") else 0, "color": self.colour}}


def style(key: str) -> Style:
    """The style of one method."""
    return styles([key])[key]


def styles(keys: Sequence[str]) -> dict[str, Style]:
    """The style of each entry. It depends on the method's place among all methods, for a copy on its number too, and not on ``keys``,
    so it never changes."""
    methods = ex.methods()
    coloured = [key for key, method in methods.items() if not method.is_control]
    controls = [key for key, method in methods.items() if method.is_control]
    every = {key: numbered_style(place) for place, key in enumerate(coloured)} | {
        key: Style(GREY, DASHES[1 + place % 3], CONTROL_MARKS[place % len(CONTROL_MARKS)], 1.6) for place, key in enumerate(controls)}
    return {key: every[method_key(key)] if number(key) == 1 else _copy_style(coloured.index(method_key(key)), number(key))
            for key in keys}


def numbered_style(place: int) -> Style:
    """The style of the line or marks at this place among others. Colours change from place to place; once all are used, the dash and
    the mark change."""
    turn = place // len(PALETTE)
    return Style(PALETTE[place % len(PALETTE)], DASHES[turn % len(DASHES)], MARKS[turn % len(MARKS)])


def _copy_style(place: int, copy: int) -> Style:
    """Of the copies of the method at this place, numbered from 2 to 6: each has another colour, and a dash with a mark that no method
    has. Of up to 48 methods no two copies up to number 4 share a style; copies 5 and 6 have that of another method's copy 2 or 3."""
    turns = len(MARKS) * (copy - 2) + place // len(PALETTE) + (3 if copy > 4 else 0)  # 3: not that of its own copy 2 or 3
    dash, mark = SPARE[turns % len(SPARE)]
    return Style(PALETTE[(place + copy - 1) % len(PALETTE)], dash, mark)


@dataclass(frozen=True)
class Curve:
    """One line. ``name``: in the legend, where each method stands once. ``key``: lines of one key are switched on and off together.
    ``ring``: the ``x`` of a point that is marked by a ring."""

    key: str
    name: str
    style: Style
    x: np.ndarray
    y: np.ndarray
    ring: float | None = None


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
    layout["legend"] |= {"title": {"text": legend, "font": {"size": SMALLEST, "color": muted()}}, "tracegroupgap": 0,
                         "itemsizing": "trace"}
    gap = 0.05 if len(panels) < 4 else 0.025
    width = (1 - gap * (len(panels) - 1)) / len(panels)
    for place, panel in enumerate(panels):
        axis, left = "" if place == 0 else str(place + 1), place * (width + gap)
        layout |= _axes(axis, left, width, panel.across, up if place == 0 else "", low)
        layout["annotations"].append(heading(panel.title, panel.better, left))
        traces += [_trace(curve, axis, first=place == 0) for curve in panel.curves]
        traces += [_ring(curve, curve.ring, axis) for curve in panel.curves if curve.ring is not None]
        if at is not None:
            layout["shapes"].append({"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "xref": f"x{axis}",
                                     "yref": f"y{axis} domain", "line": {"color": ink(), "width": 1, "dash": "dot"}})
    return {"data": traces, "layout": layout}


def panels_layout(height: int, below: int) -> dict[str, Any]:
    """What figures with panels side by side have in common. ``below``: pixels under the axes, for their ticks and names."""
    return {"height": height, "margin": {"l": AXIS, "r": 4, "t": 30, "b": below}, "hovermode": "x unified", "dragmode": "zoom",
            "hoverlabel": {"namelength": -1}, "annotations": [], "shapes": [],
            "legend": {"x": 1.01, "y": 1.02, "yanchor": "top", "font": {"size": SMALLEST, "color": ink()},
                       "bgcolor": "rgba(0,0,0,0)"}}


def heading(title: str, note: str, left: float) -> dict[str, Any]:
    """A panel's title, and beside it in grey a note on how to read it. left: the panel's left edge, 0 to 1."""
    return {"text": f'<b>{title}</b>  <span style="color:{muted()}">{note}</span>', "x": left, "xanchor": "left", "y": 1,
            "yanchor": "bottom", "yshift": 4, "xref": "paper", "yref": "paper", "showarrow": False,
            "font": {"size": 13, "color": ink()}}


def steps_layout(across: str, up: str, last: int) -> dict[str, Any]:
    """The layout of a small chart over the whole steps from 0 to ``last``: a legend on top, quiet axes, nothing to zoom."""
    quiet = {"size": SMALLEST, "color": muted()}
    return {
        "margin": {"l": 52, "r": 10, "t": 8, "b": 40}, "hovermode": "x unified", "dragmode": False, "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": SMALLEST, "color": ink()}},
        "xaxis": {"title": {"text": across, "font": quiet, "standoff": 6}, "tickfont": quiet, "showgrid": False, "zeroline": False,
                  "fixedrange": True, **({"dtick": 1} if last <= FEW_STEPS else {"nticks": 8})},
        "yaxis": {"title": {"text": up, "font": quiet, "standoff": 6}, "tickfont": quiet, "zeroline": False, "nticks": 6,
                  "fixedrange": True}}


def _axes(axis: str, left: float, width: float, across: str, up: str, low: float) -> dict[str, Any]:
    room = 0.02 * (1 - low)
    quiet = {"size": SMALLEST, "color": muted()}
    return {
        f"xaxis{axis}": {"domain": [left, left + width], "anchor": f"y{axis}", "range": [-0.01, 1.01], "tickformat": ".0%",
                         "title": {"text": across, "font": quiet, "standoff": 6}, "tickfont": quiet, "zeroline": False,
                         "showgrid": False, "hoverformat": ".1%"},
        f"yaxis{axis}": {"anchor": f"x{axis}", "range": [low - room, 1 + room], "zeroline": low < 0, "nticks": 6,
                         "title": {"text": up, "font": quiet, "standoff": 8}, "tickfont": quiet, **({"matches": "y"} if axis else {})},
    }


def _trace(curve: Curve, axis: str, first: bool) -> dict[str, Any]:
    return {"type": "scatter", "mode": "lines+markers", "x": curve.x, "y": curve.y, "name": curve.name, "legendgroup": curve.key,
            "showlegend": first, "xaxis": f"x{axis}", "yaxis": f"y{axis}", "hovertemplate": "%{y:.3f}", "marker": curve.style.marker,
            "line": {"color": curve.style.colour, "dash": curve.style.dash, "width": curve.style.width}}


def _ring(curve: Curve, at: float, axis: str) -> dict[str, Any]:
    """A ring around the point of a line at ``at``, switched on and off with the line."""
    height = curve.y[int(np.abs(curve.x - at).argmin())]
    return {"type": "scatter", "mode": "markers", "x": [at], "y": [height], "legendgroup": curve.key, "showlegend": False,
            "xaxis": f"x{axis}", "yaxis": f"y{axis}", "hoverinfo": "skip", "cliponaxis": False,
            "marker": {"symbol": "circle-open", "size": RING, "color": curve.style.colour, "line": {"width": 2}}}


def swatch(style: Style) -> str:
    """A short piece of a method's line with its mark, as HTML, for tables and captions. It is a background, because Streamlit
    removes SVG from a page's HTML."""
    dash = {"solid": "", "dash": "7 4", "dot": "2 3", "dashdot": "7 3 2 3"}[style.dash]
    shape, hollow = style.mark.removesuffix("-open"), style.mark.endswith("-open")
    ink_of_mark = f'fill="{"none" if hollow else style.colour}" stroke="{style.colour}" stroke-width="{1.5 if hollow else 0.5}"'
    mark = (f'<circle cx="15" cy="6" r="4" {ink_of_mark}></circle>' if shape == "circle" else
            f'<polygon points="{OUTLINES[shape]}" {ink_of_mark}></polygon>')
    drawing = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 30 12"><line x1="0" y1="6" x2="30" y2="6" '
               f'stroke="{style.colour}" stroke-width="2" stroke-dasharray="{dash}"></line>{mark}</svg>')
    return f'<i class="swatch" style="background-image: url(data:image/svg+xml,{quote(drawing)})"></i>'


def in_words(figure: Mapping[str, Any]) -> str:
    """A figure of lines in words with its numbers, for people who do not see it: panel by panel, line by line."""
    lines: dict[str, list[str]] = {}
    for trace in figure["data"]:
        if trace.get("name") and str(trace.get("mode", "")).startswith("lines"):
            lines.setdefault(trace.get("xaxis", "x"), []).append(_line_in_words(trace))
    headings = [_plain(note["text"]) for note in figure["layout"].get("annotations", ())]
    panels = sorted(lines, key=lambda axis: int(axis[1:] or 1))
    headings += [""] * (len(panels) - len(headings))
    return " ".join(f"{title}: {'; '.join(lines[axis])}." if title else f"{'; '.join(lines[axis])}."
                    for axis, title in zip(panels, headings, strict=False))


def _line_in_words(trace: Mapping[str, Any]) -> str:
    """A line's ends, its highest and lowest point between them, and the area under it where it goes over shares from 0 to 1.

    What stands after two spaces in a line's name are numbers of the legend, and left out.
    """
    y = np.array(trace["y"], dtype=float)
    x = np.array(trace.get("x", np.arange(len(y))), dtype=float)
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    name = _plain(trace["name"]).partition("  ")[0]
    if not len(y):
        return f"{name} has no values"
    shares = x.max() <= 1 and len(x) > 2

    def point(place: int) -> str:
        where = f"{100 * x[place]:.0f} %" if shares else significant(x[place])
        return f"{fixed(float(y[place]), 2)} at {where}"

    words = f"{name} goes from {point(0)} to {point(-1)}"
    for title, place in (("highest", int(y.argmax())), ("lowest", int(y.argmin()))):
        words += f", {title} {point(place)}" if 0 < place < len(y) - 1 else ""
    return f"{words}, area {fixed(float(np.trapezoid(y, x) / np.ptp(x)), 2)}" if shares and np.ptp(x) > 0 else words


def _plain(text: str) -> str:
    """Plotly's text without its tags; a panel's note follows its title in brackets."""
    text = re.sub(r"</b>\s+<span[^>]*>([^<]+)</span>", r" (\1)", text)
    return re.sub(r"<[^>]+>", "", text).replace("&amp;", "&").strip()
