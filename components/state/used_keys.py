"""Which cached results this session used for which view, so that those of one view can be deleted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from components.state import pool, visit
from components.state.engine import engine

USED = "used_keys"
VIEW = "current_view"


@contextmanager
def recorded(network: str, picture: str) -> Iterator[None]:
    """While a page runs: remember the keys of the results that it gets or stores. network, picture: their fingerprints.

    Once the session has uploaded pictures, the results stay in memory and belong to it (see ``visit``): also those of measurements
    over sets, which do not know where their pictures are from.
    """
    view = st.session_state[VIEW] = (network, picture)
    keys: set[str] = st.session_state.setdefault(USED, {}).setdefault(view, set())
    cache = engine().cache
    with cache.recorded(keys), cache.in_memory(bool(pool.uploads()), visit.owner()):
        yield


def of_view() -> set[str]:
    """The keys that pages used for the current network and picture; results that are cached no longer are left out."""
    keys = st.session_state.get(USED, {}).get(st.session_state.get(VIEW), ())
    return {key for key in keys if key in engine().cache}
