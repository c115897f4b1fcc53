"""The maps of the compare page, side by side in one figure, each drawn as soon as it is there."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from components.compare.preview_grid import PreviewGrid
from components.compute.method_row import MethodMap, MethodRow
from components.drawing import colour, heatmaps
from components.drawing.colour import Display
from components.drawing.numbers import passes_in_words, seconds_in_words
from components.state.workspace import Workspace


def draw(workspace: Workspace, row: MethodRow, display: Display) -> tuple[MethodMap, ...]:
    """Make the maps that are due, then draw everything in one figure."""
    if not row.maps:
        st.info("Choose at least one method in the sidebar.")
        return ()
    bar_place, grid_place, figure_place = st.empty(), st.empty(), st.empty()
    grid = PreviewGrid(row, workspace.input.seen, display, bar_place, grid_place, figure_place)
    maps = row.run(grid, grid.finished)
    grid.fold()
    with figure_place.container():
        alt = f"Attribution maps of {workspace.picture.title} for {workspace.target_words} by " + ", ".join(
            entry.method.title for entry in maps)
        heatmaps.draw(workspace.input.seen, _panels(workspace, row, maps, display), display, alt)
    return maps


def _panels(workspace: Workspace, row: MethodRow, maps: Sequence[MethodMap], display: Display) -> list[heatmaps.Panel]:
    answers = [entry.answer for entry in maps if entry.answer]
    prepared = colour.prepare([(attribution.heatmap(), attribution.signed) for _, attribution in answers], display)
    shown = {question.method.key: picture for (question, _), picture in zip(answers, prepared, strict=True)}
    panels = [heatmaps.Panel("What the network sees", lines=(workspace.network.title,))]
    for entry in maps:
        if not entry.answer:
            waits = ("Stopped." if row.schedule.stopped else "Waits for Explain.",)
            panels.append(heatmaps.Panel(entry.method.title, lines=() if entry.reason else waits,
                                         warnings=(entry.reason,) if entry.reason else (), pending=True))
            continue
        question, attribution = entry.answer
        cost = f"{passes_in_words(attribution.passes)}, {seconds_in_words(attribution.seconds)}"
        panels.append(heatmaps.Panel(
            entry.method.title, shown[entry.method.key],
            lines=(f"for {attribution.target.words(workspace.network.categories)}", cost, *_fitted_on(entry)),
            warnings=attribution.flags))
    return panels


def _fitted_on(entry: MethodMap) -> tuple[str, ...]:
    """Which images the method's statistics were fitted on; where these are copies of the picture, the map's own flag says so."""
    reference = entry.question.reference_set if entry.question else None
    if reference is None or reference.note or entry.attribution is None:
        return ()
    wanted = entry.attribution.params.get("images", reference.size)
    return (f"fitted on {reference.title}" if wanted >= reference.size else f"fitted on {wanted} of {reference.title}",)
