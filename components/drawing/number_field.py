"""Fields for whole numbers that a link may set.

Streamlit checks a number from a link against the field's range and falls back to the default. But it cannot turn ``inf`` and
``1e400`` into whole numbers, and ends the page with an error. So such values are taken out of the address before the field is drawn.
"""

from __future__ import annotations

import math
from typing import Any

import streamlit as st


def whole(label: str, low: int, high: int, default: int | None, *, key: str, **options: Any) -> int | None:
    """``st.number_input`` for a whole number from ``low`` to ``high``, kept in the link under ``key``. None: an empty field, which is
    possible only where the default is None. options: those of ``st.number_input``."""
    _forget_infinite(key)
    return st.number_input(label, low, high, default, key=key, bind="query-params", **options)


def _forget_infinite(key: str) -> None:
    """Take the value of ``key`` out of the address where it is an infinite number, and run the page again without it."""
    if any(is_infinite(value) for value in st.query_params.get_all(key)):
        del st.query_params[key]
        st.rerun()


def is_infinite(value: str) -> bool:
    """Whether a value of a link is an infinite number, as Python reads it."""
    try:
        return math.isinf(float(value))
    except ValueError:
        return False
