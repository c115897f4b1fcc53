"""Labelled sets: pictures whose true class is known, on which right answers can be counted."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from explainers.data import scenes
from explainers.data.reference import ReferenceSet
from explainers.errors import ExplainerError
from explainers.keys import array_digest
from explainers.networks.classifier import Classifier
from explainers.progress import Progress, report

SCENES_SEED = 20_261_121  # a seed that no training, record, reference set or gallery uses; a person's seed is added to it

@dataclass(frozen=True)
class LabelledSet:
    """Pictures at a network's input size and what they show. ``identity`` decides the pixels, so it goes into cache keys."""

    title: str
    identity: str
    pixels: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, network: Classifier, noise: float = 0.0, seed: int = 0) -> Tensor:
        """(N, C, H, W) float32, preprocessed for ``network``, on the CPU.

        noise: the standard deviation of Gaussian noise on pixels in [0, 1], clipped there again: it makes the set harder.
        Image i gets the same noise whatever the size of the set. Raises ExplainerError where the network takes another size.
        """
        expected = (network.channels, *network.input_size)
        if tuple(self.pixels.shape[1:]) != expected:
            raise ExplainerError(f"{network.title} takes images of {' x '.join(map(str, expected))}; this set has another size.")
        pixels = self.pixels.float() / 255
        if noise:
            for number, image in enumerate(pixels):
                drawn = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed * 1_000_003 + number))
                image.add_(noise * drawn).clamp_(0, 1)
        return network.preprocessing.normalise(pixels)


@dataclass(frozen=True, eq=False)
class LabelledInputs:
    """What a metric over a labelled set judges: a network, and images with their labels, which are loaded when they are needed.

    set_id: decides images and labels, so it goes into cache keys. load: ``load(progress)`` gives the images (N, C, H, W),
    preprocessed for ``network``, and the labels (N,). reference_set: what a method that is judged fits its statistics on.
    """

    network: Classifier
    set_id: str
    count: int
    load: Callable[[Progress | None], tuple[Tensor, Tensor]]
    seed: int = 0
    reference_set: ReferenceSet | None = None

    @classmethod
    def given(cls, network: Classifier, images: Tensor, labels: Tensor, seed: int = 0,
              reference_set: ReferenceSet | None = None) -> LabelledInputs:
        """Images (N, C, H, W), preprocessed, and their labels (N,). Raises ExplainerError for an empty or mismatched set."""
        if len(images) == 0 or tuple(labels.shape) != (len(images),):
            raise ExplainerError(f"Every image needs one label: {len(images)} images came with labels of shape "
                                 f"{tuple(labels.shape)}.")
        set_id = f"{array_digest(images)} {array_digest(labels)}"
        return cls(network, set_id, len(images), lambda progress: (images, labels), seed, reference_set)

    @property
    def identity(self) -> str:
        """All that decides what is measured: the network, the images and labels, the seed and the reference set."""
        reference_id = self.reference_set.identity if self.reference_set else ""
        return f"{self.network.identity} {self.set_id} {self.seed} {reference_id}"


def scenes_set(n: int, seed: int = 0, progress: Progress | None = None) -> LabelledSet:
    """n fresh scenes with one labelled object each, 128 pixels a side; the first k are the set of k.

    progress: called with (done, total, None) after every scene; returning False, or raising, stops. Raises Cancelled.
    """
    pixels, labels = np.empty((n, 3, 128, 128), np.uint8), np.empty(n, np.int64)
    for i in range(n):
        scene = scenes.draw(((SCENES_SEED + seed) << 32) + i, 128)
        pixels[i], labels[i] = scene.image.transpose(2, 0, 1), scene.labels[0]
        report(progress, i + 1, n)
    return LabelledSet(f"{n} fresh scenes", f"scenes {n} {SCENES_SEED + seed}", torch.from_numpy(pixels), torch.from_numpy(labels))


def pictures_set(network: Classifier, named: Iterable[tuple[str, Image.Image]]) -> LabelledSet:
    """Pictures by file name, their labels read from the names (``label_in``), as ``network`` sees them.

    Raises ExplainerError for an empty set, or a name without a label.
    """
    pixels, labels = [], []
    for name, image in named:
        labels.append(label_in(name, network.categories))
        seen = np.atleast_3d(np.asarray(network.preprocessing.seen(image)))  # (H, W, C)
        pixels.append(torch.from_numpy(seen.copy()).permute(2, 0, 1))
    if not pixels:
        raise ExplainerError("A labelled set needs at least one picture.")
    stacked, found = torch.stack(pixels).contiguous(), torch.tensor(labels)
    identity = hashlib.sha256(stacked.numpy().tobytes() + found.numpy().tobytes()).hexdigest()
    return LabelledSet(f"{len(labels)} labelled pictures", f"pictures {identity}", stacked, found)


def label_in(file_name: str, categories: Sequence[str]) -> int:
    """The class that a file's name begins with: its index (``243_dog.jpg``) or its name (``bull-mastiff 2.png``).

    Names are compared without case and punctuation, and the longest that fits wins. Raises ExplainerError when there is none, or
    more than one class of that name.
    """
    words = _words(file_name.rsplit("/", 1)[-1].rsplit(".", 1)[0])
    first = words.split(" ", 1)[0]
    if re.fullmatch("[0-9]+", first):
        if int(first) < len(categories):
            return int(first)
        raise ExplainerError(f"The number {first} is no class: classes go from 0 to {len(categories) - 1}.")
    fitting = [(len(name), index) for index, name in enumerate(map(_words, categories)) if name and f"{words} ".startswith(f"{name} ")]
    longest = [index for length, index in fitting if length == max(fitting)[0]]
    if not longest:
        raise ExplainerError("The file's name must begin with the class's number or name, as in 3_photo.jpg "
                             f"or {_words(categories[min(3, len(categories) - 1)]).replace(' ', '-')}-1.jpg.")
    if len(longest) > 1:
        raise ExplainerError(f"{len(longest)} classes are called {categories[longest[0]]!r}: begin the file's name with the number.")
    return longest[0]


def _words(text: str) -> str:
    return " ".join(re.findall("[^\\W_]+", text.lower()))
