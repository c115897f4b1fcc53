"""A person's own labelled pictures: uploaded together, the class at the beginning of each file's name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st
from PIL import Image

import explainers as ex
from components.sidebar import uploading
from components.state.last_result import last
from explainers.data.labelled import LabelledSet, label_in, pictures_set

MOST_PICTURES = 500


def draw(network: ex.Classifier) -> LabelledSet | None:
    """The uploader, and the set of all files that can be used; None while there is none."""
    files = st.file_uploader(
        "Labelled pictures", type=uploading.TYPES, accept_multiple_files=True, key="labelled_files",
        max_upload_size=uploading.MEGABYTES,
        help="Several at once. Each file's name begins with its class, as number or name: 3_photo.jpg, bull-mastiff-2.png. Pictures "
             "stay in memory.")
    if not files:
        return None
    key = (network.fingerprint, tuple(file.file_id for file in files))
    labelled, complaints = last("labelled_set", key, lambda: _read(network, files[:MOST_PICTURES]))
    if len(files) > MOST_PICTURES:
        complaints = [f"Only the first {MOST_PICTURES} of {len(files)} pictures are used.", *complaints]
    uploading.complain(complaints)
    return labelled


def _read(network: ex.Classifier, files: Sequence[Any]) -> tuple[LabelledSet | None, list[str]]:
    """The set, and one line for each file that is left out."""
    pictures: list[tuple[str, Image.Image]] = []
    complaints: list[str] = []
    for file in files:
        try:
            label_in(file.name, network.categories)
        except ex.ExplainerError as error:
            complaints.append(uploading.complaint(file, error))
        else:
            read = uploading.read(file, complaints)
            pictures += [(file.name, read.image)] if read else []
    return (pictures_set(network, pictures) if pictures else None), complaints
