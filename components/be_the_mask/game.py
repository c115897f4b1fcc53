"""What a person chose on the page: what the game begins with, what hidden pixels become, and the boxes that were made so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from components.be_the_mask.boxes import CENTRE, Box, Size, as_text, drawn, from_text, mask_of, opening
from components.state import link
from components.state.workspace import Workspace

HIDDEN, VISIBLE = "Everything hidden", "Everything visible"
REVEAL, HIDE = "Show", "Hide"
BASELINES = {"Mean colour": "zero", "Blurred": "blur"}
BOXES, BOARD = "boxes", "mask_board"
PLAYED = "mask_game"
EDGES = ("left", "top", "right", "bottom")


@dataclass(frozen=True)
class Game:
    """start: HIDDEN or VISIBLE. baseline: what hidden pixels become, a name of ``explainers.baselines``. reveals: whether the next
    box shows its part."""

    start: str
    baseline: str
    reveals: bool
    boxes: tuple[Box, ...]

    @property
    def visible(self) -> bool:
        """Whether everything is seen before the first box."""
        return self.start == VISIBLE

    def mask(self, size: Size) -> np.ndarray:
        """(H, W) bool, True where the picture is seen."""
        return mask_of(self.boxes, self.visible, size)


def choose(workspace: Workspace) -> Game:
    """The row of controls above the board."""
    with st.container(key="mask-controls", horizontal=True, vertical_alignment="bottom", gap="medium"):
        start = st.segmented_control(
            "Begin with", (HIDDEN, VISIBLE), default=HIDDEN, required=True, key="mask_start", bind="query-params",
            help="Hidden: find the smallest part that is enough for the class. Visible: find the smallest part without which "
                 "the class is lost.")
        baseline = st.segmented_control(
            "Hidden pixels", tuple(BASELINES), default="Mean colour", required=True, key="mask_baseline", bind="query-params",
            help="What the network sees in their place: the mean colour of its training pictures, or a blurred copy.")
        action = st.segmented_control(
            "The next box", (REVEAL, HIDE), default=REVEAL if start == HIDDEN else HIDE, required=True, key=f"mask_action-{start}",
            help="What a new box does to its part of the picture.")
        reveals = action == REVEAL
        boxes = _boxes(workspace, start)
    return Game(start, BASELINES[baseline], reveals, boxes)


def _boxes(workspace: Workspace, start: str) -> tuple[Box, ...]:
    """The boxes of this game, which the link holds; at its beginning one. Another picture, or beginning, is another game."""
    played = (workspace.picture.digest, workspace.input.fit, start)
    if st.session_state.get(PLAYED, played) != played:
        link.put(BOXES, "")
    st.session_state[PLAYED] = played
    boxes = from_text(link.get(BOXES))
    return (opening(workspace, start == HIDDEN),) if boxes is None else tuple(boxes)


def numbers(workspace: Workspace, game: Game) -> None:
    """The edges of the last box as numbers, for whoever does not draw; and the buttons that add boxes and take them away."""
    last = game.boxes[-1] if game.boxes else None
    st.markdown("**The last box in numbers**")
    with st.container(key="mask-numbers", horizontal=True, vertical_alignment="bottom", gap="small"):
        for edge in EDGES:
            st.session_state[_key(edge)] = getattr(last, edge) if last else 0.0
            st.number_input(f"{edge.capitalize()}, %", 0.0, 100.0, "min", 1.0, format="%.1f", key=_key(edge), width=110,
                            disabled=last is None, on_change=_typed, args=(game.boxes,),
                            help="This edge of the last box, in percent of the picture, from its upper left corner. Arrow keys move "
                                 "it.")
        st.button("Add a box", key="mask_add", on_click=_keep, args=((*game.boxes, Box(*CENTRE, game.reveals)),),
                  help="Another box in the middle, which the numbers then move. Dragging on the picture adds one as well.")
        st.button("Undo", key="mask_undo", disabled=last is None, on_click=_keep, args=(game.boxes[:-1],),
                  help="Takes the last box away.")
        st.button("Reset", key="mask_reset", disabled=last is None, on_click=_keep, args=((),), help="Takes all boxes away.")
    if last and last.is_empty(workspace.network.input_size):
        st.caption("The last box is empty: Left has to be less than Right, and Top less than Bottom.")


def take(selection: dict[str, Any], game: Game, size: Size) -> None:
    """Add the last of the boxes that were drawn on the board, if there is one."""
    box = drawn(selection["box"][-1], game.reveals, size) if selection["box"] else None
    if box is not None:
        _keep((*game.boxes, box))


def _typed(boxes: tuple[Box, ...]) -> None:
    """Callback of the numbers: the last box moves."""
    if boxes:
        left, top, right, bottom = (st.session_state[_key(edge)] for edge in EDGES)
        _keep((*boxes[:-1], Box(left, top, right, bottom, boxes[-1].reveals)))


def _key(edge: str) -> str:
    return f"mask_{edge}"


def _keep(boxes: tuple[Box, ...]) -> None:
    """Callback: these are the boxes now."""
    link.put(BOXES, as_text(boxes))
