"""The card of a checkpoint, ``name.json``: what the weights do not tell about their network. Every field is checked."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from explainers.networks.checkpoint_files import MAX_CARD_BYTES, MAX_CATEGORIES, MAX_SIDE, CheckpointError, file_bytes, shown
from explainers.networks.preprocessing import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class ModelCard:
    """What a file of weights does not tell about its network. num_classes: None to take it from the weights.

    stated: the names of the fields that the card itself gives.
    """

    architecture: str
    num_classes: int | None = None
    categories: tuple[str, ...] = ()
    input_size: int = 224
    resize_size: int = 256
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    title: str = ""
    stated: frozenset[str] = field(default=frozenset(), compare=False)



def read_card(source: str | Path | bytes | Mapping[str, Any]) -> ModelCard:
    """The card from a JSON file, its bytes or a mapping. Raises CheckpointError naming the bad field and its value.

    ``architecture`` is required. Defaults: input_size 224, resize_size input_size * 256 / 224, ImageNet's mean and
    std (of pixels from 0 to 1), title = architecture. An unknown field is refused, because it may be a misspelt one.
    """
    fields = dict(source) if isinstance(source, Mapping) else card_fields(source)
    fields = {name: value for name, value in fields.items() if value is not None}
    known = [field for field in ModelCard.__dataclass_fields__ if field != "stated"]
    for name in fields:
        if name not in known:
            takes = ", ".join(known)
            raise CheckpointError(f"The card has an unknown field {shown(name)}; a card takes {takes}.")
    architecture = fields.get("architecture")
    if not isinstance(architecture, str) or not re.fullmatch(r"(timm/)?[\w.]{1,80}", architecture):
        raise _bad("architecture", architecture, "the name of an architecture such as 'resnet18' (torchvision's) or 'timm/resnet50d'")
    categories = _categories(fields.get("categories", ()))
    classes = _whole("num_classes", fields.get("num_classes", len(categories) or None), 1, MAX_CATEGORIES)
    if categories and classes != len(categories):
        raise _bad("num_classes", classes, f"{len(categories)}, the number of categories")
    side = _whole("input_size", fields.get("input_size", 224), 8, MAX_SIDE)
    resized = _whole("resize_size", fields.get("resize_size", side * 256 // 224), side, 2 * MAX_SIDE)
    mean = _three("mean", fields.get("mean", IMAGENET_MEAN), lambda x: 0 <= x <= 1, "three numbers from 0 to 1")
    std = _three("std", fields.get("std", IMAGENET_STD), lambda x: 0 < x <= 10, "three numbers above 0, up to 10")
    title = _text("title", fields.get("title", architecture))
    return ModelCard(architecture, classes, categories, side, resized, mean, std, title, frozenset(fields))


def card_fields(source: str | Path | bytes) -> dict[str, Any]:
    """What a card's JSON file, or its bytes, states, unchecked. Raises CheckpointError where it is no JSON object."""
    data = source if isinstance(source, bytes) else file_bytes(source, "The card", MAX_CARD_BYTES)
    if len(data) > MAX_CARD_BYTES:
        raise CheckpointError(f"The card is larger than {MAX_CARD_BYTES / 1e6:g} MB, which is more than is read here.")
    try:
        fields = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_without_twins)
    except json.JSONDecodeError as error:
        raise CheckpointError(f"The card is not JSON: line {error.lineno} cannot be read; correct it there.") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError("The card is not a JSON text in UTF-8; save it as one.") from error
    if not isinstance(fields, dict):
        raise CheckpointError(f"The card holds a {type(fields).__name__}; it must be one JSON object in braces.")
    return fields


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as a dict. Of a field that is there twice, Python's own reading would silently keep the last."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        twin = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise CheckpointError(f"The card has the field {shown(twin)} twice; keep one of them.")
    return fields


def _bad(field: str, value: object, wanted: str) -> CheckpointError:
    return CheckpointError(f"The card's {field} is {shown(value)}; it must be {wanted}.")


def _whole(field: str, value: Any, low: int, high: int) -> Any:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _bad(field, value, f"a whole number from {low} to {high}")
    return value


def _three(field: str, value: Any, allowed: Callable[[float], bool], wanted: str) -> tuple[float, float, float]:
    numbers: Any = value if isinstance(value, (list, tuple)) and len(value) == 3 else [None]
    for number in numbers:
        real = isinstance(number, (int, float)) and not isinstance(number, bool)
        if not real or not allowed(number):  # comparisons are exact for a number of any size, and false for NaN
            raise _bad(field, value, wanted)
    red, green, blue = map(float, numbers)
    return red, green, blue


def _categories(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or len(value) > MAX_CATEGORIES:
        raise _bad("categories", value, f"a list of at most {MAX_CATEGORIES} names")
    return tuple(_text(f"category {index}", name) for index, name in enumerate(value))


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 200 or not value.isprintable():
        raise _bad(field, value, "a text of 1 to 200 printable characters")
    return value.strip()
