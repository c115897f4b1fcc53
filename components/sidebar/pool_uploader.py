"""Every uploader of pictures: what is dropped on it goes into the session's pool, and the uploader is empty again.

So nothing is lost when the uploader is no longer drawn, and the pool is the only list of what is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import streamlit as st

import explainers as ex
from components.sidebar import uploading
from components.state import pool

COMPLAINTS = "upload_complaints"  # by uploader: a line for each file of its last upload that cannot be used


def draw(key: str, role: str, label: str, help_text: str) -> None:
    """Draw the uploader with this key. Pictures that are dropped on it get this role; then the page runs again.

    What was uploaded last: ``take_new(key)``, and a line for each file that cannot be used in ``complaints(key)``.
    """
    emptied: dict[str, int] = st.session_state.setdefault("emptied_uploaders", {})
    times = emptied.get(key, 0)
    files = st.file_uploader(
        label, type=uploading.TYPES, accept_multiple_files=True, key=f"{key}-{times}" if times else key,
        max_upload_size=uploading.MEGABYTES, help=help_text)
    if files:
        with st.spinner(f"Reading {len(files)} pictures" if len(files) > 1 else "Reading the picture"):
            uploads, lines = add(files, (role,))
        st.session_state.setdefault(COMPLAINTS, {})[key] = lines
        st.session_state[_new(key)] = [upload.name for upload in uploads]
        emptied[key] = times + 1  # another key is another uploader, an empty one
        st.rerun()


def draw_choice(key: str, role: str) -> None:
    """How many pictures have this role, with a button that takes it from them, and a toggle (``key``) that adds all other uploads."""
    chosen, everything = pool.uploads(role), pool.uploads()
    if len(everything) > len(chosen):
        st.toggle(f"All {len(everything)} uploaded pictures", key=key, bind="query-params",
                  help="Every picture that was uploaded in this session, for whatever purpose, instead of only those dropped here.")
    if chosen:
        with st.container(key=f"{key}_row", horizontal=True, vertical_alignment="center", gap="small"):
            st.caption(f"{len(chosen)} picture{'s' if len(chosen) > 1 else ''} uploaded here.")
            st.button("Remove", key=f"{key}_remove", type="tertiary", on_click=pool.remove, args=(chosen, role),
                      help="Takes these pictures out of the set; those that are also explained stay in the gallery.")


def add(files: Sequence[Any], roles: Iterable[str]) -> tuple[list[pool.Upload], list[str]]:
    """Put files into the pool: those that can be read, and a line for each other one."""
    uploads, lines = [], []
    for file, outcome in zip(files, pool.add_each((file.name, file.getvalue(), roles) for file in files), strict=True):
        if isinstance(outcome, ex.ExplainerError):
            lines.append(uploading.complaint(file, outcome))
        else:
            uploads.append(outcome)
    return uploads, lines


def complaints(key: str) -> list[str]:
    """The lines on the last upload of this uploader."""
    return st.session_state.get(COMPLAINTS, {}).get(key, [])


def new(key: str) -> list[str]:
    """The names of the pictures of this uploader's last upload, in their order."""
    return st.session_state.get(_new(key), [])


def take_new(key: str) -> list[str]:
    """The same as ``new``: once, and none when it is asked again."""
    return st.session_state.pop(_new(key), [])


def _new(key: str) -> str:
    return f"new-{key}"
