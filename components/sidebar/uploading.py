"""What all uploaders of pictures share: the accepted types, and one line for each file that cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

import explainers as ex

TYPES = ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "dcm"]
MEGABYTES = 20
MOST_COMPLAINTS = 4


def complaint(file: Any, error: ex.ExplainerError) -> str:
    """One line: the file's name, and what is wrong with it."""
    return f"{plain(file.name)}: {error}"


def complain(complaints: Sequence[str]) -> None:
    """Show the first few lines, and how many more there are."""
    for line in complaints[:MOST_COMPLAINTS]:
        st.error(line)
    if len(complaints) > MOST_COMPLAINTS:
        st.error(f"{len(complaints) - MOST_COMPLAINTS} more files cannot be used, for reasons like these.")


def plain(name: str) -> str:
    """A file's name, shortened, without the characters that Markdown would take for markup."""
    kept = "".join(letter if letter.isalnum() or letter in " ._-" else " " for letter in name)
    return kept if len(kept) <= 40 else kept[:24] + " ... " + kept[-12:]
