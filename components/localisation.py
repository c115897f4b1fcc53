"""Localisation of the chosen methods' maps: a picture to draw the region on, and what of each map falls inside, beside chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image, ImageFilter

from components import curves, exports, rankings, regions
from components.heatmaps import data_uri
from components.regions import Region
from components.runs import Job
from components.workspace import Workspace
from explainers.contract import ExplainerError
from explainers.metrics import localisation as metric

PICTURE = "region-picture"
SIDE = 330  # pixels of the picture to draw on
CENTRE = "center"  # the control beside which every method stands: photographers put their subject there
LINE = (255, 255, 255)
COLUMNS = {
    "pointing": ("Pointing", "Is the highest pixel inside? Chance: the region's area."),
    "pointing_near": ("Within 15 px", "Is the highest pixel inside, or at most 15 pixels of the network's input away? Chance: the "
                                      "area of the region grown by so much."),
    "bounding_box": ("Box accuracy", "With n the region's pixels: the share of the map's n highest that is inside. Chance: the area."),
    "energy": ("Energy inside", "How much of the positive attribution is inside. Chance: the area."),
    "ehr": ("EHR", "Effective heat ratio: heat inside over pixels above a threshold, over all thresholds. Chance: what the map's own "
                   "values get in a random arrangement."),
}


@st.fragment
def draw(workspace: Workspace, jobs: Sequence[Job]) -> None:
    """Everything below the section's name. No pass through the network, so a drawn box reruns this part alone."""
    region = regions.choose(workspace)
    maps = [job for job in jobs if job.found is not None]
    found = []
    if region.inside is not None:
        try:
            found = metric.measure([job.found for job in maps], region.inside)
        except ExplainerError as error:
            region = Region(region.name, trouble=str(error))
    with st.container(key="localisation", horizontal=True, gap="medium", vertical_alignment="top"):
        with st.container(key="localisation-picture", width=SIDE + 10, gap=None):
            _picture(workspace, region, maps, found)
        with st.container(key="localisation-table", width="stretch", gap="small"):
            if region.trouble:
                st.info(region.trouble)
            if found:
                st.html(_rows(maps, found))
                _words(workspace, region, maps, found)
                st.download_button("Table (CSV)", lambda: table(maps, found), file_name=f"{workspace.picture.name}-localisation.csv",
                                   mime="text/csv", key="download-localisation", on_click="ignore",
                                   help="Every number of the table, with each map's chance levels.")


def _picture(workspace: Workspace, region: Region, maps: Sequence[Job], found: Sequence[metric.Localisation]) -> None:
    """The picture with the region, to draw on; ``found`` is empty where there is no region.

    Any change of the figure drops plotly's own selection, so the region takes the place of what was drawn.
    """
    seen = workspace.sight.seen
    size = seen.height, seen.width

    def taken() -> None:
        event = st.session_state.get(PICTURE)
        if event and event["selection"]:
            regions.take(event["selection"], size)

    figure = {"data": [_image(seen, region), *(_peaks(maps, found) if found else ())], "layout": _layout(seen.size)}
    st.plotly_chart(figure, key=PICTURE, on_select=taken, selection_mode=("box", "lasso"), width=SIDE, height=SIDE + 34,
                    config={"displaylogo": False, "displayModeBar": True, "modeBarButtons": [["select2d", "lasso2d"]]},
                    alt=f"The picture with the region: {region.name}")
    st.caption("Drag on the picture to draw a box, or an outline with the lasso. Dots: each map's highest pixel.")


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


def _peaks(maps: Sequence[Job], found: Sequence[metric.Localisation]) -> list[dict[str, Any]]:
    style = curves.styles([job.method.key for job in maps])
    same = {"mode": "markers", "type": "scatter", "showlegend": False, "selected": {"marker": {"opacity": 1}},
            "unselected": {"marker": {"opacity": 1}}}
    return [{**same, "x": [one.highest[1]], "y": [one.highest[0]], "hovertemplate": f"{escape(job.method.title)}<extra></extra>",
             "marker": {"size": 11 if not job.control else 8, "color": style[job.method.key].colour,
                        "line": {"width": 2, "color": "#ffffff"}}}
            for job, one in reversed(list(zip(maps, found, strict=True)))]


def _layout(size: tuple[int, int]) -> dict[str, Any]:
    plain = {"showgrid": False, "zeroline": False, "showticklabels": False, "ticks": "", "fixedrange": True}
    return {"height": SIDE + 34, "width": SIDE, "margin": {"l": 0, "r": 0, "t": 34, "b": 0}, "dragmode": "select",
            "plot_bgcolor": "rgba(0,0,0,0)", "newselection": {"line": {"color": "#ffffff", "width": 2, "dash": "solid"}},
            "modebar": {"orientation": "h"},
            "xaxis": {**plain, "range": [-0.5, size[0] - 0.5]},
            "yaxis": {**plain, "range": [size[1] - 0.5, -0.5], "scaleanchor": "x"}}


def _rows(maps: Sequence[Job], found: Sequence[metric.Localisation]) -> str:
    """One row a map; each measure as a number and a bar with a tick at its chance level."""
    style = curves.styles([job.method.key for job in maps])
    head = "".join(f'<th title="{escape(told)}">{escape(title)}</th>' for title, told in COLUMNS.values())
    rows = [
        f'<tr{" class=control" if job.control else ""}><td><i style="background:{style[job.method.key].colour}"></i>'
        f"{escape(job.method.title)}</td>"
        + "".join(_cell(getattr(one, name), getattr(one.chance, name), name.startswith("pointing")) for name in COLUMNS) + "</tr>"
        for job, one in zip(maps, found, strict=True)]
    chance = found[0].chance
    last = "".join(f"<td>{'at most ' if name == 'ehr' else ''}{_share(chance.energy if name == 'ehr' else getattr(chance, name))}</td>"
                   for name in COLUMNS)
    return (f'<div class="wide"><table class="numbers localisation"><tr><th>Map</th>{head}</tr>{"".join(rows)}'
            f'<tr class="chance"><td>Chance</td>{last}</tr></table></div>')


def _cell(value: float, chance: float, hit: bool) -> str:
    if math.isnan(value):
        return '<td title="The map has no positive attribution.">none</td>'
    if hit:
        return f'<td class="{"good" if value else "below"}">{"hit" if value else "miss"}</td>'
    better = "good" if value > chance else "below"
    return (f'<td class="{better}" title="Chance: {_share(chance)}">{_share(value)}<span class="track"><span class="bar" '
            f'style="width:{100 * value:.1f}%"></span><span class="tick" style="left:{100 * chance:.1f}%"></span></span></td>')


def _share(value: float) -> str:
    return f"{100 * value:.1f}\u202f%"


def _words(workspace: Workspace, region: Region, maps: Sequence[Job], found: Sequence[metric.Localisation]) -> None:
    """What the numbers do not say: a region that is too large, and who does not beat the blob in the centre."""
    centre = next(one for job, one in zip(maps, found, strict=True) if job.method.key == CENTRE)
    lines = [f"{job.method.title} does not beat the centre control here: its box accuracy, {_share(one.bounding_box)}, is not above "
             f"{_share(centre.bounding_box)}." for job, one in zip(maps, found, strict=True)
             if not job.control and one.bounding_box <= centre.bounding_box]
    if region.stranger:
        lines = [f"The maps explain {workspace.explained_in_words}, and this region is another object: a faithful map may avoid it."]
    if lines:
        rankings.warn(lines)
    area = f"The region ({region.name}) is {_share(found[0].area)} of the picture"
    large = "; papers leave out pictures above 33 %, where chance alone does well" if found[0].too_large else ""
    st.caption(f"{area}{large}. Ticks on the bars: chance. Where a network rests on what is outside, the better map scores lower.",
               help="\n\n".join(f"**{title}**: {told}" for title, told in COLUMNS.values()))


def table(maps: Sequence[Job], found: Sequence[metric.Localisation]) -> bytes:
    """The table as CSV, with each map's own chance levels."""
    head = ["method", *COLUMNS, *(f"{name}_chance" for name in COLUMNS), "area", "highest_row", "highest_column"]
    return exports.csv_of([head, *(
        [job.method.key, *(getattr(one, name) for name in COLUMNS), *(getattr(one.chance, name) for name in COLUMNS), one.area,
         *one.highest] for job, one in zip(maps, found, strict=True))])
