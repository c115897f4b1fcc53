"""Colours of text in figures and the smallest size of text, for the light and the dark theme.

Both greys and both warnings have a contrast of at least 4.5:1 to all grounds of their theme (WCAG 2.2, success criterion 1.4.3).
The same values stand in components/shell/style.css, for text outside of figures.
"""

from __future__ import annotations

import streamlit as st

SMALLEST = 12  # pixels: no text in the app is smaller
INK = {"light": "#1d2426", "dark": "#e4e8e9"}  # the theme's text colours; plotly's default for annotations is paler
MUTED = {"light": "#586266", "dark": "#a5afb3"}
WARNING = {"light": "#a34d00", "dark": "#f0a04b"}
GUIDE = "#7f898e"  # of guide lines and controls: 3:1 to the grounds of both themes, which is enough for lines and not for text


def ink() -> str:
    """The theme's text colour."""
    return INK[_kind()]


def muted() -> str:
    """The colour of text that stands back."""
    return MUTED[_kind()]


def warning() -> str:
    """The colour of text that warns."""
    return WARNING[_kind()]


def _kind() -> str:
    return st.context.theme.type or "light"
