"""Random palettes of harmonious colours for the scenes.

A palette is drawn in OKLCH, a colour space in which equal distances look equal. The background gets one hue (with a small drift)
at three lightnesses. An object gets a hue near a classic angle to it (complement, triad, neighbour) and a clearly different
lightness, so that people and networks can tell every object from its background.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Colour = tuple[float, float, float]

_HARMONIES = (180.0, 150.0, 210.0, 120.0, 240.0, 60.0, -60.0)  # degrees from the background's hue to the object's


def oklch(lightness: float, chroma: float, hue: float) -> Colour:
    """An OKLCH colour (hue in degrees) as sRGB from 0 to 1. Outside the sRGB gamut, chroma is reduced until the colour fits."""
    linear = _linear_rgb(lightness, chroma, hue)
    while chroma >= 0.01 and (min(linear) < -1e-3 or max(linear) > 1.001):
        chroma *= 0.92
        linear = _linear_rgb(lightness, chroma, hue)
    red, green, blue = (_encoded(min(1.0, max(0.0, value))) for value in linear)
    return red, green, blue


def _encoded(linear: float) -> float:
    """The sRGB transfer function for one linear value from 0 to 1."""
    return 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055


def _linear_rgb(lightness: float, chroma: float, hue: float) -> Colour:
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    red = 4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short
    green = -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short
    blue = -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short
    return red, green, blue


@dataclass(frozen=True)
class Palette:
    """The colours of one scene, sRGB from 0 to 1."""

    ground: tuple[Colour, Colour, Colour]  # dark, middle, light
    accent: Colour  # the background's second hue
    clutter: tuple[Colour, ...]
    objects: tuple[tuple[Colour, Colour, Colour], ...]  # for each object: body, second body colour, detail


def pick(rng: np.random.Generator, objects: int) -> Palette:
    """A palette for a scene with this many objects."""
    hue = rng.uniform(0, 360)
    dark = rng.random() < 0.6
    middle = rng.uniform(0.26, 0.46) if dark else rng.uniform(0.72, 0.86)
    chroma = rng.uniform(0.05, 0.13) if dark else rng.uniform(0.04, 0.09)
    drift = rng.uniform(-40, 40)
    ground = (oklch(middle - 0.12, chroma, hue - drift / 2), oklch(middle, chroma, hue),
              oklch(min(0.95, middle + 0.13), chroma, hue + drift))
    accent_hue = hue + float(rng.choice((-70.0, 70.0, 110.0, -110.0)))
    accent = oklch(middle + rng.uniform(-0.06, 0.12), chroma + 0.02, accent_hue)
    clutter = tuple(
        oklch(min(0.93, max(0.15, middle + rng.uniform(-0.16, 0.22))), rng.uniform(0.04, 0.13), clutter_hue)
        for clutter_hue in (accent_hue, hue + 25, hue - 35, hue + 180 + rng.uniform(-40, 40))
    )
    offsets = rng.permutation(_HARMONIES)[:objects].tolist()
    bodies = tuple(_body(rng, hue + offset + rng.uniform(-15, 15), dark) for offset in offsets)
    return Palette(ground, accent, clutter, bodies)


def _body(rng: np.random.Generator, hue: float, dark_ground: bool) -> tuple[Colour, Colour, Colour]:
    """Body, second body colour and detail of an object: a light body on a dark background, a dark one on a light background."""
    lightness = rng.uniform(0.72, 0.9) if dark_ground else rng.uniform(0.36, 0.54)
    chroma = rng.uniform(0.08, 0.19)
    second = lightness + (-0.10 if dark_ground else 0.10)
    detail = 0.30 if dark_ground else 0.88
    return (oklch(lightness, chroma, hue), oklch(second, chroma, hue + rng.uniform(-45, 45)),
            oklch(detail, 0.07, hue + rng.uniform(-30, 30)))
