"""The photographs that benchmarks measure on, and the file in which results are kept, so that a broken run goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

import explainers as ex


@dataclass(frozen=True)
class Photograph:
    """A labelled photograph as a network sees it: ``x`` (1, 3, H, W). ``ranked``: the classes, the most probable first."""

    name: str
    label: int
    x: Tensor
    ranked: tuple[int, ...]


def recognised(network: ex.Classifier, folder: Path, count: int, skip: int = 0) -> Iterator[Photograph]:
    """The first ``count`` photographs ``NNN_name.jpg`` (NNN: the class) whose class is the network's first choice, after ``skip``."""
    found = 0
    for path in sorted(Path(folder).glob("[0-9][0-9][0-9]_*.jpg")):
        label = int(path.name[:3])
        x = network.preprocess(ex.load_image(path))
        ranked = network.predict(x)[0].argsort(descending=True).tolist()
        if ranked[0] != label:
            continue
        found += 1
        if found > skip + count:
            return
        if found > skip:
            yield Photograph(path.stem, label, x, tuple(ranked))


class Ledger:
    """One JSON object a line, found again by its ``keys``; without a file, for this run alone."""

    def __init__(self, path: Path | None):
        self.path = path
        lines = path.read_text().splitlines() if path and path.exists() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def has(self, **keys: Any) -> bool:
        return any(keys.items() <= row.items() for row in self.rows)

    def add(self, **row: Any) -> None:
        self.rows.append(row)
        if self.path:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")

    def values(self, field: str, **keys: Any) -> dict[str, float]:
        """The field by photograph, of the rows with these keys."""
        return {row["photograph"]: row[field] for row in self.rows if keys.items() <= row.items()}


def mean_and_error(values: list[float]) -> str:
    """``mean ± standard error``."""
    array = np.array(values, dtype=float)
    error = array.std(ddof=1) / np.sqrt(len(array)) if len(array) > 1 else float("nan")
    return f"{array.mean():.3f} ± {error:.3f}"
