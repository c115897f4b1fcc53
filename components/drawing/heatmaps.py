"""Maps side by side in one plotly figure: zoom and pan are linked, hovering reads value and rank, opacity stays in the browser.

One figure whose pictures are JPEGs is by far the fastest way to show many maps in Streamlit. A figure that the server changes
loses its zoom, so opacity is set in the browser (opacity.py).
"""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from components.drawing import map_words, opacity
from components.drawing.colour import OPACITY, Display, Shown, backdrop, grey, rgba
from components.drawing.numbers import significant
from components.drawing.theme import SMALLEST, ink, muted, warning

TITLE, LEGEND = 24, 72  # nominal pixels of a panel: its title, its colour bar and two lines
SIDES = {3: 250, 4: 230}  # nominal pixels of a map, by the number of columns; the figure grows with the page, its text does not
SMALLEST_SIDE = 190  # with five columns
LINE = 16  # of the text under a colour bar
LETTERS = {3: 44, 4: 40}  # of that text in a line, by the number of columns
FEWEST_LETTERS = 32  # of that text in a line, with five columns
NARROWEST = 0.96  # of the nominal width of a panel: where the page is narrower, the figure is swiped
LONGEST_TITLE = 26  # letters that fit a panel of the smallest width
CONFIG = {"displaylogo": False, "modeBarButtonsToRemove": ["toImage", "autoScale2d", "zoomIn2d", "zoomOut2d"]}


@dataclass(frozen=True)
class Panel:
    """One picture of the figure: a map over the backdrop, or (``shown`` None) the picture alone, faint if ``pending``.

    ``short`` is the title where the panel is too narrow for the whole one.
    """

    title: str
    shown: Shown | None = None
    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    pending: bool = False
    short: str = ""


def columns_for(panels: int) -> int:
    """How many panels stand in a row: all up to five, then rows of equal length."""
    if panels <= 5:
        return max(panels, 3)
    rows = -(-panels // 5)
    return -(-panels // rows)


def draw(seen: Image.Image, panels: Sequence[Panel], display: Display, alt: str) -> None:
    """Draw the figure into the current container, as wide as the page and as high as its panels need. ``alt``: what it shows,
    for people who do not see it; the numbers of the maps are added."""
    grid = _Grid.of(panels)
    ratio = grid.columns * grid.side / grid.height
    panel = round(NARROWEST * grid.side)
    st.html(f"<style>.st-key-maps {{ --columns: {grid.columns}; --ratio: {ratio:.4f}; --panel: {panel}px; }}</style>")
    with st.container(key="maps", height="stretch"):
        st.plotly_chart(figure(seen, panels, display), key="heatmaps", config=CONFIG, height="stretch",
                        alt=f"{alt}. {in_words(panels)}")
    if any(panel.shown for panel in panels):
        opacity.draw()


def figure(seen: Image.Image, panels: Sequence[Panel], display: Display) -> dict[str, Any]:
    """The figure that ``draw`` shows, as plotly's plain dictionaries: building it so takes half the time."""
    grid = _Grid.of(panels)
    under = backdrop(seen, display.backdrop)
    sources = {"photo": data_uri(seen), "faint": data_uri(grey(seen)), **({"under": data_uri(under)} if under else {})}
    traces: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    bars: list[dict[str, Any]] = []
    on_dark = display.backdrop == "None" and st.context.theme.type == "dark"
    layout: dict[str, Any] = {
        "height": grid.height, "margin": {"l": 2, "r": 2, "t": 0, "b": 0},
        "plot_bgcolor": "rgba(0,0,0,0)", "dragmode": "zoom", "annotations": notes, "images": bars}
    for place, panel in enumerate(panels):
        cell = _Cell.at(place, grid)
        layout |= _axes(cell, seen.size)
        kind = "faint" if panel.pending else "photo" if panel.shown is None else "under"
        if kind in sources:
            traces.append(_picture(sources[kind], seen.size, cell, opacity=0.4 if panel.pending else 1.0))
        if panel.shown is not None:
            traces.append(_heatmap(panel.shown, cell, on_dark))
            image, labels = _colour_bar(panel.shown, cell, on_dark)
            bars.append(image)
            notes += labels
        notes += _texts(panel, cell, grid.columns)
    return {"data": traces, "layout": layout}


@dataclass(frozen=True)
class _Grid:
    """The columns, the nominal pixels of a map's side, and for each row the room below its maps for its own longest text."""

    columns: int
    side: int
    legends: tuple[int, ...]

    @classmethod
    def of(cls, panels: Sequence[Panel]) -> _Grid:
        columns = columns_for(len(panels))
        lines = [sum(map(len, _wrapped(panel, columns))) for panel in panels]
        longest = [max(lines[start:start + columns]) for start in range(0, len(lines), columns)]
        return cls(columns, SIDES.get(columns, SMALLEST_SIDE), tuple(LEGEND + LINE * max(0, most - 2) for most in longest))

    @property
    def height(self) -> int:
        return self.above(len(self.legends))

    def above(self, row: int) -> int:
        """The nominal pixels of the rows above this one."""
        return sum(TITLE + self.side + legend for legend in self.legends[:row])


@dataclass(frozen=True)
class _Cell:
    """Where a panel's map stands, in fractions of the plotting area; ``axis`` is plotly's suffix ('' or '2', '3' ...)."""

    axis: str
    left: float
    right: float
    top: float
    bottom: float
    pixel: float  # a nominal pixel's height

    @classmethod
    def at(cls, place: int, grid: _Grid) -> _Cell:
        row, column = divmod(place, grid.columns)
        gap, pixel = 0.018, 1 / grid.height
        width = (1 - gap * (grid.columns - 1)) / grid.columns
        left = column * (width + gap)
        top = 1 - (grid.above(row) + TITLE) * pixel
        side = grid.side * width * grid.columns  # as high as it is wide without the gaps
        return cls("" if place == 0 else str(place + 1), left, left + width, top, top - side * pixel, pixel)


def _axes(cell: _Cell, size: tuple[int, int]) -> dict[str, Any]:
    plain = {"showgrid": False, "zeroline": False, "showticklabels": False, "ticks": "", "constrain": "domain"}
    first = cell.axis == ""
    return {
        f"xaxis{cell.axis}": {**plain, **({} if first else {"matches": "x"}), "anchor": f"y{cell.axis}",
                              "domain": [cell.left, cell.right], "range": [-0.5, size[0] - 0.5], "constraintoward": "left"},
        f"yaxis{cell.axis}": {**plain, **({} if first else {"matches": "y"}), "anchor": f"x{cell.axis}",
                              "domain": [cell.bottom, cell.top], "range": [size[1] - 0.5, -0.5], "scaleanchor": "x",
                              "constraintoward": "top"},
    }


def _picture(source: str, size: tuple[int, int], cell: _Cell, opacity: float) -> dict[str, Any]:
    return {"type": "image", "source": source, "hoverinfo": "skip", "opacity": opacity, "xaxis": f"x{cell.axis}",
            "yaxis": f"y{cell.axis}", "zsmooth": "fast" if min(size) >= 64 else False}


def _heatmap(shown: Shown, cell: _Cell, on_dark: bool) -> dict[str, Any]:
    low, high = shown.range
    return {
        "type": "heatmap", "z": shown.values, "customdata": shown.percentile, "zmin": low, "zmax": high, "opacity": OPACITY,
        "hoverongaps": False, "hovertemplate": "%{z:.3~g}<br>above %{customdata} % of the pixels<extra></extra>",
        "colorscale": [[at, f"rgba({red},{green},{blue},{alpha})"] for at, red, green, blue, alpha in shown.stops(on_dark)],
        "xaxis": f"x{cell.axis}", "yaxis": f"y{cell.axis}", "showscale": False}


def _colour_bar(shown: Shown, cell: _Cell, on_dark: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The bar under a map, as one picture, and its three labels. Plotly's own bar is slow: it takes some 250 shapes a panel."""
    pixel = cell.pixel
    image: dict[str, Any] = {
        "source": _ramp(shown.diverging, on_dark), "xref": "paper", "yref": "paper", "x": cell.left, "y": cell.bottom - 7 * pixel,
        "sizex": cell.right - cell.left, "sizey": 7 * pixel, "sizing": "stretch", "yanchor": "top", "layer": "above"}
    low, high = shown.range
    places = ((low, cell.left, "left"), ((low + high) / 2, (cell.left + cell.right) / 2, "center"), (high, cell.right, "right"))
    labels = [{"text": significant(value), "x": x, "xanchor": anchor, "xref": "paper", "yref": "paper",
               "y": image["y"] - image["sizey"], "yanchor": "top", "yshift": 2, "showarrow": False,
               "font": {"size": SMALLEST, "color": muted()}}
              for value, x, anchor in places]
    return image, labels


@st.cache_data(show_spinner=False)
def _ramp(diverging: bool, on_dark: bool) -> str:
    """A scale of colours from its low to its high end, one pixel high, as a data URI."""
    levels = np.linspace(-1 if diverging else 0, 1, 256, dtype=np.float32)[None]
    return exact_uri(Image.fromarray(rgba(Shown(levels, levels, 1.0, diverging), on_dark)))


def _texts(panel: Panel, cell: _Cell, columns: int) -> list[dict[str, Any]]:
    """The title over a map and the lines under its colour bar, broken to its width."""
    common = {"showarrow": False, "xref": "paper", "x": cell.left, "xanchor": "left", "align": "left", "yref": "paper"}
    words = f"<b>{escape(fitting(panel.title, panel.short))}</b>"
    title = {**common, "text": words, "y": cell.top, "yanchor": "bottom", "yshift": 1, "font": {"size": 13, "color": ink()}}
    plain, warnings = _wrapped(panel, columns)
    lines = [*map(escape, plain), *(f'<span style="color:{warning()}">{escape(line)}</span>' for line in warnings)]
    if not lines:
        return [title]
    below = 4 if panel.shown is None else 33
    return [title, {**common, "text": "<br>".join(lines), "y": cell.bottom, "yanchor": "top", "yshift": -below,
                    "font": {"size": SMALLEST, "color": muted()}}]


def fitting(title: str, short: str) -> str:
    """The title, or the short one, cut to what fits a panel at its narrowest, so that no title runs into the next."""
    fits = title if len(title) <= LONGEST_TITLE else short or title
    return fits if len(fits) <= LONGEST_TITLE else f"{fits[:LONGEST_TITLE - 1].rstrip()}\u2026"


def _wrapped(panel: Panel, columns: int) -> tuple[list[str], list[str]]:
    """The lines and the warnings of a panel, broken to its width."""
    width = LETTERS.get(columns, FEWEST_LETTERS)

    def wrapped(lines: Sequence[str]) -> list[str]:
        return [piece for line in lines for piece in textwrap.wrap(line, width)]

    return wrapped(panel.lines), wrapped(panel.warnings)


def in_words(panels: Sequence[Panel]) -> str:
    """The maps in words with their numbers."""
    return " ".join(f"{panel.title}: {map_words.in_words(panel.shown.values)}." for panel in panels if panel.shown is not None)


@st.cache_data(max_entries=64, show_spinner=False, scope="session",
               hash_funcs={Image.Image: lambda image: (image.mode, image.size, image.tobytes())})
def data_uri(image: Image.Image) -> str:
    """The picture as a JPEG (quality 90) in a data URI."""
    return _uri(image.convert("RGB"), "JPEG", quality=90)


def sharp_uri(image: Image.Image) -> str:
    """A coloured map as a JPEG that keeps the colours of single pixels, in a data URI."""
    return _uri(image, "JPEG", quality=92, subsampling=0)


def exact_uri(image: Image.Image) -> str:
    """The picture as a PNG, with its transparency, in a data URI."""
    return _uri(image, "PNG", compress_level=1)


def _uri(image: Image.Image, kind: str, **options: int) -> str:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
