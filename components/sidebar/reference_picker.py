"""Which images MIP-IN, IBA and InputIBA fit their statistics on: the network's own, uploaded ones, or a folder of the server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

import explainers as ex
from components.sidebar import uploading
from components.state.last_result import last
from explainers.data.reference import ReferenceSet, from_pictures, own_folder

UPLOADED, FOLDER = "Uploaded pictures", "Folder of the server"
MOST_PICTURES = 1000
KEPT = "reference_set"


def pick(network: ex.Classifier, methods: Sequence[str]) -> ReferenceSet | None:
    """Draw the picker where one of ``methods`` needs a set. None stands for the network's own set, or copies of the picture."""
    declared = ex.methods()
    if not any(declared[key].fits_statistics and not declared[key].lacks(network) for key in methods):
        return None
    usual = f"Fresh {network.training_data}" if network.training_data else "Copies of the picture"
    chosen = st.selectbox(
        "Reference images", [usual, UPLOADED, *([FOLDER] if own_folder() else [])], key="reference", bind="query-params",
        help="MIP-IN, IBA and InputIBA are fitted on images like those the network was trained on, a few hundred of them. Embedded "
             "networks draw their own. For others copies of the explained picture (crops, flips, colours, noise) are the last "
             "resort. EXPLORER_REFERENCE names a folder of pictures that is offered here. Pictures stay in memory; the statistics "
             "fitted on them are kept with the maps.")
    reference = _uploaded(network) if chosen == UPLOADED else _folder(network) if chosen == FOLDER else None
    if reference is None and chosen != usual:
        st.caption(f"Until there are pictures to fit on: {usual[0].lower()}{usual[1:]}.")
    return reference


def _uploaded(network: ex.Classifier) -> ReferenceSet | None:
    """The uploader, and the set of its pictures; each file that cannot be used gets a line."""
    files = st.file_uploader(
        "Reference pictures", type=uploading.TYPES, accept_multiple_files=True, key="reference_files",
        max_upload_size=uploading.MEGABYTES, label_visibility="collapsed",
        help=f"From two to {MOST_PICTURES} pictures. They stay in memory and are never written to disk.")
    if not files:
        return None
    key = (network.fingerprint, tuple(file.file_id for file in files))
    reference, complaints = last(KEPT, key, lambda: _read(network, files[:MOST_PICTURES]))
    if len(files) > MOST_PICTURES:
        complaints = [f"Only the first {MOST_PICTURES} of {len(files)} pictures are used.", *complaints]
    uploading.complain(complaints)
    return reference


def _read(network: ex.Classifier, files: Sequence[Any]) -> tuple[ReferenceSet | None, list[str]]:
    complaints: list[str] = []
    pictures = (read.image for file in files if (read := uploading.read(file, complaints)))
    try:
        return from_pictures(network, pictures, "uploaded pictures"), complaints
    except ex.ExplainerError as error:
        return None, [*complaints, str(error)]


def _folder(network: ex.Classifier) -> ReferenceSet | None:
    folder = own_folder()
    if folder is None:
        return None
    try:
        state = tuple(sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir())) if folder.is_dir() else ()
        return _read_folder(network.fingerprint, str(folder), state, network)
    except (ex.ExplainerError, OSError) as error:
        st.error(str(error) if isinstance(error, ex.ExplainerError) else "The folder that EXPLORER_REFERENCE names cannot be read.")
        return None


@st.cache_resource(max_entries=3, show_spinner="Reading the reference pictures")
def _read_folder(fingerprint: str, folder: str, state: tuple[Any, ...], _network: ex.Classifier) -> ReferenceSet:
    """The pictures in the folder, read again when one of its files has changed."""
    return from_pictures(_network, Path(folder), "pictures of the server's folder")
