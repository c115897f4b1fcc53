"""A bar that names what runs and how long it still takes, with a Stop beside it."""

from __future__ import annotations

import time
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from components.compute import asked

EVERY = 0.1  # seconds between two updates


class Bar:
    """A progress bar and its Stop. patience: seconds before they are drawn, so that a quick run does not move the page."""

    def __init__(self, place: str, key: str, spot: DeltaGenerator | None = None, patience: float = 0.0) -> None:
        self.place, self.key, self.patience = place, key, patience
        self.spot = spot
        self._bar: DeltaGenerator | None = None
        self._begin = time.monotonic()
        self._last = 0.0

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
        """Put the bar and its Stop on the page."""
        assert self.spot is not None
        with self.spot.container(horizontal=True, vertical_alignment="center", key=f"bar-{self.place}"):
            self._bar = st.progress(0.0)
            st.button("Stop", key=f"stop-{self.place}", on_click=asked.stop, args=(self.place, self.key),
                      help="Ends the run; what is finished stays.")

    def report(self, place: int, text: str, fraction: float, preview: Any) -> None:
        """Show how far the run is."""
        now = time.monotonic()
        if self._bar is None:
            if now - self._begin < self.patience:
                return
            self.draw()
        if self._bar is not None and now - self._last >= EVERY:
            self._last = now
            self._bar.progress(min(fraction, 1.0), text=text)
