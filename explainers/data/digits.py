"""Generated digits similar to MNIST's: white on black, 28x28, printed and handwritten.

About 30 % of the digits are printed in one of matplotlib's bundled fonts; the others are curves through a few random control
points, in several ways of writing (an open four, a seven with and without a bar). All are rotated, slanted, stretched and bent,
with strokes of random width, and framed as in MNIST: scaled into a box of 20 pixels and centred by their centre of mass.
Networks trained on these digits classify a good part of real handwriting correctly.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from .outlines import outline
from .pen import pen_matrices

SIZE = 28
_PLATE = 64  # the side in pixels of the square on which a digit is drawn before it is framed
_BOX = 20  # the side in pixels of the box that the digit is scaled into, as in MNIST
_CHUNK = 128  # digits are always drawn in chunks of this size, so that the first k of n digits do not depend on n
_FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique", "DejaVuSansMono",
    "DejaVuSansMono-Oblique", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic",
    "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta", "cmb10", "cmr10", "cmss10", "cmtt10",
)  # fmt: skip


def draw_batch(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """n digits, uint8 (n, 1, 28, 28), and labels, int64 (n,). The first k of them are ``draw_batch(k, seed)``."""
    chunks = [_draw_chunk(seed, k) for k in range(math.ceil(n / _CHUNK))]
    if not chunks:
        return torch.empty(0, 1, SIZE, SIZE, dtype=torch.uint8), torch.empty(0, dtype=torch.int64)
    images, labels = (torch.cat(parts)[:n] for parts in zip(*chunks, strict=True))
    return images, labels


def _draw_chunk(seed: int, chunk: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng((seed, chunk))
    labels = torch.from_numpy(rng.permutation(np.arange(_CHUNK) % 10))
    is_handwritten = torch.from_numpy(rng.random(_CHUNK) < 0.7)[:, None, None, None]
    plates = torch.where(is_handwritten, _write(rng, labels), _print(rng, labels))  # (B, 1, 64, 64)
    ink = _frame(rng, _bend(rng, plates))  # (B, 1, 28, 28)
    gain, grain = _uniform(rng, 0.9, 1.25), _uniform(rng, 0.0, 0.03)
    ink = ink * gain + grain * torch.from_numpy(rng.standard_normal(ink.shape, dtype=np.float32))
    return (ink.clamp(0, 1) * 255).round().to(torch.uint8), labels


def _uniform(rng: np.random.Generator, low: float, high: float) -> Tensor:
    """A random number for each digit of a chunk, (B, 1, 1, 1) with B = 128."""
    return torch.from_numpy(rng.uniform(low, high, (_CHUNK, 1, 1, 1)).astype(np.float32))


def _print(rng: np.random.Generator, labels: Tensor) -> Tensor:
    """Printed digits (B, 1, 64, 64) from 0 to 1, with thinner or thicker strokes than their font's."""
    fonts = torch.from_numpy(rng.integers(0, len(_FONTS), _CHUNK))
    smooth = _blurred(_typeface()[fonts, labels][:, None], 1.5)
    return ((smooth - _uniform(rng, 0.22, 0.62)) * 5 + 0.5).clamp(0, 1)


def _write(rng: np.random.Generator, labels: Tensor) -> Tensor:
    """Handwritten digits (B, 1, 64, 64) from 0 to 1: a round, soft pen moves along a curve through randomly shifted control points."""
    matrices, controls, of_digit = pen_matrices()
    variants = torch.tensor([rng.choice(of_digit[label]) for label in labels.tolist()])
    tremor = torch.from_numpy(rng.standard_normal(controls[variants].shape, dtype=np.float32))
    shaken = controls[variants] + _uniform(rng, 0.005, 0.055)[:, 0] * tremor
    path = 0.2 + 0.6 * matrices[variants] @ shaken  # (B, P, 2), P points in the unit square
    nib = _uniform(rng, 0.014, 0.05)[:, 0]  # (B, 1, 1)
    pixels = (torch.arange(_PLATE) + 0.5) / _PLATE
    across, down = (torch.exp(-0.5 * ((path[:, :, k, None] - pixels) / nib) ** 2) for k in (0, 1))  # (B, P, 64)
    density = down.transpose(1, 2) @ across  # (B, 64, 64)
    length = path.diff(dim=1).norm(dim=2).sum(1)[:, None, None]
    ridge = math.sqrt(2 * math.pi) * nib * path.shape[1] / length  # the density in the middle of a straight stroke
    return ((density / ridge - 0.42) * 3 + 0.5).clamp(0, 1)[:, None]


def _bend(rng: np.random.Generator, plates: Tensor) -> Tensor:
    """Rotate, slant, stretch and locally bend each digit (B, 1, 64, 64)."""
    turn, slant = _uniform(rng, -0.25, 0.25), _uniform(rng, -0.3, 0.75)
    wide, tall = _uniform(rng, 0.7, 1.3), _uniform(rng, 0.8, 1.15)
    ticks = (torch.arange(_PLATE) + 0.5) / _PLATE * 2 - 1
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    x, y = x[None, None] / wide, y[None, None] / tall
    x = x + slant * y
    x, y = turn.cos() * x - turn.sin() * y, turn.sin() * x + turn.cos() * y
    positions = torch.cat((x, y), 1)  # (B, 2, 64, 64), where each output pixel is sampled
    for knots, strongest in ((4, 0.10), (7, 0.045)):
        coarse = torch.from_numpy(rng.standard_normal((_CHUNK, 2, knots, knots), dtype=np.float32))
        smooth = _upsampling(knots)
        positions = positions + smooth @ coarse @ smooth.T * _uniform(rng, 0.01, strongest)
    return F.grid_sample(plates, positions.permute(0, 2, 3, 1), align_corners=False)


def _frame(rng: np.random.Generator, plates: Tensor) -> Tensor:
    """Scale each digit into a box of 20 pixels and put its centre of mass near the centre of the frame: (B, 1, 28, 28).

    MNIST's digits were shifted by whole pixels, to the pixel right of and below the middle. So their centres of mass are on average
    half a pixel right of and below the middle, which ``shift`` imitates.
    """
    shift = torch.cat((_uniform(rng, -0.4, 1.4), _uniform(rng, -0.4, 1.4)), 1) * 2 / SIZE
    ticks = (torch.arange(_PLATE) + 0.5) / _PLATE * 2 - 1
    inked = plates[:, 0] > 0.3
    sides, middles = [], []
    for axis in (1, 2):  # reducing rows gives values over x, reducing columns values over y
        line = inked.any(axis)
        low = torch.where(line, ticks, 2.0).amin(1)
        high = torch.where(line, ticks, -2.0).amax(1)
        sides.append((high - low).clamp(min=0.1))
        mass = plates[:, 0].sum(axis)
        middles.append((mass * ticks).sum(1) / mass.sum(1).clamp(min=1e-6))
    scale = torch.maximum(*sides) / 2 * SIZE / _BOX  # the length on the plate of one unit of the frame
    theta = torch.zeros(len(plates), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = torch.stack(middles, 1) - scale[:, None] * shift[:, :, 0, 0]
    grid = F.affine_grid(theta, [len(plates), 1, 2 * SIZE, 2 * SIZE], align_corners=False)
    return F.avg_pool2d(F.grid_sample(plates, grid, align_corners=False), 2)


def _blurred(images: Tensor, sigma: float) -> Tensor:
    radius = math.ceil(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    images = F.conv2d(images, kernel.view(1, 1, 1, -1), padding=(0, radius))
    return F.conv2d(images, kernel.view(1, 1, -1, 1), padding=(radius, 0))


@cache
def _upsampling(knots: int) -> Tensor:
    """The matrix (64, knots) that interpolates between evenly spaced knots, bicubic."""
    rows = F.interpolate(torch.eye(knots)[None, None], (_PLATE, knots), mode="bicubic", align_corners=True)
    return rows[0, 0]


@cache
def _typeface() -> Tensor:
    """Every digit in every font, float32 (fonts, 10, 64, 64) from 0 to 1."""
    plates = [[_rasterised(font, digit) for digit in "0123456789"] for font in _FONTS]
    return torch.from_numpy(np.array(plates, dtype=np.float32) / 255)


def _rasterised(font: str, digit: str) -> np.ndarray:
    """One character whose longer side is 0.62 of the plate, uint8 (64, 64)."""
    polygons = outline(digit, font, 100)
    points = np.concatenate(polygons)
    low, high = points.min(0), points.max(0)
    canvas = Image.new("L", (4 * _PLATE, 4 * _PLATE))
    pen = ImageDraw.Draw(canvas)
    # Polygons are painted in order of size. Holes, whose orientation is opposite, are painted black.
    areas = [float((p[:, 0] * np.roll(p[:, 1], -1) - p[:, 1] * np.roll(p[:, 0], -1)).sum()) for p in polygons]
    outer = np.sign(max(areas, key=abs))
    for area, polygon in sorted(zip(areas, polygons, strict=True), key=lambda pair: -abs(pair[0])):
        unit = (polygon - (low + high) / 2) / (high - low).max() * (0.62, -0.62) + 0.5
        pen.polygon([tuple(p) for p in unit * 4 * _PLATE], fill=255 if np.sign(area) == outer else 0)
    return np.asarray(canvas.resize((_PLATE, _PLATE), Image.Resampling.BOX))
