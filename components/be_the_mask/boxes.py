"""Boxes that show or hide parts of the picture, and the masks that they make. Edges are in percent of what the network sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from components.drawing.selections import percents
from components.state.objects import object_masks
from components.state.workspace import Workspace
from explainers.metrics import revealed

Size = tuple[int, int]
"""Rows and columns of the network's input."""

SHOW, HIDE = "show", "hide"  # how a link names what a box does
CENTRE = 25.0, 25.0, 75.0, 75.0  # edges of half the width and half the height, in the middle
NONE = "none"  # how a link says that there is no box


@dataclass(frozen=True)
class Box:
    """An upright rectangle that shows its part of the picture (``reveals``) or hides it. Edges: 0 to 100, from the upper left."""

    left: float
    top: float
    right: float
    bottom: float
    reveals: bool

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        return self.left, self.top, self.right, self.bottom

    def slices(self, size: Size) -> tuple[slice, slice]:
        """Its rows and columns of pixels; an edge lies on the nearest border between two pixels."""
        rows, columns = size
        left, right = round(self.left * columns / 100), round(self.right * columns / 100)
        top, bottom = round(self.top * rows / 100), round(self.bottom * rows / 100)
        return slice(top, max(bottom, top)), slice(left, max(right, left))

    def is_empty(self, size: Size) -> bool:
        """Whether no pixel is in it."""
        rows, columns = self.slices(size)
        return rows.start >= rows.stop or columns.start >= columns.stop


def drawn(box: dict[str, Sequence[float]], reveals: bool, size: Size) -> Box | None:
    """Plotly's box in pixel coordinates, either way round. None if no pixel is in it."""
    (left, right), (top, bottom) = _ends(box["x"], size[1]), _ends(box["y"], size[0])
    made = Box(left, top, right, bottom, reveals)
    return None if made.is_empty(size) else made


def _ends(values: Sequence[float], side: int) -> list[float]:
    """The lower and the upper end in percent of the side, from pixel coordinates."""
    return [round(float(value), 2) for value in percents(sorted(values), side)]


def opening(workspace: Workspace, reveals: bool) -> Box:
    """The first box: around the object of the explained class, else around the first object, else half the width and height."""
    objects = object_masks(workspace)
    own = workspace.network.categories[workspace.target.first]
    inside = objects.get(own, next(iter(objects.values()), None))
    if inside is None or not inside.any():
        return Box(*CENTRE, reveals)
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    height, width = inside.shape
    return Box(_percent(columns[0], width), _percent(rows[0], height), _percent(columns[-1] + 1, width),
               _percent(rows[-1] + 1, height), reveals)


def _percent(edge: int, side: int) -> float:
    return round(100 * float(edge) / side, 2)


def mask_of(boxes: Sequence[Box], visible: bool, size: Size) -> np.ndarray:
    """(H, W) bool, True where the picture is seen: the boxes one after the other. visible: what it is before the first."""
    mask = np.full(size, visible)
    for box in boxes:
        mask[box.slices(size)] = box.reveals
    return mask


def same_area(heatmap: np.ndarray, area: float, visible: bool) -> np.ndarray:
    """What a method would show of an ``area`` of the picture: its highest pixels, or, if all was visible, all but the highest."""
    return ~revealed.top_fraction(heatmap, 1 - area) if visible else revealed.top_fraction(heatmap, area)


def as_text(boxes: Sequence[Box]) -> str:
    """The boxes as a link holds them: ``show 25,25,75,75; hide 40,40,50,50``."""
    words = (f"{SHOW if box.reveals else HIDE} {','.join(f'{edge:g}' for edge in box.edges)}" for box in boxes)
    return "; ".join(words) or NONE


def from_text(text: str) -> list[Box] | None:
    """The boxes of a link; None where it holds none, or something else."""
    if text == NONE:
        return []
    boxes = []
    try:
        for part in text.split(";"):
            action, edges = part.split()
            left, top, right, bottom = (float(edge) for edge in edges.split(","))
            box = Box(left, top, right, bottom, {SHOW: True, HIDE: False}[action])
            if not all(0 <= edge <= 100 for edge in box.edges):
                return None
            boxes.append(box)
    except (KeyError, ValueError):
        return None
    return boxes
