"""Computing a picture back from cached results: what somebody could try who can read the cache's folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from explainers.cache_folder import DIGEST_BYTES, SUFFIX

LEAST = 0.5  # the fraction of pixels that a quotient must give; where the divisor is 0 it gives none
SLICE = 64  # bytes of a picture that are looked for in a file


@dataclass(frozen=True)
class Recovery:
    """The best attempt: how well it correlates with the picture (1: without error), and what was done with which tensors."""

    correlation: float
    how: str


def entries(folder: Path) -> dict[str, bytes]:
    """The content of all files below a folder, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def recovered(folder: Path, picture: Tensor) -> Recovery:
    """The best attempt to get the picture (C, H, W) from single entries in a folder and from all pairs of them.

    Tried are all tensors of the picture's size, channels and greys apart, and each pair's quotient and best linear combination, of
    which the sum and the difference are two.
    """
    best = Recovery(0.0, "nothing of the picture's size")
    for shape, wanted in _forms(picture):
        names, values = _of_shape(folder, shape)
        if names:
            best = max([best, _linear(names, values, wanted), _quotient(names, values, wanted)], key=lambda each: each.correlation)
    return best


def holds_bytes(folder: Path, picture: Tensor) -> bool:
    """Whether a file contains a part of the picture's own bytes, as floating-point numbers or as pixels."""
    middle = picture.numel() // 2
    forms = [picture.float(), picture.double(), picture.half(), ((picture * 0.25 + 0.5) * 255).round().clamp(0, 255).to(torch.uint8)]
    parts = [form.contiguous().numpy().tobytes()[middle:middle + SLICE] for form in forms]
    return any(part in content for content in entries(folder).values() for part in parts)


def _forms(picture: Tensor) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """The shapes that a tensor may have which shows the picture, each with what it would show."""
    yield tuple(picture.shape), picture.double().numpy().ravel()
    for channel in (*picture, picture.mean(0)):
        yield tuple(picture.shape[1:]), channel.double().numpy().ravel()


def _of_shape(folder: Path, shape: tuple[int, ...]) -> tuple[list[str], np.ndarray]:
    """The tensors in all entries whose last dimensions are ``shape``, cut along the others: names, and values (n, pixels)."""
    names, values = [], []
    for path, content in entries(folder).items():
        if not path.endswith(SUFFIX):
            continue
        for name, tensor in safetensors.torch.load(content[DIGEST_BYTES:]).items():
            if tuple(tensor.shape[-len(shape):]) != shape or tensor.dtype == torch.bool:
                continue
            for number, part in enumerate(tensor.reshape(-1, *shape)):
                names.append(f"{path[3:11]} {name} {number}")
                values.append(part.double().numpy().ravel())
    return names, np.nan_to_num(np.stack(values)) if values else np.zeros((0, 0))


def _linear(names: list[str], values: np.ndarray, wanted: np.ndarray) -> Recovery:
    """The best of all combinations a A + b B + c: its multiple correlation follows from those of the pairs."""
    scaled, aim = _standardised(values), _standardised(wanted[None])[0]
    between, own = scaled @ scaled.T, scaled @ aim
    rest = 1 - between ** 2
    independent = rest > 1e-9  # else B adds nothing to A
    explained = np.where(independent, own[:, None] ** 2 + own[None] ** 2 - 2 * own[:, None] * own[None] * between, 0)
    explained = np.maximum(explained / np.where(independent, rest, 1), own[:, None] ** 2)
    first, second = np.unravel_index(explained.argmax(), explained.shape)
    return Recovery(float(np.sqrt(explained.max())), f"a linear combination of {names[first]} and {names[second]}")


def _quotient(names: list[str], values: np.ndarray, wanted: np.ndarray) -> Recovery:
    best = Recovery(0.0, "no quotient")
    for name, divisor in zip(names, values, strict=True):
        usable = np.abs(divisor) > 1e-7 * np.abs(divisor).max()
        if usable.mean() < LEAST:
            continue
        scores = np.abs(_standardised(values[:, usable] / divisor[usable]) @ _standardised(wanted[None, usable])[0])
        if scores.max() > best.correlation:
            best = Recovery(float(scores.max()), f"{names[int(scores.argmax())]} / {name}")
    return best


def _standardised(rows: np.ndarray) -> np.ndarray:
    """Rows of mean 0 and length 1; constant ones become 0."""
    centred = rows - rows.mean(1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    flat = length <= 1e-12 * np.abs(rows).max(1, keepdims=True, initial=0)
    return np.where(flat, 0, centred / np.where(flat, 1, length))

