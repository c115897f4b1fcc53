"""What a link says beside the parameters that widgets bind: names and fingerprints of the picture, the network and other files.

A change of page drops parameters that no widget binds from the URL, so the session remembers them and writes them again.
"""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

REMEMBERED = "link"
MAY_BE_EMPTY = ("methods", "bases")


@dataclass(frozen=True)
class Missing:
    """Something that the link needs and this session does not have.

    kind: "picture", "network" or "reference pictures". name: the file's name, or the network's. fingerprint: the first hex digits
    of its sha256, or empty where the link does not tell.
    """

    kind: str
    name: str
    fingerprint: str = ""

    @property
    def sentence(self) -> str:
        """What the page says of it."""
        digits = f" (sha {self.fingerprint})" if self.fingerprint else ""
        return f"This link needs {self.name}{digits}."


def get(parameter: str) -> str:
    """The value in the URL, or the one that the session remembers; empty where there is none."""
    remembered: dict[str, str] = st.session_state.setdefault(REMEMBERED, {})
    if parameter in st.query_params:
        remembered[parameter] = st.query_params[parameter]
    elif remembered.get(parameter):
        st.query_params[parameter] = remembered[parameter]
    return remembered.get(parameter, "")


def put(parameter: str, value: str) -> None:
    """Write a value into the URL, or take it out where it is empty."""
    st.session_state.setdefault(REMEMBERED, {})[parameter] = value
    if value:
        st.query_params[parameter] = value
    else:
        st.query_params.pop(parameter, None)


def drop_empty() -> None:
    """Take parameters without a value out of the address, and run the page again where there are some. For a session's first run.

    Streamlit takes an empty value for a choice of nothing, also where a choice must be made. It says something only where a choice
    may be nothing, and is not by default (``MAY_BE_EMPTY``).
    """
    empty = [name for name in st.query_params if name not in MAY_BE_EMPTY and not any(st.query_params.get_all(name))]
    for name in empty:
        del st.query_params[name]
    if empty:
        st.rerun()


def forget() -> None:
    """Begin without a link: nothing is remembered."""
    st.session_state.pop(REMEMBERED, None)
