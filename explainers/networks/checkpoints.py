"""A person's own weights: read without running any code from the file, and loaded into the network that they belong to.

The weights ``name.safetensors`` (or a ``.pth`` that holds only tensors) come with ``name.json``, the card. The kind of a file is
recognised by its content, not by its name. A checkpoint that is damaged, needs code, is not finite or belongs to another
architecture is refused with one sentence, because maps of half-loaded weights could not be told from others.
"""

from __future__ import annotations

import json
import math
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from explainers.errors import ExplainerError
from explainers.networks.preprocessing import IMAGENET_MEAN, IMAGENET_STD

MAX_FILE_BYTES = 4 * 10**9
MAX_CARD_BYTES = 10**7
MAX_CATEGORIES = 100_000
MAX_SIDE = 2048
# Tensors may take at most this many times the bytes of their file: a few bytes can describe any number of values (an expanded
# tensor, one tensor under many names, a compressed zip).
MAX_GROWTH = 8

WRAPPERS = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.")  # DataParallel's and torch.compile's
LEGACY_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # files of torch.save before 1.6 begin with this pickled number


class CheckpointError(ExplainerError):
    """Weights or a card that cannot be used; the message is one sentence that says why and what to do."""


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


# Reading weights


def read_weights(source: str | Path | bytes, filename: str = "") -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a .pth that holds only tensors, by name: on the CPU, real ones finite float32.

    source: a path or the file's bytes. filename: the name for messages, where bytes are given; it is never opened. A
    ``{'state_dict': ...}`` or ``{'model': ...}`` around the tensors and a ``module.`` before their names are removed. Integer
    tensors (counters, indices) keep their type. Raises CheckpointError for everything else.
    """
    name = _spoken(filename if isinstance(source, bytes) else filename or str(source))
    data = source if isinstance(source, bytes) else _file_bytes(source, name, MAX_FILE_BYTES)
    if not data:
        raise CheckpointError(f"{name} is empty (0 bytes); copy or upload it again.")
    weights = _without_prefix(_unwrapped(_parsed(data, name), name))
    _refuse_growth(weights, len(data), name)
    plain = {key: _plain(key, value, name) for key, value in weights.items()}
    _refuse_non_finite(plain, name)
    return plain


def _parsed(data: bytes, name: str) -> object:
    """The content of the file, which is read as its first bytes tell."""
    if data.startswith(b"PK\x03\x04"):
        _inspect_zip(data, name)
        return _torch_load(data, name)
    if data.startswith(LEGACY_TORCH):
        return _torch_load(data, name)
    if data[:1] == b"\x80" and data[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        raise CheckpointError(_needs_code(name, "it is a plain Python pickle"))
    if data.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{name} is only a Git LFS pointer; fetch the file itself with 'git lfs pull'.")
    if data[8:9] == b"{":
        try:
            return dict(sorted(safetensors.torch.load(data).items()))  # sorted, because the order differs from load to load
        except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
            raise CheckpointError(_damaged(name)) from error
    raise CheckpointError(_not_a_checkpoint(name))


def _inspect_zip(data: bytes, name: str) -> None:
    """Refuse archives that hold code, are compressed (torch.save does not compress) or are damaged."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            members = archive.infolist()
            names = [member.filename for member in members]
            if any(part.endswith("/constants.pkl") or "/code/" in part for part in names):
                raise CheckpointError(_needs_code(name, "it is a TorchScript program"))
            if not any(part.endswith("/data.pkl") for part in names):
                raise CheckpointError(_not_a_checkpoint(name))
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise CheckpointError(f"{name} was compressed afterwards; save it again with torch.save.")
            broken = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise CheckpointError(_damaged(name)) from error
    if broken is not None:
        raise CheckpointError(_damaged(name))


def _torch_load(data: bytes, name: str) -> object:
    stream = BytesIO(data)
    try:
        return torch.load(stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        needed = re.search(r"GLOBAL ([\w.]+)", str(error))
        cut = data.startswith(LEGACY_TORCH) and stream.tell() == len(data)  # a name cut off at the end is not on torch's list either
        if cut or (needed is None and "Unsupported" not in str(error)):
            raise CheckpointError(_damaged(name)) from error
        raise CheckpointError(_needs_code(name, f"it uses {needed[1]}" if needed else "it builds objects")) from error
    except Exception as error:  # the parser raises many kinds: EOFError, RuntimeError, KeyError, struct.error ...
        raise CheckpointError(_damaged(name)) from error


def _unwrapped(content: object, name: str) -> dict[str, Any]:
    if isinstance(content, Mapping):
        content = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{name} holds a {type(content).__name__}, not named tensors; save model.state_dict().")
    if not content:
        raise CheckpointError(f"{name} holds no tensors; save model.state_dict().")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{name} holds {_shown(key)} of type {type(value).__name__}, which is not a tensor; "
                                  "save model.state_dict() alone.")
    return dict(content)


def _without_prefix(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = next((p for p in PREFIXES if all(key.startswith(p) for key in weights)), None)
    if prefix is None:
        return weights
    return _without_prefix({key.removeprefix(prefix): value for key, value in weights.items()})


def _refuse_growth(weights: dict[str, Tensor], file_bytes: int, name: str) -> None:
    claimed = 4 * sum(tensor.numel() for tensor in weights.values())
    if claimed > MAX_GROWTH * file_bytes:
        raise CheckpointError(f"{name} claims {claimed / 1e9:.3g} GB of weights in a file of {file_bytes / 1e9:.3g} GB; "
                              "save it again.")


def _plain(key: str, tensor: Tensor, name: str) -> Tensor:
    """The tensor, detached and contiguous, real numbers as float32. Raises CheckpointError for one that is not dense."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized or tensor.is_complex():
        raise CheckpointError(f"{name} stores {_shown(key)} in a special form (sparse, quantised, complex or without data); "
                              "save it as ordinary float32 numbers.")
    tensor = tensor.detach()
    return (tensor.to(torch.float32) if tensor.is_floating_point() else tensor).contiguous()


def _refuse_non_finite(weights: dict[str, Tensor], name: str) -> None:
    counts = {key: int((~torch.isfinite(tensor)).sum()) for key, tensor in weights.items()}
    bad = [key for key, count in counts.items() if count]
    if bad:
        first, size = bad[0], weights[bad[0]].numel()
        raise CheckpointError(
            f"{name} is NaN or infinite in {counts[first]} of the {size} values of {_shown(first)} ({len(bad)} of "
            f"{len(weights)} tensors are affected); its training diverged, so use an earlier checkpoint.")


# Putting weights into a network


def fit(module: nn.Module, weights: Mapping[str, Tensor], architecture: str) -> None:
    """Load ``weights`` into ``module``, whose tensors must have the same names and shapes.

    Raises CheckpointError that names the first missing, the first unexpected and the first wrongly shaped tensor. The module may
    then be partly loaded and must not be used.
    """
    weights = _torchvision_names(weights, architecture)
    own = module.state_dict()
    shapes = [key for key, tensor in weights.items() if key in own and tensor.shape != own[key].shape]
    fitting = {key: tensor for key, tensor in weights.items() if key not in shapes}
    try:
        outcome = module.load_state_dict(fitting, strict=False)  # some modules translate old names while they load
    except RuntimeError as error:  # a wrong shape under a name that was translated
        raise CheckpointError(f"The weights do not fit {_plain_word(architecture)}; check the model's card.") from error
    missing = [key for key in outcome.missing_keys if key not in shapes]
    faults = _fault(missing, lambda key: "is missing") + _fault(outcome.unexpected_keys, lambda key: "is unexpected")
    faults += _fault(shapes, lambda key: f"is {tuple(weights[key].shape)} instead of {tuple(own[key].shape)}")
    if faults:
        raise CheckpointError(f"The weights do not fit {_plain_word(architecture)}: {', '.join(faults)}; check the architecture and "
                              "the number of classes in the model's card.")


def num_classes(weights: Mapping[str, Tensor], module: nn.Module, head: str | None = None) -> int:
    """The number of classes of the checkpoint's head, so that the network can be built to match.

    module: the architecture with a head of any width. head: the name of the layer that gives the logits; by default the last linear
    or convolutional one. Raises CheckpointError if the checkpoint has no such layer.
    """
    layers = [name for name, layer in module.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    if not layers:
        raise CheckpointError("This network has no linear or convolutional layer, so its classes cannot be counted.")
    weight = f"{head or layers[-1]}.weight"
    if weight not in weights or weights[weight].ndim < 2:
        raise CheckpointError(
            f"The weights have no head {_shown(weight)}, so they belong to another architecture; check the model's card.")
    return weights[weight].shape[0]


def _torchvision_names(weights: Mapping[str, Tensor], architecture: str) -> dict[str, Tensor]:
    """The names of the network: torchvision's DenseNet files have ``norm.1`` for ``norm1``, and torchvision renames them itself."""
    if not architecture.startswith("densenet"):
        return dict(weights)
    old = re.compile(r"(.*denselayer\d+\.(?:norm|conv))\.([12]\.\w+)")
    return {old.sub(r"\1\2", key): tensor for key, tensor in weights.items()}


def _fault(keys: list[str], words: Callable[[str], str]) -> list[str]:
    """One clause about the first of the faulty tensors, for a message; none if there are no faulty ones."""
    more = f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
    return [f"{_shown(key)} {words(key)}{more}" for key in keys[:1]]


# Reading a card


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
            raise CheckpointError(f"The card has an unknown field {_shown(name)}; a card takes {takes}.")
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
    data = source if isinstance(source, bytes) else _file_bytes(source, "The card", MAX_CARD_BYTES)
    try:
        fields = json.loads(data[: MAX_CARD_BYTES + 1].decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise CheckpointError(f"The card is not JSON: line {error.lineno} cannot be read; correct it there.") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError("The card is not a JSON text in UTF-8; save it as one.") from error
    if not isinstance(fields, dict):
        raise CheckpointError(f"The card holds a {type(fields).__name__}; it must be one JSON object in braces.")
    return fields


def _bad(field: str, value: object, wanted: str) -> CheckpointError:
    return CheckpointError(f"The card's {field} is {_shown(value)}; it must be {wanted}.")


def _whole(field: str, value: Any, low: int, high: int) -> Any:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _bad(field, value, f"a whole number from {low} to {high}")
    return value


def _three(field: str, value: Any, allowed: Callable[[float], bool], wanted: str) -> tuple[float, float, float]:
    numbers: Any = value if isinstance(value, (list, tuple)) and len(value) == 3 else [None]
    for number in numbers:
        real = isinstance(number, (int, float)) and not isinstance(number, bool) and math.isfinite(number)
        if not real or not allowed(number):
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


# Words


def _file_bytes(source: str | Path, name: str, limit: int) -> bytes:
    try:
        path = Path(source)
        if path.is_dir():
            raise CheckpointError(f"{name} is a folder; choose the file in it.")
        if not path.is_file():
            raise CheckpointError(f"{name} was not found; check the path.")
        if path.stat().st_size > limit:
            raise CheckpointError(f"{name} is larger than {limit / 1e9:g} GB, which is more than is read here.")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{name} could not be read; check that you may open it.") from error


def _spoken(filename: str) -> str:
    """A file's name for messages: its last part, without characters that could be read as markup."""
    last = re.split(r"[/\\]", filename)[-1]
    return re.sub(r"[^\w. -]", "", last)[-60:].strip() or "The checkpoint"


def _plain_word(text: str) -> str:
    return re.sub(r"[^\w./]", "", text)[:80] or "this architecture"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _needs_code(name: str, why: str) -> str:
    return f"{name} needs code to load ({why}), which is never run here; save its state_dict() as .safetensors."


def _damaged(name: str) -> str:
    return f"{name} is damaged or cut off before its end; copy or upload it again."


def _not_a_checkpoint(name: str) -> str:
    return f"{name} is not a checkpoint; use a .safetensors file or a .pth that torch.save wrote."
