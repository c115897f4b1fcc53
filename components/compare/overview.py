"""The head of a page: the picture with the part that the network sees, and what the network says it is."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from io import BytesIO

import streamlit as st
from PIL import Image, ImageDraw

from components.drawing.numbers import percent
from components.state.model_input import ModelInput
from components.state.workspace import Workspace

TOP = 5
THUMBNAIL = 280  # pixels of the longer side, shown at half


def draw(workspace: Workspace) -> None:
    """One row: the picture with the part that the network sees, and the five most probable classes as bars."""
    picture, shown = workspace.picture, workspace.input
    width, height = picture.image.size
    if shown.fit == "crop":
        source = _boxed(picture.digest, shown.box, picture.image)
    else:  # no part is cut off that a frame could show, so the network's own view stands here
        source = _data_uri(shown.seen)
    st.container(key="overview").html(
        f'<div class="overview"><figure><img src="{source}" alt="The picture with the part that the network sees">'
        f"<figcaption>{width} \u00d7 {height}, {_seen_in_words(shown, width, height)}</figcaption></figure>"
        f'<div class="predictions">{_bars(workspace)}</div></div>')


def _seen_in_words(shown: ModelInput, width: int, height: int) -> str:
    left, top, right, bottom = shown.box
    seen = shown.seen.width, shown.seen.height
    at = "" if seen == (width, height) else f" at {seen[0]} \u00d7 {seen[1]}"
    if width != height and shown.fit == "whole":
        return f"seen whole with borders{at}"
    if width != height and shown.fit == "stretch":
        return f"seen stretched{at}"
    if (round(right - left), round(bottom - top)) != (width, height):
        return f"framed part seen{at}"
    return f"seen whole{at}"


@st.cache_data(max_entries=64, show_spinner=False, scope="session")
def _boxed(digest: str, box: tuple[float, float, float, float], _image: Image.Image) -> str:
    """A thumbnail as a data URI. The part that the network sees is framed, and the rest is dimmed."""
    scale = min(1.0, THUMBNAIL / max(_image.size))
    small = _image.resize((max(1, round(_image.width * scale)), max(1, round(_image.height * scale))), reducing_gap=2.0)
    left, top, right, bottom = (round(value * scale) for value in box)
    if (right - left, bottom - top) != small.size:
        dimmed = Image.blend(small, Image.new("RGB", small.size, (128, 128, 128)), 0.65)
        dimmed.paste(small.crop((left, top, right, bottom)), (left, top))
        ImageDraw.Draw(dimmed).rectangle([left, top, right - 1, bottom - 1], outline="white", width=2)
        small = dimmed
    return _data_uri(small)


def _data_uri(image: Image.Image) -> str:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + b64encode(buffer.getvalue()).decode()


def _bars(workspace: Workspace) -> str:
    """The most probable classes, and the explained ones if they are not among them."""
    shown, names = workspace.input, workspace.network.categories
    marks = {workspace.target.first: "explained"}
    if workspace.target.contrast is not None:
        marks[workspace.target.contrast] = "contrast"
    listed = shown.ranked[:TOP]
    listed += [index for index in marks if index not in listed]
    rows = []
    for index in listed:
        probability = float(shown.probabilities[index])
        mark = f'<span class="mark">{marks[index]}</span>' if index in marks else ""
        rows.append(
            f'<div class="row{" target" if index in marks else ""}"><span class="name">{escape(names[index])}{mark}</span>'
            f'<span class="track"><span class="bar" style="width:{100 * probability:.1f}%"></span></span>'
            f'<span class="share">{percent(probability)}</span></div>')
    return "".join(rows)
