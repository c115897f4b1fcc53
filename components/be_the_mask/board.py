"""The board: the picture to draw boxes on, with what is hidden veiled and the last box outlined."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from components.be_the_mask.boxes import Box, Size
from components.be_the_mask.game import BOARD, Game, take
from components.drawing.heatmaps import data_uri
from components.drawing.masked import SMALL
from components.state.workspace import Workspace

HEIGHT = 350
VEIL = 0.78  # how much of the picture a hidden part loses


def draw(workspace: Workspace, game: Game) -> None:
    """The picture. A changed figure drops its selection, so each box that is drawn counts once."""
    size = workspace.network.input_size

    def box_drawn() -> None:
        take(st.session_state[BOARD]["selection"], game, size)

    st.markdown(f"**Drag on the picture** to {'show' if game.reveals else 'hide'} a part of it")
    st.plotly_chart(figure(workspace.input.seen, game, size), key=BOARD, on_select=box_drawn, selection_mode="box", height=HEIGHT,
                    config={"displayModeBar": False},
                    alt="The picture; hidden parts are veiled. Drag to draw a box, or use the numbers below.")


def figure(seen: Image.Image, game: Game, size: Size) -> dict[str, Any]:
    """The picture under its mask, as a plotly figure in pixel coordinates."""
    height, width = size
    pixels = np.asarray(seen, np.float32)
    veiled = pixels.mean(2, keepdims=True) * (1 - VEIL) + 128 * VEIL
    shown = Image.fromarray(np.where(game.mask(size)[..., None], pixels, veiled).round().astype(np.uint8))
    plain = {"visible": False, "fixedrange": True, "constrain": "domain"}
    return {
        "data": [{"type": "image", "source": data_uri(shown), "hoverinfo": "skip", "zsmooth": "fast" if width >= SMALL else False}],
        "layout": {
            "margin": {"l": 0, "r": 0, "t": 0, "b": 0}, "dragmode": "select", "plot_bgcolor": "rgba(0,0,0,0)",
            "newselection": {"line": {"color": "#ffffff", "width": 2, "dash": "solid"}},
            "shapes": [_outline(game.boxes[-1], size)] if game.boxes else [],
            "xaxis": {**plain, "range": [-0.5, width - 0.5], "constraintoward": "left"},
            "yaxis": {**plain, "range": [height - 0.5, -0.5], "scaleanchor": "x", "constraintoward": "top"}}}


def _outline(box: Box, size: Size) -> dict[str, Any]:
    """A line around a box: the one that the numbers move."""
    rows, columns = box.slices(size)
    return {"type": "rect", "x0": columns.start - 0.5, "x1": columns.stop - 0.5, "y0": rows.start - 0.5, "y1": rows.stop - 0.5,
            "line": {"color": "#ffffff", "width": 1.5, "dash": "dot"}}
