"""Values of controls that several pages have, carried along when a person goes from one page to another.

Streamlit takes a widget with the same key on another page for another widget, which would begin with its default value, and it takes
the values of the former page's widgets out of the URL.
"""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st

PAGE, IN_LINK = "carried_to_page", "carried_in_link"  # in the session: the page, and the values of such controls in its URL


def carry(page: str, keys: Iterable[str]) -> None:
    """Keep the values of the widgets with these keys, before those of a page are drawn. page: its name in the address."""
    keys = list(keys)
    if st.session_state.get(PAGE) not in (None, page):
        for key in keys:
            if key in st.session_state:
                st.session_state[key] = st.session_state[key]
            if key in st.session_state.get(IN_LINK, {}) and key not in st.query_params:
                st.query_params[key] = st.session_state[IN_LINK][key]
    st.session_state[PAGE] = page
    st.session_state[IN_LINK] = {key: st.query_params[key] for key in keys if key in st.query_params}


def at_start() -> bool:
    """Whether nothing was carried yet: what the URL says is then what a link said."""
    return PAGE not in st.session_state
