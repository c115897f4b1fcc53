"""The three views of the attribution mask page."""

from __future__ import annotations

import streamlit as st

from components.shell import frame
from components.state.workspace import Workspace

PICTURE, SET, PLAY = "One picture", "A labelled set", "Be the mask"


def choose(workspace: Workspace | None) -> str:
    """The page's heading, and which view; only the chosen one computes."""
    with st.container(key="mask-heading", horizontal=True, vertical_alignment="center", gap="small"):
        place = st.container(gap=None)
        view = st.segmented_control(
            "View", (PICTURE, SET, PLAY), default=PICTURE, required=True, key="mask_view", bind="query-params",
            label_visibility="collapsed",
            help="One picture: masks made of maps, laid over it again and again. A labelled set: how often the class survives "
                 "that. Be the mask: show and hide parts yourself.")
    with place:
        frame.heading("What if it saw only that?", _sentence(view, workspace) if workspace else "")
    return view


def _sentence(view: str, workspace: Workspace) -> str:
    """What a view answers, in a sentence or two."""
    if view == SET:
        return "How often the true class is the first choice, when each picture is seen through that class's own masks."
    name = workspace.target_words
    if view == PLAY:
        return f"Show or hide parts and watch {name}; then see what methods make of the same area."
    return f"A map becomes a mask, the network sees what is left, and so on: masks for {name}."
