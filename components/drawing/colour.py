"""From a signed map to what is shown: sign, smoothing, clip, threshold and colour. NumPy only, nothing is recomputed.

A value of zero is transparent and the strongest values are opaque, so the picture stays visible where the map is weak. Signed maps
go from blue through transparent to red; unsigned ones have one sequential scale whose lightness changes steadily.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

SIGNS = ("Signed", "Positive", "Magnitude")
BACKDROPS = ("Grey", "Colour", "None")
SCALES = ("Own", "Shared")
OPACITY = 0.9  # of a map over its backdrop
NEAR_ZERO = 0.1  # of the limit: where even the weakest pixels are stronger than this, the colours start at the median, not at zero

# (position, red, green, blue, opacity). Diverging: -1 is position 0, zero is 0.5, +1 is 1.
DIVERGING = (
    (0.0, 8, 48, 122, 1.0), (0.2, 24, 88, 173, 0.88), (0.35, 64, 132, 208, 0.58), (0.45, 140, 180, 226, 0.22),
    (0.5, 255, 255, 255, 0.0),
    (0.55, 244, 176, 150, 0.22), (0.65, 226, 104, 70, 0.58), (0.8, 190, 44, 34, 0.88), (1.0, 122, 8, 20, 1.0),
)
SEQUENTIAL = (
    (0.0, 253, 231, 170, 0.0), (0.1, 250, 204, 110, 0.32), (0.25, 247, 165, 66, 0.64), (0.45, 234, 110, 62, 0.84),
    (0.65, 203, 60, 92, 0.94), (0.85, 146, 26, 118, 1.0), (1.0, 88, 10, 116, 1.0),
)
# The same on a dark ground with no picture under the map: strong values are light there.
DIVERGING_ON_DARK = (
    (0.0, 176, 222, 255, 1.0), (0.2, 96, 170, 250, 0.9), (0.35, 62, 128, 220, 0.66), (0.45, 48, 92, 170, 0.3),
    (0.5, 0, 0, 0, 0.0),
    (0.55, 160, 56, 40, 0.3), (0.65, 214, 78, 52, 0.66), (0.8, 246, 134, 92, 0.9), (1.0, 255, 214, 186, 1.0),
)
SEQUENTIAL_ON_DARK = (
    (0.0, 60, 16, 84, 0.0), (0.1, 84, 24, 110, 0.5), (0.25, 130, 37, 120, 0.8), (0.45, 190, 55, 96, 0.94),
    (0.65, 234, 98, 62, 1.0), (0.85, 250, 170, 70, 1.0), (1.0, 254, 238, 176, 1.0),
)


@dataclass(frozen=True)
class Display:
    """How maps are drawn. ``clip``: the percentile of the values that gets full colour. ``threshold``: the percentage of
    pixels that is hidden, the weakest first. ``smoothing``: standard deviation in pixels of the network's input."""

    sign: str = "Signed"
    scale: str = "Own"
    clip: float = 99.5
    threshold: int = 0
    smoothing: float = 0.0
    backdrop: str = "Grey"


@dataclass(frozen=True)
class Shown:
    """A map ready to be drawn. Hidden pixels are NaN in ``values``; ``percentile`` is the rank of every pixel, 0 to 100."""

    values: np.ndarray
    percentile: np.ndarray
    limit: float
    diverging: bool
    floor: float = 0.0

    @property
    def range(self) -> tuple[float, float]:
        """The values at both ends of the scale. A map that never comes near zero (RISE's, a mask) starts at its median, so that
        the colours are spent on the pixels that differ from most."""
        return (-self.limit if self.diverging else self.floor, self.limit)

    def stops(self, on_dark: bool = False) -> Sequence[tuple[float, int, int, int, float]]:
        """The scale of colours; ``on_dark`` where the map alone stands on a dark ground."""
        if self.diverging:
            return DIVERGING_ON_DARK if on_dark else DIVERGING
        return SEQUENTIAL_ON_DARK if on_dark else SEQUENTIAL


def prepare(maps: Sequence[tuple[np.ndarray, bool]], display: Display) -> list[Shown]:
    """The maps, each with whether it is signed, as ``display`` asks for; their limits are shared if it says so."""
    shown = [_prepare_one(heatmap, signed, display) for heatmap, signed in maps]
    if display.scale == "Shared" and shown:
        limit, floor = max(each.limit for each in shown), min(each.floor for each in shown)
        shown = [replace(each, limit=limit, floor=floor) for each in shown]
    return shown


def _prepare_one(heatmap: np.ndarray, signed: bool, display: Display) -> Shown:
    values = smoothed(heatmap.astype(np.float32), display.smoothing)
    if display.sign == "Positive":
        values = np.maximum(values, 0)
    elif display.sign == "Magnitude":
        values = np.abs(values)
    strength = np.abs(values)
    limit = float(np.percentile(strength, display.clip)) or float(strength.max()) or 1.0
    low, middle = (float(level) for level in np.percentile(strength, (100 - display.clip, 50)))
    floor = middle if NEAR_ZERO * limit < low and middle < limit else 0.0
    percentile = ranks(values)
    if display.threshold:
        hidden = ranks(strength) < display.threshold
        values = np.where(hidden, np.float32(np.nan), values)
    return Shown(values, percentile, limit, signed and display.sign == "Signed", floor)


def ranks(values: np.ndarray) -> np.ndarray:
    """The percentage of pixels (0 to 100) that are lower, as uint8; equal values get equal ranks."""
    ordered = np.sort(values, axis=None)
    below = np.searchsorted(ordered, values.ravel(), side="left")
    return (below * 100 // max(values.size - 1, 1)).astype(np.uint8).reshape(values.shape)


def smoothed(values: np.ndarray, deviation: float) -> np.ndarray:
    """A Gaussian blur that mirrors the map at its edges."""
    if deviation <= 0:
        return values
    reach = max(1, int(np.ceil(3 * deviation)))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        pad = [(reach, reach) if a == axis else (0, 0) for a in (0, 1)]
        padded = np.pad(values, pad, mode="symmetric")
        values = np.apply_along_axis(np.convolve, axis, padded, kernel, mode="valid")
    return values.astype(np.float32)


def backdrop(seen: Image.Image, kind: str) -> Image.Image | None:
    """What lies under a map: the picture, the picture in pale grey, or nothing."""
    if kind == "None":
        return None
    return seen if kind == "Colour" else grey(seen)


def grey(seen: Image.Image) -> Image.Image:
    """The picture in a pale grey, on which colours are easy to tell apart."""
    return seen.convert("L").point(lambda level: 78 + round(0.67 * level)).convert("RGB")


def rgba(shown: Shown, on_dark: bool = False) -> np.ndarray:
    """(H, W, 4) uint8: the colours of a map, transparent where it is zero or hidden."""
    low, high = shown.range
    place = np.clip((np.nan_to_num(shown.values) - low) / (high - low), 0, 1)
    stops = np.array(shown.stops(on_dark))
    colours = [np.interp(place, stops[:, 0], stops[:, channel]) for channel in (1, 2, 3)]
    alpha = np.interp(place, stops[:, 0], stops[:, 4]) * 255 * np.isfinite(shown.values)
    return np.stack([*colours, alpha], -1).round().astype(np.uint8)


def ramp(shown: Shown, on_dark: bool = False) -> str:
    """The scale of colours as CSS, the lowest value on the left, as strong as a map over its backdrop."""
    stops = ", ".join(f"rgba({red},{green},{blue},{alpha * OPACITY:g}) {100 * at:g}%"
                      for at, red, green, blue, alpha in shown.stops(on_dark))
    return f"linear-gradient(to right, {stops})"


def blended(shown: Shown, under: np.ndarray, on_dark: bool = False) -> np.ndarray:
    """(H, W, 3) uint8: the map over a picture of the same size."""
    colours = rgba(shown, on_dark).astype(np.float32)
    alpha = colours[..., 3:] / 255 * OPACITY
    return (colours[..., :3] * alpha + under.astype(np.float32) * (1 - alpha)).round().astype(np.uint8)


def over(shown: Shown, seen: Image.Image, kind: str, on_dark: bool = False) -> np.ndarray:
    """(H, W, 3) uint8: the map over a ``backdrop`` of this kind at the map's size; over white, or a dark ground, if it is "None"."""
    height, width = shown.values.shape
    under = backdrop(seen, kind)
    if under is None:
        return blended(shown, np.full((height, width, 3), 20 if on_dark else 255, np.uint8), on_dark)
    return blended(shown, np.asarray(under if under.size == (width, height) else under.resize((width, height))))
