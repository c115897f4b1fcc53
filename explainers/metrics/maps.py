"""The maps that a metric judges: an Attribution, or an array from another source, as one signed (h, w) array."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from explainers.attribution import Attribution
from explainers.context import Context
from explainers.errors import ExplainerError
from explainers.question import Question
from explainers.resampling import resample, size_of
from explainers.target import PlainTarget, Target

Map = Attribution | np.ndarray | Tensor


def maps_of(questions: Sequence[Question], context: Context) -> list[Attribution]:
    """The maps of the questions. While one has to be made, the metric's progress stays at its beginning."""
    return [context.part(0, 0, 1).explain(question) for question in questions]


def signed_map(given: Map, size: tuple[int, int] | None = None) -> np.ndarray:
    """(h, w) float32 at ``size``, by default at the map's own resolution: an Attribution by its own rule, an array bilinearly.

    Raises ExplainerError for an array that is not (h, w) or not finite.
    """
    if isinstance(given, Attribution):
        return given.heatmap(size or size_of(given.native))
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
    if not isinstance(given, Sequence):
        return [given], False
    if not given:
        raise ExplainerError("There is no map to measure: give at least one.")
    return list(given), True


def explained_target(maps: Sequence[Map], target: Target | PlainTarget | None) -> Target | PlainTarget | None:
    """The given target, else the one that all Attributions explain, else None. Raises ExplainerError if they differ."""
    targets = {attribution.target for attribution in maps if isinstance(attribution, Attribution)}
    if target is not None or not targets:
        return target
    if len(targets) > 1:
        raise ExplainerError("The maps explain different targets: name the one to measure, or measure them one by one.")
    return targets.pop()
