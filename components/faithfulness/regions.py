"""Which part of the picture counts as the right place: an object of a sample, or a box or an outline that a person draws.

Boxes and outlines are kept in percent of the picture that the network sees, so that they mean the same to every network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import streamlit as st

import explainers as ex
from components.drawing.foreign_words import in_markdown
from components.drawing.selections import percents
from components.state import evidence
from components.state.objects import object_masks
from components.state.workspace import Workspace
from explainers.metrics import localisation as metric

BOX, OUTLINE = "Box", "Outline"
EDGES = {"Left": 25.0, "Top": 25.0, "Right": 75.0, "Bottom": 75.0}  # percent
CORNERS = "region_outline"
EXAMPLE = "25,25 75,25 50,80"
TOLERANCE = 0.5  # percent by which a drawn outline may be straightened, so that it fits into a link
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
    objects = object_masks(workspace)
    options = [*objects, BOX, OUTLINE]
    own = workspace.network.categories[workspace.target.first]
    default = own if own in objects else options[0]
    _follow((workspace.picture.name, own), options, default)
    with st.container(key="region-row", horizontal=True, vertical_alignment="bottom", gap="small"):
        chosen = st.segmented_control(
            "Region", options, default=default, required=True, key=CHOICE, bind="query-params", format_func=in_markdown,
            help="Where the evidence should be. An object: its exact mask, which comes with the sample. Box and Outline: what you "
                 "draw on the picture below, or for a box, type.")
        boxed = chosen in objects and st.toggle(
            "Box around it", key="region_box", bind="query-params",
            help="Measure with the smallest upright box around the object, as papers do on photographs.")
        edges = [_edge(name, value) for name, value in EDGES.items()] if chosen == BOX else []
        corners = _corners() if chosen == OUTLINE else ""
    if chosen in objects:
        evidence.forget_region()
        return replace(_object(chosen, objects[chosen], boxed), stranger=chosen != own)
    region = _drawn(chosen, edges, corners, workspace.network.input_size)
    if region.inside is not None:
        evidence.record_region(workspace, f"your {region.name}", region.inside)
    return region


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


def _drawn(chosen: str, edges: Sequence[float], corners: str, size: tuple[int, int]) -> Region:
    try:
        if chosen == BOX:
            if list(edges) == list(EDGES.values()):  # nobody drew it
                return Region("box", trouble="Draw a box around the object on the picture, or type its edges above.")
            (left, right), (top, bottom) = (_pixels(edges[0::2], size[1]), _pixels(edges[1::2], size[0]))
            return Region("box", metric.box(left, top, right, bottom, size))
        if not corners.strip():
            return Region("outline", trouble="Draw an outline on the picture: choose the lasso above it, then drag around the object.")
        columns, rows = (_pixels(side, size[1 - axis]) for axis, side in enumerate(zip(*_read(corners), strict=True)))
        return Region("outline", metric.polygon(list(zip(columns, rows, strict=True)), size))
    except ex.ExplainerError as error:
        return Region(chosen.lower(), trouble=str(error))


def _corners() -> str:
    return st.text_input("Corners, %", key=CORNERS, bind="query-params", width=360, placeholder=EXAMPLE,
                         help="The outline's corners: column,row for each, in percent of the picture that the network sees, from its "
                              "upper left corner. The lasso writes them here.")


def _read(corners: str) -> list[tuple[float, float]]:
    try:
        points = [tuple(float(value) for value in corner.split(",")) for corner in corners.split()]
    except ValueError:
        points = []
    if len(points) < 3 or not all(len(point) == 2 and 0 <= min(point) <= max(point) <= 100 for point in points):
        raise ex.ExplainerError(f"Write the outline as three or more corners in percent, like {EXAMPLE}, not {corners[:60]!r}.")
    return [(column, row) for column, row in points]


def _edge(name: str, value: float) -> float:
    return float(st.number_input(f"{name}, %", 0.0, 100.0, value, 1.0, format="%.1f", key=f"box_{name.lower()}", bind="query-params",
                                 width=105, help="In percent of the picture that the network sees, from its upper left corner."))


def _pixels(percent: Sequence[float], side: int) -> list[float]:
    """From percent of a side to pixel coordinates, where the first pixel's middle is 0."""
    return [value * side / 100 - 0.5 for value in percent]


def take(selection: dict, size: tuple[int, int]) -> None:
    """Make the last box or lasso, in pixel coordinates, the region; where nothing was selected it stays as it was."""
    if selection.get("lasso"):
        drawn = selection["lasso"][-1]
        points = straightened(np.stack((percents(drawn["x"], size[1]), percents(drawn["y"], size[0])), 1))
        _become(OUTLINE, {CORNERS: " ".join(f"{column:.4g},{row:.4g}" for column, row in points.round(1))})
    elif selection.get("box"):
        drawn = selection["box"][-1]
        (left, right), (top, bottom) = sorted(percents(drawn["x"], size[1])), sorted(percents(drawn["y"], size[0]))
        values = zip(EDGES, (left, top, right, bottom), strict=True)
        _become(BOX, {f"box_{name.lower()}": round(float(value), 1) for name, value in values})


def _become(chosen: str, values: dict[str, str | float]) -> None:
    """Choose what was drawn; the browser writes only those widgets into the link that it has already."""
    if st.session_state[CHOICE] != chosen:
        st.query_params.update({key: str(value) for key, value in values.items()})
    for key, value in {CHOICE: chosen, **values}.items():
        st.session_state[key] = value


def straightened(points: np.ndarray) -> np.ndarray:
    """Of a line's points, (n, 2), those that keep all others within TOLERANCE of it (Douglas and Peucker)."""
    along, rest = points[-1] - points[0], points - points[0]
    fraction = np.clip(rest @ along / max(along @ along, 1e-12), 0, 1)
    away = np.hypot(*(rest - fraction[:, None] * along).T)
    far = int(away.argmax())
    if away[far] <= TOLERANCE:
        return points[[0, -1]]
    return np.concatenate((straightened(points[:far + 1])[:-1], straightened(points[far:])))
