"""What a person asked to run, skipped or stopped, at each place of a page, and what failed in this session.

A place is one thing on a page that can run. Its key is a digest of all that decides the result: with another key, what was asked for,
skipped or stopped before no longer counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

FREE_SECONDS = 3.0  # what is estimated to take no longer than this runs without being asked for
FAILURES = "failures"
FREE_USED = "free_seconds_used"


def is_asked(place: str, key: str) -> bool:
    """Whether the button of this place was pressed for the tasks with this key."""
    return st.session_state.get(f"asked-{place}") == key


def is_draft_asked(place: str, key: str) -> bool:
    """Whether the button of this place's drafts was pressed for the tasks with this key."""
    return st.session_state.get(f"asked-drafts-{place}") == key


def is_stopped(place: str, key: str) -> bool:
    """Whether Stop was pressed for the tasks with this key, and no button since."""
    return st.session_state.get(f"stopped-{place}") == key


def is_skipped(place: str, key: str, task_key: str) -> bool:
    """Whether Skip was pressed while this one of the tasks with this key ran, and no button since."""
    return task_key in _skipped(place, key)


def ask(place: str, key: str) -> None:
    """Callback of the button: these tasks run."""
    st.session_state[f"asked-{place}"] = key
    _forget(place, "stopped", "skipped")


def ask_drafts(place: str, key: str, task_keys: Sequence[str]) -> None:
    """Callback of the button of the drafts: the tasks with these keys run, also if they were skipped before."""
    st.session_state[f"asked-drafts-{place}"] = key
    st.session_state[f"skipped-{place}"] = (key, _skipped(place, key) - set(task_keys))
    _forget(place, "stopped")


def stop(place: str, key: str) -> None:
    """Callback of Stop: these tasks run no further until they are asked for."""
    st.session_state[f"stopped-{place}"] = key
    _forget(place, "asked", "asked-drafts")


def skip(place: str, key: str, task_key: str) -> None:
    """Callback of Skip: this one of the tasks runs no further until it is asked for; the others go on."""
    st.session_state[f"skipped-{place}"] = (key, _skipped(place, key) | {task_key})


def may_run(place: str, key: str, seconds: float, fits: bool = False, draft: bool = False) -> bool:
    """Whether a task runs now: it was asked for, or it is free and fits no statistics, and nobody stopped it. seconds: estimated."""
    asked_for = is_draft_asked(place, key) if draft else is_asked(place, key)
    free = not fits and _free_used(place, key) + seconds <= FREE_SECONDS
    return not is_stopped(place, key) and (asked_for or free)


def use_free(place: str, key: str, seconds: float, draft: bool = False) -> None:
    """Count what ran unasked: the free seconds are granted once for each key, and not again with every rerun of the page."""
    if not (is_draft_asked(place, key) if draft else is_asked(place, key)):
        st.session_state.setdefault(FREE_USED, {})[place] = (key, _free_used(place, key) + seconds)


def _free_used(place: str, key: str) -> float:
    used_for, seconds = st.session_state.get(FREE_USED, {}).get(place, ("", 0.0))
    return seconds if used_for == key else 0.0


def _skipped(place: str, key: str) -> frozenset[str]:
    skipped_for, task_keys = st.session_state.get(f"skipped-{place}", ("", frozenset()))
    return frozenset(task_keys) if skipped_for == key else frozenset()


def _forget(place: str, *kinds: str) -> None:
    for kind in kinds:
        st.session_state.pop(f"{kind}-{place}", None)


def failure(key: str) -> str | None:
    """Why the task with this key failed before in this session. It is not tried again with the same settings."""
    return st.session_state.get(FAILURES, {}).get(key)


def remember_failure(key: str, reason: str) -> None:
    """Keep the reason, for ``failure``."""
    st.session_state.setdefault(FAILURES, {})[key] = reason


def forget() -> None:
    """Begin anew: try again what failed, and grant the free seconds again."""
    for name in (FAILURES, FREE_USED):
        st.session_state.pop(name, None)
