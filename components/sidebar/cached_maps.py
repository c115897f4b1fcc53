"""What is cached of maps and numbers, and how to delete it: those of this view, or all."""

from __future__ import annotations

import time

import streamlit as st

from components.compute import asked
from components.state import used_keys
from components.state.engine import engine

MEGABYTE = 2**20


def draw() -> None:
    """A section on what is cached, with its size and age. Nothing is deleted before one of the two buttons in it is pressed."""
    section = st.expander("Clear map cache", key="cached_maps", on_change="rerun")
    if not section.open:
        return
    with section:
        cache = engine().cache
        contents = cache.contents()
        st.caption(f"{contents.entries} results (maps, numbers, fitted statistics): {contents.memory_bytes / MEGABYTE:.1f} MB in "
                   f"memory, {contents.disk_bytes / MEGABYTE:.1f} MB on disk{_age(contents.oldest)}. All sessions share them. "
                   "What is computed from uploaded pictures is in memory alone, and is deleted soon after their tab was closed. A "
                   "run that goes on elsewhere is not touched, and neither are uploaded pictures.")
        keys = used_keys.of_view()
        st.button(f"Delete those of this view ({len(keys)})", key="clear_view", on_click=_clear_view, disabled=not keys,
                  width="stretch", help="The maps and numbers of this picture and network that this tab has shown.")
        st.button("Delete all", key="clear_cache", on_click=_clear, width="stretch",
                  help="All cached maps, numbers and fitted statistics, in memory and on disk. EXPLORER_CACHE=off keeps them off the "
                       "disk.")


def _age(oldest: float | None) -> str:
    """When the oldest result was last used."""
    if oldest is None:
        return ""
    hours = max(time.time() - oldest, 0.0) / 3600
    words = "less than an hour" if hours < 1 else f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:.0f} days"
    return f", the oldest last used {words} ago"


def _clear() -> None:
    engine().cache.clear()
    asked.forget()


def _clear_view() -> None:
    engine().cache.remove(used_keys.of_view())
    asked.forget()
