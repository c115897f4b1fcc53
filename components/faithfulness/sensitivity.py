"""Sensitivity-n of the maps of the chosen methods and the controls: the settings, the curves, the verdict and the download."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import Any

import numpy as np
import streamlit as st

import explainers as ex
from components.compute.method_row import MethodMap
from components.compute.schedule import Schedule
from components.compute.task import Failed, Ready, Task, measurement_task
from components.drawing import curves, downloads
from components.drawing.foreign_words import in_markdown
from components.drawing.numbers import fixed
from components.faithfulness.rankings import CHANCE, warn
from components.state.workspace import Workspace
from explainers.metrics import sensitivity_n as metric

PLACE = "sensitivity"
Z95 = 1.96  # 95 % of a normal distribution lies within so many deviations; a correlation by chance has 1 / sqrt(masks)
HEIGHT = 440  # pixels, with the legend below, which takes more rows on a narrow page
POINTS = 14  # numbers of pixels on the curve; the paper's 42 take three times as long and show the same
DRAFT_POINTS, DRAFT_MASKS = 4, 20  # of a draft
SHARES = {"10 %": 0.1, "25 %": 0.25, "63 %": metric.LARGEST, "90 %": 0.9}
MASKS = (20, 50, 100, 200, 400)
TILES = {"Pixels": 1, "Tiles of 8 \u00d7 8": 8}


def draw(workspace: Workspace, maps: Sequence[MethodMap]) -> None:
    """Everything below the choice of the measurement."""
    settings = _settings(workspace)
    entries = [method_map for method_map in maps if method_map.answer]
    questions = [method_map.answer.question for method_map in entries if method_map.answer]
    if not entries:
        return
    rough = _draft_settings(settings)
    task = replace(_task(questions, settings, ""), draft=_task(questions, rough, ", draft"))
    schedule = Schedule(PLACE, [task])
    schedule.offer("Measure Sensitivity-n")
    (state,) = schedule.run()
    draft = schedule.drafts[0]
    if isinstance(state, Failed):
        st.error(in_markdown(state.reason))
    if isinstance(state, Ready):
        _show(workspace, entries, state.value, settings)
    elif isinstance(draft, Ready):
        st.caption(f"A draft so far: {rough.masks} sets for each of {len(rough.counts or ())} n, in place of {settings.masks} for "
                   f"each of {len(settings.counts or ())}. The button replaces it.")
        _show(workspace, entries, draft.value, rough, is_draft=True)


def _task(questions: Sequence[ex.Question], settings: metric.Params, kind: str) -> Task:
    """Measure all maps. The metric stores what it sends through the network, so further maps of the picture cost no pass."""
    measurements = [ex.judge("sensitivity_n", question, **vars(settings)) for question in questions]
    return measurement_task(measurements, f"Sensitivity-n, pictures without random pixels{kind}")


def _draft_settings(settings: metric.Params) -> metric.Params:
    """The same with few sets for few n, for a first answer."""
    counts = settings.counts or ()
    few = tuple(counts[at] for at in np.unique(np.linspace(0, len(counts) - 1, DRAFT_POINTS).round().astype(int)))
    return replace(settings, counts=few, masks=min(settings.masks, DRAFT_MASKS))


def _show(workspace: Workspace, methods: Sequence[MethodMap], results: Sequence[metric.SensitivityN], settings: metric.Params,
          is_draft: bool = False) -> None:
    what = "pixels" if settings.tile == 1 else "tiles"
    with st.container(key="curves-sensitivity"):
        drawing = _figure(methods, results, what)
        st.plotly_chart(drawing, key="sensitivity-curves", config=curves.CONFIG, alt=f"Sensitivity-n. {curves.in_words(drawing)}")
    _words(methods, results, what)
    name = f"{workspace.picture.name}-sensitivity-n{'-draft' if is_draft else ''}.csv"
    st.download_button("Curves (CSV)", lambda: table(methods, results), file_name=name,
                       mime="text/csv", key="download-sensitivity", on_click="ignore",
                       help="One row for each n, one column for each map; nan where there is no correlation.")


def _settings(workspace: Workspace) -> metric.Params:
    with st.container(key="sensitivity-row", horizontal=True, vertical_alignment="bottom", gap="small"):
        what = st.segmented_control(
            "Remove", list(TILES), default="Pixels", required=True, key="sn_remove", bind="query-params",
            help="What is removed at random: single pixels, as in the paper, or squares of 8 pixels a side (tiles). Choose tiles for "
                 "coarse maps (Grad-CAM): scattered pixels hit all their regions alike.")
        masks = st.select_slider(
            "Masks for each n", MASKS, 100, key="sn_masks", bind="query-params", width=200,
            help=next(parameter.help for parameter in metric.METRIC.parameters if parameter.name == "masks"))
        share = st.select_slider(
            "Largest n", list(SHARES), "63 %", key="sn_largest", bind="query-params", width=200,
            help="The share of the picture that is removed at the right end of the curve. The paper ends at 63 %.")
    rows, columns = workspace.network.input_size
    tile = TILES[what]
    counts = metric.log_spaced(-(-rows // tile) * -(-columns // tile), SHARES[share], POINTS)
    return metric.Params(counts, int(masks), tile=tile)


def _figure(methods: Sequence[MethodMap], results: Sequence[metric.SensitivityN], what: str) -> dict[str, Any]:
    style = curves.styles([method.key for method in methods])
    lines = tuple(
        curves.Curve(method.key, f"{escape(method.title)}  {fixed(result.mean, 2)}{_gaps(result)}", style[method.key],
                     result.counts, result.correlation)
        for method, result in zip(methods, results, strict=True))
    lowest = min((float(np.nanmin(result.correlation)) for result in results if not math.isnan(result.mean)), default=0.0)
    low = min(-0.25, math.floor(lowest * 4) / 4)
    panel = curves.Panel("Attribution against drop", "1 perfect, 0 chance", f"{what.capitalize()} removed (n)", lines)
    figure = curves.figure([panel], "Mean over n", "Correlation", low, height=HEIGHT)
    figure["layout"]["legend"] |= {"orientation": "h", "x": 0, "y": -0.18, "title": {"text": "Mean over n  ", "side": "left"}}
    counts, chance = results[0].counts, Z95 / math.sqrt(results[0].masks)
    figure["layout"]["xaxis"] |= {"type": "log", "range": [-0.05, math.log10(counts[-1]) + 0.05], "dtick": 1, "tickformat": ",~r",
                                  "hoverformat": ",d"}
    figure["layout"]["shapes"].append(
        {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": -chance, "y1": chance, "layer": "below", "line": {"width": 0},
         "fillcolor": "rgba(125,135,139,0.14)"})
    for trace in figure["data"]:
        trace |= {"hovertemplate": "%{y:.2f}"}
    return figure


def _gaps(result: metric.SensitivityN) -> str:
    return f" ({result.undefined} of {len(result.counts)} undefined)" if result.undefined else ""


def _words(methods: Sequence[MethodMap], results: Sequence[metric.SensitivityN], what: str) -> None:
    """Name the methods whose mean may be chance, and explain the grey band."""
    random = next((result.mean for method, result in zip(methods, results, strict=True) if method.key == CHANCE), 0.0)
    lines = []
    for method, result in zip(methods, results, strict=True):
        defined = len(result.counts) - result.undefined
        chance = max(random, Z95 / math.sqrt(result.masks * defined)) if defined else 1.0
        if not method.is_control and not result.mean > chance:
            lines.append(f"{method.title} does not beat the random control here: its mean is {fixed(result.mean, 2)}, and random "
                         f"maps stay below {fixed(chance, 2)} in 39 of 40 cases.")
    if lines:
        warn(lines)
    st.caption(
        f"Each point: {results[0].masks} random sets of n {what}, the same for all maps; the network sees the training mean where "
        "they were. The grey band is where 95 % of the points of a map without any relation would lie. Where the sums or the drops "
        "are all equal there is no correlation: the line has a gap, and the mean leaves it out.")


def table(methods: Sequence[MethodMap], results: Sequence[metric.SensitivityN]) -> bytes:
    """The curves as CSV: n, and each map's correlation."""
    rows: list[list[Any]] = [["n", *(method.key for method in methods)]]
    rows += [[count, *(float(result.correlation[place]) for result in results)]
             for place, count in enumerate(results[0].counts.tolist())]
    return downloads.csv_of(rows)
