"""The photographs or scenes that benchmarks measure on, and the file in which each one's results are kept."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

import explainers as ex
from explainers.data import scenes

SCENES = Path("scenes")  # in place of a folder: scenes of two objects, drawn from seeds
SCENES_SEED = 7


@dataclass(frozen=True)
class Photograph:
    """A labelled photograph as a network sees it: ``x`` (1, 3, H, W). ``ranked``: the classes, the most probable first."""

    name: str
    label: int
    x: Tensor
    ranked: tuple[int, ...]


def recognised(network: ex.Classifier, folder: Path, count: int, skip: int = 0) -> Iterator[Photograph]:
    """The first ``count`` photographs ``NNN_name.jpg`` (NNN: the class) whose class is the network's first choice, after ``skip``.

    For SCENES they are scenes whose two objects are the network's first two choices; the label is its first one.
    """
    if folder == SCENES:
        for number, scene in enumerate(itertools.islice(recognised_scenes(network, 2, SCENES_SEED), skip, skip + count), start=skip):
            x = network.preprocess(Image.fromarray(scene.image))
            ranked = network.predict(x)[0].argsort(descending=True).tolist()
            yield Photograph(f"scene_{number}", ranked[0], x, tuple(ranked))
        return
    right = 0
    for path in sorted(Path(folder).glob("[0-9][0-9][0-9]_*.jpg")):
        label = int(path.name[:3])
        x = network.preprocess(ex.load_image(path))
        ranked = network.predict(x)[0].argsort(descending=True).tolist()
        if ranked[0] != label:
            continue
        right += 1
        if right > skip + count:
            return
        if right > skip:
            yield Photograph(path.stem, label, x, tuple(ranked))


def recognised_scenes(network: ex.Classifier, objects: int, seed: int) -> Iterator[scenes.Scene]:
    """Scenes whose objects are the network's first choices."""
    for index in itertools.count():
        scene = scenes.draw((seed << 32) + index, network.input_size[0], objects)
        x = network.preprocess(Image.fromarray(scene.image))
        if set(network.predict(x)[0].topk(objects).indices.tolist()) == set(scene.labels):
            yield scene


class Ledger:
    """Results by photograph, one JSON object a line, so that an interrupted run goes on; without a file, for this run alone."""

    def __init__(self, path: Path | None):
        self.path = path
        lines = path.read_text().splitlines() if path and path.exists() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def has(self, **keys: Any) -> bool:
        """Whether there is a row with these values."""
        return any(keys.items() <= row.items() for row in self.rows)

    def add(self, **row: Any) -> None:
        """Keep one photograph's result."""
        self.rows.append(row)
        if self.path:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")

    def values(self, field: str, **keys: Any) -> dict[str, Any]:
        """The field by photograph, of the rows with these values."""
        return {row["photograph"]: row[field] for row in self.rows if keys.items() <= row.items()}
