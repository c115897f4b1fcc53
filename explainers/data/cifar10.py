"""CIFAR-10 read from a person's own file: 32x32 photographs of ten classes (Krizhevsky 2009). No picture of it comes with the package.

A file is an .npz of encoded pictures, any format that Pillow reads: ``images``, uint8, all encoded files end to end; ``offsets``,
int64 (n + 1,), so that picture i is ``images[offsets[i]:offsets[i + 1]]``; and ``labels``, uint8 (n,). Where the pictures are stored
with losses (JPEG, WebP), accuracies differ a little from those on the original data.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32


def read(file: Path, n: int | None = None) -> tuple[np.ndarray, Tensor]:
    """The first n pictures of an .npz, or all: uint8 (n, 3, 32, 32), whose channels are last in memory, and labels, int64 (n,).

    Raises ValueError for a picture of another size, because a file of other pictures would otherwise be taken for CIFAR-10.
    """
    with np.load(file) as stored:
        encoded, offsets, labels = stored["images"], stored["offsets"], stored["labels"][:n].astype(np.int64)
    pictures = np.empty((len(labels), SIDE, SIDE, 3), np.uint8)
    for i in range(len(labels)):
        with Image.open(BytesIO(encoded[offsets[i]:offsets[i + 1]].tobytes())) as picture:
            if picture.size != (SIDE, SIDE):
                size = f"{picture.width} x {picture.height}"
                raise ValueError(f"{file.name} is not CIFAR-10: picture {i} has {size} pixels, not 32 x 32.")
            pictures[i] = np.asarray(picture.convert("RGB"))
    return pictures.transpose(0, 3, 1, 2), torch.from_numpy(labels)


def read_once(file: Path, folder: Path | None) -> tuple[np.ndarray, Tensor]:
    """``read`` of all pictures; with a folder they are kept there decoded, and read from there by the next call for this file."""
    if folder is None:
        return read(file)
    folder.mkdir(parents=True, exist_ok=True)
    picture_file, label_file = (folder / f"cifar10-{file.stem}-{file.stat().st_size}-{what}.npy" for what in ("pictures", "labels"))
    if not label_file.exists():
        pictures, labels = read(file)
        np.save(picture_file, pictures.transpose(0, 2, 3, 1))
        np.save(label_file, labels.numpy())  # written last, so its presence shows that the pictures are complete
    return np.load(picture_file).transpose(0, 3, 1, 2), torch.from_numpy(np.load(label_file))
