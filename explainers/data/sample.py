"""The type of the sample pictures. Nothing is read before a picture is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class Part:
    """A rectangle (``cut``) of a picture file, and where it stands (``place``) in a picture that is composed of several files."""

    file: Path
    cut: Box
    place: Box


@dataclass(frozen=True)
class Sample:
    """One picture of the gallery.

    kind: "photographs", "scenes" or "digits". labels: the names of the classes in it. mask_files: one for each object of a scene.
    source: of a photograph what it shows, its author and its licence. parts: of a composed photograph the rectangles that it is
    made of, one for each label; ``file`` is then the first one's.
    """

    name: str
    title: str
    kind: str
    labels: tuple[str, ...]
    file: Path
    mask_files: tuple[Path, ...] = ()
    source: str = ""
    parts: tuple[Part, ...] = ()

    def load(self) -> Image.Image:
        """The picture in RGB."""
        if self.parts:
            return self._composed()
        with Image.open(self.file) as image:
            return image.convert("RGB")

    @property
    def has_masks(self) -> bool:
        """Whether it is known where the objects are."""
        return bool(self.mask_files or self.parts)

    @property
    def masks(self) -> np.ndarray:
        """Where each object is, in the order of ``labels``, bool (objects, H, W). Raises ValueError where it is not known.

        Of a scene the visible part of the object; of a composed photograph the rectangle of the photograph that shows it.
        """
        if not self.parts:
            return np.stack([np.asarray(Image.open(file)).astype(bool) for file in self.mask_files])
        width, height = self._size()
        masks = np.zeros((len(self.parts), height, width), bool)
        for mask, part in zip(masks, self.parts, strict=True):
            left, top, right, bottom = part.place
            mask[top:bottom, left:right] = True
        return masks

    def _size(self) -> tuple[int, int]:
        """Width and height of a composed picture."""
        return max(part.place[2] for part in self.parts), max(part.place[3] for part in self.parts)

    def _composed(self) -> Image.Image:
        whole = Image.new("RGB", self._size())
        for part in self.parts:
            left, top, right, bottom = part.place
            with Image.open(part.file) as image:
                size = right - left, bottom - top
                whole.paste(image.convert("RGB").resize(size, Image.Resampling.BICUBIC, box=part.cut), (left, top))
        return whole
