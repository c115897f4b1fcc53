"""Downloads of insertion and deletion: the figure for a paper (PNG, SVG), every point (CSV), the numbers and terms (JSON)."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from components import exports
from components.curve_runs import Measured, Terms
from components.curves import Panel
from components.publication import DPI
from components.scrub import panels
from components.workspace import Workspace
from explainers.metrics.protocols import PROTOCOLS

DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}


def draw(workspace: Workspace, found: Sequence[Measured], terms: Terms) -> None:
    """A row of download buttons; each file is made when it is asked for."""
    name = f"{workspace.picture.name}-{workspace.network.name}-{terms['protocol']}"
    caption = f"{workspace.network.title}, {workspace.explained_in_words}, {PROTOCOLS[terms['protocol']].title} protocol"
    facts = settings(workspace, found, terms)
    shown, contrast = panels(found, terms), isinstance(workspace.explained, tuple)
    files = (
        ("Figure (PNG)", "png", "image/png", lambda: figure(shown, caption, contrast, "png"), "Both curves, 300 dots per inch."),
        ("Figure (SVG)", "svg", "image/svg+xml", lambda: figure(shown, caption, contrast, "svg"), "The same figure, scalable."),
        ("Curves (CSV)", "csv", "text/csv", lambda: points(found), "One line for each point of each curve."),
        ("Numbers (JSON)", "json", "application/json", lambda: exports.json_of(facts),
         "The AUCs, the protocol with all its terms, and all that decides the maps."),
    )
    exports.buttons(files, name, "curve-download")


def settings(workspace: Workspace, found: Sequence[Measured], terms: Terms) -> dict[str, Any]:
    """The numbers, and everything that decides them, as plain JSON."""
    numbers = {
        one.key: {
            "insertion_auc": one.found.insertion_auc, "deletion_auc": one.found.deletion_auc, "difference": one.found.difference,
            "cim": one.found.cim, "cells": list(one.found.cells), "cells_a_step": one.found.step,
            "forward": one.found.passes.forward}
        for one in found}
    insertion, deletion = terms["baseline"]
    chosen = {**terms, "baseline": {"insertion": insertion, "deletion": deletion}, "labels": list(terms["labels"])}
    return {"insertion_deletion": {"terms": chosen, "results": numbers}, **exports.settings(workspace, [one.job for one in found])}


def points(found: Sequence[Measured]) -> bytes:
    """The curves as CSV: columns method, curve, fraction, probability."""
    lines = [("method", "curve", "fraction", "probability")]
    for one in found:
        for curve in ("insertion", "deletion"):
            lines += [(one.key, curve, exports.cell(fraction), exports.cell(value))
                      for fraction, value in zip(one.found.fractions, getattr(one.found, curve), strict=True)]
    return exports.csv_of(lines)


def figure(shown: Sequence[Panel], caption: str, contrast: bool, kind: str) -> bytes:
    """The file's bytes; ``kind`` is ``png`` or ``svg``."""
    from matplotlib.figure import Figure  # takes a second to import, and only a download needs it

    made = Figure(figsize=(9.2, 2.9), dpi=DPI, layout="constrained")
    axes = made.subplots(1, len(shown), sharey=True)
    for axis, panel in zip(axes, shown, strict=True):
        for curve in panel.curves:
            axis.plot(curve.x, curve.y, DASHES[curve.style.dash], color=curve.style.colour, linewidth=0.6 * curve.style.width,
                      label=curve.name)
        axis.set_title(f"{panel.title} ({panel.better[:-2]})", fontsize=8, loc="left")
        axis.set_xlabel(panel.across, fontsize=7)
        axis.set_xlim(0, 1)
        axis.set_ylim(-1.02 if contrast else -0.02, 1.02)
        axis.tick_params(labelsize=6, width=0.5)
        for side, edge in axis.spines.items():
            edge.set_linewidth(0.5)
            edge.set_visible(side in ("left", "bottom"))
    axes[0].set_ylabel("difference of probabilities" if contrast else "probability", fontsize=7)
    made.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=7, frameon=False,
                title="AUC of insertion, deletion", title_fontsize=7, alignment="left")
    made.supxlabel(caption, fontsize=6.5, color="#555555", x=0.01, ha="left")
    buffer = BytesIO()
    made.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()
