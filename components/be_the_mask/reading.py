"""What the network says of the picture that the mask leaves, beside the whole picture and beside methods' choices of the same area."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import streamlit as st
from PIL import Image

from components.compute.revealing import target_probability
from components.drawing.masked import first_class, image, target_percent
from components.drawing.numbers import percent
from components.state.workspace import Workspace

FIRST = 3  # classes that are listed

Row = tuple[str, float, str, bool]
"""A name, a probability for its bar, the probability in words, and whether the row stands out."""


def beside_the_whole(workspace: Workspace, probabilities: np.ndarray, area: float) -> None:
    """The explained class's probability for the masked picture and for the whole one, and the first classes of both."""
    here, whole = (target_probability(workspace, each) for each in (probabilities, workspace.input.probabilities))
    change = f"{100 * (here - whole):+.1f}".replace("-", "\u2212")
    st.container(key="mask-reading").html(
        f'<div class="mask-reading"><h2>{escape(workspace.target_words)}</h2><b>{target_percent(workspace, here)}</b>'
        f"<p>for the masked picture, {change} points from the whole picture's {target_percent(workspace, whole)}; "
        f"{percent(area)} of the picture is visible</p>"
        f'<h3>Masked picture</h3>{_first(workspace, probabilities)}'
        f'<h3>Whole picture</h3>{_first(workspace, workspace.input.probabilities)}</div>')


def _first(workspace: Workspace, probabilities: np.ndarray) -> str:
    """Bars of the most probable classes."""
    names = workspace.network.categories
    first = np.argsort(-probabilities, kind="stable")[:FIRST].tolist()
    return _bars([(names[index], float(probabilities[index]), percent(float(probabilities[index])), index == workspace.target.first)
                  for index in first])


def comparison(workspace: Workspace, titles: Sequence[str], answers: Sequence[np.ndarray]) -> None:
    """The explained class's probability under each choice of that area."""
    values = [target_probability(workspace, probabilities) for probabilities in answers]
    rows = [(title, value, target_percent(workspace, value), title == titles[0]) for title, value in zip(titles, values, strict=True)]
    name = escape(workspace.target_words)
    st.container(key="mask-comparison").html(
        f'<div class="mask-reading"><h2>{name}, the same area by</h2>{_bars(rows)}</div>')


def _bars(rows: Sequence[Row]) -> str:
    drawn = "".join(
        f'<div class="row{" target" if marked else ""}"><span class="name">{escape(name)}</span><span class="track">'
        f'<span class="bar" style="width:{100 * max(value, 0):.1f}%"></span></span><span class="share">{text}</span></div>'
        for name, value, text, marked in rows)
    return f'<div class="overview"><div class="predictions">{drawn}</div></div>'


def side_by_side(workspace: Workspace, titles: Sequence[str], pictures: Sequence[Image.Image], answers: Sequence[np.ndarray]) -> None:
    """What each leaves of the picture, and what the network says of it."""
    tiles = []
    for title, picture, probabilities in zip(titles, pictures, answers, strict=True):
        first = int(np.argmax(probabilities))
        tiles.append(
            f'<figure><figcaption>{escape(title)}</figcaption>{image(picture, f"What {title} leaves")}'
            f'<div class="reading"><b>{target_percent(workspace, target_probability(workspace, probabilities))}</b></div>'
            f"{first_class(workspace, first, float(probabilities[first]))}</figure>")
    st.container(key="mask-tiles").html(f'<div class="masking">{"".join(tiles)}</div>')
