"""The sample pictures, and which of them a network can know: photographs, scenes with masks of their objects, and digits."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from explainers.data.photographs import photographs
from explainers.data.sample import Sample

__all__ = ["Sample", "mismatch", "samples"]

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "samples"
# what a network was trained on -> in words, and what a picture is -> in words
LEARNED = {"scenes": "drawn scenes of 16 icons", "digits": "drawn digits", "photographs": "ImageNet's photographs",
           "cifar10": "CIFAR-10's photographs"}
SHOWN = {"scenes": "a drawn scene", "digits": "a drawn digit", "photographs": "a photograph", "": "a picture of yours"}


def samples() -> list[Sample]:
    """The gallery: photographs, then scenes, then digits.

    Of photographs and scenes those with two objects come first, because they show whether a map depends on the class.
    """
    return list(_samples())


@lru_cache(maxsize=1)
def _samples() -> tuple[Sample, ...]:
    entries = json.loads((FOLDER / "samples.json").read_text())
    drawn = [Sample(Path(entry["file"]).stem, entry["name"], entry["kind"], tuple(entry["labels"]), FOLDER / entry["file"],
                    tuple(FOLDER / mask["file"] for mask in entry["masks"])) for entry in entries]
    return (*photographs(), *sorted(drawn, key=lambda sample: (sample.kind != "scenes", -len(sample.labels))))


def mismatch(network_training_data: str, picture_kind: str) -> str:
    """One sentence where a network cannot know a picture; empty where it can, or where it is not known what it was trained on.

    ``network_training_data``: ``Classifier.training_data``. ``picture_kind``: ``Sample.kind``, or empty for a picture of the
    user's, which is taken for a photograph.
    """
    kind = picture_kind or "photographs"
    if (network_training_data, kind) == ("cifar10", "photographs"):
        return "This network knows only the ten classes of CIFAR-10; of a photograph of something else its answer says little."
    learned, shown = LEARNED.get(network_training_data), SHOWN.get(picture_kind)
    if learned is None or shown is None or kind == network_training_data:
        return ""
    return f"This network was trained on {learned}; {shown} is outside what it knows, so its answer says little."
