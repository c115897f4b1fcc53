"""The sample pictures that come with the package, ready to be explained, with the masks of what is in them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "samples"


@dataclass(frozen=True)
class Sample:
    """One picture of the gallery. ``kind`` is "scenes" or "digits"; ``labels`` are the classes of what it shows."""

    name: str
    title: str
    kind: str
    labels: tuple[str, ...]
    file: Path
    mask_files: tuple[Path, ...]

    def load(self) -> Image.Image:
        """The picture, RGB."""
        with Image.open(self.file) as image:
            return image.convert("RGB")

    @property
    def masks(self) -> np.ndarray:
        """(objects, H, W) bool: the visible part of each labelled object, in the order of ``labels``."""
        return np.stack([np.asarray(Image.open(file)).astype(bool) for file in self.mask_files])


def samples() -> list[Sample]:
    """The gallery, scenes with two objects first: they show whether a map follows the class."""
    entries = json.loads((FOLDER / "samples.json").read_text())
    found = [
        Sample(Path(e["file"]).stem, e["name"], e["reference"], tuple(e["labels"]), FOLDER / e["file"],
               tuple(FOLDER / mask["file"] for mask in e["masks"]))
        for e in entries
    ]
    return sorted(found, key=lambda sample: (sample.kind != "scenes", -len(sample.labels)))
