"""HTML of masked pictures, and of what the network says of them."""

from __future__ import annotations

from html import escape

from PIL import Image

from components.drawing.heatmaps import data_uri
from components.drawing.numbers import percent
from components.state.workspace import Workspace

SMALL = 64  # pixels: a picture with a shorter side keeps its sharp edges when it is enlarged


def target_percent(workspace: Workspace, value: float) -> str:
    """The explained class's probability in words, or for a contrast the difference of two."""
    return percent(value) if workspace.target.contrast is None else f"{100 * value:+.1f}".replace("-", "\u2212") + " points"


def first_class(workspace: Workspace, index: int, probability: float) -> str:
    """The network's first choice and its probability, on one line; it stands out where it is not the explained class."""
    return (f'<p class="{"" if index == workspace.target.first else "lost"}">first: {escape(workspace.network.categories[index])} '
            f"{unbroken(percent(probability))}</p>")


def image(picture: Image.Image, alt: str) -> str:
    """A picture as HTML."""
    coarse = ' class="coarse"' if min(picture.size) < SMALL else ""
    return f'<img src="{data_uri(picture)}" alt="{escape(alt)}"{coarse}>'


def unbroken(text: str) -> str:
    """A number whose unit stays on its line."""
    return text.replace(" ", "&nbsp;")
