"""A person's own labelled pictures: uploaded together, the class at the beginning of each file's name."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

import explainers as ex
from components.drawing.foreign_words import in_markdown, shortened
from components.sidebar import pool_uploader, uploading
from components.state import decoded, pool
from components.state.last_result import last
from explainers.data.labelled import LabelledSet, label_in, pictures_set

MOST_PICTURES = 500
UPLOADER = "labelled_files"
ALL = "labelled_all"


def draw(network: ex.Classifier) -> LabelledSet | None:
    """The uploader, and the set of all pictures whose names say a class; None while there is none."""
    pool_uploader.draw(
        UPLOADER, pool.LABELLED, "Labelled pictures",
        "Several at once. Each file's name begins with its class, as number or name: 3_photo.jpg, bull-mastiff-2.png. Pictures stay "
        "in memory.")
    pool_uploader.draw_choice(ALL, pool.LABELLED)
    labelled, complaints = _labelled(network, pool.uploads(pool.LABELLED))
    if st.session_state.get(ALL):
        labelled = _labelled(network, pool.uploads())[0]  # names without a class are no fault of pictures uploaded for something else
    uploading.complain([*complaints, *pool_uploader.complaints(UPLOADER)])
    if not labelled:
        return None
    if len(labelled) > MOST_PICTURES:
        st.caption(f"Only the first {MOST_PICTURES} of {len(labelled)} pictures are used.")
    used = labelled[:MOST_PICTURES]
    key = (network.fingerprint, tuple((upload.file_name, upload.digest) for upload in used))
    try:
        return last("labelled_set", key, lambda: pictures_set(
            network, ((upload.file_name, decoded.fresh(upload.data).image) for upload in used)))
    except ex.ExplainerError as error:
        st.error(in_markdown(str(error)))
        return None


def _labelled(network: ex.Classifier, uploads: Sequence[pool.Upload]) -> tuple[list[pool.Upload], list[str]]:
    """The uploads whose file names begin with a class, and one line for each other one."""
    labelled, complaints = [], []
    for upload in uploads:
        try:
            label_in(upload.file_name, network.categories)
        except ex.ExplainerError as error:
            complaints.append(f"{shortened(upload.file_name)}: {error}")
        else:
            labelled.append(upload)
    return labelled, complaints
