"""Save and open a session: the uploaded pictures and every setting as one file."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import streamlit as st

import explainers as ex
from components.drawing.foreign_words import shortened
from components.sidebar import picture_picker, reference_picker, uploading
from components.state import pool, session_archive
from components.state.session_archive import Session, Stored

TO_OPEN = "session_to_open"
COMPLAINTS = "session_complaints"
PAGES = {path.stem for path in (Path(__file__).parents[2] / "pages").glob("*.py")}
FIRST_PAGE = "compare"
RESERVED = ("embed", "embed_options")  # parameters that Streamlit keeps for itself, and refuses to set
KEPT = ("first_run", "uploaded_networks")  # what stays of the session that another one replaces


def draw() -> None:
    """A section with both: the download, and the place to drop a file."""
    section = st.expander("Session file", key="session_file", on_change="rerun")
    if section.open:
        with section:
            _contents()
    uploading.complain(st.session_state.get(COMPLAINTS, ()))


def _contents() -> None:
    session = _now()
    too_large = pool.size() > session_archive.MOST_BYTES
    st.download_button(
        "Save session", lambda: session_archive.write(session), "session.zip", "application/zip", key="save_session",
        on_click="ignore", width="stretch", disabled=too_large,
        help="A zip file with the uploaded pictures (of DICOM files without the patient's data), the reference pictures, and the "
             "settings; no weights and no maps.")
    if too_large:
        st.caption(f"The uploaded pictures take {pool.size() / 2**20:.0f} MB, and a session file may hold "
                   f"{session_archive.MOST_BYTES // 2**20} MB: remove some first.")
    file = st.file_uploader("Open session", type=["zip"], key="open_session_file",
                            help="A file that was made with Save session. You are asked before it replaces anything.")
    if file:
        _read(file.getvalue())


def _now() -> Session:
    """The session as it is."""
    uploads = pool.uploads()
    names = [upload.name for upload in uploads]
    query = {name: st.query_params.get_all(name) for name in st.query_params}
    chosen = query.get(picture_picker.PARAMETER, [""])[-1]
    page = PurePosixPath(urlsplit(st.context.url or "").path).name
    return Session(page if page in PAGES else FIRST_PAGE, query,
                   [Stored(upload.file_name, upload.data, tuple(upload.roles)) for upload in uploads],
                   names.index(chosen) if chosen in names else None)


def _read(data: bytes) -> None:
    """Read the dropped file; the page then asks whether to open it."""
    try:
        st.session_state[TO_OPEN] = session_archive.read(data)
        st.session_state.pop(COMPLAINTS, None)
    except ex.ExplainerError as error:
        st.session_state[COMPLAINTS] = [str(error)]
        return
    st.rerun()


def is_waiting() -> bool:
    """Whether a session was read and waits for the answer to ``ask``."""
    return TO_OPEN in st.session_state


def ask() -> None:
    """Draw the question whether to open the session, instead of everything else.

    Nothing else may be drawn: widgets that the browser still shows would keep their values instead of taking those of the file.
    """
    session: Session = st.session_state[TO_OPEN]
    counts = {role: sum(role in picture.roles for picture in session.pictures) for role in _WORDS}
    held = ", ".join(f"{count} {_WORDS[role]}" for role, count in counts.items() if count) or "no uploaded pictures"
    with st.container(key="open_session"):
        st.html("<div class='heading'><h1>Open this session?</h1></div>")
        st.write(f"It holds {held} and every setting. It replaces the uploaded pictures and the settings of this tab.")
        with st.container(horizontal=True, gap="small"):
            opened = st.button("Open the session", key="confirm_session", type="primary")
            st.button("Cancel", key="cancel_session", on_click=_cancel)
    if opened:
        _open(session)


_WORDS = {pool.EXPLAIN: "pictures to explain", pool.REFERENCE: "reference pictures", pool.LABELLED: "labelled pictures"}


def _cancel() -> None:
    del st.session_state[TO_OPEN]


def _open(session: Session) -> None:
    """Replace this session by another, and go to its page. Files that are no pictures are left out, each with a line."""
    kept = {name: st.session_state[name] for name in KEPT if name in st.session_state}
    st.session_state.clear()
    st.session_state.update(kept)
    query = {name: list(values) for name, values in session.query.items() if name.lower() not in RESERVED}
    lines = []
    files = ((picture.file_name, picture.data, set(picture.roles) & set(_WORDS) or {pool.EXPLAIN}) for picture in session.pictures)
    for number, outcome in enumerate(pool.add_each(files)):
        if isinstance(outcome, ex.ExplainerError):
            lines.append(f"{shortened(session.pictures[number].file_name)}: {outcome}")
        elif number == session.chosen:  # another decoder may give other pixels, and so another name
            query[picture_picker.PARAMETER] = [outcome.name]
    st.session_state[reference_picker.OWN_SETS] = set(query.get(reference_picker.FINGERPRINT, ()))
    st.session_state[COMPLAINTS] = lines
    st.switch_page(f"pages/{session.page if session.page in PAGES else FIRST_PAGE}.py", query_params=query)
