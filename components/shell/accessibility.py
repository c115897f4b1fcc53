"""What Streamlit cannot say to a screen reader or reach by keyboard: a script that adds the attributes in the browser.

It marks the chosen picture of the galleries with ``aria-current``, and lets the keyboard reach what scrolls sideways (wide tables,
rows of maps, formulas). It runs again after each change of the page, and sends nothing to the server.
"""

from __future__ import annotations

import streamlit as st

# The style that frames a chosen picture sets --current, so that the frame and the attribute never disagree.
SCRIPT = """
const WIDE = ".wide, .strip, .class-grid, .katex-display, .st-key-maps, .st-key-settings, .st-key-display";
const mark = () => {
  for (const button of document.querySelectorAll('[class*="st-key-picture-"] button')) {
    const chosen = getComputedStyle(button).getPropertyValue("--current").trim() === "1";
    chosen ? button.setAttribute("aria-current", "true") : button.removeAttribute("aria-current");
  }
  for (const element of document.querySelectorAll(WIDE)) {
    const scrolls = element.scrollWidth > element.clientWidth + 1;
    if (scrolls === (element.getAttribute("role") === "group")) continue;
    const attributes = {tabindex: "0", role: "group", "aria-label": "Scrolls sideways"};
    for (const [name, value] of Object.entries(attributes))
      scrolls ? element.setAttribute(name, value) : element.removeAttribute(name);
  }
};
export default function () {
  let waiting = 0;
  const later = () => {
    clearTimeout(waiting);
    waiting = setTimeout(mark, 200);
  };
  const changes = new MutationObserver(later);
  changes.observe(document.body, {childList: true, subtree: true});
  addEventListener("resize", later);
  later();
  return () => {
    changes.disconnect();
    removeEventListener("resize", later);
    clearTimeout(waiting);
  };
}
"""
_script = st.components.v2.component("accessibility", js=SCRIPT)


def draw() -> None:
    """Put the script on the page, which shows nothing."""
    with st.container(key="accessibility"):
        _script(key="accessibility_script", height=1)
