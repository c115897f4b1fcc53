"""Images with two classes each that are compared: generated scenes with two objects, generated digits, or given pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from explainers.data import digits, scenes
from explainers.data.labelled import SCENES_SEED
from explainers.errors import ExplainerError
from explainers.networks.classifier import Classifier
from explainers.progress import Progress, report


@dataclass(frozen=True)
class ClassPairs:
    """images: (N, C, H, W) float32 on the CPU, preprocessed. classes: two class indices for each image."""

    images: Tensor
    classes: tuple[tuple[int, int], ...]


def scenes_pairs(network: Classifier, n: int, seed: int = 0, progress: Progress | None = None) -> ClassPairs:
    """n generated scenes of two objects, the two classes. The first k are those of a set of k. Raises Cancelled."""
    images: list[Tensor] = []
    classes: list[tuple[int, int]] = []
    for i in range(n):
        scene = scenes.draw(((SCENES_SEED + seed) << 32) + i, max(network.input_size), objects=2)
        images.append(network.preprocess(Image.fromarray(scene.image)).cpu())
        first, second = scene.labels
        classes.append((first, second))
        report(progress, i + 1, n)
    return ClassPairs(torch.cat(images), tuple(classes))


def digits_pairs(network: Classifier, n: int, seed: int = 0) -> ClassPairs:
    """n generated digits, each with the two classes that the network finds most probable."""
    images, _ = digits.draw_batch(n, SCENES_SEED + seed)
    return pictures_pairs(network, [Image.fromarray(image[0].numpy()) for image in images])


def pictures_pairs(network: Classifier, pictures: Iterable[Image.Image]) -> ClassPairs:
    """Given pictures, each with the two classes that the network finds most probable. Raises ExplainerError for an empty set."""
    inputs = [network.preprocess(picture).cpu() for picture in pictures]
    if not inputs:
        raise ExplainerError("A set needs at least one picture.")
    images = torch.cat(inputs)
    return ClassPairs(images, tuple(likeliest(network, x) for x in images.split(1)))


def likeliest(network: Classifier, x: Tensor) -> tuple[int, int]:
    """The two most probable classes of one image (1, C, H, W), the more probable one first."""
    first, second = network.predict(x.to(network.device))[0].topk(2).indices.tolist()
    return first, second
