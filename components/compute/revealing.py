"""What the network says of the parts of the picture that masks leave, computed once and cached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

import explainers as ex
from components.drawing.foreign_words import in_markdown
from components.state.engine import engine
from components.state.workspace import Workspace
from explainers.metrics import revealed


def answers(workspace: Workspace, masks: Sequence[np.ndarray], baseline: str) -> np.ndarray:
    """(n, K) probabilities of what the masks (H, W) leave, with the baseline elsewhere: one pass a mask. Ends the page on an error."""
    network, x, stacked = workspace.network, workspace.input.x, np.stack(masks)

    def progress(*_: Any) -> None:
        "stop" in st.session_state  # noqa: B015  Streamlit ends a replaced script here

    try:
        probabilities = engine().get_or_compute(
            "revealed", (network, x, stacked, baseline), lambda: revealed.measure(network, x, stacked, baseline, progress=progress),
            progress, type(x))
    except ex.ExplainerError as error:
        st.error(in_markdown(str(error)))
        st.stop()
    return probabilities.numpy()


def target_probability(workspace: Workspace, probabilities: np.ndarray) -> float:
    """The explained class's probability, or for a contrast the difference of two."""
    value, contrast = float(probabilities[workspace.target.first]), workspace.target.contrast
    return value if contrast is None else value - float(probabilities[contrast])
