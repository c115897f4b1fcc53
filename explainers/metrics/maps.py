"""The maps that a metric judges: an Attribution, or an array from anywhere else, becomes one signed (h, w) map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from explainers.contract import Attribution, ExplainerError, resample

Map = Attribution | np.ndarray | Tensor


def signed_map(given: Map, size: tuple[int, int] | None = None) -> np.ndarray:
    """(h, w) float32 at ``size``, by default at the map's own resolution: an Attribution by its own rule, an array bilinearly.

    Raises ExplainerError for an array that is not (h, w) or not finite.
    """
    if isinstance(given, Attribution):
        return given.heatmap(size or tuple(given.native.shape[-2:]))
    flat = torch.as_tensor(given).detach().to("cpu", torch.float32)
    if flat.ndim != 2 or not flat.numel():
        raise ExplainerError(f"A map must be an Attribution or an array (h, w), not one of shape {tuple(flat.shape)}: "
                             "reduce its channels first.")
    if not torch.isfinite(flat).all():
        raise ExplainerError("The map has values that are not finite, so its pixels have no order: replace them first.")
    if size is not None and tuple(flat.shape) != tuple(size):
        flat = resample(flat, size, "bilinear")
    return flat.numpy().copy()


def magnitude_map(given: Map, size: tuple[int, int] | None = None) -> np.ndarray:
    """(h, w) float32 of magnitudes, taken at the map's own resolution and then resampled, so that opposite signs do not cancel."""
    own = np.abs(signed_map(given))
    if size is None or own.shape == tuple(size):
        return own
    return resample(torch.from_numpy(own), size, given.upsample if isinstance(given, Attribution) else "bilinear").numpy()


def listed(given: Map | Sequence[Map]) -> tuple[list[Map], bool]:
    """The maps as a list, and whether they came as one. Raises ExplainerError for an empty list."""
    several = isinstance(given, (list, tuple))
    maps = list(given) if several else [given]
    if not maps:
        raise ExplainerError("There is no map to measure: give at least one.")
    return maps, several


def explained_target(maps: Sequence[Map], target: int | tuple[int, int] | None) -> int | tuple[int, int] | None:
    """The target as told, or the one that all Attributions explain; None if no map says. Raises ExplainerError if they differ."""
    said = {one.target for one in maps if isinstance(one, Attribution)}
    if target is not None or not said:
        return target
    if len(said) > 1:
        raise ExplainerError("The maps explain different targets: name the one to measure, or measure them one by one.")
    return said.pop()
