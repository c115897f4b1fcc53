"""What all uploaders of pictures share: the accepted types, and one line for each file that cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

import explainers as ex
from components.drawing.foreign_words import in_markdown, shortened

TYPES = ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "dcm"]
MEGABYTES = 20
MOST_COMPLAINTS = 4


def complaint(file: Any, error: ex.ExplainerError) -> str:
    """One line: the file's name, and what is wrong with it."""
    return f"{shortened(file.name)}: {error}"


def complain(complaints: Sequence[str]) -> None:
    """Show the first few lines, and how many more there are."""
    for line in complaints[:MOST_COMPLAINTS]:
        st.error(in_markdown(line))
    if len(complaints) > MOST_COMPLAINTS:
        st.error(f"{len(complaints) - MOST_COMPLAINTS} more files cannot be used, for reasons like these.")
