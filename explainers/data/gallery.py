"""The sample pictures that come with the package, with masks of the objects in the scenes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "samples"


@dataclass(frozen=True)
class Sample:
    """One picture of the gallery. ``kind`` is "scenes" or "digits"; ``labels`` are the names of the classes in it."""

    name: str
    title: str
    kind: str
    labels: tuple[str, ...]
    file: Path
    mask_files: tuple[Path, ...]

    def load(self) -> Image.Image:
        """The picture in RGB."""
        with Image.open(self.file) as image:
            return image.convert("RGB")

    @property
    def masks(self) -> np.ndarray:
        """The visible part of each object in the order of ``labels``, bool (objects, H, W). Raises ValueError for a digit."""
        return np.stack([np.asarray(Image.open(file)).astype(bool) for file in self.mask_files])


def samples() -> list[Sample]:
    """The gallery. Scenes with two objects come first, because they show whether a map depends on the class."""
    entries = json.loads((FOLDER / "samples.json").read_text())
    listed = [Sample(Path(entry["file"]).stem, entry["name"], entry["kind"], tuple(entry["labels"]), FOLDER / entry["file"],
                     tuple(FOLDER / mask["file"] for mask in entry["masks"])) for entry in entries]
    return sorted(listed, key=lambda sample: (sample.kind != "scenes", -len(sample.labels)))
