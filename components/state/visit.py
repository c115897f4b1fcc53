"""A session from its first run to its end, a little after its tab was closed: then nothing of its uploaded pictures is left.

Streamlit keeps a session whose connection broke for ``server.disconnectedSessionTTL`` seconds, so that a browser can come back to
it. But it drops an expired one only when another session's connection breaks, which may be hours later. Therefore the session is
closed here, just before it expires, and with it goes what was computed from its pictures and is kept in memory for all sessions.
"""

from __future__ import annotations

import asyncio
import gc
from dataclasses import dataclass
from typing import Any

import streamlit as st
from streamlit import runtime
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.runtime.scriptrunner import get_script_run_ctx

from components.state.engine import engine
from explainers.cache import Owner

VISITOR = "visitor"
MARGIN = 1.0  # seconds before Streamlit would drop a session, because an expired one can no longer be closed


@dataclass
class Visitor:
    """A session. owner: of the results that it computed from uploaded pictures. arrivals: how often its browser connected."""

    session: str
    owner: Owner
    arrivals: int = 0


def owner() -> Owner:
    """Whom private results of this session belong to. Every run of the app calls this, so that the end of the session is noticed."""
    if VISITOR not in st.session_state:
        context = get_script_run_ctx()
        st.session_state[VISITOR] = Visitor(context.session_id if context else "", Owner())
    visitor: Visitor = st.session_state[VISITOR]
    _arrive(visitor)
    return visitor.owner


def _disconnected(visitor: Visitor) -> None:
    """Streamlit releases what a session holds when its connection breaks: end the session, unless its browser comes back in time."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # not the server's own thread: somebody cleared Streamlit's caches, and the session goes on
        return
    seconds = float(st.get_option("server.disconnectedSessionTTL"))
    loop.call_later(max(seconds - MARGIN, seconds / 2), end, visitor, visitor.arrivals)


@st.cache_resource(show_spinner=False, scope="session", on_release=_disconnected)
def _arrive(_visitor: Visitor) -> Visitor:
    """Called once for each connection of a session."""
    _visitor.arrivals += 1
    return _visitor


def end(visitor: Visitor, arrivals: int) -> None:
    """Close a session that did not come back since it had arrived so many times, and forget what was computed for it."""
    server = runtime.get_instance()
    if visitor.arrivals != arrivals or server.is_active_session(visitor.session):
        return
    server.close_session(visitor.session)
    engine().forget(visitor.owner)
    _replace_last_session(server)


class _NoBrowser:
    """What Streamlit sends to a session's browser, where there is none."""

    client_context = None

    def write_forward_msg(self, message: Any) -> None:
        """Drop the message."""


def _replace_last_session(server: runtime.Runtime) -> None:
    """Make Streamlit's loop let go of the session that it sent something to last, and of the message.

    Local variables of the loop hold both until it sends something again, which on a quiet server may be hours later. So a session
    without a browser asks for something that gets an answer, here the addresses for an upload of no files.
    """
    session, question = server.connect_session(_NoBrowser(), {}), BackMsg()
    question.file_urls_request.request_id = "none"
    server.handle_backmsg(session, question)

    def leave() -> None:
        server.close_session(session)
        gc.collect()  # a session's objects refer to each other in circles, which would otherwise stay for a long time

    asyncio.get_running_loop().call_later(MARGIN / 4, leave)
