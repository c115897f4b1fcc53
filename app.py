"""Attribution Explorer: page set-up, navigation and the shared sidebar. Start it with ``streamlit run app.py``.

The server imports this file once, for ``app``; then it runs it as a script for every view.
"""

import sys

import streamlit as st
from starlette.middleware import Middleware

from components.shell import arguments, frame, headers, warm_start


def view() -> None:
    """Set up the page, and run the one that was asked for inside the frame."""
    frame.begin()
    page = st.navigation(
        [
            st.Page("pages/compare.py", title="Compare", default=True),
            st.Page("pages/be_the_mask.py", title="Be the mask", url_path="be_the_mask"),
            st.Page("pages/faithfulness.py", title="Faithfulness", url_path="faithfulness"),
            st.Page("pages/class_sensitivity.py", title="Class sensitivity", url_path="class_sensitivity"),
            st.Page("pages/sanity_checks.py", title="Sanity checks", url_path="sanity_checks"),
            st.Page("pages/attribution_mask.py", title="Attribution mask", url_path="attribution_mask"),
            st.Page("pages/adversarial_attack.py", title="Adversarial attack", url_path="adversarial_attack"),
            st.Page("pages/methods.py", title="Methods", url_path="methods"),
        ],
        position="top",
    )
    with frame.entered(page.url_path) as ready:
        if ready:
            page.run()


if __name__ == "__main__":
    view()
else:
    arguments.read(sys.argv[1:])
    app = st.App(__file__, lifespan=warm_start.while_serving, middleware=[Middleware(headers.Guard)])
