"""Reading a person's own weights: without running any code from the file, and without taking more memory than the file justifies.

The kind of a file is recognised by its content, not by its name. A checkpoint that is damaged, needs code or is not finite is
refused with one sentence, because maps of half-loaded weights could not be told from others.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from explainers.memory import ran_out
from explainers.networks import torch_files
from explainers.networks.checkpoint_files import MAX_FILE_BYTES, MAX_NAME, MAX_TENSORS, CheckpointError, file_bytes, shown, spoken
from explainers.networks.torch_files import LEGACY, Stored, TorchFile

MAX_HEADER_BYTES = 8 * 10**6  # of a .safetensors file, which describes each tensor in about 150 bytes
# Tensors may take at most this many times the bytes of their file, which is what float32 takes of 8-bit numbers. A few bytes can
# describe any number of values: an expanded tensor, or the same tensor under many names.
MAX_GROWTH = 4

WRAPPERS = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.")  # DataParallel's and torch.compile's

Parsed = tuple[object, Callable[[Any], Tensor]]
"""What a file holds, its tensors not yet read, and the function that reads the values of each."""


def read_weights(source: str | Path | bytes, filename: str = "") -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of a .pth that holds only tensors, by name: on the CPU, real ones finite float32.

    source: a path or the file's bytes. filename: the name for messages, where bytes are given; it is never opened. A
    ``{'state_dict': ...}`` or ``{'model': ...}`` around the tensors and a ``module.`` before their names are removed. Integer
    tensors (counters, indices) keep their type. Raises CheckpointError for everything else.
    """
    name = spoken(filename if isinstance(source, bytes) else filename or str(source))
    data = source if isinstance(source, bytes) else file_bytes(source, name, MAX_FILE_BYTES)
    if not data:
        raise CheckpointError(f"{name} is empty (0 bytes); copy or upload it again.")
    content, take = _parsed(data, name)
    weights = _without_prefix(_unwrapped(content, name))
    _refuse_growth(weights, len(data), name)
    plain = {key: _plain(key, value, take, name) for key, value in weights.items()}
    _refuse_non_finite(plain, name)
    return plain


def _parsed(data: bytes, name: str) -> Parsed:
    """The content of the file, which is read as its first bytes tell."""
    if data.startswith(b"PK\x03\x04"):
        _inspect_zip(data, name)
        return _of_torch(data, name)
    if data.startswith(LEGACY):
        return _of_torch(data, name)
    if data[:1] == b"\x80" and data[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        raise CheckpointError(_needs_code(name, "it is a plain Python pickle"))
    if data.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{name} is only a Git LFS pointer; fetch the file itself with 'git lfs pull'.")
    if data[8:9] == b"{":
        return _of_safetensors(data, name)
    raise CheckpointError(_not_a_checkpoint(name))


def _of_safetensors(data: bytes, name: str) -> Parsed:
    length = int.from_bytes(data[:8], "little")
    if length > MAX_HEADER_BYTES and length <= len(data):
        raise CheckpointError(_too_many(name))
    try:
        described = json.loads(data[8:8 + length])
        if len(described) - ("__metadata__" in described) > MAX_TENSORS:
            raise CheckpointError(_too_many(name))
        return dict(sorted(safetensors.torch.load(data).items())), lambda tensor: tensor  # the order differs from load to load
    except CheckpointError:
        raise
    except Exception as error:  # the parser raises many kinds: SafetensorError, KeyError, AssertionError, RuntimeError ...
        if ran_out(error):
            raise
        raise CheckpointError(_damaged(name)) from error


def _inspect_zip(data: bytes, name: str) -> None:
    """Refuse archives that hold code, are compressed (torch.save does not compress), too large for their file, or damaged."""
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
            # Members that lie over one another would be read, and compared with their checksums, any number of times.
            laid_over = len(set(names)) < len(names) or sum(member.file_size for member in members) > len(data)
            broken = laid_over or archive.testzip() is not None
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        if ran_out(error):
            raise
        raise CheckpointError(_damaged(name)) from error
    if broken:
        raise CheckpointError(_damaged(name))


def _of_torch(data: bytes, name: str) -> Parsed:
    try:
        file = TorchFile(data)
    except torch_files.NeedsCode as error:
        raise CheckpointError(_needs_code(name, f"it uses {shown(str(error))[1:-1]}")) from error
    except torch_files.TooMuch as error:
        raise CheckpointError(_too_many(name)) from error
    except torch_files.Damaged as error:
        raise CheckpointError(_damaged(name)) from error
    return file.content, file.tensor


def _unwrapped(content: object, name: str) -> dict[str, Any]:
    if isinstance(content, Mapping):
        content = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{name} holds a {_kind(content)}, not named tensors; save model.state_dict().")
    if not content:
        raise CheckpointError(f"{name} holds no tensors; save model.state_dict().")
    if len(content) > MAX_TENSORS:
        raise CheckpointError(_too_many(name))
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, (Tensor, Stored)):
            raise CheckpointError(f"{name} holds {shown(key)} of type {_kind(value)}, which is not a tensor; "
                                  "save model.state_dict() alone.")
        if len(key) > MAX_NAME:
            raise CheckpointError(f"{name} holds a tensor whose name has {len(key)} characters, and {MAX_NAME} are the most; "
                                  "save model.state_dict().")
    return dict(content)


def _kind(value: object) -> str:
    return "Tensor" if isinstance(value, Stored) else type(value).__name__.strip("_")


def _without_prefix(weights: dict[str, Any]) -> dict[str, Any]:
    prefix = next((p for p in PREFIXES if all(key.startswith(p) for key in weights)), None)
    if prefix is None:
        return weights
    return _without_prefix({key.removeprefix(prefix): value for key, value in weights.items()})


def _refuse_growth(weights: Mapping[str, Tensor | Stored], file_bytes: int, name: str) -> None:
    claimed = 4 * sum(value.numbers if isinstance(value, Stored) else value.numel() for value in weights.values())
    if claimed > MAX_GROWTH * file_bytes:
        raise CheckpointError(f"{name} claims {claimed / 1e9:.3g} GB of weights in a file of {file_bytes / 1e9:.3g} GB; "
                              "save it again.")


def _plain(key: str, value: Any, take: Callable[[Any], Tensor], name: str) -> Tensor:
    """The tensor's values, contiguous, real numbers as float32. Raises CheckpointError for one that is not dense."""
    special = value.storage is None or value.storage.dtype is None if isinstance(value, Stored) else value.is_complex()
    if special:
        raise CheckpointError(f"{name} stores {shown(key)} in a special form (sparse, quantised, complex or without data); "
                              "save it as ordinary float32 numbers.")
    try:
        tensor = take(value)
    except torch_files.Damaged as error:
        raise CheckpointError(_damaged(name)) from error
    return (tensor.to(torch.float32) if tensor.is_floating_point() else tensor).contiguous()


def _refuse_non_finite(weights: dict[str, Tensor], name: str) -> None:
    counts = {key: int((~torch.isfinite(tensor)).sum()) for key, tensor in weights.items()}
    bad = [key for key, count in counts.items() if count]
    if bad:
        first, size = bad[0], weights[bad[0]].numel()
        raise CheckpointError(
            f"{name} is NaN or infinite in {counts[first]} of the {size} values of {shown(first)} ({len(bad)} of "
            f"{len(weights)} tensors are affected); its training diverged, so use an earlier checkpoint.")


def _needs_code(name: str, why: str) -> str:
    return f"{name} needs code to load ({why}), which is never run here; save its state_dict() as .safetensors."


def _damaged(name: str) -> str:
    return f"{name} is damaged or cut off before its end; copy or upload it again."


def _not_a_checkpoint(name: str) -> str:
    return f"{name} is not a checkpoint; use a .safetensors file or a .pth that torch.save wrote."


def _too_many(name: str) -> str:
    return f"{name} describes more than {MAX_TENSORS} tensors, the most that are read here; save model.state_dict() alone."
