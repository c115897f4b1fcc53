"""Downloads of the class sensitivity page: the rows of maps as a figure, and the numbers of every pair of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import combinations
from typing import Any

import streamlit as st

from components.class_sensitivity.class_maps import ClassRow
from components.compute.method_row import MethodMap
from components.drawing import colour, downloads, publication
from components.drawing.colour import Display, Shown
from components.state.workspace import Workspace
from explainers.metrics.map_distances import MEASURES, Average

SIDE, GAP, HEAD, TITLE, BAR = 1.5, 0.12, 0.24, 0.16, 0.26  # inches: a map, between maps, a method's name, a class's, the scale


def draw(workspace: Workspace, rows: Sequence[ClassRow], shown: Sequence[Sequence[Shown | None]], display: Display) -> None:
    """The two buttons, for what is there."""
    name = f"{workspace.picture.name}-{workspace.network.name}-classes"
    complete = [(row, [shown_map for shown_map in maps if shown_map is not None])
                for row, maps in zip(rows, shown, strict=True) if None not in maps]
    if complete:
        st.download_button("Figure (PNG)", lambda: figure(workspace, complete, display), f"{name}.png", "image/png", key="class-png",
                           on_click="ignore", help="A row of maps for each method, 300 dots per inch, scales in raw units.")
    if any(row.distances for row in rows):
        st.download_button("Numbers (CSV)", lambda: numbers(workspace, rows), f"{name}.csv", "text/csv", key="class-csv",
                           on_click="ignore", help="Every measure for every method and pair of classes; empty where there is none.")


def numbers(workspace: Workspace, rows: Sequence[ClassRow]) -> bytes:
    """A line for each method and pair of classes whose maps are there."""
    names = workspace.network.categories
    lines: list[list[Any]] = [
        ["network", "picture", "seed", "method", "parameters", "class_a", "name_a", "class_b", "name_b", *MEASURES]]
    for row in rows:
        attribution = row.attributions[0]
        if row.distances is None or attribution is None:
            continue
        for a, b in combinations(row.distances.targets, 2):
            pair = row.distances.between(a, b)
            lines.append([workspace.network.name, workspace.picture.name, workspace.seed, row.key, attribution.params, a.first,
                          a.words(names), b.first, b.words(names), *(downloads.cell(getattr(pair, name)) for name in MEASURES)])
    return downloads.csv_of(lines)


def set_numbers(network: str, images: str, measured: Sequence[tuple[MethodMap, Mapping[str, Average]]]) -> bytes:
    """A line for each entry and measure over a set of images. measured: the entries with their averages by measure."""
    lines: list[list[Any]] = [
        ["network", "images", "method", "measure", "mean", "standard_error", "count", "undefined", "parameters"]]
    for entry, averages in measured:
        lines += [[network, images, entry.key, measure, downloads.cell(average.mean), downloads.cell(average.error), average.count,
                   average.undefined, entry.params]
                  for measure, average in averages.items()]
    return downloads.csv_of(lines)


def figure(workspace: Workspace, rows: Sequence[tuple[ClassRow, Sequence[Shown]]], display: Display) -> bytes:
    """The PNG's bytes: a row a method, a column a class and the contrast, one scale a row."""
    from matplotlib.figure import Figure  # takes a second to import, and only a download needs it

    seen, names = workspace.input.seen, workspace.network.categories
    columns, step = len(rows[0][0].targets), HEAD + TITLE + SIDE + BAR
    width, height = columns * SIDE + (columns + 1) * GAP, len(rows) * step + GAP
    made = Figure(figsize=(width, height), dpi=publication.DPI)
    for place, (row, maps) in enumerate(rows):
        top = height - place * step
        bottom = top - HEAD - TITLE - SIDE
        made.text(GAP / width, (top - 0.17) / height, row.title, fontsize=8, fontweight="bold",
                  parse_math=False)
        for column, (target, shown_map) in enumerate(zip(row.targets, maps, strict=True)):
            left = GAP + column * (SIDE + GAP)
            made.text(left / width, (bottom + SIDE + 0.04) / height, target.words(names)[:30], fontsize=6.5,
                      parse_math=False)
            axis = made.add_axes((left / width, bottom / height, SIDE / width, SIDE / height))
            axis.imshow(colour.over(shown_map, seen, display.backdrop), interpolation="nearest")
            axis.set_axis_off()
        scale = made.add_axes((GAP / width, (bottom - 0.09) / height, SIDE / width, 0.05 / height))
        publication.colour_bar(scale, maps[0])
    buffer = BytesIO()
    made.savefig(buffer, format="png")
    return buffer.getvalue()
