"""Large sets of images: those that the embedded networks are trained on, and those that their accuracy is measured on.

Scenes and digits are generated; CIFAR-10 is read from a folder that a person gives.
"""

from __future__ import annotations

from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from explainers.data import cifar10, digits, scenes
from explainers.errors import ExplainerError
from explainers.networks.embedded import EmbeddedNetwork

_SIZE = 128


def training_draws(network: EmbeddedNetwork, n: int, seed: int, folder: Path | None,
                   cifar: Path | None = None) -> tuple[np.ndarray, Tensor]:
    """n images for training, uint8 (n, C, H, W), and labels, int64 (n,).

    folder: where scenes and decoded pictures are kept for the next training. cifar: the folder with CIFAR-10's ``train.npz``, of
    which all pictures are taken.
    """
    if network.training_data == "cifar10":
        return cifar10.read_once(_file(cifar, "train.npz"), folder)
    if network.training_data == "digits":
        images, labels = digits.draw_batch(n, seed)
        return images.numpy(), labels
    return scene_pool(n, seed, folder)


def held_out(network: EmbeddedNetwork, n: int, seed: int, cifar: Path | None = None) -> tuple[Tensor, Tensor]:
    """n images for measuring accuracy, uint8 (n, C, H, W), and labels, int64 (n,).

    Scenes and digits are generated; of CIFAR-10 they are the first of ``test.npz`` in the folder ``cifar``.
    """
    if network.training_data == "cifar10":
        images, labels = cifar10.read(_file(cifar, "test.npz"), n)
        return torch.from_numpy(images), labels
    return (scenes if network.training_data == "scenes" else digits).draw_batch(n, seed)


def _file(folder: Path | None, name: str) -> Path:
    if folder is None or not (folder / name).is_file():
        raise ExplainerError(f"CIFAR-10 does not come with the package: name a folder that holds its {name}.")
    return folder / name


def scene_pool(n: int, seed: int, folder: Path | None) -> tuple[np.ndarray, Tensor]:
    """The scenes of ``scenes.draw_batch(n, seed)``, drawn by two processes, in memory or in files of a folder.

    Files of an earlier call with this seed and number are used again; empty the folder when the drawing of scenes changes.
    """
    shape = (n, _SIZE, _SIZE, 3)
    if folder is None:
        pictures, labels = np.empty(shape, np.uint8), np.empty(n, np.int64)
        _fill(pictures, labels, seed)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        picture_file, label_file = folder / f"scenes-{seed}-{n}.npy", folder / f"labels-{seed}-{n}.npy"
        if not label_file.exists():
            labels = np.empty(n, np.int64)
            _fill(np.lib.format.open_memmap(picture_file, "w+", np.uint8, shape), labels, seed)
            np.save(label_file, labels)  # written last, so its presence shows that the pictures are complete
        pictures, labels = np.load(picture_file, mmap_mode="r"), np.load(label_file)
    # Channels stay last in memory, because convolutions on a CPU are fastest in this format.
    return pictures.transpose(0, 3, 1, 2), torch.from_numpy(labels)


def _fill(pictures: np.ndarray, labels: np.ndarray, seed: int) -> None:
    with get_context("spawn").Pool(2) as workers:
        seeds = ((seed << 32) + i for i in range(len(labels)))
        for i, (image, label) in enumerate(workers.imap(_drawn, seeds, chunksize=64)):
            pictures[i], labels[i] = image, label


def _drawn(seed: int) -> tuple[np.ndarray, int]:
    scene = scenes.draw(seed, _SIZE)
    return scene.image, scene.labels[0]
