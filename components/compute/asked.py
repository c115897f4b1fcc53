"""What a person asked to run, or stopped, at each place of a page, and what failed in this session.

A place is one thing on a page that can run. Its key is a digest of all that decides the result: with another key, what was asked for
or stopped before no longer counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

FREE_SECONDS = 3.0  # what is estimated to take no longer than this runs without being asked for
FAILURES = "failures"


def is_asked(place: str, key: str) -> bool:
    """Whether the button of this place was pressed for exactly this."""
    return st.session_state.get(f"asked-{place}") == key


def is_stopped(place: str, key: str) -> bool:
    """Whether Stop was pressed for exactly this, and the button not since."""
    return st.session_state.get(f"stopped-{place}") == key


def ask(place: str, key: str) -> None:
    """Callback of the button: run it."""
    st.session_state[f"asked-{place}"] = key
    st.session_state.pop(f"stopped-{place}", None)


def stop(place: str, key: str) -> None:
    """Callback of Stop: it runs no further until it is asked for."""
    st.session_state[f"stopped-{place}"] = key
    st.session_state.pop(f"asked-{place}", None)


def may_run(place: str, key: str, seconds: float, fits: bool = False) -> bool:
    """Whether something that takes so long runs now: it was asked for, or it is cheap and fits nothing, and nobody stopped it."""
    return not is_stopped(place, key) and (is_asked(place, key) or (not fits and seconds <= FREE_SECONDS))


def failure(key: str) -> str | None:
    """Why the task with this key failed before in this session. It is not tried again with the same settings."""
    return st.session_state.get(FAILURES, {}).get(key)


def remember_failure(key: str, reason: str) -> None:
    """Keep the reason, for ``failure``."""
    st.session_state.setdefault(FAILURES, {})[key] = reason


def forget_failures(keys: Sequence[str] | None = None) -> None:
    """Try these tasks again; all, if none are named."""
    failures = st.session_state.get(FAILURES, {})
    for key in list(failures) if keys is None else keys:
        failures.pop(key, None)
