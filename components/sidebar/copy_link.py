"""The button that copies the page's address, which holds every choice."""

from __future__ import annotations

import streamlit as st

HTML = '<button type="button" title="Copies the address of this view: every choice is in it, pictures and weights are not">' \
       'Copy link</button><span role="status" aria-live="polite"></span>'
CSS = """
:host, div { display: block; }
button { width: 100%; min-height: 2.5rem; padding: 0.25rem 0.75rem; font: inherit; font-size: 1rem; color: inherit; cursor: pointer;
  background: transparent; border: 1px solid var(--st-border-color); border-radius: var(--st-button-radius, 0.3rem); }
button:hover { border-color: var(--st-primary-color); color: var(--st-primary-color); }
button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 2px; }
span { display: block; min-height: 1.2em; font-size: 0.86rem; overflow-wrap: anywhere; }
"""
# The clipboard is closed to pages that are served without TLS by another machine; there a hidden text field is copied instead.
JS = """
export default function ({ parentElement }) {
  const button = parentElement.querySelector("button");
  const status = parentElement.querySelector("span");
  const copyByHand = (text) => {
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    const copied = document.execCommand("copy");
    field.remove();
    button.focus();
    return copied;
  };
  button.onclick = async () => {
    const address = window.location.href;
    let copied = false;
    try {
      await navigator.clipboard.writeText(address);
      copied = true;
    } catch (refused) {
      copied = copyByHand(address);
    }
    status.textContent = copied ? "Copied" : "The browser refuses: copy the address from its address bar.";
    setTimeout(() => { status.textContent = ""; }, 4000);
  };
}
"""
_button = st.components.v2.component("copy_link", html=HTML, css=CSS, js=JS)


def draw() -> None:
    """Draw the button. It says "Copied" when it did."""
    _button(key="copy_link")
