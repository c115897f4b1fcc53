"""Draws by the thousand: what the embedded networks are trained on and measured with."""

from __future__ import annotations

import tempfile
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from explainers.data import digits, scenes
from explainers.networks.embedded import EmbeddedNetwork

_SIZE = 128


def training_draws(network: EmbeddedNetwork, n: int, seed: int, folder: Path | None) -> tuple[np.ndarray, Tensor]:
    """n draws for training: uint8 (n, C, H, W), kept on disk for scenes, and int64 labels (n,)."""
    if network.reference == "digits":
        images, labels = digits.draw_batch(n, seed)
        return images.numpy(), labels
    return scene_pool(n, seed, folder or Path(tempfile.mkdtemp()))


def held_out(network: EmbeddedNetwork, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """n draws to measure with: uint8 (n, C, H, W) and int64 labels (n,)."""
    return (scenes if network.reference == "scenes" else digits).draw_batch(n, seed)


def scene_pool(n: int, seed: int, folder: Path) -> tuple[np.ndarray, Tensor]:
    """The scenes of ``scenes.draw_batch(n, seed)``, drawn by two processes into (or found in) a folder."""
    pictures, classes = folder / f"scenes-{seed}-{n}.npy", folder / f"labels-{seed}-{n}.npy"
    if not classes.exists():
        folder.mkdir(parents=True, exist_ok=True)
        store = np.lib.format.open_memmap(pictures, "w+", np.uint8, (n, _SIZE, _SIZE, 3))
        labels = np.empty(n, np.int64)
        with get_context("spawn").Pool(2) as workers:
            seeds = ((seed << 32) + i for i in range(n))
            for i, (image, label) in enumerate(workers.imap(_drawn, seeds, chunksize=64)):
                store[i], labels[i] = image, label
        store.flush()
        np.save(classes, labels)  # last: its presence says that the pool is whole
    # Channels stay last in memory, the order in which convolutions on a CPU are fastest.
    return np.load(pictures, mmap_mode="r").transpose(0, 3, 1, 2), torch.from_numpy(np.load(classes))


def _drawn(seed: int) -> tuple[np.ndarray, int]:
    scene = scenes.draw(seed, _SIZE)
    return scene.image, scene.labels[0]
