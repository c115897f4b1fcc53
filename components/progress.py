"""While maps are computed: a bar that names what runs, a Stop, and the maps as they come, in the places they will have."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import streamlit as st
from PIL import Image
from streamlit.delta_generator import DeltaGenerator

from components import colour, gate, runs
from components.colour import Display
from components.heatmaps import columns_for

PATIENCE = 0.4  # seconds before a former figure makes room: quick maps replace it without a flicker
DRAWN = "figure_drawn"
BAR_EVERY, PREVIEW_EVERY = 0.1, 1.0
SWAP = """<style>
.stMain:has(.st-key-maps .plot-container) .st-key-previews { display: none; }
.stMain:not(:has(.st-key-maps .plot-container)) .st-key-maps { position: absolute; visibility: hidden; }
</style>"""  # not in style.css, for while it is there every change of the page costs more
SKELETON = {3: 345, 4: 255, 5: 200}  # pixels of a map that is to come, by the columns of the grid


@dataclass
class Progress:
    """Draws a bar and a grid of maps: at once where nothing is to be seen yet, else only when the run takes time.

    The grid has a place of its own: a container that is filled twice in one run keeps what it held first. A session's first grid
    stays until the browser has drawn the figure, for which it must first read plotly; a style then hides it.
    """

    plan: runs.Plan
    seen: Image.Image
    display: Display
    bar_place: DeltaGenerator
    grid_place: DeltaGenerator
    figure_place: DeltaGenerator
    begin: float = field(default_factory=time.monotonic)
    bar: DeltaGenerator | None = None
    swap: DeltaGenerator | None = None
    slots: dict[str, DeltaGenerator] = field(default_factory=dict)
    finished_keys: list[str] = field(default_factory=list)
    last_bar: float = 0.0
    last_preview: float = 0.0

    def report(self, job: runs.Job, step: int, steps: int, preview: object) -> None:
        """Called by the engine at every step."""
        now = time.monotonic()
        if self.bar is None:
            if now - self.begin < PATIENCE and st.session_state.get(DRAWN):
                return
            self._unfold()
        if now - self.last_bar >= BAR_EVERY:
            self.last_bar = now
            count = f"map {len(self.finished_keys) + 1} of {len(self.plan.now)}" if len(self.plan.now) > 1 else ""
            amount = f"{step} of {steps}" if steps > 1 else ""
            text = ", ".join(part for part in (job.method.title, amount, count) if part)
            self.bar.progress(min(step / steps, 1.0) if steps else 0.0, text=text)
        if preview is not None and now - self.last_preview >= PREVIEW_EVERY:
            self.last_preview = now
            self._paint(job.method.key, _flat(preview), job.method.signed)

    def finished(self, job: runs.Job) -> None:
        """Called when a job has ended, well or badly."""
        self.finished_keys.append(job.method.key)
        if self.bar is not None:
            self._show(job)

    def fold(self) -> None:
        """Take the bar and the grid away: the figure comes."""
        first = DRAWN not in st.session_state
        st.session_state[DRAWN] = True
        if self.bar is not None:
            self.bar_place.empty()
            if first:
                self.swap.html(SWAP)
            else:
                self.grid_place.empty()

    def _unfold(self) -> None:
        with self.bar_place.container(horizontal=True, vertical_alignment="center"):
            self.bar = st.progress(0.0)
            st.button("Stop", key="stop-run", on_click=gate.stop, args=(runs.PLACE, self.plan.key),
                      help="Ends the run; the maps that are finished stay.")
        self.figure_place.empty()
        with self.grid_place.container(key="previews"):
            self.swap = st.empty()
            columns = columns_for(len(self.plan.jobs) + 1)
            cells = [cell for _ in range(0, len(self.plan.jobs) + 1, columns) for cell in st.columns(columns, gap="small")]
        cells[0].markdown("**What the network sees**")
        cells[0].image(self.seen, width="stretch", output_format="JPEG", alt="What the network sees")
        for job, cell in zip(self.plan.jobs, cells[1:], strict=False):
            cell.markdown(f"**{job.method.title}**")
            self.slots[job.method.key] = cell.empty()
            self.slots[job.method.key].skeleton(SKELETON[columns])
            if job.found is not None or job.trouble:
                self._show(job)

    def _show(self, job: runs.Job) -> None:
        if job.found is not None:
            self._paint(job.method.key, job.found.heatmap(), job.found.signed)
        elif job.trouble:
            self.slots[job.method.key].caption(job.trouble)

    def _paint(self, key: str, heatmap: np.ndarray, signed: bool) -> None:
        shown = colour.prepare([(heatmap, signed)], self.display)[0]
        size = heatmap.shape[1], heatmap.shape[0]
        grey = np.asarray(colour.backdrop(self.seen, "Grey").resize(size))
        self.slots[key].image(colour.blended(shown, grey), width="stretch", output_format="JPEG", alt="Map so far")


def _flat(preview: object) -> np.ndarray:
    """A preview of any kind as (h, w): channels are added up."""
    array = np.nan_to_num(np.asarray(preview, dtype=np.float32))
    return array if array.ndim == 2 else array.reshape(-1, *array.shape[-2:]).sum(0)
