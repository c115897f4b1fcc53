"""What a method shows beside its map: parts, masks, masked pictures, traces and numbers, drawn from its declaration.

A section a method, closed at first, and nothing is made before it is opened.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from io import BytesIO
from itertools import cycle
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

import explainers as ex
from components.compute.method_row import MethodMap
from components.drawing import colour, curves, map_words
from components.drawing.colour import Display, Shown
from components.drawing.heatmaps import data_uri
from components.drawing.numbers import significant
from components.state.workspace import Workspace
from explainers.contract import AuxiliaryOutput
from explainers.resampling import reduce_channels, resample

MOST_PICTURES = 10
CHART_HEIGHT = 190
FEW_TILES = 3  # that leave room for charts and numbers beside them
COARSE = 64  # cells: a map with fewer is drawn with sharp edges


@dataclass(frozen=True)
class Tile:
    """A picture, or a map (``shown``) over a picture or over nothing, with its title and the text below it."""

    title: str
    text: str
    picture: Image.Image | None = None
    shown: Shown | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, those of the map where there is one."""
        if self.shown is not None:
            height, width = self.shown.values.shape
            return width, height
        return self.picture.size if self.picture else (1, 1)


def draw(workspace: Workspace, maps: Sequence[MethodMap], display: Display) -> None:
    """A closed section for each map that is there and has something to show."""
    for method, attribution in ((entry.method, entry.attribution) for entry in maps):
        if attribution is None or not any(output.name in attribution.extras for output in method.auxiliary_outputs):
            continue
        section = st.expander(f"Inside {method.title}", key=f"extras.{method.key}", on_change="rerun")
        if section.open:
            with section:
                _section(workspace, method, attribution, display)


def _section(workspace: Workspace, method: ex.Method, attribution: ex.Attribution, display: Display) -> None:
    there = [(output, value) for output in method.auxiliary_outputs
             if (value := output.of(workspace.input.x, attribution.extras)) is not None]
    on_dark = display.backdrop == "None" and st.context.theme.type == "dark"
    tiles = _tiles(workspace, method, attribution, display, there)
    beside = 0 < len(tiles) <= FEW_TILES
    left, right = st.columns([len(tiles), 5 - len(tiles)], gap="large") if beside else (st.container(), st.container())
    if tiles:
        left.html(f'<div class="extras">{"".join(_figure(tile, on_dark) for tile in tiles)}</div>')
    with right:
        _charts_and_facts(method, there)


def _charts_and_facts(method: ex.Method, there: Sequence[tuple[AuxiliaryOutput, Any]]) -> None:
    """A chart for each unit, and the numbers beside them."""
    facts = _facts([(output, value) for output, value in there if output.kind in {"number", "text"}])
    charts: dict[str, list[tuple[AuxiliaryOutput, Any]]] = {}
    for output, value in there:
        if output.kind == "trace" and len(value) > 1:
            charts.setdefault(output.unit, []).append((output, value))
    places = st.columns([3] * len(charts) + [4] * bool(facts), gap="medium") if charts or facts else []
    for place, (unit, traces) in zip(places, charts.items(), strict=False):
        drawing = _chart(unit, traces)
        place.plotly_chart(drawing, key=f"extras.{method.key}.{unit}", height=CHART_HEIGHT, config={"displayModeBar": False},
                           alt=f"{method.title} at every step. {curves.in_words(drawing)}")
    if facts:
        places[-1].html(facts)


def _tiles(workspace: Workspace, method: ex.Method, attribution: ex.Attribution, display: Display,
           there: Sequence[tuple[AuxiliaryOutput, Any]]) -> list[Tile]:
    """All pictures of a section in the order of the declaration. Signed parts add up to the map, so they share one scale."""
    under = colour.backdrop(workspace.input.seen, display.backdrop)
    size = attribution.input_size
    signed = [(output, _flat(value, "sum", size, method.upsample)) for output, value in there if output.kind == "map"]
    scaled = colour.prepare([(flat, True) for _, flat in signed], replace(display, scale="Shared"))
    parts = {output.name: shown for (output, _), shown in zip(signed, scaled, strict=True)}
    tiles = []
    for output, value in there:
        if output.kind == "map":
            tiles.append(Tile(output.title, output.help, under, parts[output.name]))
        elif output.kind in {"strength", "fraction"}:
            flat = _flat(value, "sum", size, method.upsample)
            tiles.append(Tile(output.title, output.help, under, _unsigned(flat, output.kind == "fraction", display)))
        elif output.kind == "signal" and tuple(value.shape[-2:]) != tuple(size):
            shown = colour.prepare([(_flat(value, "mean", size, method.upsample), True)], display)[0]
            tiles.append(Tile(output.title, output.help, under, shown))
        elif output.kind == "signal":
            tiles.append(Tile(output.title, output.help, workspace.network.preprocessing.picture(value)))
        elif output.kind == "pictures":
            tiles += _pictures(output, [workspace.network.preprocessing.picture(picture) for picture in value], attribution.extras)
    return tiles


def _flat(value: Any, how: str, size: tuple[int, int], upsample: str) -> np.ndarray:
    """A tensor (h, w) or (C, h, w) as (H, W) float32."""
    cells = value.cpu().float()
    cells = cells[None] if cells.ndim == 2 else cells
    flat = cells.mean(0) if how == "mean" else reduce_channels(cells, "sum")
    return np.nan_to_num((flat if tuple(flat.shape) == tuple(size) else resample(flat, size, upsample)).numpy())


def _unsigned(flat: np.ndarray, fraction: bool, display: Display) -> Shown:
    shown = colour.prepare([(flat, False)], display)[0]
    return replace(shown, limit=1.0, floor=0.0) if fraction else shown


def _pictures(output: AuxiliaryOutput, pictures: Sequence[Image.Image], extras: dict[str, Any]) -> Iterator[Tile]:
    """One picture, or those of the iterations: of many, ``MOST_PICTURES`` at even distances, the first and the last among them."""
    if len(pictures) == 1:
        yield Tile(output.title, output.help, pictures[0])
        return
    for step in np.unique(np.linspace(0, len(pictures) - 1, min(len(pictures), MOST_PICTURES)).round().astype(int)).tolist():
        numbers = ", ".join(f"{name.replace('_', ' ')} {significant(extras[name][step])}" for name in output.numbers)
        yield Tile("The image" if step == 0 else f"{output.title} {step}", numbers, pictures[step])


def _figure(tile: Tile, on_dark: bool) -> str:
    width, height = tile.size
    title = escape(tile.title)
    layers = f'<img src="{data_uri(tile.picture)}" alt="{"" if tile.shown else title}">' if tile.picture else ""
    below = ""
    if tile.shown:
        layers += f'<img src="{_overlay(tile.shown, on_dark)}" alt="{title}: {map_words.in_words(tile.shown.values)}">'
        low, high = tile.shown.range
        ends = "".join(f"<span>{significant(value)}</span>" for value in (low, (low + high) / 2, high))
        below = f'<div class="ramp" style="background: {colour.ramp(tile.shown, on_dark)}"></div><div class="ends">{ends}</div>'
    return (f'<figure class="{"coarse" if min(width, height) < COARSE else ""}"><figcaption>{title}</figcaption>'
            f'<div class="layers" style="aspect-ratio: {width} / {height}">{layers}</div>{below}<p>{escape(tile.text)}</p></figure>')


def _overlay(shown: Shown, on_dark: bool) -> str:
    """A map alone, transparent where it is zero, as a data URI."""
    pixels = colour.rgba(shown, on_dark)
    pixels[..., 3] = (pixels[..., 3] * colour.OPACITY).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _facts(there: Sequence[tuple[AuxiliaryOutput, Any]]) -> str:
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
    layout = curves.steps_layout("step", unit, max(len(values) for _, values in traces) - 1)
    layout["yaxis"] |= {"nticks": 5, "zeroline": True}
    return {"data": lines, "layout": layout | {
        "height": CHART_HEIGHT, "margin": {"l": 48, "r": 8, "t": 24, "b": 38}, "showlegend": many,
        "title": {"text": "" if many else traces[0][0].title, "font": {"size": 12}, "x": 0, "y": 0.98}}}
