"""Which images MIP-IN, IBA and InputIBA fit their statistics on: the network's own, uploaded ones, or a folder of the server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

import explainers as ex
from components.drawing.foreign_words import in_markdown, shortened
from components.sidebar import pool_uploader, uploading
from components.state import decoded, entries, link, pool
from components.state.last_result import last
from components.state.link import Missing
from explainers.data.reference import GENERATED, ReferenceSet, from_pictures, own_folder, shipped

UPLOADED, FOLDER = "Uploaded pictures", "Folder of the server"
UPLOADER = "reference_files"
COUNT, FINGERPRINT = "reference_count", "reference_id"  # of the uploaded set, in the link
OWN_SETS = "own_reference_sets"  # the fingerprints of the sets that this session chose itself
MOST_PICTURES = 1000
KEPT = "reference_set"
USUAL = "usual_reference"  # the option without uploads, for the network at hand


def pick(network: ex.Classifier, chosen_entries: Sequence[str]) -> ReferenceSet | Missing | None:
    """Draw the picker where the method of one of the entries needs a set. None stands for the network's own set, or copies of the
    picture; Missing for uploaded pictures that the link names and this session does not have."""
    if not any(method.fits_statistics and not method.lacks(network) for method in map(entries.method_of, chosen_entries)):
        _put([])
        return None
    usual = _usual(network)
    st.session_state[USUAL] = usual
    chosen = st.selectbox(
        "Reference images", [usual, UPLOADED, *([FOLDER] if own_folder() else [])], key="reference", bind="query-params",
        help="MIP-IN, IBA, InputIBA and the Pattern methods are fitted on images like those the network was trained on, a few "
             "hundred of them; DeepSHAP and GradientSHAP compare with them. The "
             "networks of scenes and digits draw theirs, and EfficientNet-Lite0 brings statistics of photographs. For others copies "
             "of the explained picture (crops, flips, colours, noise) are the last resort. EXPLORER_REFERENCE names a folder of "
             "pictures that is offered here. Pictures, and the statistics fitted on them, stay in memory.")
    if chosen == UPLOADED:
        missing = _missing(_chosen_uploads())
        if missing:
            return missing
    else:
        _put([])
    reference = _uploaded(network) if chosen == UPLOADED else _folder(network) if chosen == FOLDER else None
    if reference is None and chosen != usual:
        st.caption(f"Until there are pictures to fit on: {usual[0].lower()}{usual[1:]}.")
    return reference


def _usual(network: ex.Classifier) -> str:
    """What is used where nothing is chosen."""
    if network.statistics is not None:
        return shipped(network).title
    return f"Fresh {network.training_data}" if network.training_data in GENERATED else "Copies of the picture"


def _chosen_uploads() -> list[pool.Upload]:
    """The uploads that the set is made of: those for it, or all."""
    return pool.uploads("" if st.session_state.get("reference_all") else pool.REFERENCE)[:MOST_PICTURES]


def _missing(chosen: Sequence[pool.Upload]) -> Missing | None:
    """What the link needs, where it names another set than the session's own."""
    wanted = link.get(FINGERPRINT)
    if not wanted or wanted == pool.fingerprint(chosen) or wanted in st.session_state.get(OWN_SETS, ()):
        return None
    count = shortened(link.get(COUNT)) or "some"
    return Missing("reference pictures", f"{count} reference pictures", shortened(wanted))


def _put(chosen: Sequence[pool.Upload]) -> None:
    """Put the set into the link: how many pictures, and their fingerprint."""
    fingerprint = pool.fingerprint(chosen)
    if fingerprint:
        st.session_state.setdefault(OWN_SETS, set()).add(fingerprint)
    link.put(FINGERPRINT, fingerprint)
    link.put(COUNT, str(len(chosen)) if chosen else "")


def accept() -> None:
    """Take the pictures that are here, although the link names others. Also the callback of the button that offers it."""
    _put(_chosen_uploads())


def give_up() -> None:
    """Callback: leave the uploaded pictures that the link names, for the network's own set."""
    _put([])
    st.session_state["reference"] = st.session_state[USUAL]


def _uploaded(network: ex.Classifier) -> ReferenceSet | None:
    """The uploader, which pictures of the pool are taken, and their set; each file that cannot be used gets a line."""
    pool_uploader.draw(UPLOADER, pool.REFERENCE, "Reference pictures",
                       f"From two to {MOST_PICTURES} pictures. They stay in memory and are never written to disk.")
    uploading.complain(pool_uploader.complaints(UPLOADER))
    pool_uploader.draw_choice("reference_all", pool.REFERENCE)
    available = len(pool.uploads("" if st.session_state.get("reference_all") else pool.REFERENCE))
    chosen = _chosen_uploads()
    _put(chosen)
    if not chosen:
        return None
    if available > len(chosen):
        st.caption(f"Only the first {MOST_PICTURES} of {available} pictures are used.")
    key = (network.fingerprint, pool.fingerprint(chosen))
    try:
        return last(KEPT, key, lambda: _read(network, chosen))
    except ex.ExplainerError as error:
        st.error(in_markdown(str(error)))
        return None


def _read(network: ex.Classifier, chosen: Sequence[pool.Upload]) -> ReferenceSet:
    """The set, in an order that does not depend on that of the uploads, so that the same pictures give the same maps."""
    ordered = sorted(chosen, key=lambda upload: upload.digest)
    return from_pictures(network, (decoded.fresh(upload.data).image for upload in ordered), "uploaded pictures")


def _folder(network: ex.Classifier) -> ReferenceSet | None:
    folder = own_folder()
    if folder is None:
        return None
    try:
        state = tuple(sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir())) if folder.is_dir() else ()
        return _read_folder(network.fingerprint, str(folder), state, network)
    except (ex.ExplainerError, OSError) as error:
        st.error(in_markdown(str(error)) if isinstance(error, ex.ExplainerError) else
                 "The folder that EXPLORER_REFERENCE names cannot be read.")
        return None


@st.cache_resource(max_entries=3, show_spinner="Reading the reference pictures")
def _read_folder(fingerprint: str, folder: str, state: tuple[Any, ...], _network: ex.Classifier) -> ReferenceSet:
    """The pictures in the folder, read again when one of its files has changed."""
    return from_pictures(_network, Path(folder), "pictures of the server's folder")
