"""The chosen methods of a page: a button for each with its settings behind it and its cost below, and their maps as they come.

    row = method_row.draw(workspace)             # the settings, and a button for what is too costly to run by itself
    maps = row.run()                             # each method with its map, or with the reason why there is none
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

import explainers as ex
from components.compute import parameter_widgets
from components.compute.schedule import Schedule, View
from components.compute.task import Failed, Pending, Ready, State, map_task, refused
from components.drawing.numbers import passes_in_words, seconds_in_words
from components.state.workspace import Workspace

PLACE = "maps"
UNITS = "F: images forward, B: gradients back"


@dataclass(frozen=True)
class MethodMap:
    """A method with its settings, and what is known of its map. ``question`` is None where the settings are refused."""

    method: ex.Method
    params: dict[str, Any]
    question: ex.Question | None
    state: State

    @property
    def attribution(self) -> ex.Attribution | None:
        """The map, if it is there."""
        return self.state.value if isinstance(self.state, Ready) else None

    @property
    def answer(self) -> tuple[ex.Question, ex.Attribution] | None:
        """The question with its map, if that is there."""
        return (self.question, self.attribution) if self.question and self.attribution else None

    @property
    def reason(self) -> str:
        """Why there will be no map; empty where there is one, or one may come."""
        return self.state.reason if isinstance(self.state, Failed) else ""

    @property
    def pending(self) -> bool:
        """Whether the map still has to be made."""
        return isinstance(self.state, Pending)


class MethodRow:
    """The maps of some questions at one place of a page, and the lines that say what each costs."""

    def __init__(self, maps: Sequence[MethodMap], lines: dict[str, DeltaGenerator], place: str = PLACE) -> None:
        self._maps = list(maps)
        self._lines = lines
        self.schedule = Schedule(place, [map_task(entry.question) if entry.question else refused(entry.method.title, entry.reason)
                                         for entry in maps])
        self._draw_lines()

    @property
    def maps(self) -> tuple[MethodMap, ...]:
        """The methods in the order of the row, with what is known of their maps now."""
        return tuple(replace(entry, state=state) for entry, state in zip(self._maps, self.schedule.states, strict=True))

    def run(self, view: View | None = None, show: Any = None) -> tuple[MethodMap, ...]:
        """Make the maps that are due; see ``Schedule.run``. The cost lines then say what became of them."""
        self.schedule.run(show, view)
        self._draw_lines()
        return self.maps

    def _draw_lines(self) -> None:
        for entry in self.maps:
            if entry.method.key in self._lines:
                self._lines[entry.method.key].caption(_cost_line(entry))


def draw(workspace: Workspace, with_controls: bool = False) -> MethodRow:
    """Draw the settings, and Explain where something waits. with_controls: all controls get a map, also those that were not chosen."""
    declared = ex.methods()
    maps, lines = [], {}
    with st.container(key="settings", horizontal=True, gap="small", vertical_alignment="top"):
        for key in workspace.methods:
            with st.container(key=f"settings-{key}", width="content", gap=None):
                maps.append(of_method(workspace, declared[key], parameter_widgets.settings(declared[key], workspace.network)))
                lines[key] = st.empty()
        if with_controls:
            maps += [of_method(workspace, method, {}) for key, method in declared.items()
                     if method.is_control and key not in workspace.methods]
        row = MethodRow(maps, lines)
        if workspace.methods:
            st.container(key="units", width="content").caption(UNITS)
        row.schedule.offer("Explain", caption=False)
    return row


def of_method(workspace: Workspace, method: ex.Method, params: dict[str, Any]) -> MethodMap:
    """A method with its settings, before anything is looked up."""
    reason = method.lacks(workspace.network)
    if reason:
        return MethodMap(method, params, None, Failed(reason))
    try:
        return MethodMap(method, params, workspace.question(method, params), Pending(ex.Cost(ex.Passes(), 0.0)))
    except ex.ExplainerError as error:
        return MethodMap(method, params, None, Failed(str(error)))


def _cost_line(entry: MethodMap) -> str:
    """The passes of a method's map, and whether it is there; or why there will be none."""
    if entry.question is None:
        return "off for this network"
    if entry.reason:
        return "failed"
    if entry.attribution is not None:
        return f"{passes_in_words(entry.question.passes)}, ready"
    seconds = entry.state.cost.seconds if isinstance(entry.state, Pending) else 0.0
    fit = ", after a fit" if entry.method.fits_statistics else ""
    return f"{passes_in_words(entry.question.passes)}, about {seconds_in_words(seconds)}{fit}"
