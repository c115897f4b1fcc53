"""A script for Streamlit that shows how many of its runs have been under way at the same time, and whose runs take 0.6 s each."""

from __future__ import annotations

import time

import streamlit as st


@st.cache_resource
def most_at_once() -> dict[str, int]:
    """Shared by all runs: those that are under way, and the most that there have been."""
    return {"now": 0, "most": 0, "runs": 0}


counts = most_at_once()
counts["now"] += 1
counts["most"] = max(counts["most"], counts["now"])
counts["runs"] += 1
try:
    st.button("again")
    time.sleep(0.6)  # as a pass of a network, during which nothing asks Streamlit whether to go on
    st.text(f"{counts['runs']} runs, {counts['most']} at once")
finally:
    counts["now"] -= 1
