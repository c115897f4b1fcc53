"""What runs by itself and what waits to be asked for; and the bar, with its Stop, while a measurement runs.

A place is one thing on a page that can run, its key all that decides the result: another key, and what was asked for or
stopped before no longer counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import streamlit as st

FREE_SECONDS = 3.0  # what is estimated below this runs without being asked
BAR_EVERY = 0.1


def asked(place: str, key: str) -> bool:
    """Whether the button of this place was pressed for exactly this."""
    return st.session_state.get(f"asked-{place}") == key


def stopped(place: str, key: str) -> bool:
    """Whether Stop was pressed for exactly this, and the button not since."""
    return st.session_state.get(f"stopped-{place}") == key


def ask(place: str, key: str) -> None:
    """The button: run it."""
    st.session_state[f"asked-{place}"] = key
    st.session_state.pop(f"stopped-{place}", None)


def stop(place: str, key: str) -> None:
    """Stop: it runs no further until it is asked for."""
    st.session_state[f"stopped-{place}"] = key
    st.session_state.pop(f"asked-{place}", None)


def opens(place: str, key: str, seconds: float, free: bool = True) -> bool:
    """Whether it runs now: it was asked for, or it is cheap and ``free``, and nobody stopped it."""
    return not stopped(place, key) and (asked(place, key) or (free and seconds <= FREE_SECONDS))


@contextmanager
def bar(place: str, key: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar and a Stop while something runs: yields ``report(what, done, total)``, to be called at every step.

    ``report`` touches the session, so that a script which a newer one has replaced ends in it. Run the work in the page's body,
    never in a fragment, for a fragment does not notice.
    """
    spot = st.empty()
    with spot.container(horizontal=True, vertical_alignment="center", key=f"bar-{place}"):
        shown = st.progress(0.0)
        st.button("Stop", key=f"stop-{place}", on_click=stop, args=(place, key), help="Ends the run; what is finished stays.")
    last = 0.0

    def report(what: str, done: int, total: int, *_: Any) -> None:
        nonlocal last
        "stop" in st.session_state  # noqa: B015  a newer run ends this one here
        if time.monotonic() - last >= BAR_EVERY:
            last = time.monotonic()
            shown.progress(min(done / total, 1.0) if total else 0.0, text=f"{what}, {done} of {total}" if total > 1 else what)

    try:
        yield report
    finally:
        spot.empty()
