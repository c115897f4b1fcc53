"""Writes the sample pictures in ``assets/samples``: scenes at 512 pixels, their masks, and a few digits.

The seeds were chosen by eye among draws that all scene networks classify correctly. Pictures and masks are what ``draw`` returns
for them, so the masks are exact.
"""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from explainers.data import digits
from explainers.data.scenes import CLASSES, draw

SIZE = 512
ONE_OBJECT = (45, 31, 36, 40, 54, 65, 67, 77)  # seeds
TWO_OBJECTS = (482, 159, 324, 86, 261, 315)
DIGITS_SEED = 3
DIGIT_DRAWS = (20, 39, 11, 52, 54, 67)  # indices among that seed's draws: a 2, 3, 4, 5, 7 and 9


def write_samples(folder: Path) -> list[dict]:
    """Write pictures, masks and samples.json into a folder; returns the entries of samples.json."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [_write_scene(folder, seed, 1) for seed in ONE_OBJECT]
    entries += [_write_scene(folder, seed, 2) for seed in TWO_OBJECTS]
    entries += _write_digits(folder)
    (folder / "samples.json").write_text(json.dumps(entries, indent=1) + "\n")
    return entries


def _write_scene(folder: Path, seed: int, objects: int) -> dict:
    scene = draw(seed, SIZE, objects)
    names = [CLASSES[label] for label in scene.labels]
    stem = "-".join(names)
    Image.fromarray(scene.image).save(folder / f"{stem}.jpg", quality=92, optimize=True)
    masks = []
    for name, mask in zip(names, scene.masks, strict=True):
        file = f"{stem}.{name}.png"
        Image.fromarray(mask).save(folder / file, optimize=True)  # a bool array becomes a 1-bit picture
        masks.append({"class": name, "file": file})
    return {"name": " and ".join(names).capitalize(), "file": f"{stem}.jpg", "kind": "scenes", "seed": seed, "labels": names,
            "masks": masks}


def _write_digits(folder: Path) -> list[dict]:
    images, labels = digits.draw_batch(max(DIGIT_DRAWS) + 1, DIGITS_SEED)
    entries = []
    for draw_index in DIGIT_DRAWS:
        digit = int(labels[draw_index])
        file = f"digit-{digit}.png"
        Image.fromarray(images[draw_index, 0].numpy()).save(folder / file, optimize=True)
        name, label = f"Digit {digit}", str(digit)
        entries.append({"name": name, "file": file, "kind": "digits", "seed": DIGITS_SEED, "labels": [label], "masks": []})
    return entries
