"""Numbered entries of a cache: their keys, their values and their files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from explainers.attribution import Attribution
from explainers.passes import Passes
from explainers.target import Target


def key(number: int) -> str:
    """The key of the entry with this number."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def attribution(number: int = 0, side: int = 8, **changes) -> Attribution:
    """A map that is the same everywhere; its value is the number."""
    native = torch.full((1, side, side), float(number))
    facts = dict(method="gradient", target=Target((3,)), params={"samples": 4}, seed=number, network="net", input_size=(32, 32))
    facts |= dict(signed=True, reduction="sum", upsample="bilinear", passes=Passes(1, 2), seconds=0.25)
    return Attribution(native=native, **(facts | changes))


def entry_of(folder: Path, number: int) -> Path:
    """The file of the entry with this number."""
    name = key(number)
    return folder / name[:2] / f"{name}.result"


def on_disk(folder: Path) -> int:
    """The bytes of all files in a folder and below it."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
