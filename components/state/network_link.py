"""What a link says of the network: its name, and the start of its fingerprint. Another network is never shown without a word."""

from __future__ import annotations

import re

import streamlit as st

import explainers as ex
from components.state import link

PARAMETER, FINGERPRINT = "network", "network_id"
DIGITS = 12  # of the fingerprint
_OTHER_WEIGHTS = "network_with_other_weights"  # in the session: a network's name, and the fingerprint that its link gave


def choose(name: str) -> None:
    """Choose a network, for this session and in the URL."""
    st.session_state.pop(_OTHER_WEIGHTS, None)
    link.put(PARAMETER, name)
    link.put(FINGERPRINT, "")


def fingerprint() -> str:
    """The start of the fingerprint that the link gives; empty where it gives none, or nonsense."""
    given = link.get(FINGERPRINT)
    return given[:DIGITS] if re.fullmatch(r"[0-9a-f]{8,64}", given) else ""


def compare(name: str, network: ex.Classifier) -> str:
    """Put the network's fingerprint into the URL. A warning where the link that was opened gave another, else empty."""
    given, actual = fingerprint(), network.fingerprint[:DIGITS]
    if given and not actual.startswith(given):
        st.session_state[_OTHER_WEIGHTS] = (name, given)
    if given != actual:
        link.put(FINGERPRINT, actual)
    warned, other = st.session_state.get(_OTHER_WEIGHTS, ("", ""))
    return f"This link was made with other weights of {network.title} (sha {other}); the maps may differ." if warned == name else ""
