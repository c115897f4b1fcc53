"""While the maps of the compare page are made: a bar with its buttons, and the maps as they come, in the places they will have."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image
from streamlit.delta_generator import DeltaGenerator

from components.compute.bar import Bar
from components.compute.method_row import MethodRow
from components.compute.task import State
from components.drawing import colour
from components.drawing.colour import Display
from components.drawing.foreign_words import in_markdown
from components.drawing.heatmaps import columns_for, data_uri, sharp_uri

PATIENCE = 0.4  # seconds before a former figure makes room: quick maps replace it without a flicker
DRAWN = "figure_drawn"
PREVIEW_EVERY = 1.0  # seconds
SWAP = """<style>
.stMain:has(.st-key-maps .plot-container) .st-key-previews { display: none; }
.stMain:not(:has(.st-key-maps .plot-container)) .st-key-maps { position: absolute; visibility: hidden; }
</style>"""  # not in style.css, because while it is there every change of the page costs more
SKELETON = {3: 345, 4: 255, 5: 200}  # pixels of the height of a map that is to come, by the columns of the grid


class PreviewGrid(Bar):
    """A bar and a grid of maps: at once where nothing is to be seen yet, else only when the run takes time.

    The grid has a place of its own, because a container that is filled twice in one run keeps what it held first. A session's first
    grid stays until the browser has drawn the figure, for which it must first read plotly; a style then hides the grid. Its pictures
    travel inside the page: the server drops a picture file once another takes its place, and a slow browser would ask for it in vain.
    """

    def __init__(self, row: MethodRow, seen: Image.Image, display: Display, bar_place: DeltaGenerator, grid_place: DeltaGenerator,
                 figure_place: DeltaGenerator) -> None:
        first = DRAWN not in st.session_state
        super().__init__(row.schedule.place, row.schedule.key, bar_place, 0.0 if first else PATIENCE, len(row.schedule.now) > 1)
        self.maps = row.maps
        self.seen, self.display = seen, display
        self.grid_place, self.figure_place = grid_place, figure_place
        self.first = first
        self._swap: DeltaGenerator | None = None
        self._slots: list[DeltaGenerator] = []
        self._states: dict[int, State] = {}
        self._last_preview = 0.0

    def draw(self) -> None:
        """Put the bar on the page, and under it the grid with what is there already."""
        super().draw()
        self.figure_place.empty()
        with self.grid_place.container(key="previews"):
            self._swap = st.empty()
            columns = columns_for(len(self.maps) + 1)
            cells = [cell for _ in range(0, len(self.maps) + 1, columns) for cell in st.columns(columns, gap="small")]
            cells[0].markdown("**What the network sees**")
            cells[0].html(_image(data_uri(self.seen), "What the network sees"))
            for at, (entry, cell) in enumerate(zip(self.maps, cells[1:], strict=False)):
                cell.markdown(f"**{in_markdown(entry.title)}**")
                self._slots.append(cell.empty())
                self._slots[at].skeleton(SKELETON[columns])
                self._show(at)

    def report(self, place: int, text: str, fraction: float, preview: Any) -> None:
        """Show how far the run is, and now and then the map so far."""
        super().report(place, text, fraction, preview)
        now = time.monotonic()
        if self.drawn and preview is not None and now - self._last_preview >= PREVIEW_EVERY:
            self._last_preview = now
            self._paint(place, _flat(preview), self.maps[place].method.signed)

    def finished(self, place: int, state: State) -> None:
        """Show what became of a map."""
        self._states[place] = state
        if self.drawn:
            self._show(place)

    def fold(self) -> None:
        """Make room for the figure."""
        st.session_state[DRAWN] = True
        if self._swap is not None and self.first:
            self._swap.html(SWAP)
        elif self.drawn:
            self.grid_place.empty()

    def _show(self, place: int) -> None:
        entry = replace(self.maps[place], state=self._states.get(place, self.maps[place].state))
        if entry.attribution is not None:
            self._paint(place, entry.attribution.heatmap(), entry.attribution.signed)
        elif entry.reason:
            self._slots[place].caption(in_markdown(entry.reason))

    def _paint(self, place: int, heatmap: np.ndarray, signed: bool) -> None:
        shown = colour.prepare([(heatmap, signed)], self.display)[0]
        size = heatmap.shape[1], heatmap.shape[0]
        under = np.asarray(colour.grey(self.seen).resize(size))
        self._slots[place].html(_image(sharp_uri(Image.fromarray(colour.blended(shown, under))), "Map so far"))


def _image(uri: str, words: str) -> str:
    """A picture as HTML. ``st.image`` would take the address, too, but Python then remembers it, and with it the picture."""
    return f'<img src="{uri}" alt="{words}">'


def _flat(preview: Any) -> np.ndarray:
    """A preview (h, w) or (..., h, w) as (h, w): channels are added up."""
    array = np.nan_to_num(np.asarray(preview, dtype=np.float32))
    return array if array.ndim == 2 else array.reshape(-1, *array.shape[-2:]).sum(0)
