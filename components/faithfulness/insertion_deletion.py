"""The section on insertion and deletion: the settings, the curves, the verdict, the table, the downloads, the other baselines."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from components.compute.method_row import MethodMap
from components.compute.schedule import Schedule
from components.compute.task import Failed, Ready
from components.drawing.downloads import Answer
from components.faithfulness import baseline_views, curve_exports, map_curves, protocol_controls, rankings, scrub
from components.faithfulness.map_curves import MapCurves
from components.state.engine import engine
from components.state.workspace import Workspace
from explainers.metrics.protocols import Params

PLACE = "curves"


def draw(workspace: Workspace, maps: Sequence[MethodMap]) -> None:
    """Everything below the choice of the measurement. ``maps``: of the methods and the controls, whether they are there or not."""
    settings = protocol_controls.draw(workspace)
    answers = [method_map.answer for method_map in maps if method_map.answer]
    measured = _measured(answers, settings) if answers else []
    if measured:
        rankings.verdict(measured, settings)
        scrub.draw(workspace, measured, settings)
        rankings.table(measured)
        curve_exports.draw(workspace, measured, settings)
    missing = [f"{method_map.method.title} ({method_map.reason or 'its map waits for Explain'})"
               for method_map in maps if not method_map.answer]
    if missing:
        st.caption(f"Not measured: {', '.join(missing)}")
    if measured:
        baseline_views.draw(measured, settings)


def _measured(answers: Sequence[Answer], settings: Params) -> list[MapCurves]:
    """The maps with their curves. While a new map waits to be measured, those that were measured before are shown."""
    schedule = Schedule(PLACE, [map_curves.task(answers, settings, "Insertion and deletion")])
    schedule.offer(f"Measure {f'{len(answers)} maps' if len(answers) > 1 else 'one map'}")
    (state,) = schedule.run()
    if isinstance(state, Failed):
        st.error(state.reason)
    if isinstance(state, Ready):
        return map_curves.paired(answers, state.value)
    return map_curves.paired(answers, [engine().lookup(each) for each in map_curves.measurements(answers, settings)])
