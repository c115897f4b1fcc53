"""The two views of the attribution mask page."""

from __future__ import annotations

import streamlit as st

from components.shell import frame
from components.state.workspace import Workspace

PICTURE, SET = "One picture", "A labelled set"
VIEW = "mask_view"
MOVED = "Be the mask"  # a view of this page in old links; it is a page of its own
MOVED_SETTINGS = ("mask_start", "mask_baseline")


def follow_moved() -> None:
    """Lead an old link to the page that its view has become, with the settings of that view; the sidebar's are kept anyway."""
    if st.query_params.get(VIEW) == MOVED:
        st.switch_page("pages/be_the_mask.py",
                       query_params={name: st.query_params[name] for name in MOVED_SETTINGS if name in st.query_params})


def choose(workspace: Workspace | None) -> str:
    """The page's heading, and which view; only the chosen one computes."""
    with st.container(key="mask-heading", horizontal=True, vertical_alignment="center", gap="small"):
        place = st.container(gap=None)
        view = st.segmented_control(
            "View", (PICTURE, SET), default=PICTURE, required=True, key=VIEW, bind="query-params", label_visibility="collapsed",
            help="One picture: masks made of maps, laid over it again and again. A labelled set: how often the class survives that.")
    with place:
        frame.heading("What does a map leave of it?", _sentence(view, workspace) if workspace else "")
    return view


def _sentence(view: str, workspace: Workspace) -> str:
    """What a view answers, in a sentence or two."""
    if view == SET:
        return "How often the true class is the first choice, when each picture is seen through that class's own masks."
    return f"A map becomes a mask, the network sees what is left, and so on: masks for {workspace.target_words}."
