"""A person's own labelled pictures: uploaded together, the class at the beginning of each file's name."""

from __future__ import annotations

import streamlit as st

import explainers as ex
from components.picture_picker import UPLOADER_MB, UPLOADER_TYPES, plain
from explainers.data.labelled import LabelledSet, label_in, pictures_set

MOST_COMPLAINTS = 4
MOST_PICTURES = 500


def draw(network: ex.Classifier) -> LabelledSet | None:
    """The uploader, and the set of all files that can be used; None while there is none."""
    files = st.file_uploader(
        "Labelled pictures", type=UPLOADER_TYPES, accept_multiple_files=True, key="labelled_files", max_upload_size=UPLOADER_MB,
        help="Several at once. Each file's name begins with its class, as number or name: 3_photo.jpg, bull-mastiff-2.png. Pictures "
             "stay in memory.")
    if not files:
        return None
    key = (network.fingerprint, tuple(file.file_id for file in files))
    kept = st.session_state.get("labelled_set")
    if kept is None or kept[0] != key:
        kept = (key, *_read(network, files[:MOST_PICTURES]))
        st.session_state["labelled_set"] = kept
    _, found, complaints = kept
    if len(files) > MOST_PICTURES:
        complaints = [f"Only the first {MOST_PICTURES} of {len(files)} files are used.", *complaints]
    if len(complaints) > MOST_COMPLAINTS:
        complaints = [*complaints[:MOST_COMPLAINTS], f"{len(complaints) - MOST_COMPLAINTS} more files are left out likewise."]
    if complaints:
        st.warning("  \n".join(complaints))
    return found


def _read(network: ex.Classifier, files: list) -> tuple[LabelledSet | None, list[str]]:
    """The set, and one line for each file that is left out."""
    named, complaints = [], []
    for file in files:
        try:
            label_in(file.name, network.categories)
            named.append((file.name, ex.read_picture(file.getvalue()).image))
        except ex.ExplainerError as error:
            complaints.append(f"{plain(file.name)}: {error}")
    return (pictures_set(network, named) if named else None), complaints
