"""Labelled sets: images with known classes, for metrics that measure accuracy or average over images."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from explainers.data import digits, scenes
from explainers.data.reference import ReferenceSet
from explainers.errors import ExplainerError
from explainers.keys import array_digest
from explainers.networks.classifier import Classifier
from explainers.progress import Progress, report

SCENES_SEED = 20_261_121  # used by no training, accuracy record, reference set or gallery; a person's seed is added to it


@dataclass(frozen=True)
class LabelledSet:
    """Images at a network's input size, and their classes. ``identity`` stands for the pixels and the labels in cache keys."""

    title: str
    identity: str
    pixels: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, network: Classifier, noise: float = 0.0, seed: int = 0) -> Tensor:
        """The images as input of ``network``: (N, C, H, W) float32 on the CPU.

        noise: the standard deviation of Gaussian noise that is added to the pixels (0..1, clipped), to make the set harder. The
        noise of an image does not depend on the size of the set. Raises ExplainerError for a network of another input size.
        """
        expected = (network.channels, *network.input_size)
        if tuple(self.pixels.shape[1:]) != expected:
            raise ExplainerError(f"{network.title} takes images of {' x '.join(map(str, expected))}; this set has another size.")
        pixels = self.pixels.float() / 255
        if noise:
            for number, image in enumerate(pixels):
                generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
                image.add_(noise * torch.randn(image.shape, generator=generator)).clamp_(0, 1)
        return network.preprocessing.normalise(pixels)


@dataclass(frozen=True, eq=False)
class LabelledInputs:
    """The subject of a metric over a labelled set: a network, and images with labels, which are loaded when they are needed.

    set_id: stands for images and labels in cache keys. load: ``load(progress)`` returns the images (N, C, H, W), preprocessed for
    ``network``, and the labels (N,). reference_set: the images that the judged method fits its statistics on. reader: another network
    that reads what a metric makes of the images. private: the images are somebody's own, so results on them stay off the disk.
    """

    network: Classifier
    set_id: str
    count: int
    load: Callable[[Progress | None], tuple[Tensor, Tensor]]
    seed: int = 0
    reference_set: ReferenceSet | None = None
    reader: Classifier | None = None
    private: bool = False

    @classmethod
    def given(cls, network: Classifier, images: Tensor, labels: Tensor, seed: int = 0,
              reference_set: ReferenceSet | None = None, reader: Classifier | None = None, private: bool = False) -> LabelledInputs:
        """From preprocessed images (N, C, H, W) and labels (N,). Raises ExplainerError if there are none or their numbers differ."""
        if len(images) == 0 or tuple(labels.shape) != (len(images),):
            raise ExplainerError(f"Every image needs one label: {len(images)} images came with labels of shape "
                                 f"{tuple(labels.shape)}.")
        set_id = f"{array_digest(images)} {array_digest(labels)}"
        return cls(network, set_id, len(images), lambda progress: (images, labels), seed, reference_set, reader, private)

    @property
    def stays_in_memory(self) -> bool:
        """Whether results on this subject must not be written to disk: its images are private, or its reference set is."""
        return self.private or (self.reference_set is not None and self.reference_set.private)

    @property
    def identity(self) -> str:
        """Everything that decides a result on this subject: the networks, the images and labels, the seed and the reference set."""
        reference_id = self.reference_set.identity if self.reference_set else ""
        reader_id = f" read by {self.reader.identity}" if self.reader else ""
        return f"{self.network.identity} {self.set_id} {self.seed} {reference_id}{reader_id}"


def scenes_set(n: int, seed: int = 0, progress: Progress | None = None) -> LabelledSet:
    """n generated scenes of one object each, 128 pixels a side. The first k are those of a set of k.

    progress: called with (done, total, None) after every scene. Raises Cancelled when it returns False.
    """
    pixels, labels = np.empty((n, 3, 128, 128), np.uint8), np.empty(n, np.int64)
    for i in range(n):
        scene = scenes.draw(((SCENES_SEED + seed) << 32) + i, 128)
        pixels[i], labels[i] = scene.image.transpose(2, 0, 1), scene.labels[0]
        report(progress, i + 1, n)
    return LabelledSet(f"{n} fresh scenes", f"scenes {n} {SCENES_SEED + seed}", torch.from_numpy(pixels), torch.from_numpy(labels))


def digits_set(n: int, seed: int = 0) -> LabelledSet:
    """n generated digits, 28 pixels a side. The first k are those of a set of k."""
    pixels, labels = digits.draw_batch(n, SCENES_SEED + seed)
    return LabelledSet(f"{n} fresh digits", f"digits {n} {SCENES_SEED + seed}", pixels, labels)


def pictures_set(network: Classifier, named: Iterable[tuple[str, Image.Image]]) -> LabelledSet:
    """Pairs of file name and picture, labelled by their names (``label_in``), with the pixels that ``network`` sees.

    Raises ExplainerError for an empty set, and for a name without a label.
    """
    pixels, labels = [], []
    for name, image in named:
        labels.append(label_in(name, network.categories))
        seen = np.atleast_3d(np.asarray(network.preprocessing.seen(image)))  # (H, W, C)
        pixels.append(torch.from_numpy(seen.copy()).permute(2, 0, 1))
    if not pixels:
        raise ExplainerError("A labelled set needs at least one picture.")
    stacked, classes = torch.stack(pixels).contiguous(), torch.tensor(labels)
    identity = hashlib.sha256(stacked.numpy().tobytes() + classes.numpy().tobytes()).hexdigest()
    return LabelledSet(f"{len(labels)} labelled pictures", f"pictures {identity}", stacked, classes)


def label_in(file_name: str, categories: Sequence[str]) -> int:
    """The class that a file's name begins with: its index (``243_dog.jpg``) or its name (``bull-mastiff 2.png``).

    Names are compared without case and punctuation, and the longest matching name is taken. Raises ExplainerError where no class
    matches, or several classes of one name do.
    """
    words = _words(file_name.rsplit("/", 1)[-1].rsplit(".", 1)[0])
    first = words.split(" ", 1)[0]
    if re.fullmatch("[0-9]+", first):
        if int(first) < len(categories):
            return int(first)
        raise ExplainerError(f"The number {first} is no class: classes go from 0 to {len(categories) - 1}.")
    matches = [(len(name), index) for index, name in enumerate(map(_words, categories)) if name and f"{words} ".startswith(f"{name} ")]
    longest = [index for length, index in matches if length == max(matches)[0]]
    if not longest:
        raise ExplainerError("The file's name must begin with the class's number or name, as in 3_photo.jpg "
                             f"or {_words(categories[min(3, len(categories) - 1)]).replace(' ', '-')}-1.jpg.")
    if len(longest) > 1:
        raise ExplainerError(f"{len(longest)} classes are called {categories[longest[0]]!r}: begin the file's name with the number.")
    return longest[0]


def _words(text: str) -> str:
    return " ".join(re.findall("[^\\W_]+", text.lower()))
