"""The section on insertion and deletion: the settings, the curves, the verdict, the table, the downloads, the other baselines."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from components.compute.method_row import MethodMap
from components.drawing.foreign_words import in_markdown
from components.faithfulness import baseline_views, curve_exports, map_curves, protocol_controls, rankings, scrub
from components.faithfulness.map_curves import MapCurves
from components.faithfulness.refinement import Refinement
from components.state.workspace import Workspace


def draw(workspace: Workspace, maps: Sequence[MethodMap]) -> None:
    """Everything below the choice of the measurement. ``maps``: of the methods and the controls, whether they are there or not."""
    settings = protocol_controls.draw(workspace)
    answers = [method_map.answer for method_map in maps if method_map.answer]
    if not answers:
        _name_missing(maps)
        return
    refinement = Refinement(answers, settings)
    refinement.offer()
    measured = refinement.curves()
    if measured:
        map_curves.record(measured)
        _say_how_fine(measured)
        rankings.verdict(measured)
        scrub.draw(workspace, measured)
        rankings.table(measured)
        curve_exports.draw(workspace, measured)
    _name_missing(maps)
    refinement.refine()
    if measured:
        baseline_views.draw(measured)


def _say_how_fine(measured: Sequence[MapCurves]) -> None:
    """Whether these are first, coarse curves."""
    steps = map_curves.so_far(measured)
    if steps:
        st.container(key="so-far").caption(f"Coarse curves so far: {steps}. Finer ones have the same points and more between them, so "
                                           "the numbers still move a little.")


def _name_missing(maps: Sequence[MethodMap]) -> None:
    """The methods whose maps are not measured, and why."""
    missing = [in_markdown(f"{method_map.title} ({method_map.reason or 'its map waits for Explain'})")
               for method_map in maps if not method_map.answer]
    if missing:
        st.caption(f"Not measured: {', '.join(missing)}")
