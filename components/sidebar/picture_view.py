"""How a picture is shown to the network: fitted into its square input, and for grey values beyond 8 bits, through which window."""

from __future__ import annotations

import math
from dataclasses import replace

import streamlit as st

import explainers as ex
from components.state.model_input import Picture

FITS = {"Crop": "crop", "Whole": "whole", "Stretch": "stretch"}  # the words are in links
LEVEL, WIDTH = "level", "width"
WINDOWED = "windowed_picture"  # the session's note of which picture the two numbers belong to


def draw(picture: Picture) -> tuple[Picture, str]:
    """The widgets for the fit and, where the picture has values beyond 8 bits, the window. Returns the picture through that window,
    and the fit ("crop", "whole" or "stretch")."""
    chosen = st.segmented_control(
        "Fit into the square", list(FITS), default="Crop", key="fit", bind="query-params", required=True,
        help="Networks take a square. Crop: the centre of the picture, as the network was tested. Whole (letterbox): all of it, with "
             "borders in the mean colour. Stretch: all of it, squeezed into the square.")
    return (picture if picture.deep is None else _windowed(picture, picture.deep)), FITS[chosen]


def _windowed(picture: Picture, deep: ex.Picture) -> Picture:
    """The picture through the window that two number fields give; an empty field stands for the window that the file opened with."""
    low, high = deep.value_range
    first_level, first_width = deep.window or (0.0, 0.0)
    step = float(f"{max(high - low, 1e-6) / 100:.0e}")  # about a hundredth of the values' range, as a round number
    decimals = f"%.{max(0, 1 - math.floor(math.log10(step)))}f"
    _start_with(picture.name)
    left, right = st.columns(2)
    level = left.number_input(
        "Level", None, None, None, step, decimals, key=LEVEL, bind="query-params", placeholder=f"{first_level:g}",
        help=f"The value that is shown as middle grey. The file's values go from {low:g} to {high:g}; empty: {first_level:g}.")
    width = right.number_input(
        "Width", 0.0, None, None, step, decimals, key=WIDTH, bind="query-params", placeholder=f"{first_width:g}",
        help="The range of values from black to white; a narrow window has more contrast, and what lies outside it is black or "
             f"white. Empty: {first_width:g}.")
    return _shown(picture.name, level, width, picture)


@st.cache_resource(max_entries=4, show_spinner=False, scope="session")
def _shown(name: str, level: float | None, width: float | None, _picture: Picture) -> Picture:
    deep = _picture.deep
    return _picture if deep is None else replace(_picture, image=deep.windowed(level, width).image)


def _start_with(name: str) -> None:
    """Empty both fields where another picture is chosen: a window for one file says nothing about another."""
    if st.session_state.get(WINDOWED, name) != name:
        st.session_state[LEVEL] = st.session_state[WIDTH] = None
    st.session_state[WINDOWED] = name
