"""The choice between the measurements of the faithfulness page. Only the chosen one computes."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from components.compute.method_row import MethodMap
from components.faithfulness import insertion_deletion, localisation, sensitivity, source_signal
from components.state.workspace import Workspace

SOURCE_SIGNAL = "Source signal (MIP-IN)"
SECTIONS = {
    "Insertion and deletion": insertion_deletion.draw,
    "Sensitivity-n": sensitivity.draw,
    "Localisation": localisation.draw,
    SOURCE_SIGNAL: source_signal.draw,
}


def draw(workspace: Workspace, maps: Sequence[MethodMap]) -> None:
    """One measurement of the maps, those of the controls among them."""
    if not workspace.methods and st.session_state.get("measurement") != SOURCE_SIGNAL:
        st.info("Choose at least one method in the sidebar. Until then only the controls are measured.")
    names = list(SECTIONS)
    chosen = st.segmented_control("Measurement", names, default=names[0], required=True, key="measurement", bind="query-params",
                                  label_visibility="collapsed",
                                  help="Which question is put to the maps. The source signal is MIP-IN's alone.")
    SECTIONS[chosen](workspace, maps)
