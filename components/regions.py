"""Which part of the picture counts as the right place: an object of a sample, or a box or an outline that a person draws.

Boxes and outlines are kept in percent of the picture that the network sees, so that they mean the same to every network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import streamlit as st
from PIL import Image

import explainers as ex
from components.workspace import Workspace
from explainers.metrics import localisation as metric

BOX, OUTLINE = "Box", "Outline"
EDGES = {"Left": 25.0, "Top": 25.0, "Right": 75.0, "Bottom": 75.0}  # percent
POINTS = "region-outline"  # in the session: the drawn outline's (column, row) points in percent
CHOICE, SCENE = "region", "region-scene"


@dataclass(frozen=True)
class Region:
    """A chosen region: ``inside`` (H, W) bool at the network's input size, or ``trouble``, a sentence that says what is missing.

    ``stranger``: it is an object of another class than the one that the maps explain.
    """

    name: str
    inside: np.ndarray | None = None
    trouble: str = ""
    stranger: bool = False


def choose(workspace: Workspace) -> Region:
    """Draw the choice and read it."""
    objects = _objects(workspace)
    options = [*objects, BOX, OUTLINE]
    own = workspace.network.categories[workspace.target]
    default = own if own in objects else options[0]
    _follow((workspace.picture.name, own), options, default)
    with st.container(key="region-row", horizontal=True, vertical_alignment="bottom", gap="small"):
        chosen = st.segmented_control(
            "Region", options, default=default, required=True, key=CHOICE, bind="query-params",
            help="Where the evidence should be. An object: its exact mask, which comes with the sample. Box and Outline: what you "
                 "draw on the picture below, or for a box, type.")
        boxed = chosen in objects and st.toggle(
            "Box around it", key="region_box", bind="query-params",
            help="Measure with the smallest upright box around the object, as papers do on photographs.")
        edges = [_edge(name, value) for name, value in EDGES.items()] if chosen == BOX else []
    if chosen in objects:
        return replace(_object(chosen, objects[chosen], boxed), stranger=chosen != own)
    return _drawn(chosen, edges, workspace.network.input_size)


def _follow(scene: tuple[str, str], options: Sequence[str], default: str) -> None:
    """With another picture or class, an object that was chosen gives way to the object of the class; what was drawn stays."""
    before = st.session_state.get(SCENE, scene)
    st.session_state[SCENE] = scene
    chosen = st.session_state.get(CHOICE)
    if chosen is not None and (chosen not in options or (before != scene and chosen not in (BOX, OUTLINE))):
        st.session_state[CHOICE] = default


def _object(name: str, inside: np.ndarray, boxed: bool) -> Region:
    if not inside.any():
        return Region(name, trouble=f"The network does not see the {name}: it lies outside the part that is cropped.")
    return Region(f"box around the {name}", metric.bounding_box(inside)) if boxed else Region(name, inside)


def _drawn(chosen: str, edges: Sequence[float], size: tuple[int, int]) -> Region:
    try:
        if chosen == BOX:
            (left, right), (top, bottom) = (_pixels(edges[0::2], size[1]), _pixels(edges[1::2], size[0]))
            return Region("box", metric.box(left, top, right, bottom, size))
        points = st.session_state.get(POINTS, ())
        if not points:
            return Region("outline", trouble="Draw an outline on the picture: choose the lasso above it, then drag around the object.")
        columns, rows = (_pixels(side, size[1 - axis]) for axis, side in enumerate(zip(*points, strict=True)))
        return Region("outline", metric.polygon(list(zip(columns, rows, strict=True)), size))
    except ex.ExplainerError as error:
        return Region(chosen.lower(), trouble=str(error))


def _edge(name: str, value: float) -> float:
    return float(st.number_input(f"{name}, %", 0.0, 100.0, value, 1.0, format="%.1f", key=f"box_{name.lower()}", bind="query-params",
                                 width=105, help="In percent of the picture that the network sees, from its upper left corner."))


def _pixels(percent: Sequence[float], side: int) -> list[float]:
    """From percent of a side to pixel coordinates, where the first pixel's middle is 0."""
    return [value * side / 100 - 0.5 for value in percent]


def take(selection: dict, size: tuple[int, int]) -> None:
    """Make the last box or lasso, in pixel coordinates, the region; where nothing was selected it stays as it was."""
    def percent(values: Sequence[float], side: int) -> list[float]:
        return [round(min(max(100 * (value + 0.5) / side, 0.0), 100.0), 1) for value in values]

    if selection.get("lasso"):
        drawn = selection["lasso"][-1]
        st.session_state[POINTS] = tuple(zip(percent(drawn["x"], size[1]), percent(drawn["y"], size[0]), strict=True))
        st.session_state[CHOICE] = OUTLINE
    elif selection.get("box"):
        drawn = selection["box"][-1]
        (left, right), (top, bottom) = sorted(percent(drawn["x"], size[1])), sorted(percent(drawn["y"], size[0]))
        for name, value in zip(EDGES, (left, top, right, bottom), strict=True):
            st.session_state[f"box_{name.lower()}"] = value
        st.session_state[CHOICE] = BOX


def _objects(workspace: Workspace) -> dict[str, np.ndarray]:
    """The masks of a sample's objects as the network sees them, (H, W) bool by name; none for other pictures."""
    picture, network = workspace.picture, workspace.network
    return _masks(picture.name, picture.digest, network.fingerprint, network)


@st.cache_resource(max_entries=64, show_spinner=False)
def _masks(name: str, digest: str, fingerprint: str, _network: ex.Classifier) -> dict[str, np.ndarray]:
    sample = next((one for one in ex.samples() if one.name == name and one.mask_files), None)
    if sample is None:
        return {}
    seen = (_network.seen(Image.fromarray(mask.astype(np.uint8) * 255)) for mask in sample.masks)
    return {label: np.asarray(image)[..., 0] >= 128 for label, image in zip(sample.labels, seen, strict=True)}
