"""The sixteen objects of scenes: solid icons of the font DejaVu Sans, which comes with matplotlib, as layers for rendering.

Each icon becomes four grey layers over the square [-REACH, REACH]^2, in units of the icon's longer side: its silhouette, the
details on it (a cat's whiskers, a flower's centre), a height map for the shading and a blurred silhouette for the shadow. The
sharp layers are kept at several resolutions, so that small objects have smooth edges, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from .outlines import outline

REACH = 0.8  # half the side of a layer, with room for the shadow around the icon
_FINEST = 1024  # the side in pixels of the finest level of a pyramid
_SMOOTH = 256  # the side in pixels of the blurred layers


@dataclass(frozen=True)
class Icon:
    """A class of objects: its character, how it is filled, and how far it may be rotated."""

    name: str
    character: str
    fill: str  # "open": holes show the background; "inlay": holes have the detail colour; "drawn": strokes have it
    turn: float  # largest rotation either way, in degrees


ICONS = (
    Icon("airplane", "\u2708", "open", 180),
    Icon("anchor", "\u2693", "open", 30),
    Icon("cat", "\U0001f431", "drawn", 25),
    Icon("cloud", "\u2601", "open", 20),
    Icon("crown", "\u265b", "inlay", 25),
    Icon("flower", "\u273f", "inlay", 180),
    Icon("gear", "\u2699", "inlay", 180),
    Icon("heart", "\u2665", "open", 30),
    Icon("knight", "\u265e", "inlay", 25),
    Icon("note", "\u266b", "open", 25),
    Icon("scissors", "\u2702", "open", 180),
    Icon("skull", "\u2620", "drawn", 25),
    Icon("star", "\u2605", "open", 180),
    Icon("sun", "\u2600", "open", 180),
    Icon("telephone", "\u260e", "inlay", 25),
    Icon("umbrella", "\u2602", "open", 30),
)


@dataclass(frozen=True)
class Layers:
    """The grey layers of one icon, from 0 to 1. ``silhouette`` and ``detail`` hold several resolutions, the finest first."""

    silhouette: tuple[Image.Image, ...]
    detail: tuple[Image.Image, ...] | None
    height: Image.Image
    shadow: Image.Image


@cache
def layers(index: int) -> Layers:
    """The layers of ``ICONS[index]``."""
    icon = ICONS[index]
    strokes, filled = _rasterise(icon.character)
    silhouette = strokes if icon.fill == "open" else filled
    detail = {"open": None, "inlay": filled - strokes, "drawn": strokes}[icon.fill]
    coarse = _shrink(silhouette, _FINEST // _SMOOTH)
    pixel = _SMOOTH / (2 * REACH)  # the pixels of a blurred layer per unit
    height = 0.45 * blur(coarse, 0.012 * pixel) + 0.55 * blur(coarse, 0.04 * pixel)
    details = None if detail is None else _pyramid(detail.clip(0, 1))
    return Layers(_pyramid(silhouette), details, Image.fromarray(height), Image.fromarray(blur(coarse, 0.055 * pixel)))


@dataclass(frozen=True)
class Window:
    """The pixels [left, right) x [top, bottom) of a picture. Objects are painted in their window alone, to save time."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)


def window(low: tuple[float, float], high: tuple[float, float], size: int) -> Window:
    """The pixels of a (size, size) picture that a box touches. ``low`` and ``high``: its corners (x, y) in widths of the picture."""
    left, top = (min(size, max(0, math.floor(v * size))) for v in low)
    right, bottom = (min(size, max(0, math.ceil(v * size))) for v in high)
    return Window(left, top, max(left, right), max(top, bottom))


@dataclass(frozen=True)
class Pose:
    """The position of an icon: centre and scale (its longer side) in widths of the picture, angle in radians."""

    centre: tuple[float, float]
    scale: float
    angle: float
    mirrored: bool


def place(level: Image.Image, pose: Pose, part: Window, size: int) -> np.ndarray:
    """A layer as it appears in one window of a (size, size) picture, (height, width) from 0 to 1."""
    per_pixel = level.width / (2 * REACH * size * pose.scale)
    cos, sin = math.cos(pose.angle) * per_pixel, math.sin(pose.angle) * per_pixel
    x, y = part.left - pose.centre[0] * size, part.top - pose.centre[1] * size
    # PIL takes the inverse transformation, from a pixel of the picture to a pixel of the layer.
    flip = -1 if pose.mirrored else 1
    across = (flip * cos, flip * sin, flip * (x * cos + y * sin) + level.width / 2)
    down = (-sin, cos, -x * sin + y * cos + level.height / 2)
    extent = (part.right - part.left, part.bottom - part.top)
    moved = level.transform(extent, Image.Transform.AFFINE, across + down, Image.Resampling.BILINEAR)
    return np.asarray(moved)


def level_for(pyramid: tuple[Image.Image, ...], pixels: float) -> Image.Image:
    """The coarsest level that has at least the picture's resolution, for an icon whose longer side is ``pixels`` in the picture."""
    needed = pixels * 2 * REACH
    fine_enough = [level for level in pyramid if level.width >= needed]
    return fine_enough[-1] if fine_enough else pyramid[0]


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Separable Gaussian blur of an array (H, W), with zeros outside."""
    radius = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for _ in range(2):
        image = np.apply_along_axis(np.convolve, 1, image, kernel, mode="same").T
    return np.ascontiguousarray(image, dtype=np.float32)


def _rasterise(character: str) -> tuple[np.ndarray, np.ndarray]:
    """The character as in its font, and with all holes filled: two arrays (_FINEST, _FINEST) from 0 to 1."""
    polygons = outline(character, "DejaVuSans", 1000)
    points = np.concatenate(polygons)
    low, high = points.min(0), points.max(0)
    middle, longest = (low + high) / 2, (high - low).max()
    canvas = 2 * _FINEST  # drawn at twice the size and averaged, for smooth edges
    strokes, filled = (Image.new("L", (canvas, canvas), 0) for _ in range(2))
    # Painted in order of size, so that a contour inside another one overwrites it, also an island in a hole.
    areas = [_signed_area(p) for p in polygons]
    outer = np.sign(areas[int(np.argmax(np.abs(areas)))])
    for area, polygon in sorted(zip(areas, polygons, strict=True), key=lambda pair: -abs(pair[0])):
        unit = (polygon - middle) / longest * (1, -1)  # the font's y axis points up
        corners = [tuple(p) for p in (unit / (2 * REACH) + 0.5) * canvas]
        ImageDraw.Draw(strokes).polygon(corners, fill=255 if np.sign(area) == outer else 0)
        ImageDraw.Draw(filled).polygon(corners, fill=255)
    as_drawn, without_holes = (_shrink(np.asarray(image, dtype=np.float32) / 255, 2) for image in (strokes, filled))
    return as_drawn, without_holes


def _signed_area(polygon: np.ndarray) -> float:
    x, y = polygon[:, 0], polygon[:, 1]
    return float(0.5 * (x * np.roll(y, -1) - y * np.roll(x, -1)).sum())


def _shrink(image: np.ndarray, factor: int) -> np.ndarray:
    """Means over squares of ``factor`` pixels a side."""
    side = image.shape[0] // factor
    return image.reshape(side, factor, side, factor).mean((1, 3), dtype=np.float32)


def _pyramid(image: np.ndarray) -> tuple[Image.Image, ...]:
    levels = [image]
    while levels[-1].shape[0] > 32:
        levels.append(_shrink(levels[-1], 2))
    return tuple(Image.fromarray(np.ascontiguousarray(level)) for level in levels)
