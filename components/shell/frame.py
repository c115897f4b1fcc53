"""The frame in which every page stands: page set-up, style, navigation, the workspace in the sidebar.

On a cold server Streamlit runs the page of a deep link without app.py (it takes ``pages/`` for its old multi-page
folder). So every page enters through ``enter``, which hands over to app.py when it was left out.
"""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from components.shell import accessibility, warm_start
from components.state import link

if TYPE_CHECKING:  # at run time it would bring torch before the browser has something to show
    from components.state.workspace import Workspace

HERE = Path(__file__).parent
APP = HERE.parents[1] / "app.py"
FIRST = "first_run"
_workspace: ContextVar[Workspace | None] = ContextVar("workspace")  # set only while app.py runs a page


def begin() -> None:
    """Page set-up and style: the first thing that app.py does."""
    st.set_page_config(page_title="Attribution Explorer", page_icon=None, layout="wide")
    st.html(HERE / "style.css")


@contextmanager
def entered(page: str) -> Iterator[bool]:
    """Around ``page.run()`` in app.py: draws the sidebar, and the page finds its workspace. page: its name in the address.

    Gives False where the page must not run, because the frame asks something first. Ends the script where the link needs what is
    not here.
    """
    place = st.empty()
    if FIRST not in st.session_state:
        link.drop_empty()
        st.session_state[FIRST] = False
        _greet(place)
    warm_start.finish()
    from components.drawing import display_controls  # these bring torch: only now that the browser shows something
    from components.sidebar import labelled_uploads, missing_view, session_file, sidebar
    from components.state import carried, entries, used_keys

    if session_file.is_waiting():
        place.empty()
        session_file.ask()
        yield False
        return
    drawn = sidebar.draw()
    with st.sidebar:
        accessibility.draw()
    place.empty()
    if isinstance(drawn, list):
        missing_view.draw(drawn)
        st.stop()
    if drawn:
        carried.carry(page, [*entries.setting_keys(drawn.methods), *display_controls.KEYS, labelled_uploads.ALL])
    token = _workspace.set(drawn)
    try:
        with used_keys.recorded(drawn.network.fingerprint, drawn.picture.digest) if drawn else nullcontext():
            yield True
    finally:
        _workspace.reset(token)


def _greet(place: DeltaGenerator) -> None:
    """Grey shapes while torch is imported, which takes seconds."""
    with place.container(key="greeting"):
        st.skeleton(120)
        st.skeleton(360)


def enter() -> Workspace | None:
    """The first line of every page: what was chosen in the sidebar; None while there is no network to explain."""
    try:
        return _workspace.get()
    except LookupError:
        runpy.run_path(str(APP), run_name="__main__")
        st.stop()


def heading(question: str, answer: str, about: str = "") -> None:
    """A page's question, and one sentence on how the page answers it. about: what the app is, on its first page."""
    more = f'<p class="about">{escape(about)}</p>' if about else ""
    with st.container(key="heading"):
        st.html(f'<div class="heading"><h1>{escape(question)}</h1><p>{escape(answer)}</p>{more}</div>')


def need_network(workspace: Workspace | None) -> Workspace:
    """The workspace, which has a network. Ends the page, with one line, while there is none to explain."""
    if workspace is None:
        st.info("No network is loaded: choose one in the sidebar, or download its weights there.")
        st.stop()
    return workspace
