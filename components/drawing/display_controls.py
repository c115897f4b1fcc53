"""The controls that decide how maps are drawn. They redraw, and compute no map. Their values are kept from page to page."""

from __future__ import annotations

import streamlit as st

from components.drawing.colour import BACKDROPS, SCALES, SIGNS, Display

KEYS = ("values", "scale", "backdrop", "clip", "hide", "smoothing")  # of the widgets below
CLIPS = (90.0, 95.0, 98.0, 99.0, 99.5, 99.9, 100.0)


def draw(scale: bool = True, folded: bool = True) -> Display:
    """Draw the controls in one row and read them. scale: offer the choice of a scale; without it all maps share one. folded: put the
    sliders into a popover; not where the controls are in one themselves."""
    default = Display()
    with st.container(key="display", horizontal=True, vertical_alignment="bottom", gap="small"):
        sign = st.segmented_control(
            "Values", SIGNS, default=default.sign, required=True, key="values", bind="query-params",
            help="Signed: blue speaks against the class, red for it. Positive: only what speaks for it. "
                 "Magnitude: how strong, whichever way.")
        chosen = SCALES[1] if not scale else st.segmented_control(
            "Scale", SCALES, default=default.scale, required=True, key="scale", bind="query-params",
            help="Own: every map uses the full range of colours. Shared: one scale for all maps, so that equal colours "
                 "are equal numbers; maps in smaller units turn pale.")
        backdrop = st.segmented_control(
            "Backdrop", BACKDROPS, default=default.backdrop, required=True, key="backdrop", bind="query-params",
            help="What lies under the maps: the picture in grey, in colour, or nothing.")
        with st.popover("Fine-tune", help="Clip percentile, hide the weakest pixels, smoothing.") if folded else st.container():
            clip, threshold, smoothing = _sliders(default)
    return Display(sign, chosen, clip, threshold, smoothing, backdrop)


def _sliders(default: Display) -> tuple[float, int, float]:
    """The clip percentile, the percentage of pixels that is hidden, and the standard deviation of the smoothing in pixels."""
    clip = st.select_slider(
        "Clip percentile", CLIPS, default.clip, key="clip", bind="query-params", format_func=lambda clip: f"{clip:g} %",
        help="Values beyond this percentile of the map get the strongest colour. Lower: faint parts come out; "
             "100: only the single strongest pixel is full.")
    threshold = st.slider(
        "Hide the weakest", 0, 95, default.threshold, 5, format="%d %%", key="hide", bind="query-params",
        help="Pixels below this rank (by strength) are not drawn.")
    smoothing = st.slider(
        "Smoothing", 0.0, 8.0, default.smoothing, 0.5, format="%.1f px", key="smoothing", bind="query-params",
        help="Gaussian blur of the map, in pixels of the network's input. Off at 0: what you see is what was computed.")
    return float(clip), int(threshold), float(smoothing)
