"""A person's own checkpoints: the files of weights in the folder that EXPLORER_MODELS names, each under a name of its own.

Listing reads the cards and no weights. A folder or a card that cannot be used is one entry that says why; the others stand.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

from explainers.errors import ExplainerError
from explainers.networks.checkpoint_files import CheckpointError, readable
from explainers.networks.model_cards import ModelCard, read_card

VARIABLE = "EXPLORER_MODELS"
SUFFIXES = (".safetensors", ".pth", ".pt")
MOST_FILES = 1000


def files(taken: Collection[str]) -> dict[str, Path]:
    """The files by the names under which they are loaded. taken: the names of the other networks.

    That is the file's name without its ending. With it, where two files have the same name, or another network is called so.
    Raises CheckpointError for a folder that cannot be listed or holds more than ``MOST_FILES`` such files.
    """
    folder = os.environ.get(VARIABLE)
    if not folder:
        return {}
    try:
        paths = sorted(path for path in Path(folder).expanduser().iterdir() if path.suffix in SUFFIXES)
    except (OSError, RuntimeError, ValueError) as error:
        known = {"FileNotFoundError": "was not found", "NotADirectoryError": "is a file"}
        reason = known.get(type(error).__name__, "cannot be listed")
        raise CheckpointError(f"The folder of checkpoints that {VARIABLE} names {reason}; correct it and start again.") from error
    if len(paths) > MOST_FILES:
        raise CheckpointError(f"The folder of checkpoints that {VARIABLE} names holds {len(paths)} files of weights, and {MOST_FILES} "
                              "are the most; move some away.")
    same = Counter(path.stem for path in paths)
    named: dict[str, Path] = {}
    for path in paths:
        stem = readable(path.stem)
        usual = stem if same[path.stem] == 1 and stem not in taken else readable(path.name)
        name, number = usual, 2
        while name in named or name in taken:
            name, number = f"{usual} {number}", number + 1
        named[name] = path
    return named


def card_of(path: Path) -> ModelCard:
    """The card beside a file of weights. Raises CheckpointError; also where the file is none, such as a pipe or a folder."""
    if not os.path.isfile(path):
        raise CheckpointError(f"{readable(path.name)} is no ordinary file; put one there that holds the weights.")
    card = path.with_suffix(".json")
    try:
        status = card.stat()
    except OSError:
        return read_card(card)  # which says what is wrong
    result = _card(card, status.st_mtime_ns, status.st_size)
    if isinstance(result, str):
        raise CheckpointError(result)
    return result


@lru_cache(maxsize=MOST_FILES)
def _card(path: Path, changed: int, length: int) -> ModelCard | str:
    """A card, or the sentence that says what is wrong with it. Each page reads the list, so each card is read once."""
    try:
        return read_card(path)
    except ExplainerError as error:
        return str(error)
