"""Attribution Explorer: page set-up, navigation and the shared sidebar. Start it with ``streamlit run app.py``."""

import streamlit as st

from components import frame

frame.begin()
page = st.navigation(
    [
        st.Page("pages/compare.py", title="Compare", default=True),
        st.Page("pages/methods.py", title="Methods", url_path="methods"),
    ],
    position="top",
)
with frame.entered():
    page.run()
