"""What the network says of the parts of the picture that masks leave: asked once, then remembered."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

import explainers as ex
from components import session
from components.workspace import Workspace
from explainers.metrics import revealed
from explainers.running import image_digest


def answers(workspace: Workspace, masks: Sequence[np.ndarray], baseline: str) -> np.ndarray:
    """(n, K) probabilities of what the masks (H, W) leave, with the baseline elsewhere: one pass a mask. Ends the page on an error."""
    network, x, stacked = workspace.network, workspace.sight.x, np.stack(masks)

    def tick(*_: Any) -> None:
        "stop" in st.session_state  # noqa: B015  a newer run ends this one here

    facts = (network.fingerprint, str(network.device), image_digest(x), baseline, stacked.shape,
             hashlib.sha256(np.packbits(stacked).tobytes()).hexdigest())
    try:
        found = session.engine().measured(
            "revealed", facts, lambda: {"probabilities": revealed.measure(network, x, stacked, baseline, progress=tick)}, tick)
    except ex.ExplainerError as error:
        st.error(str(error))
        st.stop()
    return found["probabilities"].numpy()
