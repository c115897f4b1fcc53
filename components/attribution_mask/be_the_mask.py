"""Be the mask: a person shows or hides rectangles of the picture, and is compared with methods at the same area."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from components.attribution_mask import revealing
from components.attribution_mask.revealing import first_class, image, target_percent, target_probability
from components.compute import method_row
from components.drawing.heatmaps import data_uri
from components.drawing.numbers import percent
from components.state.last_result import last
from components.state.workspace import Workspace
from explainers.metrics import revealed

HIDDEN, VISIBLE = "Everything hidden", "Everything visible"
REVEAL, HIDE = "Reveal", "Hide"
BASELINES = {"Mean colour": "zero", "Blurred": "blur"}
STROKES, BOARD = "mask_strokes", "mask_board"
BOARD_HEIGHT = 350
RULES = {
    HIDDEN: "Each method reveals as many pixels as you did: those with the highest values of its map.",
    VISIBLE: "Each method hides as many pixels as you did: those with the highest values of its map."}
VEIL = 0.78  # how much of the picture a hidden part loses on the board


@dataclass(frozen=True)
class Stroke:
    """A rectangle of the network's input: pixels from ``left`` to ``right`` and ``top`` to ``bottom``, the ends excluded."""

    left: int
    right: int
    top: int
    bottom: int
    reveals: bool


def draw(workspace: Workspace) -> None:
    """The board, what the network sees and says, and the methods at the same area."""
    start, baseline, strokes = _controls(workspace)
    mask = mask_of(strokes, start == VISIBLE, workspace.network.input_size)
    area = float(mask.mean())
    board, seen, reading = st.columns([4, 4, 4], gap="medium")
    with board:
        _board(workspace, mask, start, strokes)
    yours = revealing.answers(workspace, [mask], baseline)[0]
    with seen:
        st.markdown("**What the network sees**")
        st.html(f'<div class="masking-seen">{image(_seen(workspace, [mask], baseline)[0], "What the network sees")}</div>')
    st.subheader("The same area, chosen by a method", help=RULES[start])
    ready = [(entry.method.title, entry.attribution) for entry in method_row.draw(workspace).run() if entry.attribution is not None]
    titles = ["You", *(title for title, _ in ready)]
    masks = [mask, *(same_area(attribution.heatmap(), area, start == VISIBLE) for _, attribution in ready)]
    answers = [yours, *(revealing.answers(workspace, masks[1:], baseline) if ready else ())]
    if ready:
        _side_by_side(workspace, titles, _seen(workspace, masks, baseline), answers)
    else:
        st.info("Choose at least one method in the sidebar, or run the ones that wait.")
    with reading:
        _reading(workspace, yours, area)
        _comparison(workspace, titles, answers)


def _controls(workspace: Workspace) -> tuple[str, str, list[Stroke]]:
    """What the game begins with, what hidden pixels become, and the boxes that were drawn."""
    with st.container(key="mask-controls", horizontal=True, vertical_alignment="bottom", gap="medium"):
        start = st.segmented_control(
            "Begin with", (HIDDEN, VISIBLE), default=HIDDEN, required=True, key="mask_start", bind="query-params",
            help="Hidden: find the least that is enough for the class. Visible: find the least that has to go.")
        baseline = st.segmented_control(
            "Hidden pixels", tuple(BASELINES), default="Mean colour", required=True, key="mask_baseline", bind="query-params",
            help="What the network sees in their place: the mean colour of its training pictures, or a blurred copy.")
        st.segmented_control(
            "A box", (REVEAL, HIDE), default=REVEAL if start == HIDDEN else HIDE, required=True, key=f"mask_action-{start}",
            help="What drawing a box on the picture does.")
        game = (workspace.picture.digest, workspace.network.input_size, start)  # another picture, size or beginning is another game
        strokes: list[Stroke] = last(STROKES, game, list)
        st.button("Undo", key="mask_undo", disabled=not strokes, on_click=strokes.__delitem__, args=(-1,),
                  help="Takes the last box back.")
        st.button("Reset", key="mask_reset", disabled=not strokes, on_click=strokes.clear, help="Takes all boxes back.")
    return start, BASELINES[baseline], strokes


def _drawn(start: str, size: tuple[int, int], strokes: list[Stroke]) -> None:
    """Callback of the board: a drawn box becomes a stroke. The board's figure changes by it and so forgets its selection."""
    boxes = st.session_state[BOARD]["selection"]["box"]
    if boxes:
        stroke = stroke_of(boxes[-1], st.session_state[f"mask_action-{start}"] == REVEAL, size)
        if stroke is not None:
            strokes.append(stroke)


def stroke_of(box: dict[str, Sequence[float]], reveals: bool, size: tuple[int, int]) -> Stroke | None:
    """Plotly's box in pixel coordinates, either way round, as a stroke; pixel i covers i - 0.5 to i + 0.5. None if it is empty."""
    (left, right), (top, bottom) = ((round(min(box[axis]) + 0.5), round(max(box[axis]) + 0.5)) for axis in ("x", "y"))
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, size[1]), min(bottom, size[0])
    return Stroke(left, right, top, bottom, reveals) if right > left and bottom > top else None


def mask_of(strokes: Sequence[Stroke], visible: bool, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool, True where the picture is seen: the strokes one after the other."""
    mask = np.full(size, visible)
    for stroke in strokes:
        mask[stroke.top:stroke.bottom, stroke.left:stroke.right] = stroke.reveals
    return mask


def same_area(heatmap: np.ndarray, area: float, visible: bool) -> np.ndarray:
    """What a method would show of an ``area`` of the picture: its highest pixels, or, if all was visible, all but the highest."""
    return ~revealed.top_fraction(heatmap, 1 - area) if visible else revealed.top_fraction(heatmap, area)


def _board(workspace: Workspace, mask: np.ndarray, start: str, strokes: list[Stroke]) -> None:
    """The picture to draw on, hidden parts veiled. A changed figure drops its selection, so each box counts once."""
    st.markdown(f"**Draw boxes here** to {st.session_state[f'mask_action-{start}'].lower()}")
    height, width = mask.shape
    pixels = np.asarray(workspace.input.seen, np.float32)
    veiled = pixels.mean(2, keepdims=True) * (1 - VEIL) + 128 * VEIL
    shown = Image.fromarray(np.where(mask[..., None], pixels, veiled).round().astype(np.uint8))
    plain = {"visible": False, "fixedrange": True, "constrain": "domain"}
    figure: dict[str, Any] = {
        "data": [{"type": "image", "source": data_uri(shown), "hoverinfo": "skip", "zsmooth": "fast" if width >= 64 else False}],
        "layout": {
            "margin": {"l": 0, "r": 0, "t": 0, "b": 0}, "dragmode": "select", "plot_bgcolor": "rgba(0,0,0,0)",
            "newselection": {"line": {"color": "#ffffff", "width": 2, "dash": "solid"}},
            "xaxis": {**plain, "range": [-0.5, width - 0.5], "constraintoward": "left"},
            "yaxis": {**plain, "range": [height - 0.5, -0.5], "scaleanchor": "x", "constraintoward": "top"}}}
    st.plotly_chart(figure, key=BOARD, on_select=lambda: _drawn(start, (height, width), strokes), selection_mode="box",
                    height=BOARD_HEIGHT, config={"displayModeBar": False}, alt="The picture; draw a box to reveal or hide it")


def _seen(workspace: Workspace, masks: Sequence[np.ndarray], baseline: str) -> list[Image.Image]:
    network = workspace.network
    composites = revealed.composites(network, workspace.input.x, np.stack(masks), baseline)
    return [network.preprocessing.picture(composite) for composite in composites]


def _reading(workspace: Workspace, probabilities: np.ndarray, area: float) -> None:
    """The explained class's probability, how far it is from the whole picture's, and the three first classes."""
    names = workspace.network.categories
    here, whole = (target_probability(workspace, each) for each in (probabilities, workspace.input.probabilities))
    change = f"{100 * (here - whole):+.1f}".replace("-", "\u2212")
    first = np.argsort(-probabilities, kind="stable")[:3].tolist()
    rows = [(names[index], float(probabilities[index]), percent(float(probabilities[index])), index == workspace.target.first)
            for index in first]
    st.container(key="mask-reading").html(
        f'<div class="mask-reading"><h3>{escape(workspace.target_words)}</h3><b>{target_percent(workspace, here)}</b>'
        f"<p>{change} points compared with the whole picture ({target_percent(workspace, whole)})</p>"
        f"<p>{percent(area)} of the picture is visible</p>{_bars(rows)}</div>")


def _comparison(workspace: Workspace, titles: Sequence[str], answers: Sequence[np.ndarray]) -> None:
    """The explained class's probability under each choice of that area."""
    if len(titles) < 2:
        return
    values = [target_probability(workspace, probabilities) for probabilities in answers]
    rows = [(title, value, target_percent(workspace, value), title == "You") for title, value in zip(titles, values, strict=True)]
    name = escape(workspace.target_words)
    st.container(key="mask-comparison").html(f'<div class="mask-reading"><h3>{name}, the same area by</h3>{_bars(rows)}</div>')


def _bars(rows: Sequence[tuple[str, float, str, bool]]) -> str:
    """Rows of a name, a probability, its words, and whether the row stands out."""
    drawn = "".join(
        f'<div class="row{" target" if marked else ""}"><span class="name">{escape(name)}</span><span class="track">'
        f'<span class="bar" style="width:{100 * max(value, 0):.1f}%"></span></span><span class="share">{text}</span></div>'
        for name, value, text, marked in rows)
    return f'<div class="overview"><div class="predictions">{drawn}</div></div>'


def _side_by_side(workspace: Workspace, titles: Sequence[str], pictures: Sequence[Image.Image], answers: Sequence[np.ndarray]) -> None:
    """What you and the methods leave of the picture, and what the network says of it."""
    tiles = []
    for title, picture, probabilities in zip(titles, pictures, answers, strict=True):
        first = int(np.argmax(probabilities))
        tiles.append(
            f'<figure><figcaption>{escape(title)}</figcaption>{image(picture, f"What {title} leaves")}'
            f'<div class="reading"><b>{target_percent(workspace, target_probability(workspace, probabilities))}</b></div>'
            f"{first_class(workspace, first, float(probabilities[first]))}</figure>")
    st.container(key="mask-tiles").html(f'<div class="masking">{"".join(tiles)}</div>')
