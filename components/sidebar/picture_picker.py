"""Which picture: a gallery of samples and uploads. The URL holds the picture's name, and never its pixels."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO

import streamlit as st
from PIL import Image

import explainers as ex
from components.sidebar import uploading
from components.state.model_input import Picture

PARAMETER = "picture"
FIRST = ("star-heart",)  # shown until another is chosen, if the network was trained for it
UPLOAD = "upload-"  # an uploaded picture's name is this and the start of its digest
THUMBNAIL = 56


def pick(kind: str) -> Picture:
    """Draw the gallery and the uploader. kind: of the samples, by what the network was trained on."""
    samples = samples_of(kind)
    uploads: dict[str, Picture] = st.session_state.setdefault("uploads", {})
    offered = [*reversed(uploads.values()), *samples]
    chosen = _chosen(offered, samples)
    _gallery(offered, chosen)
    st.file_uploader(
        "Upload pictures", type=uploading.TYPES, accept_multiple_files=True, key="uploaded_files", on_change=_read_uploads,
        max_upload_size=uploading.MEGABYTES,
        help="PNG, JPEG, WebP, GIF or BMP. Pictures stay in memory and are never written to disk.")
    uploading.complain(st.session_state.get("upload_errors", ()))
    _explain_missing_upload(uploads)
    with st.container(key="picture_notes"):
        for note in chosen.notes:
            st.caption(note)
    return chosen


@st.cache_resource(show_spinner=False)
def samples_of(kind: str) -> tuple[Picture, ...]:
    """The samples of this kind; the scenes where there are none, as for networks trained on other pictures."""
    samples = ex.samples()
    if kind not in {sample.kind for sample in samples}:
        kind = "scenes"
    return tuple(_sample(sample) for sample in samples if sample.kind == kind)


def _sample(sample: ex.Sample) -> Picture:
    return Picture(sample.name, sample.title, sample.load())


def _chosen(offered: Sequence[Picture], samples: Sequence[Picture]) -> Picture:
    by_name = {picture.name: picture for picture in offered}
    return next((by_name[name] for name in (_named(), *FIRST) if name in by_name), samples[0])


def _named() -> str:
    """The picture that the URL names. A change of page drops it from the URL, so the session remembers it."""
    if PARAMETER in st.query_params:
        st.session_state[PARAMETER] = st.query_params[PARAMETER]
    elif st.session_state.get(PARAMETER):
        st.query_params[PARAMETER] = st.session_state[PARAMETER]
    return st.session_state.get(PARAMETER, "")


def _choose(name: str) -> None:
    st.query_params[PARAMETER] = name


def _gallery(offered: Sequence[Picture], chosen: Picture) -> None:
    """A small button for each picture, with the picture as its background."""
    st.html(f"<style>{''.join(_paint(picture.name, picture.image) for picture in offered)}</style>")
    st.html(f"<style>.st-key-{_key(chosen.name)} button {{ outline: 3px solid var(--accent) !important; }}</style>")
    with st.container(key="gallery", horizontal=True, gap=None):
        for picture in offered:
            st.button(picture.title, key=_key(picture.name), help=picture.title, on_click=_choose, args=(picture.name,))


def _key(name: str) -> str:
    return "picture-" + "".join(letter if letter.isalnum() else "-" for letter in name)


@st.cache_data(max_entries=256, show_spinner=False)
def _paint(name: str, _image: Image.Image) -> str:
    """The style that gives a button its background. The name alone decides it, because a name stands for one picture only."""
    side = min(_image.size)
    left, top = (_image.width - side) // 2, (_image.height - side) // 2
    box = (left, top, left + side, top + side)
    small = _image.resize((2 * THUMBNAIL, 2 * THUMBNAIL), box=box, reducing_gap=1.5)
    buffer = BytesIO()
    small.save(buffer, "JPEG", quality=80)
    source = b64encode(buffer.getvalue()).decode()
    return f".st-key-{_key(name)} button {{ background-image: url(data:image/jpeg;base64,{source}) !important; }}"


def _read_uploads() -> None:
    """Callback of the uploader: read the new files. The last picture that can be read is chosen; each other file gets one line."""
    uploads: dict[str, Picture] = st.session_state.setdefault("uploads", {})
    seen_files: set[str] = st.session_state.setdefault("read_files", set())
    errors: list[str] = []
    for file in st.session_state.uploaded_files:
        if file.file_id in seen_files:
            continue
        seen_files.add(file.file_id)
        read = uploading.read(file, errors)
        if read is None:
            continue
        name = UPLOAD + ex.digest(read.image)[:12]
        uploads[name] = Picture(name, uploading.plain(file.name), read.image, read.notes)
        st.query_params[PARAMETER] = name
    st.session_state.upload_errors = errors


def _explain_missing_upload(uploads: dict[str, Picture]) -> None:
    """Ask for the file where the URL names an upload that this session does not have."""
    name = _named()
    if name.startswith(UPLOAD) and name not in uploads:
        st.info("This link was made with an uploaded picture. Upload the same file here to see the same maps.")
