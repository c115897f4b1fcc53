"""Downloads of the class sensitivity page: the rows of maps as a figure, and the numbers of every pair of classes."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from itertools import combinations

import streamlit as st

from components import colour, exports, publication
from components.class_choice import Choice
from components.class_maps import Row
from components.colour import Display, Shown
from components.workspace import Workspace, in_words
from explainers.metrics.map_distances import MEASURES, Average

SIDE, GAP, HEAD, TITLE, BAR = 1.5, 0.12, 0.24, 0.16, 0.26  # inches: a map, between maps, a method's name, a class's, the scale


def draw(workspace: Workspace, choice: Choice, rows: Sequence[Row], shown: Sequence[Sequence[Shown | None]], display: Display) -> None:
    """The two buttons, for what is there."""
    name = f"{workspace.picture.name}-{workspace.network.name}-classes"
    there = [(row, maps) for row, maps in zip(rows, shown, strict=True) if None not in maps]
    if there:
        st.download_button("Figure (PNG)", lambda: figure(workspace, there, display), f"{name}.png", "image/png", key="class-png",
                           on_click="ignore", help="A row of maps for each method, 300 dots per inch, scales in raw units.")
    measured = [row for row in rows if row.found is not None]
    if measured:
        st.download_button("Numbers (CSV)", lambda: numbers(workspace, measured), f"{name}.csv", "text/csv", key="class-csv",
                           on_click="ignore", help="Every measure for every method and pair of classes; empty where there is none.")


def numbers(workspace: Workspace, rows: Sequence[Row]) -> bytes:
    """A line for each method and pair of classes."""
    names = workspace.network.categories
    lines = [["network", "picture", "seed", "method", "parameters", "class_a", "name_a", "class_b", "name_b", *MEASURES]]
    for row in rows:
        for a, b in combinations(row.found.targets, 2):
            pair = row.found.between(a, b)
            lines.append([workspace.network.name, workspace.picture.name, workspace.seed, row.method.key, row.jobs[0].params, a,
                          names[a], b, names[b], *(exports.cell(getattr(pair, measure)) for measure in MEASURES)])
    return exports.csv_of(lines)


def set_numbers(network: str, images: str, found: dict[str, dict[str, Average]]) -> bytes:
    """A line for each method and measure over a set of images."""
    lines = [["network", "images", "method", "measure", "mean", "standard_error", "count", "undefined"]]
    for method, averages in found.items():
        lines += [[network, images, method, measure, exports.cell(one.mean), exports.cell(one.error), one.count, one.undefined]
                  for measure, one in averages.items()]
    return exports.csv_of(lines)


def figure(workspace: Workspace, there: Sequence[tuple[Row, Sequence[Shown]]], display: Display) -> bytes:
    """The PNG's bytes: a row a method, a column a class and the contrast, one scale a row."""
    from matplotlib.figure import Figure  # takes a second to import, and only a download needs it

    sight, names = workspace.sight, workspace.network.categories
    columns, step = len(there[0][0].targets), HEAD + TITLE + SIDE + BAR
    width, height = columns * SIDE + (columns + 1) * GAP, len(there) * step + GAP
    made = Figure(figsize=(width, height), dpi=publication.DPI)
    for place, (row, maps) in enumerate(there):
        top = height - place * step
        made.text(GAP / width, (top - 0.17) / height, row.method.title, fontsize=8, fontweight="bold")
        for column, (target, one) in enumerate(zip(row.targets, maps, strict=True)):
            left, bottom = GAP + column * (SIDE + GAP), top - HEAD - TITLE - SIDE
            made.text(left / width, (bottom + SIDE + 0.04) / height, in_words(target, names)[:30], fontsize=6.5)
            axis = made.add_axes((left / width, bottom / height, SIDE / width, SIDE / height))
            axis.imshow(colour.over(one, sight.seen, display.backdrop), interpolation="nearest")
            axis.set_axis_off()
        scale = made.add_axes((GAP / width, (bottom - 0.09) / height, SIDE / width, 0.05 / height))
        publication.colour_bar(scale, maps[0])
    buffer = BytesIO()
    made.savefig(buffer, format="png")
    return buffer.getvalue()
