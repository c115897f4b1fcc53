"""Downloads of insertion and deletion: the figure for a paper (PNG, SVG), every point (CSV), the numbers and terms (JSON)."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from components.drawing import downloads
from components.drawing.curves import MOST_MARKS, Panel
from components.drawing.publication import DPI
from components.faithfulness.map_curves import SCORES, MapCurves, so_far
from components.faithfulness.scrub import panels
from components.state.workspace import Workspace

DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}  # matplotlib's names of plotly's dashes and marks
MARKS = {"circle": "o", "square": "s", "triangle-up": "^", "diamond": "D", "x": "X", "cross": "P", "star": "*", "hexagon": "h"}


def draw(workspace: Workspace, measured: Sequence[MapCurves]) -> None:
    """A row of download buttons; each file is made when it is asked for."""
    settings, steps = measured[0].settings, so_far(measured)
    name = f"{workspace.picture.name}-{workspace.network.name}-{settings.protocol}"
    caption = f"{workspace.network.title}, {workspace.target_words}, {settings.rules.title} protocol"
    caption += f", coarse: {steps}" if steps else ""
    facts = all_settings(workspace, measured)
    shown, contrast = panels(measured), workspace.target.contrast is not None
    files = (
        ("Figure (PNG)", "png", "image/png", lambda: figure(shown, caption, contrast, "png"), "Both curves, 300 dots per inch."),
        ("Figure (SVG)", "svg", "image/svg+xml", lambda: figure(shown, caption, contrast, "svg"), "The same figure, scalable."),
        ("Curves (CSV)", "csv", "text/csv", lambda: points(measured), "One line for each point of each curve."),
        ("Numbers (JSON)", "json", "application/json", lambda: downloads.json_of(facts),
         "The AUCs, the protocol with all its terms, and all that decides the maps."),
    )
    downloads.buttons(files, name, "curve-download")


def all_settings(workspace: Workspace, measured: Sequence[MapCurves]) -> dict[str, Any]:
    """The numbers, and everything that decides them, as plain JSON. Every map says how many of its steps were measured."""
    settings = measured[0].settings
    numbers = {
        map_curves.key: {
            **{name: score.of(map_curves.result) for name, score in SCORES.items()},
            "lost_at": map_curves.result.lost_at, "regained_at": map_curves.result.regained_at,  # None where that never happens
            "cim": map_curves.result.cim, "cells": list(map_curves.result.cells), "cells_a_step": map_curves.result.step,
            "steps": map_curves.steps, "all_steps": map_curves.all_steps,
            "forward": map_curves.result.passes.forward}
        for map_curves in measured}
    insertion, deletion = settings.baselines
    terms = {**vars(settings), "baseline": {"insertion": insertion, "deletion": deletion}, "labels": list(settings.labels)}
    return {"insertion_deletion": {"terms": terms, "results": numbers},
            **downloads.settings(workspace, [map_curves.answer for map_curves in measured])}


def points(measured: Sequence[MapCurves]) -> bytes:
    """The curves as CSV: a line a point. ``steps`` of ``all_steps`` were measured: fewer where the curve is coarse so far."""
    lines: list[tuple[Any, ...]] = [("method", "curve", "fraction", "probability", "steps", "all_steps")]
    for map_curves in measured:
        for curve in ("insertion", "deletion"):
            lines += [(map_curves.key, curve, downloads.cell(fraction), downloads.cell(value), map_curves.steps,
                       map_curves.all_steps)
                      for fraction, value in zip(map_curves.result.fractions, getattr(map_curves.result, curve), strict=True)]
    return downloads.csv_of(lines)


def figure(shown: Sequence[Panel], caption: str, contrast: bool, kind: str) -> bytes:
    """The file's bytes; ``kind`` is ``png`` or ``svg``."""
    from matplotlib.figure import Figure  # takes a second to import, and only a download needs it

    drawing = Figure(figsize=(9.2, 2.9), dpi=DPI, layout="constrained")
    axes = drawing.subplots(1, len(shown), sharey=True)
    for axis, panel in zip(axes, shown, strict=True):
        for curve in panel.curves:
            style, mark = curve.style, MARKS[curve.style.mark.removesuffix("-open")]
            axis.plot(curve.x, curve.y, DASHES[style.dash], color=style.colour, linewidth=0.6 * style.width, marker=mark, markersize=3,
                      markevery=max(1, len(curve.x) // MOST_MARKS), label=curve.name,
                      markerfacecolor="white" if style.mark.endswith("-open") else style.colour)
        axis.set_title(f"{panel.title} ({panel.better[:-2]})", fontsize=8, loc="left")
        axis.set_xlabel(panel.across, fontsize=7)
        axis.set_xlim(0, 1)
        axis.set_ylim(-1.02 if contrast else -0.02, 1.02)
        axis.tick_params(labelsize=6, width=0.5)
        for side, edge in axis.spines.items():
            edge.set_linewidth(0.5)
            edge.set_visible(side in ("left", "bottom"))
    axes[0].set_ylabel("difference of probabilities" if contrast else "probability", fontsize=7)
    drawing.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=7, frameon=False,
                title="AUC of insertion, deletion", title_fontsize=7, alignment="left")
    drawing.supxlabel(caption, fontsize=6.5, color="#555555", x=0.01, ha="left", parse_math=False)
    buffer = BytesIO()
    drawing.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()
