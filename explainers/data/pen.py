"""The strokes of handwritten digits: control points, and smooth curves through them.

Each way of writing a digit is a list of strokes, and each stroke a list of points (x to the right, y down, the digit in the unit
square). The points of a curve are linear in its control points, so a way of writing is one matrix, and a batch of digits with
randomly shifted control points is one matrix product.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

Stroke = list[tuple[float, float]]

_POINTS = 120  # the number of curve points of a digit, over all its strokes


def _ring(x: float, y: float, wide: float, tall: float, start: float, turns: float, count: int) -> Stroke:
    """Points on an ellipse. Angles are in turns, clockwise on the screen, 0 at the right."""
    angles = [2 * math.pi * (start + turns * k / (count - 1)) for k in range(count)]
    return [(x + wide * math.cos(a), y + tall * math.sin(a)) for a in angles]


# A doubled point makes a corner. A way of writing that is more common is listed more than once.
WRITTEN: tuple[tuple[int, list[Stroke]], ...] = (
    (0, [_ring(0.5, 0.5, 0.30, 0.48, -0.25, -1.03, 9)]),
    (0, [_ring(0.5, 0.5, 0.38, 0.46, -0.20, -1.06, 9)]),
    (1, [[(0.5, 0.0), (0.5, 1.0)]]),
    (1, [[(0.5, 0.0), (0.5, 1.0)]]),
    (1, [[(0.5, 0.0), (0.5, 0.5), (0.5, 1.0)]]),
    (1, [[(0.5, 0.0), (0.48, 0.5), (0.5, 1.0)]]),
    (1, [[(0.5, 0.02), (0.5, 0.35), (0.5, 0.65), (0.5, 0.98)]]),
    (1, [[(0.32, 0.2), (0.5, 0.02), (0.5, 0.02), (0.5, 0.5), (0.5, 0.98)]]),
    (1, [[(0.33, 0.18), (0.5, 0.02), (0.5, 0.02), (0.5, 0.98)], [(0.25, 0.98), (0.75, 0.98)]]),
    (2, [[(0.2, 0.22), (0.38, 0.03), (0.66, 0.08), (0.72, 0.3), (0.5, 0.62), (0.18, 0.96), (0.18, 0.96),
          (0.5, 0.95), (0.84, 0.95)]]),
    (2, [[(0.18, 0.2), (0.4, 0.02), (0.68, 0.1), (0.68, 0.38), (0.45, 0.75), (0.22, 0.95), (0.12, 0.82), (0.3, 0.76),
          (0.55, 0.92), (0.88, 0.92)]]),
    (2, [[(0.2, 0.14), (0.48, 0.02), (0.68, 0.22), (0.4, 0.7), (0.18, 0.92), (0.16, 0.74), (0.34, 0.7), (0.5, 0.92),
          (0.84, 0.8)]]),
    (2, [[(0.22, 0.12), (0.5, 0.02), (0.72, 0.2), (0.55, 0.55), (0.2, 0.93), (0.4, 0.84), (0.85, 0.98)]]),
    (3, [[(0.22, 0.1), (0.5, 0.02), (0.7, 0.2), (0.42, 0.46), (0.42, 0.46), (0.76, 0.66), (0.6, 0.94), (0.18, 0.92)]]),
    (3, [[(0.2, 0.06), (0.75, 0.05), (0.75, 0.05), (0.45, 0.4), (0.45, 0.4), (0.76, 0.62), (0.58, 0.95), (0.18, 0.9)]]),
    (3, [[(0.2, 0.16), (0.45, 0.02), (0.7, 0.16), (0.58, 0.42), (0.36, 0.48), (0.62, 0.52), (0.76, 0.74), (0.5, 0.97),
          (0.16, 0.86)]]),
    (4, [[(0.3, 0.04), (0.2, 0.5), (0.2, 0.5), (0.82, 0.5)], [(0.72, 0.06), (0.66, 0.5), (0.62, 0.98)]]),
    (4, [[(0.24, 0.05), (0.22, 0.38), (0.45, 0.54), (0.74, 0.4)], [(0.76, 0.05), (0.72, 0.5), (0.7, 0.98)]]),
    (4, [[(0.6, 0.02), (0.14, 0.62), (0.14, 0.62), (0.86, 0.62)], [(0.62, 0.02), (0.62, 0.98)]]),
    (5, [[(0.76, 0.04), (0.32, 0.05), (0.32, 0.05), (0.26, 0.45), (0.26, 0.45), (0.58, 0.4), (0.76, 0.66),
          (0.56, 0.95), (0.18, 0.92)]]),
    (5, [[(0.34, 0.08), (0.28, 0.45), (0.28, 0.45), (0.6, 0.46), (0.7, 0.72), (0.46, 0.97), (0.16, 0.88)],
         [(0.34, 0.08), (0.84, 0.04)]]),
    (5, [[(0.85, 0.03), (0.4, 0.06), (0.3, 0.3), (0.52, 0.5), (0.6, 0.75), (0.38, 0.97), (0.12, 0.88)]]),
    (6, [[(0.66, 0.02), (0.38, 0.26), (0.24, 0.66), (0.44, 0.97), (0.72, 0.8), (0.62, 0.56), (0.3, 0.66)]]),
    (6, [[(0.5, 0.02), (0.28, 0.4), (0.24, 0.8), (0.5, 0.97), (0.74, 0.76), (0.54, 0.56), (0.26, 0.76)]]),
    (6, [[(0.8, 0.04), (0.4, 0.3), (0.16, 0.75), (0.4, 0.98), (0.68, 0.84), (0.56, 0.64), (0.24, 0.8)]]),
    (7, [[(0.16, 0.08), (0.8, 0.06), (0.8, 0.06), (0.56, 0.5), (0.42, 0.98)]]),
    (7, [[(0.16, 0.16), (0.2, 0.08), (0.78, 0.08), (0.78, 0.08), (0.6, 0.5), (0.52, 0.98)]]),
    (7, [[(0.18, 0.07), (0.8, 0.07), (0.8, 0.07), (0.55, 0.5), (0.38, 0.98)], [(0.32, 0.52), (0.78, 0.48)]]),
    (7, [[(0.2, 0.24), (0.24, 0.06), (0.76, 0.06), (0.76, 0.06), (0.62, 0.5), (0.58, 0.98)], [(0.42, 0.5), (0.86, 0.46)]]),
    (7, [[(0.14, 0.2), (0.5, 0.1), (0.78, 0.12), (0.7, 0.4), (0.62, 0.98)]]),
    (8, [[(0.7, 0.16), (0.45, 0.02), (0.26, 0.2), (0.5, 0.46), (0.74, 0.74), (0.5, 0.98), (0.26, 0.76), (0.5, 0.48),
          (0.72, 0.22), (0.62, 0.06)]]),
    (8, [_ring(0.5, 0.25, 0.22, 0.22, 0.25, 1.02, 7), _ring(0.5, 0.73, 0.26, 0.25, -0.25, 1.02, 7)]),
    (8, [[(0.78, 0.08), (0.4, 0.05), (0.3, 0.28), (0.58, 0.62), (0.52, 0.95), (0.26, 0.9), (0.36, 0.6), (0.66, 0.34),
          (0.78, 0.08)]]),
    (9, [[(0.72, 0.2), (0.46, 0.03), (0.26, 0.26), (0.44, 0.48), (0.7, 0.3), (0.72, 0.2), (0.68, 0.6), (0.6, 0.98)]]),
    (9, [[(0.74, 0.14), (0.4, 0.06), (0.24, 0.32), (0.46, 0.46), (0.74, 0.14), (0.74, 0.14), (0.72, 0.5),
          (0.72, 0.98)]]),
    (9, [[(0.7, 0.22), (0.48, 0.02), (0.24, 0.24), (0.46, 0.5), (0.7, 0.24), (0.76, 0.6), (0.56, 0.96), (0.24, 0.9)]]),
)  # fmt: skip


@cache
def pen_matrices() -> tuple[Tensor, Tensor, tuple[tuple[int, ...], ...]]:
    """Matrices (ways, points, K), control points (ways, K, 2) padded with zeros, and for each digit the indices of its ways."""
    most = max(sum(len(stroke) for stroke in strokes) for _, strokes in WRITTEN)
    matrices = np.zeros((len(WRITTEN), _POINTS, most), np.float32)
    controls = np.zeros((len(WRITTEN), most, 2), np.float32)
    for way, (_, strokes) in enumerate(WRITTEN):
        lengths = np.array([_length(stroke) for stroke in strokes])
        ends = np.round(np.cumsum(lengths) / lengths.sum() * _POINTS).astype(int)
        row = column = 0
        for stroke, end in zip(strokes, ends, strict=True):
            matrices[way, row:end, column : column + len(stroke)] = _curve(stroke, end - row)
            controls[way, column : column + len(stroke)] = stroke
            row, column = end, column + len(stroke)
    of_digit = tuple(tuple(w for w, (digit, _) in enumerate(WRITTEN) if digit == d) for d in range(10))
    return torch.from_numpy(matrices), torch.from_numpy(controls), of_digit


def _length(stroke: Stroke) -> float:
    return float(np.hypot(*np.diff(np.array(stroke), axis=0).T).sum())


def _curve(stroke: Stroke, count: int) -> np.ndarray:
    """The weights (count, len(stroke)) that give evenly spaced points on the Catmull-Rom spline through a stroke."""
    fine = _spline_weights(len(stroke), 400)
    path = fine @ np.array(stroke)
    distance = np.concatenate(([0], np.hypot(*np.diff(path, axis=0).T).cumsum()))
    even = np.linspace(0, distance[-1], count)
    return fine[np.searchsorted(distance, even).clip(0, len(fine) - 1)]


def _spline_weights(points: int, count: int) -> np.ndarray:
    weights = np.zeros((count, points))
    for row, position in enumerate(np.linspace(0, points - 1, count)):
        first = min(int(position), points - 2)
        t = position - first
        basis = (-0.5 * t + t**2 - 0.5 * t**3, 1 - 2.5 * t**2 + 1.5 * t**3, 0.5 * t + 2 * t**2 - 1.5 * t**3, -0.5 * t**2 + 0.5 * t**3)
        for offset, weight in zip((-1, 0, 1, 2), basis, strict=True):
            weights[row, min(max(first + offset, 0), points - 1)] += weight
    return weights
