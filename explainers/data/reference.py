"""Reference sets: a few hundred images that stand for what a network was trained on.

MIP-IN, IBA and InputIBA fit statistics on one. The embedded networks bring theirs, drawn on demand. For another network a
person gives a folder or a list of pictures. With none given, copies of the explained image itself (cropped, flipped,
recoloured, noisy) are the last resort, and every map made from them says so.
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

from explainers.data import digits, scenes
from explainers.errors import ExplainerError
from explainers.networks.classifier import Classifier
from explainers.pictures import PictureError, load_image

_PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
_PROCEDURAL_SEED = 7_000_000  # far from the seeds of training, of held-out draws and of the gallery
_CHUNK = 128


@dataclass(frozen=True)
class ReferenceSet:
    """Images by number, preprocessed for one network. ``identity`` decides their pixels, so it goes into cache keys.

    ``note`` is a sentence for maps made from a set that is no real one, else empty. ``private``: these are somebody's pictures,
    so nothing that they could be read from may be written to disk; statistics may.
    """

    title: str
    identity: str
    size: int
    draw: Callable[[int, int], Tensor]  # (start, stop) -> (stop - start, C, H, W), normalised, on the CPU
    note: str = ""
    private: bool = False

    def batches(self, count: int, batch: int = 32) -> Iterator[Tensor]:
        """The first ``count`` images (all, if there are fewer), at most ``batch`` at a time."""
        for start in range(0, min(count, self.size), batch):
            yield self.draw(start, min(start + batch, count, self.size))


def procedural(network: Classifier, size: int = 2000) -> ReferenceSet:
    """Fresh draws of what an embedded network was trained on. Raises ExplainerError for another network."""
    source = {"scenes": scenes.draw_batch, "digits": digits.draw_batch}.get(network.training_data)
    if source is None:
        raise ExplainerError(f"{network.title} brings no reference images; give a folder or a list of pictures.")

    @lru_cache(maxsize=1)  # whoever asks for small batches asks for the same chunk again
    def chunk(number: int) -> Tensor:
        return source(_CHUNK, _PROCEDURAL_SEED + number)[0]

    def draw(start: int, stop: int) -> Tensor:
        chunks = range(start // _CHUNK, -(-stop // _CHUNK))
        pixels = torch.cat([chunk(number) for number in chunks])
        first = start - chunks[0] * _CHUNK
        return network.preprocessing.normalise(pixels[first:first + stop - start].float() / 255)

    return ReferenceSet(f"{size} fresh {network.training_data}", f"procedural {network.training_data} {size}", size, draw)


def own_folder() -> Path | None:
    """The folder of a person's own reference pictures, from the environment variable EXPLORER_REFERENCE."""
    named = os.environ.get("EXPLORER_REFERENCE")
    return Path(named) if named else None


def from_pictures(network: Classifier, pictures: str | Path | Iterable[Image.Image | str | Path],
                  kind: str = "pictures") -> ReferenceSet:
    """A folder, or pictures or files one after another; of each is kept what the network sees of it. ``kind`` is for the title.

    Raises ExplainerError when fewer than two can be read.
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
        except PictureError:  # one damaged picture of hundreds must not cost the others
            continue
    if len(seen) < 2:
        raise ExplainerError(f"A reference set needs at least two pictures, better a few hundred; {len(seen)} can be read.")
    pixels = torch.from_numpy(np.stack(seen))  # (N, H, W, C) uint8
    identity = hashlib.sha256(f"pictures {tuple(pixels.shape)} ".encode() + pixels.numpy().tobytes()).hexdigest()

    def draw(start: int, stop: int) -> Tensor:
        return network.preprocessing.normalise(pixels[start:stop].permute(0, 3, 1, 2).float().contiguous() / 255)

    return ReferenceSet(f"{len(seen)} {kind}", identity, len(seen), draw, private=True)


def neighbourhood(network: Classifier, x: Tensor, size: int = 64, seed: int = 0) -> ReferenceSet:
    """Copies of the image ``x`` (1, C, H, W): crops, flips, other colours, noise. The last resort."""
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
    """The network's own set, or copies of the image."""
    return procedural(network) if network.training_data else neighbourhood(network, x)
