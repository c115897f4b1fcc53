"""Which picture: a gallery of samples and uploads. The URL holds the picture's name, and never its pixels."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from typing import NamedTuple

import streamlit as st
from PIL import Image

import explainers as ex
from components.drawing.foreign_words import in_markdown, shortened
from components.sidebar import pool_uploader, uploading
from components.state import link, pool, visit
from components.state.link import Missing
from components.state.model_input import Picture
from explainers.pictures import ACCEPTED

PARAMETER, FILE = "picture", "picture_file"
UPLOADER = "uploaded_files"
FIRST = ("star-heart",)  # of their kind the sample that is shown first, where it is not the first of all
PHOTOGRAPHS = "photographs"
LAST_OF_KIND = "last_sample_of_kind"
KIND = "gallery_kind"
THUMBNAIL = 56
AT_ONCE = 8  # thumbnails of uploads; the others are reached by Previous and Next


class Thumbnail(NamedTuple):
    """A picture in the gallery; ``load`` is called where it was not drawn before."""

    name: str
    title: str
    load: Callable[[], Image.Image]


def pick(network: ex.Classifier | Missing | None) -> Picture | Missing:
    """Draw the gallery and the uploader, and return the chosen picture; Missing where the link names one that is not here.

    The samples of the kind that the network was trained on come first. An uploader is drawn only where nothing is missing, because
    the page itself then has a place for the file.
    """
    visit.owner()
    kind = network.training_data if isinstance(network, ex.Classifier) else ""
    kind = kind if kind in {sample.kind for sample in ex.samples()} else PHOTOGRAPHS
    uploads = pool.uploads(pool.EXPLAIN)
    chosen = _chosen(kind)
    name = "" if isinstance(chosen, Missing) else chosen.name
    _uploads(uploads, name)
    _samples(kind, chosen if isinstance(chosen, Picture) else None)
    if not isinstance(chosen, Missing):
        pool_uploader.draw(
            UPLOADER, pool.EXPLAIN, "Upload pictures",
            f"{ACCEPTED}. Pictures, and all that is computed from them, stay in memory and are never written to disk.")
        uploading.complain(pool_uploader.complaints(UPLOADER))
    return chosen


def _chosen(kind: str) -> Picture | Missing:
    """The picture that was just uploaded, or the one in the link, or the first of the network's kind; its name goes into the link."""
    for name in pool_uploader.take_new(UPLOADER)[:1]:
        choose(name)
    name = link.get(PARAMETER)
    file_name = link.get(FILE)
    samples = {sample.name: sample for sample in ex.samples()}
    if _is_of_former_kind(name, kind, samples) or not name:
        name = _first(kind, samples)
        choose(name)
    if name in samples:
        st.session_state.setdefault(LAST_OF_KIND, {})[samples[name].kind] = name
        return _sample(name)
    upload = pool.find(name)
    if upload:
        return _picture_of(upload.name, upload.file_name, upload)
    if name.startswith(pool.PREFIX):
        return Missing("picture", shortened(file_name) or "an uploaded picture", shortened(name.removeprefix(pool.PREFIX)))
    return Missing("picture", shortened(name))


def _is_of_former_kind(name: str, kind: str, samples: dict[str, ex.Sample]) -> bool:
    """Whether a sample is left from a network of another kind, which this session has just exchanged for one of ``kind``."""
    former = st.session_state.get(KIND, kind)
    st.session_state[KIND] = kind
    return former != kind and name in samples and samples[name].kind != kind


def _first(kind: str, samples: dict[str, ex.Sample]) -> str:
    """The sample that this session chose last among those of this kind, or the one to begin with."""
    of_kind = [name for name, sample in samples.items() if sample.kind == kind]
    begin = (st.session_state.get(LAST_OF_KIND, {}).get(kind), *FIRST, *of_kind, *samples)
    return next(name for name in begin if name in (of_kind or samples))


def choose(name: str) -> None:
    """Put a picture into the link, which chooses it. Also the callback of its button."""
    upload = pool.find(name)
    link.put(PARAMETER, name)
    link.put(FILE, upload.file_name if upload else "")


@st.cache_resource(max_entries=64, show_spinner=False)
def _sample(name: str) -> Picture:
    sample = next(sample for sample in ex.samples() if sample.name == name)
    return Picture(sample.name, sample.title, sample.load(), kind=sample.kind, source=sample.source)


@st.cache_resource(max_entries=1, show_spinner=False, scope="session")
def _picture_of(name: str, file_name: str, _upload: pool.Upload) -> Picture:
    """An upload as a picture that can be explained. The last one is kept, because a large one's digest takes a tenth of a second."""
    read = _upload.read()
    return Picture(name, shortened(file_name), read.image, read.notes, deep=None if read.values is None else read)


def _uploads(uploads: Sequence[pool.Upload], chosen: str) -> None:
    """Thumbnails of the uploads, a few at once, and buttons to the one before and after."""
    if not uploads:
        return
    names = [upload.name for upload in uploads]
    at = names.index(chosen) if chosen in names else -1
    begin = max(at, 0) // AT_ONCE * AT_ONCE
    _thumbnails("uploads", [Thumbnail(upload.name, shortened(upload.file_name), partial(_image_of, upload))
                            for upload in uploads[begin:begin + AT_ONCE]], chosen)
    with st.container(key="upload_steps", gap="small"):
        name = in_markdown(shortened(uploads[at].file_name))
        st.caption(f"{at + 1} of {len(names)}: {name}" if at >= 0 else f"{len(names)} uploaded")
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            _step("previous_picture", "Previous", names[at - 1] if at > 0 else "")
            _step("next_picture", "Next", names[at + 1] if at + 1 < len(names) else "")
            if at >= 0:
                st.button("Remove", key="remove_picture", type="tertiary", on_click=_remove, args=(uploads[at].name,),
                          help="Takes this picture out of the uploaded ones.")


def _step(key: str, label: str, name: str) -> None:
    st.button(label, key=key, disabled=not name, on_click=choose, args=(name,), help=f"{label} uploaded picture.")


def _remove(name: str) -> None:
    """Callback: take an upload from the gallery, and choose its neighbour, or the first sample."""
    names = [upload.name for upload in pool.uploads(pool.EXPLAIN)]
    upload = pool.find(name)
    if upload is None or name not in names:  # a second click, before the page was drawn again
        return
    at = names.index(name)
    pool.remove([upload], pool.EXPLAIN)
    rest = names[:at] + names[at + 1:]
    choose(rest[min(at, len(rest) - 1)] if rest else "")


def _samples(kind: str, chosen: Picture | None) -> None:
    """The samples of this kind, the chosen one too if it is of another, and the other kinds in a section of their own."""
    shown = [sample for sample in ex.samples() if sample.kind == kind or (chosen and sample.name == chosen.name)]
    others = [sample for sample in ex.samples() if sample not in shown]
    name = chosen.name if chosen else ""
    _thumbnails("gallery", [_sample_thumbnail(sample) for sample in shown], name)
    section = st.expander("Other pictures", key="other_pictures", on_change="rerun")
    if section.open:
        with section:
            st.caption("Drawn scenes and digits, and photographs: pictures for other networks.")
            _thumbnails("other_gallery", [_sample_thumbnail(sample) for sample in others], name)


def _sample_thumbnail(sample: ex.Sample) -> Thumbnail:
    return Thumbnail(sample.name, sample.title, lambda: _sample(sample.name).image)


def _image_of(upload: pool.Upload) -> Image.Image:
    return upload.read().image


def _thumbnails(key: str, thumbnails: Sequence[Thumbnail], chosen: str) -> None:
    """A small button for each picture, with the picture as its background; the chosen one has a frame."""
    frame = f".st-key-{_key(chosen)} button {{ --current: 1; outline: 3px solid var(--accent) !important; }}"
    paints = (_paint_upload if each.name.startswith(pool.PREFIX) else _paint_sample for each in thumbnails)
    styles = [paint(each.name, each.load) for paint, each in zip(paints, thumbnails, strict=True)]
    st.html(f"<style>{''.join(styles)}{frame}</style>")
    with st.container(key=key, horizontal=True, gap=None):
        for each in thumbnails:
            st.button(in_markdown(each.title), key=_key(each.name), help=in_markdown(each.title), on_click=choose, args=(each.name,))


def _key(name: str) -> str:
    return "picture-" + "".join(letter if letter.isalnum() else "-" for letter in name)


@st.cache_data(max_entries=128, show_spinner=False)
def _paint_sample(name: str, _load: Callable[[], Image.Image]) -> str:
    return _paint(name, _load())


@st.cache_data(max_entries=512, show_spinner=False, scope="session")
def _paint_upload(name: str, _load: Callable[[], Image.Image]) -> str:
    """Like ``_paint_sample``, but kept by the session alone. The name decides it, because it holds the picture's digest."""
    return _paint(name, _load())


def _paint(name: str, image: Image.Image) -> str:
    """The style that gives a button its background."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    small = image.resize((2 * THUMBNAIL, 2 * THUMBNAIL), box=box, reducing_gap=1.5)
    buffer = BytesIO()
    small.save(buffer, "JPEG", quality=80)
    source = b64encode(buffer.getvalue()).decode()
    return f".st-key-{_key(name)} button {{ background-image: url(data:image/jpeg;base64,{source}) !important; }}"
