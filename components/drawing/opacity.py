"""The opacity of the maps: a slider that acts in the browser, so the figure keeps its zoom and nothing is computed again.

Streamlit's own slider would send the figure again, and Plotly's is drawn as SVG and cannot be reached by keyboard. This one is the
browser's own range input. It sets a property that style.css applies to the maps of the figure.
"""

from __future__ import annotations

import streamlit as st

HTML = """<div><label for="opacity">Opacity of the maps</label>
<input id="opacity" type="range" min="0" max="100" step="5" value="100"><output for="opacity"></output></div>"""
CSS = """
div { display: flex; align-items: center; gap: 0.7rem; font-family: var(--st-font); font-size: 0.9rem; color: var(--st-text-color); }
output { min-width: 3.2em; font-variant-numeric: tabular-nums; }
input { width: 11rem; height: 1.2rem; margin: 0; accent-color: var(--st-primary-color); cursor: pointer; }
input:focus-visible { outline: 2px solid var(--st-link-color); outline-offset: 2px; }
"""
SCRIPT = """
export default function ({ parentElement }) {
  const input = parentElement.querySelector("input"), output = parentElement.querySelector("output");
  const root = document.documentElement;
  const show = () => {
    output.textContent = input.value + " %";
    root.style.setProperty("--map-opacity", input.value / 100);
  };
  const set = root.style.getPropertyValue("--map-opacity");
  if (set) input.value = 100 * set;
  input.oninput = show;
  show();
}
"""
_slider = st.components.v2.component("map_opacity", html=HTML, css=CSS, js=SCRIPT)


def draw() -> None:
    """Draw the slider. At 100 % maps are drawn as they are exported; it applies to the figure of maps on the page."""
    with st.container(key="opacity"):
        _slider(key="map_opacity", height="content")
