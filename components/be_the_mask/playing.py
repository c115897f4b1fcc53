"""The page's body: the board, what the network says of the masked picture, and what methods make of the same area."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st
from PIL import Image

from components.be_the_mask import board, game, reading
from components.be_the_mask.boxes import same_area
from components.be_the_mask.game import HIDDEN, VISIBLE, Game
from components.compute import method_row, revealing
from components.drawing.masked import image
from components.state.workspace import Workspace
from explainers.metrics import revealed

YOU = "You"
RULES = {
    HIDDEN: "Each method shows as many pixels as you did: those with the highest values of its map.",
    VISIBLE: "Each method hides as many pixels as you did: those with the highest values of its map."}


def sentence(workspace: Workspace) -> str:
    """What one does on this page, and what it tells."""
    return (f"Drag boxes to show or hide parts of the picture, and the network answers at once: what keeps {workspace.target_words} "
            "likely by itself is enough for it, and what takes it away is needed.")


def draw(workspace: Workspace) -> None:
    """The board, what the network sees and says, and the methods at the same area."""
    played = game.choose(workspace)
    mask = played.mask(workspace.network.input_size)
    left, middle, right = st.columns([4, 4, 4], gap="medium")
    with left:
        board.draw(workspace, played)
    game.numbers(workspace, played)
    yours = revealing.answers(workspace, [mask], played.baseline)[0]
    with middle:
        reading.beside_the_whole(workspace, yours, float(mask.mean()))
        comparison = st.empty()
    with right:
        st.markdown("**What the network sees**")
        st.html(f'<div class="masking-seen">{image(_seen(workspace, [mask], played.baseline)[0], "What the network sees")}</div>')
    st.header("The same area, chosen by a method", help=RULES[played.start], anchor=False)
    titles, masks = _of_methods(workspace, played, float(mask.mean()))
    if not titles:
        st.info("Choose at least one method in the sidebar, or run the ones that wait.")
        return
    answers = [yours, *revealing.answers(workspace, masks, played.baseline)]
    with comparison.container():
        reading.comparison(workspace, [YOU, *titles], answers)
    reading.side_by_side(workspace, [YOU, *titles], _seen(workspace, [mask, *masks], played.baseline), answers)


def _of_methods(workspace: Workspace, played: Game, area: float) -> tuple[list[str], list[np.ndarray]]:
    """The titles of the methods whose maps are there, and what each would show of the same area."""
    ready = [entry for entry in method_row.draw(workspace).run() if entry.attribution is not None]
    return ([entry.title for entry in ready],
            [same_area(entry.attribution.heatmap(), area, played.visible) for entry in ready if entry.attribution is not None])


def _seen(workspace: Workspace, masks: Sequence[np.ndarray], baseline: str) -> list[Image.Image]:
    """The masked pictures."""
    network = workspace.network
    composites = revealed.composites(network, workspace.input.x, np.stack(masks), baseline)
    return [network.preprocessing.picture(composite) for composite in composites]
