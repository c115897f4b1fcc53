"""Reference sets: a few hundred images like those that a network was trained on, without labels.

MIP-IN, IBA and InputIBA fit statistics on a reference set. For a network trained on scenes or digits it is generated. For
EfficientNet-Lite0 the fitted statistics of 400 photographs are shipped, without the photographs. For another network a person gives a
folder or a list of pictures. Without these, altered copies of the explained image (cropped, flipped, recoloured, noisy) are used,
and every map computed from them has a flag that says so.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from explainers.data import digits, scenes, shipped_statistics
from explainers.data.shipped_statistics import ShippedStatistics
from explainers.errors import ExplainerError
from explainers.networks.classifier import Classifier
from explainers.pictures import PictureError, load_image

_PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
_PROCEDURAL_SEED = 7_000_000  # used neither for training nor for held-out images nor for the gallery
_CHUNK = 128
GENERATED = {"scenes": scenes.draw_batch, "digits": digits.draw_batch}  # the training data that can be drawn afresh


@dataclass(frozen=True)
class ReferenceSet:
    """``size`` images, preprocessed for one network. ``identity`` stands for their pixels in cache keys.

    note: a warning for maps computed from copies of the explained image, else "". private: the images are a person's pictures, so
    what is computed from them is kept in memory, and nothing of it is written to disk; copies of the explained image are as private
    as the question about it. statistics: for a set whose images are not here, what was fitted on all of them; ``draw`` then raises
    ExplainerError.
    """

    title: str
    identity: str
    size: int
    draw: Callable[[int, int], Tensor]  # (start, stop) -> (stop - start, C, H, W), normalised, on the CPU
    note: str = ""
    private: bool = False
    statistics: ShippedStatistics | None = None

    def count(self, images: int) -> int:
        """How many images a fit uses that may use ``images``: at most all of them; shipped statistics are always of all."""
        return self.size if self.statistics else min(images, self.size)

    def batches(self, count: int, batch: int = 32) -> Iterator[Tensor]:
        """The first ``count`` images, or all if there are fewer, in batches (N, C, H, W) of at most ``batch``."""
        for start in range(0, min(count, self.size), batch):
            yield self.draw(start, min(start + batch, count, self.size))


def procedural(network: Classifier, size: int = 2000) -> ReferenceSet:
    """Generated images like those that an embedded network was trained on. Raises ExplainerError for another network."""
    draw_batch = GENERATED.get(network.training_data)
    if draw_batch is None:
        raise ExplainerError(f"{network.title} brings no reference images; give a folder or a list of pictures.")

    @lru_cache(maxsize=1)  # successive small batches come from the same chunk
    def chunk(number: int) -> Tensor:
        return draw_batch(_CHUNK, _PROCEDURAL_SEED + number)[0]

    def draw(start: int, stop: int) -> Tensor:
        chunks = range(start // _CHUNK, -(-stop // _CHUNK))
        pixels = torch.cat([chunk(number) for number in chunks])
        first = start - chunks[0] * _CHUNK
        return network.preprocessing.normalise(pixels[first:first + stop - start].float() / 255)

    return ReferenceSet(f"{size} fresh {network.training_data}", f"procedural {network.training_data} {size}", size, draw)


def shipped(network: Classifier) -> ReferenceSet:
    """The set whose statistics come with the network. Raises ExplainerError for a network without."""
    if network.statistics is None:
        raise ExplainerError(f"{network.title} brings no statistics; give a folder or a list of pictures.")
    statistics = shipped_statistics.read(network.statistics)
    count = int(statistics.about["pictures"])

    def draw(start: int, stop: int) -> Tensor:
        raise ExplainerError(
            f"The statistics that come with {network.title} are those of the default layers, and these settings need others: "
            "set the layer to auto, or give a few hundred photographs as reference pictures.")

    return ReferenceSet(f"{count} photographs (shipped statistics)", statistics.identity, count, draw, statistics=statistics)


def own_folder() -> Path | None:
    """The folder with a person's own reference set, from the environment variable EXPLORER_REFERENCE; None if it is not set."""
    folder = os.environ.get("EXPLORER_REFERENCE")
    return Path(folder) if folder else None


def from_pictures(network: Classifier, pictures: str | Path | Iterable[Image.Image | str | Path],
                  kind: str = "pictures") -> ReferenceSet:
    """The pictures of a folder, or given pictures and files, as the network sees them; files that cannot be read are left out.

    kind: a word for the title, after the number of pictures. Raises ExplainerError when fewer than two can be read.
    """
    if isinstance(pictures, (str, Path)):
        folder = Path(pictures)
        if not folder.is_dir():
            raise ExplainerError("The reference set is no folder; give one that holds pictures.")
        pictures = sorted(p for p in folder.iterdir() if p.suffix.lower() in _PICTURES)
    seen = []
    for picture in pictures:
        try:
            seen.append(np.atleast_3d(np.asarray(network.preprocessing.seen(load_image(picture)))))
        except PictureError:  # one damaged picture must not make hundreds of others unusable
            continue
    if len(seen) < 2:
        raise ExplainerError(f"A reference set needs at least two pictures, better a few hundred; {len(seen)} can be read.")
    pixels = torch.from_numpy(np.stack(seen))  # (N, H, W, C) uint8
    identity = hashlib.sha256(f"pictures {tuple(pixels.shape)} ".encode() + pixels.numpy().tobytes()).hexdigest()

    def draw(start: int, stop: int) -> Tensor:
        return network.preprocessing.normalise(pixels[start:stop].permute(0, 3, 1, 2).float().contiguous() / 255)

    return ReferenceSet(f"{len(seen)} {kind}", identity, len(seen), draw, private=True)


def neighbourhood(network: Classifier, x: Tensor, size: int = 64, seed: int = 0) -> ReferenceSet:
    """Copies of the image ``x`` (1, C, H, W), randomly cropped, flipped, recoloured and with noise, where there is no other set."""
    image = x.detach().cpu()
    identity = hashlib.sha256(image.numpy().tobytes() + f"{size} {seed}".encode()).hexdigest()

    def draw(start: int, stop: int) -> Tensor:
        return torch.cat([_neighbour(image, torch.Generator().manual_seed(seed * 1_000_003 + i)) for i in range(start, stop)])

    return ReferenceSet(f"{size} copies of the image", f"copies {identity}", size, draw, private=True, note=(
        "fitted on copies of this image, because the network has no reference set: give pictures of what it was trained on"))


def _neighbour(image: Tensor, generator: torch.Generator) -> Tensor:
    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    side = image.shape[-1]
    crop = round(side * uniform(0.5, 1.0))
    top, left = (round(uniform(0, side - crop)) for _ in range(2))
    part = F.interpolate(image[..., top:top + crop, left:left + crop], size=image.shape[-2:], mode="bilinear", align_corners=False)
    if uniform(0, 1) < 0.5:
        part = part.flip(-1)
    gain = 1 + 0.3 * torch.randn(1, image.shape[1], 1, 1, generator=generator)
    shift = 0.3 * torch.randn(1, image.shape[1], 1, 1, generator=generator)
    noise = 0.1 * torch.randn(image.shape, generator=generator)
    return part * gain + shift + noise


def default(network: Classifier, x: Tensor) -> ReferenceSet:
    """The reference set where none is given: shipped statistics, generated images, or copies of the image ``x``."""
    if network.statistics is not None:
        return shipped(network)
    return procedural(network) if network.training_data in GENERATED else neighbourhood(network, x)
