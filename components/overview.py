"""The head of a page: the picture with the part that the network sees, and what the network says it is."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from io import BytesIO

import streamlit as st
from PIL import Image, ImageDraw

from components.session import Sight
from components.workspace import Workspace

TOP = 5
THUMBNAIL = 280  # pixels of the longer side, shown at half


def draw(workspace: Workspace) -> None:
    """One row: the original with its crop, and the five most probable classes as bars."""
    picture, sight = workspace.picture, workspace.sight
    width, height = picture.image.size
    source = _boxed(picture.digest, sight.box, picture.image)
    st.html(
        f'<div class="overview"><figure><img src="{source}" alt="The picture with the part that the network sees">'
        f"<figcaption>{width} \u00d7 {height}, {_seen_in_words(sight, width, height)}</figcaption></figure>"
        f'<div class="predictions">{_bars(workspace)}</div></div>')


def _seen_in_words(sight: Sight, width: int, height: int) -> str:
    left, top, right, bottom = sight.box
    seen = sight.seen.width, sight.seen.height
    if (round(right - left), round(bottom - top)) != (width, height):
        return f"framed part seen at {seen[0]} \u00d7 {seen[1]}"
    return "seen whole" if seen == (width, height) else f"seen whole at {seen[0]} \u00d7 {seen[1]}"


@st.cache_data(max_entries=64, show_spinner=False)
def _boxed(digest: str, box: tuple[float, float, float, float], _image: Image.Image) -> str:
    """A thumbnail as a data URI; what the network does not see is dimmed and the rest framed."""
    scale = min(1.0, THUMBNAIL / max(_image.size))
    small = _image.resize((max(1, round(_image.width * scale)), max(1, round(_image.height * scale))), reducing_gap=2.0)
    corners = [round(value * scale) for value in box]
    if (corners[2] - corners[0], corners[3] - corners[1]) != small.size:
        dimmed = Image.blend(small, Image.new("RGB", small.size, (128, 128, 128)), 0.65)
        dimmed.paste(small.crop(corners), corners[:2])
        ImageDraw.Draw(dimmed).rectangle([corners[0], corners[1], corners[2] - 1, corners[3] - 1], outline="white", width=2)
        small = dimmed
    buffer = BytesIO()
    small.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + b64encode(buffer.getvalue()).decode()


def _bars(workspace: Workspace) -> str:
    """The most probable classes, and the explained ones if they are not among them."""
    sight, names = workspace.sight, workspace.network.categories
    marks = {workspace.target: "explained"}
    if workspace.contrast is not None:
        marks[workspace.contrast] = "held against"
    shown = sight.ranked[:TOP]
    shown += [index for index in marks if index not in shown]
    rows = []
    for index in shown:
        share = float(sight.probabilities[index])
        mark = f'<span class="mark">{marks[index]}</span>' if index in marks else ""
        rows.append(
            f'<div class="row{" target" if index in marks else ""}"><span class="name">{escape(names[index])}{mark}</span>'
            f'<span class="track"><span class="bar" style="width:{100 * share:.1f}%"></span></span>'
            f'<span class="share">{percent(share)}</span></div>')
    return "".join(rows)


def percent(share: float) -> str:
    """A probability (0 to 1), or a difference of two, as HTML; what rounds to nothing says so."""
    return f"{100 * share:.1f} %".replace("-", "\u2212") if abs(share) >= 0.0005 or share == 0 else "&lt; 0.1 %"
