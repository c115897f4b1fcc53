"""Sensitivity-n of the chosen methods' maps and of the controls: the removals, which all maps share, then curves, table and words."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import streamlit as st

import explainers as ex
from components import curves, exports, gate, session
from components.numbers import fixed
from components.rankings import CHANCE, warn
from components.runs import Job, offer
from components.workspace import Workspace
from explainers.metrics import sensitivity_n as metric
from explainers.running import image_digest

NAME, VERSION = "sensitivity_n", 1  # raise the version when the same settings would give other numbers
PLACE = "sensitivity"
Z95 = 1.96  # 95 % of a normal distribution lies within so many deviations; a correlation by chance has 1 / sqrt(masks)
HEIGHT = 440  # pixels, with the legend below, which takes more rows on a narrow page
POINTS = 14  # numbers of pixels on the curve; the paper's 42 take three times as long and show the same
SHARES = {"10 %": 0.1, "25 %": 0.25, "63 %": metric.LARGEST, "90 %": 0.9}
MASKS = (20, 50, 100, 200, 400)
TILES = {"Pixels": 1, "Tiles of 8 \u00d7 8": 8}


@dataclass(frozen=True)
class Settings:
    """What decides the removals beside network, picture, class and seed."""

    counts: tuple[int, ...]
    masks: int
    tile: int

    @property
    def passes(self) -> int:
        """Images forward: one a mask."""
        return len(self.counts) * self.masks


def draw(workspace: Workspace, jobs: Sequence[Job]) -> None:
    """Everything below the section's name."""
    settings = _settings(workspace)
    removals = _removals(workspace, settings)
    if removals is None or not any(job.found for job in jobs):
        return
    maps = [job for job in jobs if job.found is not None]
    heat = [job.found.heatmap() for job in maps]
    key = hashlib.sha256(repr(settings).encode() + removals.outputs.tobytes() + b"".join(one.tobytes() for one in heat)).hexdigest()
    found = _correlations(key, removals, heat)
    what = "pixels" if settings.tile == 1 else "tiles"
    with st.container(key="curves-sensitivity"):
        st.plotly_chart(_figure(maps, found, what), key="sensitivity-curves", config=curves.CONFIG,
                        alt="Sensitivity-n of " + ", ".join(job.method.title for job in maps))
    _words(maps, found, what)
    st.download_button("Curves (CSV)", lambda: table(maps, found), file_name=f"{workspace.picture.name}-sensitivity-n.csv",
                       mime="text/csv", key="download-sensitivity", on_click="ignore",
                       help="One row for each n, one column for each map; nan where there is no correlation.")


def _settings(workspace: Workspace) -> Settings:
    with st.container(key="sensitivity-row", horizontal=True, vertical_alignment="bottom", gap="small"):
        what = st.segmented_control(
            "Remove", list(TILES), default="Pixels", required=True, key="sn_remove", bind="query-params",
            help="What goes at random: single pixels, as in the paper, or squares of 8 pixels a side. Coarse maps (Grad-CAM) have a "
                 "chance with tiles alone, for scattered pixels hit all their regions alike.")
        masks = st.select_slider(
            "Masks for each n", MASKS, 100, key="sn_masks", bind="query-params", width=200,
            help="How many random sets of n are removed for each point of the curve. More: less noise, more passes. "
                 "The paper takes 100 to 200.")
        share = st.select_slider(
            "Largest n", list(SHARES), "63 %", key="sn_largest", bind="query-params", width=200,
            help="The share of the picture that goes at the right end of the curve. The paper ends at 63 %.")
    rows, columns = workspace.network.input_size
    tile = TILES[what]
    return Settings(metric.log_spaced(-(-rows // tile) * -(-columns // tile), SHARES[share], POINTS), int(masks), tile)


def _removals(workspace: Workspace, settings: Settings) -> metric.Removals | None:
    """What the network said without the pixels: known, measured now, or None while it waits for its button."""
    network, x = workspace.network, workspace.sight.x
    facts = (VERSION, network.fingerprint, str(network.device), image_digest(x), repr(workspace.explained), settings.counts,
             settings.masks, settings.tile, workspace.seed)
    engine, key = session.engine(), repr(facts)
    known = engine.known(NAME, facts)
    if known is None:
        seconds = settings.passes * network.pass_seconds().forward
        if not gate.opens(PLACE, key, seconds):
            offer(PLACE, key, "Measure Sensitivity-n", ex.Passes(settings.passes), seconds)
            return None
        with gate.bar(PLACE, key) as report:
            def progress(done: int, total: int, preview: Any = None) -> None:
                report("Sensitivity-n, pictures without random pixels", done, total)

            def compute() -> dict[str, Any]:
                return {"outputs": metric.remove(network, x, workspace.explained, settings.counts, settings.masks, tile=settings.tile,
                                                 seed=workspace.seed, progress=progress).outputs.tolist()}

            known = engine.measured(NAME, facts, compute, progress)
    return metric.Removals(np.array(settings.counts), np.array(known["outputs"]), tuple(x.shape[-2:]), settings.tile,
                           workspace.seed, ex.Passes(settings.passes))


@st.cache_data(max_entries=32, show_spinner=False)
def _correlations(key: str, _removals: metric.Removals, _maps: Sequence[np.ndarray]) -> list[metric.SensitivityN]:
    """The numbers of all maps; ``key`` stands for the removals and the maps."""
    return metric.correlate(_removals, _maps)


def _figure(jobs: Sequence[Job], found: Sequence[metric.SensitivityN], what: str) -> dict[str, Any]:
    style = curves.styles([job.method.key for job in jobs])
    lines = tuple(
        curves.Curve(job.method.key, f"{escape(job.method.title)}  {fixed(one.mean, 2)}{_gaps(one)}", style[job.method.key],
                     one.counts, one.correlation)
        for job, one in zip(jobs, found, strict=True))
    lowest = min((float(np.nanmin(one.correlation)) for one in found if not math.isnan(one.mean)), default=0.0)
    low = min(-0.25, math.floor(lowest * 4) / 4)
    panel = curves.Panel("Attribution against drop", "1 perfect, 0 chance", f"{what.capitalize()} removed (n)", lines)
    figure = curves.figure([panel], "Mean over n", "Correlation", low, height=HEIGHT)
    figure["layout"]["legend"] |= {"orientation": "h", "x": 0, "y": -0.18, "title": {"text": "Mean over n  ", "side": "left"}}
    counts, chance = found[0].counts, Z95 / math.sqrt(found[0].masks)
    figure["layout"]["xaxis"] |= {"type": "log", "range": [-0.05, math.log10(counts[-1]) + 0.05], "dtick": 1, "tickformat": ",~r",
                                  "hoverformat": ",d"}
    figure["layout"]["shapes"].append(
        {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": -chance, "y1": chance, "layer": "below", "line": {"width": 0},
         "fillcolor": "rgba(125,135,139,0.14)"})
    for trace in figure["data"]:
        trace |= {"mode": "lines+markers", "marker": {"size": 4}, "hovertemplate": "%{y:.2f}"}
    return figure


def _gaps(one: metric.SensitivityN) -> str:
    return f" ({one.undefined} of {len(one.counts)} undefined)" if one.undefined else ""


def _words(jobs: Sequence[Job], found: Sequence[metric.SensitivityN], what: str) -> None:
    """Who cannot be told from chance, and what the grey band is."""
    random = next(one.mean for job, one in zip(jobs, found, strict=True) if job.method.key == CHANCE)
    lines = []
    for job, one in zip(jobs, found, strict=True):
        known = len(one.counts) - one.undefined
        chance = max(random, Z95 / math.sqrt(one.masks * known)) if known else 1.0
        if not job.control and not one.mean > chance:
            lines.append(f"{job.method.title} does not beat the random control here: its mean is {fixed(one.mean, 2)}, and random "
                         f"maps stay below {fixed(chance, 2)} in 39 of 40 cases.")
    if lines:
        warn(lines)
    st.caption(
        f"Each point: {found[0].masks} random sets of n {what}, the same for all maps; the network sees the training mean where they "
        "were. The grey band is where 95 % of the points of a map without any relation would lie. Where the sums or the drops are all "
        "equal there is no correlation: the line has a gap, and the mean leaves it out.")


def table(jobs: Sequence[Job], found: Sequence[metric.SensitivityN]) -> bytes:
    """The curves as CSV: n, and each map's correlation."""
    rows = [["n", *(job.method.key for job in jobs)]]
    rows += [[count, *(float(one.correlation[place]) for one in found)] for place, count in enumerate(found[0].counts.tolist())]
    return exports.csv_of(rows)
