"""A bar that names what runs and how long it still takes, with a Stop beside it, and a Skip where several tasks run."""

from __future__ import annotations

import time
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from components.compute import asked
from components.drawing.foreign_words import in_markdown

EVERY = 0.1  # seconds between two updates


class Bar:
    """A progress bar and its buttons.

    patience: seconds before they are drawn, so that a quick run does not move the page. several: whether more than one task runs, so
    that one of them can be skipped.
    """

    def __init__(self, place: str, key: str, spot: DeltaGenerator | None = None, patience: float = 0.0,
                 several: bool = False) -> None:
        self.place, self.key, self.patience, self.several = place, key, patience, several
        self.spot = spot
        self._bar: DeltaGenerator | None = None
        self._begin = time.monotonic()
        self._last = 0.0
        self._running = ""  # the key of the task that runs

    def __enter__(self) -> Bar:
        self.spot = self.spot or st.empty()
        if not self.patience:
            self.draw()
        return self

    def __exit__(self, *_: Any) -> None:
        if self.spot is not None:
            self.spot.empty()

    @property
    def drawn(self) -> bool:
        """Whether the bar is on the page."""
        return self._bar is not None

    def draw(self) -> None:
        """Put the bar and its buttons on the page."""
        assert self.spot is not None
        with self.spot.container(horizontal=True, vertical_alignment="center", key=f"bar-{self.place}"):
            self._bar = st.progress(0.0)
            st.button("Stop", key=f"stop-{self.place}", on_click=asked.stop, args=(self.place, self.key),
                      help="Ends the run; what is finished stays.")
            if self.several:
                st.button("Skip", key=f"skip-{self.place}", on_click=self._skip,
                          help="Ends only what the bar names, and goes on with the others. What it has computed so far is lost; the "
                               "button that started the run starts it again from the beginning.")

    def _skip(self) -> None:
        """Callback of Skip. It is called after the run has ended, when the task that ran last is still the one that the bar named."""
        asked.skip(self.place, self.key, self._running)

    def start(self, task_key: str) -> None:
        """A task with this key begins."""
        self._running = task_key

    def report(self, place: int, text: str, fraction: float, preview: Any) -> None:
        """Show how far the run is."""
        now = time.monotonic()
        if self._bar is None:
            if now - self._begin < self.patience:
                return
            self.draw()
        if self._bar is not None and now - self._last >= EVERY:
            self._last = now
            self._bar.progress(min(fraction, 1.0), text=in_markdown(text))
