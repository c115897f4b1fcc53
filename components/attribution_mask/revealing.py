"""What the network says of the parts of the picture that masks leave, computed once and cached; and the HTML that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

import explainers as ex
from components.drawing.heatmaps import data_uri
from components.drawing.numbers import percent
from components.state.engine import engine
from components.state.workspace import Workspace
from explainers.metrics import revealed

SMALL = 64  # pixels: a picture with a shorter side keeps its sharp edges when it is enlarged


def answers(workspace: Workspace, masks: Sequence[np.ndarray], baseline: str) -> np.ndarray:
    """(n, K) probabilities of what the masks (H, W) leave, with the baseline elsewhere: one pass a mask. Ends the page on an error."""
    network, x, stacked = workspace.network, workspace.input.x, np.stack(masks)

    def progress(*_: Any) -> None:
        "stop" in st.session_state  # noqa: B015  Streamlit ends a replaced script here

    try:
        probabilities = engine().get_or_compute(
            "revealed", (network, x, stacked, baseline), lambda: revealed.measure(network, x, stacked, baseline, progress=progress),
            progress)
    except ex.ExplainerError as error:
        st.error(str(error))
        st.stop()
    return probabilities.numpy()


def target_probability(workspace: Workspace, probabilities: np.ndarray) -> float:
    """The explained class's probability, or for a contrast the difference of two."""
    value, contrast = float(probabilities[workspace.target.first]), workspace.target.contrast
    return value if contrast is None else value - float(probabilities[contrast])


def target_percent(workspace: Workspace, value: float) -> str:
    """That probability or difference in words."""
    return percent(value) if workspace.target.contrast is None else f"{100 * value:+.1f}".replace("-", "\u2212") + " points"


def first_class(workspace: Workspace, index: int, probability: float) -> str:
    """The network's first choice and its probability, on one line; it stands out where it is not the explained class."""
    return (f'<p class="{"" if index == workspace.target.first else "lost"}">first: {escape(workspace.network.categories[index])} '
            f"{unbroken(percent(probability))}</p>")


def image(picture: Image.Image, alt: str) -> str:
    """A picture as HTML."""
    coarse = ' class="coarse"' if min(picture.size) < SMALL else ""
    return f'<img src="{data_uri(picture)}" alt="{escape(alt)}"{coarse}>'


def unbroken(text: str) -> str:
    """A number whose unit stays on its line."""
    return text.replace(" ", "&nbsp;")
