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
from explainers.methods.reference_pictures import NOT_HERE


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
        heatmaps.draw(workspace.input.seen, _panels(workspace, row, maps, display), display, description(workspace, maps))
    return maps


def description(workspace: Workspace, maps: Sequence[MethodMap]) -> str:
    """What the figure shows, and what is wrong with a map or why there is none; the numbers of the maps are added to it."""
    sentences = [f"Attribution maps of {workspace.picture.title} for {workspace.target_words} by "
                 + ", ".join(entry.title for entry in maps)]
    for entry in maps:
        flags = entry.attribution.flags if entry.attribution else (entry.reason.rstrip(".") or "no map yet",)
        if flags:
            sentences.append(f"{entry.title}: {'; '.join(flags)}")
    return ". ".join(sentences)


def _panels(workspace: Workspace, row: MethodRow, maps: Sequence[MethodMap], display: Display) -> list[heatmaps.Panel]:
    answers = [entry.answer for entry in maps if entry.answer]
    prepared = colour.prepare([(answer.attribution.heatmap(), answer.attribution.signed) for answer in answers], display)
    shown = {answer.key: picture for answer, picture in zip(answers, prepared, strict=True)}
    panels = [heatmaps.Panel("What the network sees", lines=(workspace.network.title,))]
    for entry in maps:
        if not entry.answer:
            waits = ("Stopped." if entry.stopped else "Waits for Explain.",)
            panels.append(heatmaps.Panel(entry.title, short=entry.short_title, lines=() if entry.reason else waits,
                                         warnings=(entry.reason,) if entry.reason else (), pending=True))
            continue
        attribution = entry.answer.attribution
        cost = f"{passes_in_words(attribution.passes)}, {seconds_in_words(attribution.seconds)}"
        draft = (f"draft: {entry.draft}",) if entry.draft else ()
        target = f"for {attribution.target.words(workspace.network.categories)}"
        panels.append(heatmaps.Panel(
            entry.title, shown[entry.key], short=entry.short_title,
            lines=(*_setting(entry), *draft, target, cost, *fitted_on(entry)),
            warnings=attribution.flags))
    return panels


def _setting(entry: MethodMap) -> tuple[str, ...]:
    """What sets the entry apart from others of its method, where that is too long for the title over the map."""
    difference = entry.name.difference if entry.name else ""
    return (difference,) if difference and difference not in entry.short_title else ()


def fitted_on(entry: MethodMap) -> tuple[str, ...]:
    """Which images the method's statistics were fitted on; where these are copies of the picture, the map's own flag says so."""
    reference = entry.question.reference_set if entry.question else None
    if reference is None or reference.note or entry.attribution is None or NOT_HERE in entry.attribution.flags:
        return ()
    used = reference.count(entry.attribution.params.get("images", reference.size))
    return (f"fitted on {reference.title}" if used == reference.size else f"fitted on {used} of {reference.title}",)
