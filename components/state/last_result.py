"""Results that a session keeps until they are replaced by others, such as a set of pictures that took seconds to draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import streamlit as st

T = TypeVar("T")


def last(place: str, key: Any, make: Callable[[], T]) -> T:
    """What ``make`` returns for ``key``, made once: the session holds one result a place, and another key replaces it."""
    kept = st.session_state.get(place)
    if kept is None or kept[0] != key:
        kept = st.session_state[place] = (key, make())
    return kept[1]


def holds(place: str, key: Any) -> bool:
    """Whether ``last`` would return the result for ``key`` without making it."""
    kept = st.session_state.get(place)
    return kept is not None and kept[0] == key
