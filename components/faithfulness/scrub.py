"""The curves, and one fraction of them at a time: what the network saw there and predicted, for every method at once."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

import explainers as ex
from components.drawing import curves
from components.drawing.curves import Curve, Panel
from components.drawing.heatmaps import data_uri
from components.drawing.numbers import fixed
from components.faithfulness.map_curves import AUCS, MapCurves, better_in_words
from components.state.workspace import Workspace
from explainers.metrics import insertion_deletion as metric

TURNS_AT = {"insertion": "regained_at", "deletion": "lost_at"}
SHOWN = 176  # pixels of a picture's side at most; smaller ones are enlarged with sharp edges


@st.fragment
def draw(workspace: Workspace, measured: Sequence[MapCurves]) -> None:
    """The figure, a slider, and under it two pictures a method. No pass through the network."""
    chart = st.container(key="curves")
    percent = st.slider("Share of the cells", 0, 100, 15, format="%d %%", key="share", bind="query-params",
                        help="How far insertion and deletion have gone: the dotted line above, the pictures below.")
    contrast = workspace.target.contrast is not None
    spec = curves.figure(
        panels(measured), "AUC of insertion, deletion",
        "difference of p" if contrast else f"p({escape(workspace.target_words)})", low=-1.0 if contrast else 0.0, at=percent / 100)
    chart.plotly_chart(spec, key="curves-figure", config=curves.CONFIG,
                       alt=f"Insertion and deletion curves for {workspace.target_words}. {curves.in_words(spec)}")
    tiles = "".join(tile(workspace, map_curves, percent / 100) for map_curves in measured)
    with st.container(key="scrub"):
        st.html(f'<div class="scrub">{tiles}</div>')


def panels(measured: Sequence[MapCurves]) -> list[Panel]:
    """Insertion on the left, deletion on the right; the legend has both AUCs. Rings mark where a method's class turns."""
    def lines(which: str) -> tuple[Curve, ...]:
        ordered = sorted(measured, key=lambda map_curves: -map_curves.result.difference)
        return tuple(
            Curve(map_curves.key, f"{map_curves.title}  {', '.join(fixed(score.of(map_curves.result)) for score in AUCS)}",
                  map_curves.style, map_curves.result.fractions, getattr(map_curves.result, which),
                  ring=None if map_curves.is_control else getattr(map_curves.result, TURNS_AT[which])) for map_curves in ordered)

    first = "highest first" if measured[0].settings.order_by == "value" else "largest magnitude first"
    insertion, deletion = map(better_in_words, AUCS)
    return [Panel("Insertion", insertion, f"share of the cells shown, {first}", lines("insertion")),
            Panel("Deletion", deletion, f"share of the cells removed, {first}", lines("deletion"))]


def tile(workspace: Workspace, map_curves: MapCurves, fraction: float) -> str:
    """A method's two pictures at the point of its curves that is nearest to ``fraction``."""
    result = map_curves.result
    point = int(np.abs(result.fractions - fraction).argmin())
    pair = metric.composites(workspace.network, workspace.input.x, map_curves.attribution, float(result.fractions[point]),
                             seed=workspace.seed, **vars(map_curves.settings))
    sides = []
    for name, composite, probabilities, top in (("inserted", pair[0], result.insertion, result.insertion_top),
                                                ("deleted", pair[1], result.deletion, result.deletion_top)):
        sides.append(f'<div><img src="{source(workspace.network, composite)}" alt="{escape(map_curves.title)}: {name}">'
                     f'<p><b>{fixed(probabilities[point], 2)}</b> {name}</p>{_top(workspace, top, point)}</div>')
    rows, columns = result.cells
    grid = "" if result.cells == workspace.network.input_size else f"{rows} \u00d7 {columns} cells"
    return (f'<figure><figcaption>{curves.swatch(map_curves.style)}{escape(map_curves.title)}'
            f"<span>{grid}</span></figcaption><div class=\"pair\">{''.join(sides)}</div></figure>")


def _top(workspace: Workspace, top: metric.Top, point: int) -> str:
    rows = []
    for index, probability in zip(top.classes[point], top.probabilities[point], strict=True):
        mark = ' class="target"' if int(index) in workspace.target.classes else ""
        rows.append(f"<li{mark}><span>{escape(workspace.network.categories[int(index)])}</span><span>{probability:.2f}</span></li>")
    return f"<ol>{''.join(rows)}</ol>"


def source(network: ex.Classifier, composite: Any) -> str:
    """What the network saw, a tensor (1, C, H, W), as a data URI."""
    image = network.preprocessing.picture(composite[0])
    if image.width < SHOWN // 2:
        factor = -(-SHOWN // image.width)
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    return data_uri(image)
