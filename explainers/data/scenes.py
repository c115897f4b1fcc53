"""Procedural scenes with one or two labelled objects, clutter, and exact masks of the objects.

A scene is planned from a seed (colours, background, light, positions of objects and clutter) and then rendered at any size: networks
see it at 128 pixels, people at 512, and it is the same picture. Because it is known which object each pixel belongs to, it can
be measured whether a map shows the object.

>>> scene = draw(seed=7, size=128, objects=2)
>>> scene.image.shape, scene.masks.shape
((128, 128, 3), (2, 128, 128))
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from .backgrounds import GROUNDS, grid, noise
from .glyphs import ICONS, REACH, Pose, layers, level_for, place, window
from .palettes import Colour, Palette, pick

CLASSES: tuple[str, ...] = tuple(icon.name for icon in ICONS)
_TEXTURES = ("plain", "plain", "stripes", "cloudy", "bands")


@dataclass(frozen=True)
class Scene:
    """A rendered scene: image (size, size, 3) uint8, and for each object a label and a mask of its visible pixels."""

    image: np.ndarray
    labels: tuple[int, ...]
    masks: np.ndarray  # (objects, size, size) bool, disjoint


@dataclass(frozen=True)
class Placement:
    """An object of a plan. The period of its texture (pitch) is in widths of the picture, angles are in radians."""

    label: int
    pose: Pose
    texture: str
    texture_angle: float
    texture_pitch: float


@dataclass(frozen=True)
class Clutter:
    """A strip, or a pebble where both ends coincide. ``over``: it lies above the objects and hides parts of them."""

    start: tuple[float, float]
    end: tuple[float, float]
    radius: float
    colour: Colour
    opacity: float
    stripes: float  # stripes along it, 0 for none
    over: bool


@dataclass(frozen=True)
class Plan:
    """The description of a scene, independent of its size in pixels."""

    seed: int
    palette: Palette
    ground: int
    light: tuple[float, float]  # unit vector towards the light, y down
    objects: tuple[Placement, ...]
    clutter: tuple[Clutter, ...]


def draw(seed: int, size: int = 128, objects: int = 1) -> Scene:
    """The scene of this seed with 1 or 2 objects (of different classes), rendered at ``size`` x ``size`` pixels."""
    return render(plan(seed, objects), size)


def draw_batch(n: int, seed: int, size: int = 128) -> tuple[torch.Tensor, torch.Tensor]:
    """n scenes of one object each, uint8 (n, 3, size, size), and labels, int64 (n,).

    Scene i is ``draw((seed << 32) + i, size)``, so the first k scenes of a batch are the batch of k.
    """
    images = np.empty((n, size, size, 3), np.uint8)
    labels = np.empty(n, np.int64)
    for i in range(n):
        scene = draw((seed << 32) + i, size)
        images[i], labels[i] = scene.image, scene.labels[0]
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels)


def plan(seed: int, objects: int = 1) -> Plan:
    """The plan of this seed with 1 or 2 objects. Raises ValueError for another number."""
    if objects not in (1, 2):
        raise ValueError(f"a scene holds 1 or 2 objects, not {objects}")
    rng = np.random.default_rng((objects, seed))
    palette = pick(rng, objects)
    angle = rng.uniform(-2.6, -0.5)  # light from above, as people expect it
    labels = rng.permutation(len(ICONS))[:objects]
    placements = tuple(_placement(rng, int(label), k, objects) for k, label in enumerate(labels))
    return Plan(
        seed=seed,
        palette=palette,
        ground=int(rng.integers(len(GROUNDS))),
        light=(math.cos(angle), math.sin(angle)),
        objects=placements,
        clutter=_clutter(rng, palette, placements),
    )


def _placement(rng: np.random.Generator, label: int, position: int, objects: int) -> Placement:
    if objects == 1:
        scale = rng.uniform(0.36, 0.68)
        room = 0.5 - 0.5 * scale
        centre = (0.5 + rng.uniform(-room, room), 0.5 + rng.uniform(-room, room))
    else:
        scale = rng.uniform(0.36, 0.45)
        side = -1 if position == 0 else 1
        centre = (0.5 + side * rng.uniform(0.22, 0.26), rng.uniform(0.32, 0.68))
    turn = math.radians(ICONS[label].turn)
    return Placement(
        label=label,
        pose=Pose(centre, scale, rng.uniform(-turn, turn), mirrored=rng.random() < 0.5),
        texture=_TEXTURES[rng.integers(len(_TEXTURES))],
        texture_angle=rng.uniform(0, math.pi),
        texture_pitch=rng.uniform(0.05, 0.09),
    )


def _clutter(rng: np.random.Generator, palette: Palette, objects: tuple[Placement, ...]) -> tuple[Clutter, ...]:
    """Strips and pebbles behind the objects, and at most one thin strip across each object."""
    pieces = [_piece(rng, palette) for _ in range(rng.integers(2, 7))]
    for target in objects:
        if rng.random() < 0.5:
            pieces.append(_strip_across(rng, palette, target.pose))
    return tuple(pieces)


def _piece(rng: np.random.Generator, palette: Palette) -> Clutter:
    """A strip or a pebble behind the objects, anywhere in the picture."""
    x, y, angle = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0, 2 * math.pi)
    pebble = rng.random() < 0.35
    length = 0.0 if pebble else rng.uniform(0.2, 0.7)
    return Clutter(
        start=(x, y),
        end=(x + length * math.cos(angle), y + length * math.sin(angle)),
        radius=rng.uniform(0.02, 0.06) if pebble else rng.uniform(0.006, 0.024),
        colour=palette.clutter[rng.integers(len(palette.clutter))],
        opacity=rng.uniform(0.55, 1.0),
        stripes=0.0 if pebble or rng.random() < 0.6 else rng.uniform(8, 16),
        over=False,
    )


def _strip_across(rng: np.random.Generator, palette: Palette, target: Pose) -> Clutter:
    """A strip across an object. Its width is at most a tenth of the object's size, so that the object stays recognisable."""
    angle = rng.uniform(0, 2 * math.pi)
    along = (math.cos(angle), math.sin(angle))
    aside, half = rng.uniform(-0.3, 0.3) * target.scale, rng.uniform(0.3, 0.8) * target.scale
    x, y = target.centre[0] - aside * along[1], target.centre[1] + aside * along[0]
    return Clutter(
        start=(x - half * along[0], y - half * along[1]),
        end=(x + half * along[0], y + half * along[1]),
        radius=rng.uniform(0.02, 0.05) * target.scale,
        colour=palette.clutter[rng.integers(len(palette.clutter))],
        opacity=1.0,
        stripes=0.0,
        over=True,
    )


def render(scene: Plan, size: int) -> Scene:
    """Paint a plan from back to front."""
    rng = np.random.default_rng((len(scene.objects), scene.seed, 1))
    picture = GROUNDS[scene.ground](rng, size, scene.palette)
    for piece in scene.clutter:
        if not piece.over:
            _paint_clutter(picture, piece, scene.light)
    masks: list[np.ndarray] = []
    for placement, colours in zip(scene.objects, scene.palette.objects, strict=True):
        here = _paint_object(picture, placement, colours, scene.light, rng)
        masks = [mask & ~here for mask in masks] + [here]
    for piece in scene.clutter:
        if piece.over:
            hidden = _paint_clutter(picture, piece, scene.light)
            masks = [mask & ~hidden for mask in masks]
    picture *= _illumination(size, scene.light)[..., None]
    image = (picture.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return Scene(image, tuple(p.label for p in scene.objects), np.stack(masks))


def _illumination(size: int, light: tuple[float, float]) -> np.ndarray:
    """Factors (size, size) of the brightness: higher towards the light, lower in the corners."""
    x, y = grid(size)
    x, y = x - 0.5, y - 0.5
    return (1 + 0.16 * (light[0] * x + light[1] * y)) * (1.03 - 0.34 * (x * x + y * y))


def _paint_clutter(picture: np.ndarray, piece: Clutter, light: tuple[float, float]) -> np.ndarray:
    """Paint one strip or pebble with its shadow and shading; returns a bool mask of the pixels that it covers."""
    size = picture.shape[0]
    hidden = np.zeros((size, size), bool)
    (x0, y0), (x1, y1) = piece.start, piece.end
    reach = 2 * piece.radius + 0.03
    part = window((min(x0, x1) - reach, min(y0, y1) - reach), (max(x0, x1) + reach, max(y0, y1) + reach), size)
    rows, columns = part.slices
    x, y = grid(size)
    u, v = x[:, columns] - x0, y[rows] - y0
    dx, dy = x1 - x0, y1 - y0
    t = ((u * dx + v * dy) / max(dx * dx + dy * dy, 1e-6)).clip(0, 1)
    px, py = u - t * dx, v - t * dy  # from the strip's axis to the pixel
    cover = ((piece.radius - np.sqrt(px * px + py * py)) * size + 0.5).clip(0, 1)
    drop = 0.35 * piece.radius + 0.006
    thrown = np.sqrt((px + light[0] * drop) ** 2 + (py + light[1] * drop) ** 2)
    shadow = (1 - (thrown - piece.radius) / (0.5 * piece.radius + 0.012)).clip(0, 1)
    patch = picture[rows, columns]
    patch *= (1 - 0.30 * piece.opacity * shadow * (1 - cover))[..., None]
    tone = 1 + 0.28 * (px * light[0] + py * light[1]) / piece.radius
    if piece.stripes:
        tone *= 1 + 0.22 * np.sin(2 * math.pi * piece.stripes * t)
    patch += (cover * piece.opacity)[..., None] * (tone[..., None] * np.array(piece.colour, np.float32) - patch)
    hidden[rows, columns] = cover >= 0.5
    return hidden


def _paint_object(picture: np.ndarray, placement: Placement, colours: tuple[Colour, Colour, Colour], light: tuple[float, float],
                  rng: np.random.Generator) -> np.ndarray:
    """Paint one object with shadow, texture, details and shading; returns a bool mask of the pixels that it covers."""
    size = picture.shape[0]
    pose, icon = placement.pose, layers(placement.label)
    pixels = pose.scale * size
    (x, y), reach = pose.centre, REACH * pose.scale
    part = window((x - reach, y - reach), (x + reach, y + reach), size)
    patch = picture[part.slices]

    drop = 0.055 * pose.scale + 0.01
    thrown = replace(pose, centre=(x - light[0] * drop, y - light[1] * drop))
    patch *= (1 - 0.62 * place(icon.shadow, thrown, part, size))[..., None]

    cover = place(level_for(icon.silhouette, pixels), pose, part, size)
    body, second, detail = (np.array(c, np.float32) for c in colours)
    if ICONS[placement.label].fill == "drawn" and body.sum() < detail.sum():
        body, second, detail = detail, detail, body  # faces are drawn with dark strokes on a light body
    surface = body + _texture(placement, size, rng)[part.slices][..., None] * (second - body)
    if icon.detail is not None:
        surface += place(level_for(icon.detail, pixels), pose, part, size)[..., None] * (detail - surface)
    slope_y, slope_x = np.gradient(place(icon.height, pose, part, size))
    # The height falls towards the rim. Slopes that face the light are brighter, others darker.
    facing = -(slope_x * light[0] + slope_y * light[1]) * (pixels * 0.075)
    surface *= (1 + 0.55 * facing.clip(-0.9, 0.6))[..., None]
    surface += (0.45 * (facing - 0.12).clip(0, 0.6))[..., None]
    patch += cover[..., None] * (surface - patch)
    here = np.zeros((size, size), bool)
    here[part.slices] = cover >= 0.5
    return here


def _texture(placement: Placement, size: int, rng: np.random.Generator) -> np.ndarray:
    """The fraction of the second body colour at each pixel, (size, size) from 0 to 1."""
    x, y = grid(size)
    (cx, cy), angle, pitch = placement.pose.centre, placement.texture_angle, placement.texture_pitch
    along = math.cos(angle) * (x - cx) + math.sin(angle) * (y - cy)
    if placement.texture == "stripes":
        return 0.5 + 0.5 * np.sin(2 * math.pi / pitch * along)
    if placement.texture == "bands":
        return (0.5 + 0.025 * size * np.sin(math.pi / pitch * along)).clip(0, 1)
    if placement.texture == "cloudy":
        return (0.5 + 0.7 * noise(rng, size, 8, 3)).clip(0, 1)
    return (0.5 + along / placement.pose.scale).clip(0, 1)
