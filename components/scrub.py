"""The curves, and one fraction of them at a time: what the network saw there and what it said, for every method at once."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from components import curves
from components.curve_runs import Measured, Terms
from components.curves import Curve, Panel
from components.heatmaps import data_uri
from components.numbers import fixed
from components.workspace import Workspace
from explainers.metrics import insertion_deletion as metric
from explainers.networks.classifier import Classifier

SHOWN = 176  # pixels of a picture's side at most; smaller ones are enlarged with sharp edges
HIGHER, LOWER = "higher is better \u2191", "lower is better \u2193"


@st.fragment
def draw(workspace: Workspace, found: Sequence[Measured], terms: Terms) -> None:
    """The figure, a slider, and under it two pictures a method. Nothing here asks the network."""
    chart = st.container(key="curves")
    percent = st.slider("Share of the cells", 0, 100, 15, format="%d %%", key="share", bind="query-params",
                        help="How far insertion and deletion have gone: the dotted line above, the pictures below.")
    pair = isinstance(workspace.explained, tuple)
    spec = curves.figure(
        panels(found, terms), "AUC of insertion, deletion",
        "difference of p" if pair else f"p({workspace.explained_in_words})", low=-1.0 if pair else 0.0, at=percent / 100)
    chart.plotly_chart(spec, key="curves-figure", config=curves.CONFIG, alt=_alt(workspace, found))
    tiles = "".join(tile(workspace, one, terms, percent / 100) for one in found)
    st.html(f'<div class="scrub">{tiles}</div>')


def panels(found: Sequence[Measured], terms: Terms) -> list[Panel]:
    """Insertion on the left, deletion on the right; the legend has both AUCs."""
    def name(one: Measured) -> str:
        return f"{one.title}  {one.found.insertion_auc:.3f}, {one.found.deletion_auc:.3f}".replace(" -", " \u2212")

    def lines(which: str) -> tuple[Curve, ...]:
        ordered = sorted(found, key=lambda one: -one.found.difference)
        return tuple(Curve(one.key, name(one), one.style, one.found.fractions, getattr(one.found, which))
                     for one in ordered)

    first = "highest first" if terms["order_by"] == "value" else "largest magnitude first"
    return [Panel("Insertion", HIGHER, f"share of the cells shown, {first}", lines("insertion")),
            Panel("Deletion", LOWER, f"share of the cells removed, {first}", lines("deletion"))]


def _alt(workspace: Workspace, found: Sequence[Measured]) -> str:
    titles = ", ".join(one.title for one in found)
    return f"Insertion and deletion curves for {workspace.explained_in_words} of the maps by {titles}"


def tile(workspace: Workspace, one: Measured, terms: Terms, fraction: float) -> str:
    """A method's two pictures at the point of its curves that is nearest to ``fraction``."""
    point = int(np.abs(one.found.fractions - fraction).argmin())
    pair = metric.composites(workspace.network, workspace.sight.x, one.job.found, float(one.found.fractions[point]),
                             seed=workspace.seed, **terms)
    sides = []
    for name, composite, scores, top in (("inserted", pair[0], one.found.insertion, one.found.insertion_top),
                                         ("deleted", pair[1], one.found.deletion, one.found.deletion_top)):
        sides.append(f'<div><img src="{source(workspace.network, composite)}" alt="{escape(one.title)}: {name}">'
                     f'<p><b>{fixed(scores[point], 2)}</b> {name}</p>{_top(workspace, top, point)}</div>')
    rows, columns = one.found.cells
    grid = "" if one.found.cells == workspace.network.input_size else f"{rows} \u00d7 {columns} cells"
    return (f'<figure><figcaption><i style="background:{one.style.colour}"></i>{escape(one.title)}'
            f"<span>{grid}</span></figcaption><div class=\"pair\">{''.join(sides)}</div></figure>")


def _top(workspace: Workspace, top: metric.Top, point: int) -> str:
    explained = workspace.explained if isinstance(workspace.explained, tuple) else (workspace.explained,)
    rows = []
    for index, probability in zip(top.classes[point], top.probabilities[point], strict=True):
        mark = ' class="target"' if int(index) in explained else ""
        rows.append(f"<li{mark}><span>{escape(workspace.network.categories[int(index)])}</span><span>{probability:.2f}</span></li>")
    return f"<ol>{''.join(rows)}</ol>"


def source(network: Classifier, composite: Any) -> str:
    """What the network saw, a tensor (1, C, H, W), as the address of a picture."""
    image = network.preprocessing.picture(composite[0])
    if image.width < SHOWN // 2:
        factor = -(-SHOWN // image.width)
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    return data_uri(image)
