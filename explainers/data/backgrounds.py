"""The five procedural backgrounds of scenes. A background is the same picture at every resolution.

They are functions of continuous coordinates and of small random lattices whose size does not depend on that of the picture. So a
scene drawn at 512 pixels shows what the network sees at 128, in finer detail.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image

from .glyphs import window
from .palettes import Colour, Palette

Ground = Callable[[np.random.Generator, int, Palette], np.ndarray]


def grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the pixel centres from 0 to 1: x (1, size) and y (size, 1)."""
    centres = (np.arange(size, dtype=np.float32) + 0.5) / size
    return centres[None, :], centres[:, None]


def noise(rng: np.random.Generator, size: int, coarsest: int = 4, octaves: int = 4, roughness: float = 0.5) -> np.ndarray:
    """Smooth noise (size, size) with a standard deviation near 0.5.

    It is the sum of ``octaves`` random lattices. The first has ``coarsest`` cells a side, each next one twice as many and
    ``roughness`` times the amplitude.
    """
    field, total = np.zeros((coarsest, coarsest), np.float32), 0.0
    for octave in range(octaves):
        cells = coarsest << octave
        field = _resize(field, cells) + roughness**octave * rng.standard_normal((cells, cells), dtype=np.float32)
        total += roughness ** (2 * octave)
    return _resize(field, size) * np.float32(0.7 / np.sqrt(total))


def _resize(field: np.ndarray, size: int) -> np.ndarray:
    if field.shape[0] == size:
        return field
    return np.asarray(Image.fromarray(field).resize((size, size), Image.Resampling.BICUBIC))


def blend(colours: tuple[Colour, ...], amount: np.ndarray) -> np.ndarray:
    """A gradient through the colours: for each ``amount`` (H, W) from 0 to 1 its colour, float32 (H, W, 3)."""
    steps = np.linspace(0, 1, 1024)
    stops = np.linspace(0, 1, len(colours))
    table = np.stack([np.interp(steps, stops, channel) for channel in zip(*colours, strict=True)], -1)
    return table.astype(np.float32)[(amount * 1023).clip(0, 1023).astype(np.int16)]


def clouds(rng: np.random.Generator, size: int, palette: Palette) -> np.ndarray:
    """Clouds over a slow gradient of colour."""
    x, y = grid(size)
    angle = rng.uniform(0, 2 * math.pi)
    slope = 0.5 + 0.45 * (math.cos(angle) * (x - 0.5) + math.sin(angle) * (y - 0.5))
    picture = blend((*palette.ground, palette.accent), slope + 0.42 * noise(rng, size, 3, 5, 0.55))
    return picture * (1 + 0.10 * noise(rng, size, 16, 3))[..., None]


def ripples(rng: np.random.Generator, size: int, palette: Palette) -> np.ndarray:
    """Dunes or water: bent parallel waves."""
    x, y = grid(size)
    angle, waves = rng.uniform(0, math.pi), rng.uniform(5, 12)
    along = math.cos(angle) * x + math.sin(angle) * y
    phase = 2 * math.pi * (waves * along + rng.uniform(0.5, 1.1) * noise(rng, size, 3, 3, 0.4))
    crest = np.sin(phase) + 0.25 * np.sin(2 * phase + 0.7)  # steeper on one side, as in sand
    drift = noise(rng, size, 3, 2)
    picture = blend((*palette.ground, palette.accent), 0.42 + 0.18 * drift + 0.17 * crest)
    return picture * (1 + 0.06 * crest)[..., None]


def bokeh(rng: np.random.Generator, size: int, palette: Palette) -> np.ndarray:
    """Out-of-focus discs of light over a dim background."""
    _, y = grid(size)
    picture = blend(palette.ground, 0.15 + 0.5 * y + 0.18 * noise(rng, size, 3, 3))
    for _ in range(int(rng.integers(12, 22))):
        centre = (rng.uniform(-0.05, 1.05), rng.uniform(-0.05, 1.05))
        radius = rng.uniform(0.03, 0.12)
        strength, choice = rng.uniform(0.10, 0.42), rng.integers(0, 3)
        colour = np.array((palette.ground[2], palette.accent, palette.clutter[0])[choice], np.float32)
        _light_disc(picture, centre, radius, strength, colour)
    return picture


def _light_disc(picture: np.ndarray, centre: tuple[float, float], radius: float, strength: float, colour: np.ndarray) -> None:
    size = picture.shape[0]
    reach = radius * 1.1
    part = window((centre[0] - reach, centre[1] - reach), (centre[0] + reach, centre[1] + reach), size)
    rows, columns = part.slices
    x, y = grid(size)
    patch = picture[rows, columns]
    distance = np.sqrt((x[:, columns] - centre[0]) ** 2 + (y[rows] - centre[1]) ** 2) / radius
    edge = np.clip((1.08 - distance) / 0.16, 0, 1)
    glow = strength * edge * (0.55 + 0.45 * np.clip(distance, 0, 1) ** 4)  # a lens brightens the rim
    patch += glow[..., None] * (np.minimum(colour * 1.35, 1) - patch)


def hills(rng: np.random.Generator, size: int, palette: Palette) -> np.ndarray:
    """Ridges one behind the other under a bright sky; the far ones are paler."""
    x, y = grid(size)
    dark, middle, light = palette.ground
    picture = blend((palette.accent, light, light), np.clip(y * 1.6 + 0.12 * noise(rng, size, 3, 3), 0, 1))
    texture = 1 + 0.09 * noise(rng, size, 8, 4, 0.6)
    count = int(rng.integers(3, 6))
    for k in range(count):
        near = (k + 1) / count
        base = 0.25 + 0.62 * k / count + rng.uniform(-0.04, 0.04)
        ridge = np.full_like(x, base)
        for wave in (1.0, 2.1, 4.3, 9.1):
            ridge += 0.055 / wave**0.8 * np.sin(2 * math.pi * (wave * x * rng.uniform(0.6, 1.2) + rng.random()))
        cover = np.clip((y - ridge) * size + 0.5, 0, 1)
        depth = np.clip((y - ridge) / 0.35, 0, 1)  # the lower part of each ridge is paler, as in mist
        tone = blend((light, middle, dark), np.clip(near - 0.28 * depth, 0, 1))
        picture += cover[..., None] * (tone * texture[..., None] - picture)
    return picture


def papercut(rng: np.random.Generator, size: int, palette: Palette) -> np.ndarray:
    """Layers of cut coloured paper, each with a soft shadow on the one below."""
    field = noise(rng, size, 3, 2, 0.35) * 1.1
    sheets = int(rng.integers(4, 7))
    cuts = np.linspace(-0.75, 0.75, sheets)
    tones = [np.array(c, np.float32) for c in _steps(palette, sheets + 1)]
    picture = np.broadcast_to(tones[0], (size, size, 3)).copy()
    for cut, tone in zip(cuts.tolist(), tones[1:], strict=True):
        above = field - cut
        picture *= (1 - 0.38 * np.exp(-np.clip(-above, 0, None) / 0.07))[..., None]
        sheet = np.clip(above * size / 5 + 0.5, 0, 1)
        picture += sheet[..., None] * (tone - picture)
    return picture * (1 + 0.04 * noise(rng, size, 32, 2))[..., None]


def _steps(palette: Palette, count: int) -> np.ndarray:
    return blend((*palette.ground, palette.accent), np.linspace(0, 1, count, dtype=np.float32))


GROUNDS: tuple[Ground, ...] = (clouds, ripples, bokeh, hills, papercut)
