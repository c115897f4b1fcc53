"""Pictures with two classes each to hold against one another: fresh scenes with two objects, digits, a person's own pictures."""

from __future__ import annotations

from collections.abc import Sequence
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
    """images: (N, C, H, W) float32 on the CPU, preprocessed. classes: for each image two class indices."""

    images: Tensor
    classes: tuple[tuple[int, int], ...]


def scenes_pairs(network: Classifier, n: int, seed: int = 0, progress: Progress | None = None) -> ClassPairs:
    """n fresh scenes with two objects, which are the two classes; the first k are the set of k. Raises Cancelled."""
    images, classes = [], []
    for i in range(n):
        scene = scenes.draw(((SCENES_SEED + seed) << 32) + i, max(network.input_size), objects=2)
        images.append(network.preprocess(Image.fromarray(scene.image)).cpu())
        first, second = scene.labels
        classes.append((first, second))
        report(progress, i + 1, n)
    return ClassPairs(torch.cat(images), tuple(classes))


def digits_pairs(network: Classifier, n: int, seed: int = 0) -> ClassPairs:
    """n fresh digits, with the classes that the network finds the likeliest and the second likeliest."""
    drawn, _ = digits.draw_batch(n, SCENES_SEED + seed)
    return pictures_pairs(network, [Image.fromarray(digit[0].numpy()) for digit in drawn])


def pictures_pairs(network: Classifier, pictures: Sequence[Image.Image]) -> ClassPairs:
    """Any pictures, with the classes that the network finds the likeliest and the second likeliest. Raises ExplainerError."""
    if not pictures:
        raise ExplainerError("A set needs at least one picture.")
    images = torch.cat([network.preprocess(picture).cpu() for picture in pictures])
    return ClassPairs(images, tuple(likeliest(network, x) for x in images.split(1)))


def likeliest(network: Classifier, x: Tensor) -> tuple[int, int]:
    """The two most probable classes of one image (1, C, H, W), the first one first."""
    return tuple(network.predict(x.to(network.device))[0].topk(2).indices.tolist())
