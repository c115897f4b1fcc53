"""The statistics of a layer's features over the reference set: what IBA and InputIBA draw their noise from.

Each element's mean, deviation (over n - 1) and fraction of images in which it is not 0 are fitted once, on the first ``count`` images
of the set, in float64. The noise must say nothing about the explained image. If that image is itself in the set, its own contribution
is therefore subtracted, which needs no new fit. With n images of mean m and sum of squared differences S, leaving out k copies of the
value v gives

    m' = m - k (v - m) / (n - k),        S' = S - k n (v - m)^2 / (n - k).

An image of the set is recognised by a digest of its preprocessed values, so another crop or another file of the same scene is not. The
digests are fitted with the statistics. The file of statistics that comes with EfficientNet-Lite0 has none: the pictures that it was
fitted on are not recognised, and explaining one of them uses noise that knows it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explainers.context import Context
from explainers.networks.classifier import Classifier

LEAST_IMAGES = 2  # without the explained one; fewer have no deviation


@dataclass(frozen=True)
class FeatureStatistics:
    """Of each element (C, h, w) of a layer, over ``images`` reference images: float32, on the CPU.

    unavoidable: whether the explained image is among them, because without it too few would be left.
    """

    mean: Tensor
    deviation: Tensor
    active: Tensor  # the fraction of images in which the element is not 0
    images: int
    unavoidable: bool = False


def fit_key(node: str, count: int) -> tuple[str, str, int]:
    """The key of the statistics of a node over so many reference images."""
    return "iba", node, count


def statistics(network: Classifier, node: str, images: int, context: Context) -> Mapping[str, Any]:
    """The fitted "mean", "deviation" and "active" of each element over the reference set, and the "digests" of its images."""
    reference = context.reference
    count = reference.count(images)

    @torch.no_grad()
    def moments(a: int, b: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        drawn = reference.draw(a, b)
        context.progress(a, count)  # decoding the pictures and their passes take long, each
        values = network.walk(drawn.to(network.device), stop=node).cpu().double()
        mean = values.mean(0)
        return mean, (values - mean).square().sum(0), (values != 0).double().sum(0), digests_of(drawn)

    def compute() -> dict[str, Tensor]:
        mean, squares, active = (torch.zeros((), dtype=torch.float64) for _ in range(3))
        digests = []
        for start, stop, (batch_mean, batch_squares, batch_active, batch_digests) in context.batches(count, moments):
            step = batch_mean - mean
            squares = squares + batch_squares + step.square() * (start * (stop - start) / stop)
            mean = mean + step * ((stop - start) / stop)
            active = active + batch_active
            digests.append(batch_digests)
        return {"mean": mean, "deviation": (squares / (count - 1)).sqrt(), "active": (active / count).float(),
                "digests": torch.cat(digests)}

    return context.fit(fit_key(node, count), compute)


def statistics_without(network: Classifier, x: Tensor, value: Tensor, node: str, images: int, context: Context) -> FeatureStatistics:
    """The statistics over the reference images other than the image ``x`` (1, C, H, W), whose features are ``value`` (1, C, h, w)."""
    fitted = statistics(network, node, images, context)
    count = context.reference.count(images)
    mean, deviation, active = (fitted[name].double() for name in ("mean", "deviation", "active"))
    copies = int((_digests(fitted, count, context) == digests_of(x)).all(1).sum())
    left = count - copies
    if copies and left >= LEAST_IMAGES:
        own = value[0].detach().cpu().double()
        away = own - mean
        squares = deviation.square() * (count - 1) - away.square() * (copies * count / left)
        mean, deviation = mean - away * (copies / left), (squares.clamp(min=0) / (left - 1)).sqrt()
        active = ((active * count).round() - copies * (own != 0)) / left
        return FeatureStatistics(mean.float(), deviation.float(), active.float(), left)
    return FeatureStatistics(mean.float(), deviation.float(), active.float(), count, unavoidable=copies > 0)


def digests_of(images: Tensor) -> Tensor:
    """(N, 2) for images (N, C, H, W): 48 bits of each one's sha256, as two whole numbers that even float32 holds exactly."""
    def bits(image: np.ndarray) -> tuple[int, int]:
        digest = hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest()
        return int.from_bytes(digest[:3]), int.from_bytes(digest[3:6])

    return torch.tensor([bits(image) for image in images.detach().cpu().float().numpy()], dtype=torch.float64)


def _digests(fitted: Mapping[str, Any], count: int, context: Context) -> Tensor:
    """The digests of the reference images. Shipped statistics may have none; those stored by an earlier version are completed."""
    if "digests" not in fitted and context.reference.statistics is not None:
        return torch.zeros(0, 2, dtype=torch.float64)
    if "digests" not in fitted:
        fitted = context.fit(("digests of images", count), lambda: {
            "digests": torch.cat([digests_of(drawn) for drawn in context.reference.batches(count)])})
    digests: Tensor = fitted["digests"].double()
    return digests
