"""Localisation: a picture to draw the region on, and a table of how much of each map falls inside it, beside the chance levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image, ImageFilter

import explainers as ex
from components.compute.method_row import MethodMap
from components.drawing import curves, downloads
from components.drawing.foreign_words import in_markdown
from components.drawing.heatmaps import data_uri
from components.faithfulness import rankings, regions
from components.faithfulness.regions import Region
from components.state.workspace import Workspace
from explainers.metrics import localisation as metric

PICTURE = "region-picture"
SIDE = 330  # pixels of the picture to draw on
CENTRE = "center"  # the control beside which every method stands: photographers put their subject there
LINE = (255, 255, 255)
COLUMNS = {
    "pointing": ("Pointing", "Is the highest pixel inside? Chance: the region's area."),
    "pointing_near": ("Within 15 px", "Is the highest pixel inside, or at most 15 pixels of the network's input away? Chance: the "
                                      "area of the region grown by so much."),
    "bounding_box": ("Box accuracy", "Of the map's highest pixels, as many as the region has: the share that is inside. "
                                     "Chance: the area."),
    "energy": ("Energy inside", "How much of the positive attribution is inside. Chance: the area."),
    "ehr": ("EHR", "Effective heat ratio: heat inside, divided by the number of pixels above a threshold, averaged over thresholds. "
                   "Chance: what the map's own values get in a random arrangement."),
}


Row = tuple[MethodMap, metric.Localisation]
"""An entry with its map's measures."""


@st.fragment
def draw(workspace: Workspace, maps: Sequence[MethodMap]) -> None:
    """Everything below the choice of the measurement. No pass through the network, so a drawn box reruns this part alone."""
    region = regions.choose(workspace)
    there = [(method_map, method_map.attribution) for method_map in maps if method_map.attribution is not None]
    rows: list[Row] = []
    if region.inside is not None:
        try:
            results = metric.measure([attribution for _, attribution in there], region.inside)
            rows = list(zip((method for method, _ in there), results if isinstance(results, list) else [results], strict=True))
        except ex.ExplainerError as error:
            region = Region(region.name, trouble=str(error))
    with st.container(key="localisation", horizontal=True, gap="medium", vertical_alignment="top"):
        with st.container(key="localisation-picture", width=SIDE + 10, gap=None):
            _picture(workspace, region, rows)
        with st.container(key="localisation-table", width="stretch", gap="small"):
            if region.trouble:
                st.info(in_markdown(region.trouble))
            if rows:
                st.html(_table(rows))
                _words(workspace, region, rows)
                st.download_button("Table (CSV)", lambda: table(rows), file_name=f"{workspace.picture.name}-localisation.csv",
                                   mime="text/csv", key="download-localisation", on_click="ignore",
                                   help="Every number of the table, with each map's chance levels.")


def _picture(workspace: Workspace, region: Region, rows: Sequence[Row]) -> None:
    """The picture with the region, to draw on; ``rows`` is empty where there is no region.

    Any change of the figure drops plotly's own selection, so the region takes the place of what was drawn.
    """
    seen = workspace.input.seen
    size = seen.height, seen.width

    def taken() -> None:
        event = st.session_state.get(PICTURE)
        if event and event["selection"]:
            regions.take(event["selection"], size)

    figure = {"data": [_image(seen, region), *_peaks(rows)], "layout": _layout(seen.size)}
    st.plotly_chart(figure, key=PICTURE, on_select=taken, selection_mode=("box", "lasso"), width=SIDE, height=SIDE + 34,
                    config={"displaylogo": False, "displayModeBar": True, "modeBarButtons": [["select2d", "lasso2d"]]},
                    alt=f"The picture with the region: {region.name}")
    st.caption("Drag on the picture to draw a box, or an outline with the lasso. Marks: each map's highest pixel.")


def _image(seen: Image.Image, region: Region) -> dict[str, Any]:
    """The picture, dimmed outside the region and with a line around it, at twice the size on the screen."""
    scale = max(1, round(2 * SIDE / seen.width))
    picture = seen.resize((scale * seen.width, scale * seen.height), Image.Resampling.BICUBIC)
    if region.inside is not None and region.inside.any():
        inside = Image.fromarray(region.inside.astype(np.uint8) * 255).resize(picture.size, Image.Resampling.BICUBIC)
        inside = inside.point(lambda level: 255 * (level >= 128))
        dimmed = Image.blend(picture.convert("L").convert("RGB"), Image.new("RGB", picture.size, (128, 128, 128)), 0.62)
        picture = Image.composite(picture, dimmed, inside)
        edge = np.asarray(inside.filter(ImageFilter.MaxFilter(5))) != np.asarray(inside)
        picture.paste(LINE, mask=Image.fromarray(edge.astype(np.uint8) * 255))
    return {"type": "image", "source": data_uri(picture), "x0": -0.5 + 0.5 / scale, "y0": -0.5 + 0.5 / scale, "dx": 1 / scale,
            "dy": 1 / scale, "hoverinfo": "skip"}


def _peaks(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A dot at each map's highest pixel; the first method's lies on top."""
    style = curves.styles([method.key for method, _ in rows])
    same = {"mode": "markers", "type": "scatter", "showlegend": False, "selected": {"marker": {"opacity": 1}},
            "unselected": {"marker": {"opacity": 1}}}
    return [{**same, "x": [result.highest[1]], "y": [result.highest[0]], "hovertemplate": f"{escape(method.title)}<extra></extra>",
             "marker": {"size": 8 if method.is_control else 11, "color": style[method.key].colour,
                        "symbol": style[method.key].mark.removesuffix("-open"), "line": {"width": 2, "color": "#ffffff"}}}
            for method, result in reversed(rows)]


def _layout(size: tuple[int, int]) -> dict[str, Any]:
    plain = {"showgrid": False, "zeroline": False, "showticklabels": False, "ticks": "", "fixedrange": True}
    return {"height": SIDE + 34, "width": SIDE, "margin": {"l": 0, "r": 0, "t": 34, "b": 0}, "dragmode": "select",
            "plot_bgcolor": "rgba(0,0,0,0)", "newselection": {"line": {"color": "#ffffff", "width": 2, "dash": "solid"}},
            "modebar": {"orientation": "h"},
            "xaxis": {**plain, "range": [-0.5, size[0] - 0.5]},
            "yaxis": {**plain, "range": [size[1] - 0.5, -0.5], "scaleanchor": "x"}}


def _table(rows: Sequence[Row]) -> str:
    """One row a map; each measure as a number and a bar with a tick at its chance level."""
    style = curves.styles([method.key for method, _ in rows])
    head = "".join(f'<th title="{escape(words)}">{escape(title)}</th>' for title, words in COLUMNS.values())
    lines = [
        f'<tr{" class=control" if method.is_control else ""}><td>{curves.swatch(style[method.key])}'
        f"{escape(method.title)}</td>"
        + "".join(_cell(getattr(result, name), getattr(result.chance, name), name.startswith("pointing")) for name in COLUMNS)
        + "</tr>" for method, result in rows]
    chance = rows[0][1].chance
    last = "".join(
        f"<td>{'at most ' if name == 'ehr' else ''}{_percent(chance.energy if name == 'ehr' else getattr(chance, name))}</td>"
        for name in COLUMNS)
    return (f'<div class="wide"><table class="numbers localisation"><tr><th>Map</th>{head}</tr>{"".join(lines)}'
            f'<tr class="chance"><td>Chance</td>{last}</tr></table></div>')


def _cell(value: float, chance: float, hit: bool) -> str:
    if math.isnan(value):
        return '<td title="The map has no positive attribution.">none</td>'
    if hit:
        return f'<td class="{"good" if value else "below"}">{"hit" if value else "miss"}</td>'
    better = "good" if value > chance else "below"
    return (f'<td class="{better}" title="Chance: {_percent(chance)}">{_percent(value)}<span class="track"><span class="bar" '
            f'style="width:{100 * value:.1f}%"></span><span class="tick" style="left:{100 * chance:.1f}%"></span></span></td>')


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}\u202f%"


def _words(workspace: Workspace, region: Region, rows: Sequence[Row]) -> None:
    """Warn of a region of another class, or name the methods that do not beat the centre control; then the region's size."""
    centre = next((result.bounding_box for method, result in rows if method.key == CENTRE), None)
    lines = [f"{method.title} does not beat the centre control here: its box accuracy, {_percent(result.bounding_box)}, is not above "
             f"{_percent(centre)}." for method, result in rows
             if centre is not None and not method.is_control and result.bounding_box <= centre]
    if region.stranger:
        lines = [f"The maps explain {workspace.target_words}, and this region is another object: a faithful map may avoid it."]
    if lines:
        rankings.warn(lines)
    first = rows[0][1]
    area = f"The region ({in_markdown(region.name)}) is {_percent(first.area)} of the picture"
    large = "; papers leave out pictures above 33 %, where chance alone does well" if first.too_large else ""
    st.caption(f"{area}{large}. Ticks on the bars: chance. Where a network uses what is outside, a faithful map scores lower.",
               help="\n\n".join(f"**{title}**: {words}" for title, words in COLUMNS.values()))


def table(rows: Sequence[Row]) -> bytes:
    """The table as CSV, with each map's own chance levels."""
    head = ["method", *COLUMNS, *(f"{name}_chance" for name in COLUMNS), "area", "highest_row", "highest_column"]
    return downloads.csv_of([head, *(
        [method.key, *(getattr(result, name) for name in COLUMNS), *(getattr(result.chance, name) for name in COLUMNS), result.area,
         *result.highest] for method, result in rows)])
