"""What reading weights and reading cards share: the limits of a file, its bytes, and the words of the sentences that refuse it."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from explainers.errors import ExplainerError

MAX_FILE_BYTES = 4 * 10**9
MAX_TENSORS = 10_000  # the largest networks of torchvision and timm have less than half as many
MAX_NAME = 300  # characters in a tensor's name
MAX_CARD_BYTES = 4 * 10**6
MAX_CATEGORIES = 100_000
MAX_SIDE = 2048


class CheckpointError(ExplainerError):
    """Weights or a card that cannot be used; the message is one sentence that says why and what to do."""


def file_bytes(source: str | Path, name: str, limit: int) -> bytes:
    """The content of an ordinary file of at most ``limit`` bytes. name: what the sentences of a CheckpointError call it.

    A pipe or a device is refused without waiting for what it would send.
    """
    try:
        path = Path(source)
        if path.is_dir():
            raise CheckpointError(f"{name} is a folder; choose the file in it.")
        if not os.path.lexists(path):
            raise CheckpointError(f"{name} was not found; check the path.")
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise CheckpointError(f"{name} is no ordinary file; choose one that holds its content.")
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{name} could not be read; check that you may open it.") from error
    if len(data) > limit:
        raise CheckpointError(f"{name} is larger than {_size(limit)}, which is more than is read here.")
    return data


def _size(limit: int) -> str:
    return f"{limit / 1e9:g} GB" if limit >= 10**9 else f"{limit / 1e6:g} MB"


def spoken(filename: str) -> str:
    """A file's name for messages: its last part, without characters that could be read as markup."""
    last = re.split(r"[/\\]", filename)[-1]
    return re.sub(r"[^\w. -]", "", last)[-60:].strip() or "The checkpoint"


def readable(text: str, most: int = 80) -> str:
    """A foreign name of at most ``most`` printable characters: a file's may hold control characters, and bytes that are no text."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in text[:most]).strip()
    return plain or "?"


def plain_word(text: str) -> str:
    """An architecture's name for messages."""
    return re.sub(r"[^\w./]", "", text)[:80] or "this architecture"


def shown(value: object) -> str:
    """A value of a file for messages: quoted and printable, at most 80 characters. Containers may be too deep to be written."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # a list in a list in a list ..., a number of more digits than Python writes
        text = f"a {type(value).__name__} that is too large to be shown"
    return text if len(text) <= 80 and text.isprintable() else readable(text, 77) + "..."
