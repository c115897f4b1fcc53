"""The names of ImageNet's 1000 classes, the same as torchvision's, read without importing torchvision."""

from __future__ import annotations

from functools import cache

from explainers.networks.embedded import WEIGHTS

FILE = WEIGHTS / "imagenet_categories.txt"


@cache
def categories() -> tuple[str, ...]:
    """The 1000 names in the order of the logits."""
    return tuple(FILE.read_text(encoding="utf-8").splitlines())


def numbered(classes: int) -> tuple[str, ...]:
    """Names for classes of which nothing is known: "class 0", "class 1" and so on."""
    return tuple(f"class {index}" for index in range(classes))
