"""The figure for a paper or a slide, by matplotlib: picture and maps in a row or a grid, colour bars in raw units."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from components.drawing.colour import Shown, blended, over
from components.drawing.heatmaps import columns_for
from components.drawing.numbers import significant

DPI = 300
SIDE, GAP, TITLE, BAR, CAPTION = 1.75, 0.16, 0.2, 0.3, 0.22  # inches: a panel, between panels, above, below, at the bottom


def figure(seen: Image.Image, titles: Sequence[str], shown: Sequence[Shown], backdrop: str, caption: str, kind: str) -> bytes:
    """The file's bytes; ``kind`` is ``png`` or ``svg``. All panels are equally large, whatever stands below them."""
    from matplotlib.figure import Figure  # takes a second to import, and only a download needs it

    count = len(shown) + 1
    columns = min(columns_for(count), count)
    rows = -(-count // columns)
    width = columns * SIDE + (columns + 1) * GAP
    height = rows * (TITLE + SIDE + BAR) + CAPTION
    drawing = Figure(figsize=(width, height), dpi=DPI)
    for place, (title, picture) in enumerate(zip(["Input", *titles], [None, *shown], strict=True)):
        row, column = divmod(place, columns)
        left = GAP + column * (SIDE + GAP)
        bottom = height - row * (TITLE + SIDE + BAR) - TITLE - SIDE
        axis = drawing.add_axes((left / width, bottom / height, SIDE / width, SIDE / height))
        axis.imshow(np.asarray(seen) if picture is None else over(picture, seen, backdrop), interpolation="nearest")
        axis.set_axis_off()
        drawing.text(left / width, (bottom + SIDE + 0.05) / height, title, fontsize=8, parse_math=False)
        if picture is not None:
            bar = drawing.add_axes((left / width, (bottom - 0.1) / height, SIDE / width, 0.055 / height))
            colour_bar(bar, picture)
    drawing.text(GAP / width, 0.07 / height, caption, fontsize=7, color="#555555", parse_math=False)
    buffer = BytesIO()
    drawing.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()


def colour_bar(axis: Any, shown: Shown) -> None:
    """The bar below a map, in the map's own units, its colours as they are on white."""
    low, high = shown.range
    levels = np.linspace(low, high, 256, dtype=np.float32)[None]
    ramp = Shown(levels, levels, shown.limit, shown.diverging, shown.floor)
    axis.imshow(blended(ramp, np.full((1, 256, 3), 255, np.uint8)), aspect="auto", extent=(low, high, 0, 1))
    ticks = [low, (low + high) / 2, high]
    axis.set_xticks(ticks, [significant(tick) for tick in ticks], fontsize=6)
    for label, side in zip(axis.get_xticklabels(), ("left", "center", "right"), strict=True):
        label.set_horizontalalignment(side)
    axis.tick_params(length=2, width=0.4, pad=1.5)
    axis.set_yticks([])
    for edge in axis.spines.values():
        edge.set_linewidth(0.4)
