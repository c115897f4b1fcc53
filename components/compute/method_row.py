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
from components.compute import drafts, naming, parameter_widgets
from components.compute.schedule import Schedule, View
from components.compute.task import Failed, Pending, Ready, State, map_task, must_fit, refused
from components.drawing.downloads import Answer
from components.drawing.foreign_words import in_markdown
from components.drawing.numbers import passes_in_words, seconds_in_words
from components.state import entries
from components.state.entries import Name
from components.state.workspace import Workspace

PLACE = "maps"
DRAWN_FOR = "drawn_again_for_names"  # in the session
UNITS = "F: pictures sent through the network (forward passes). B: gradients sent back (backward passes)."


@dataclass(frozen=True)
class MethodMap:
    """A method with its settings, and what is known of its map. ``question`` is None where the settings are refused.

    draft: what the map leaves out, where it is a draft: "10 of 20 prior epochs"; the question, its settings and the map are then the
    draft's. name: of the entry, where the method may be there several times; else it is called as its method is.
    """

    method: ex.Method
    params: dict[str, Any]
    question: ex.Question | None
    state: State
    draft: str = ""
    name: Name | None = None

    @property
    def key(self) -> str:
        """The entry's key, which no other has: the method's, with a number behind it for a copy."""
        return self.name.key if self.name else self.method.key

    @property
    def title(self) -> str:
        """The entry's title, which no other has."""
        return self.name.title if self.name else self.method.title

    @property
    def short_title(self) -> str:
        """The title for narrow places."""
        return self.name.short if self.name else self.method.short_title

    @property
    def is_control(self) -> bool:
        """Whether the map knows nothing of what the network has learned."""
        return self.method.is_control

    @property
    def attribution(self) -> ex.Attribution | None:
        """The map, if it is there."""
        return self.state.value if isinstance(self.state, Ready) else None

    @property
    def answer(self) -> Answer | None:
        """The question with its map, if that is there."""
        return Answer(self.question, self.attribution, self.name) if self.question and self.attribution else None

    @property
    def reason(self) -> str:
        """Why there will be no map; empty where there is one, or one may come."""
        return self.state.reason if isinstance(self.state, Failed) else ""

    @property
    def pending(self) -> bool:
        """Whether the map still has to be made."""
        return isinstance(self.state, Pending)

    @property
    def stopped(self) -> bool:
        """Whether a person stopped or skipped the map."""
        return isinstance(self.state, Pending) and self.state.stopped


class MethodRow:
    """The maps of some questions at one place of a page, and the lines that say what each costs.

    with_drafts: a map that has to wait may be preceded by its method's draft.
    """

    def __init__(self, maps: Sequence[MethodMap], lines: dict[str, DeltaGenerator], place: str = PLACE,
                 with_drafts: bool = False) -> None:
        self._maps = list(maps)
        self._lines = lines
        self._drafts = [drafts.of(entry.question) if with_drafts and entry.question else None for entry in maps]
        self.schedule = Schedule(place, [map_task(entry.question, entry.title, draft) if entry.question else
                                         refused(entry.title, entry.reason)
                                         for entry, draft in zip(maps, self._drafts, strict=True)])
        self._draw_lines()

    @property
    def maps(self) -> tuple[MethodMap, ...]:
        """The methods in the order of the row, with what is known of their maps now: of the draft's where only that is there."""
        return tuple(self.with_state(at, state) for at, state in enumerate(self.schedule.states))

    def with_state(self, at: int, state: State) -> MethodMap:
        """The method at this place with this state of its map, or with its draft where that is all there is."""
        entry, draft, draft_state = self._maps[at], self._drafts[at], self.schedule.drafts[at]
        if isinstance(state, Pending) and draft and entry.question and isinstance(draft_state, (Ready, Failed)):
            return replace(entry, question=draft, params=drafts.settings(draft), state=draft_state,
                           draft=drafts.in_words(draft, entry.question))
        return replace(entry, state=state)

    def run(self, view: View | None = None, show: Any = None) -> tuple[MethodMap, ...]:
        """Make the maps that are due; see ``Schedule.run``. The cost lines then say what became of them.

        A page with a ``view`` of its own says itself which maps are drafts; on another page a line does.
        """
        self.schedule.run(show, view)
        self._draw_lines()
        if view is None:
            _say_drafts(self.maps)
        return self.maps

    def _draw_lines(self) -> None:
        for entry, state in zip(self.maps, self.schedule.states, strict=True):
            if entry.key in self._lines:
                self._lines[entry.key].caption(_cost_line(entry, state))


def draw(workspace: Workspace, with_controls: bool = False, with_drafts: bool = False) -> MethodRow:
    """Draw the settings, and Explain where something waits.

    with_controls: all controls get a map, also those that were not chosen. with_drafts: see ``MethodRow``.
    """
    with st.container(key="settings", horizontal=True, gap="small", vertical_alignment="top"):
        maps, lines = chosen(workspace)
        if with_controls:
            maps += [of_method(workspace, method, {}) for key, method in ex.methods().items()
                     if method.is_control and key not in workspace.methods]
        row = MethodRow(maps, lines, with_drafts=with_drafts)
        if workspace.methods:
            st.container(key="units", width="content").caption(UNITS)
        row.schedule.offer("Explain", caption=False)
    return row


def chosen(workspace: Workspace) -> tuple[list[MethodMap], dict[str, DeltaGenerator]]:
    """Draw the settings of all entries. Returns them before anything is looked up, and by key a place for a line below each button.

    An entry's name says its settings, and stands on the button behind which these are. So where they turn out to be others than those
    of the page's last run, as those of a link do at first, the page runs once more.
    """
    names = naming.names({key: parameter_widgets.current(key) for key in workspace.methods})
    params, lines = {}, {}
    for key, name in names.items():
        with st.container(key=f"settings-{key}", width="content", gap=None):
            params[key] = parameter_widgets.settings(key, in_markdown(name.title), workspace.network)
            lines[key] = st.empty()
    drawn, names = names, naming.names(params)
    if names != drawn and st.session_state.get(DRAWN_FOR) != names:
        st.session_state[DRAWN_FOR] = names
        st.rerun()
    return [of_method(workspace, entries.method_of(key), params[key], names[key]) for key in names], lines


def of_method(workspace: Workspace, method: ex.Method, params: dict[str, Any], name: Name | None = None) -> MethodMap:
    """A method with its settings, before anything is looked up."""
    reason = method.lacks(workspace.network)
    if reason:
        return MethodMap(method, params, None, Failed(reason), name=name)
    try:
        question = workspace.question(method, params)
        return MethodMap(method, params, question, Pending(ex.Cost(ex.Passes(), 0.0)), name=name)
    except ex.ExplainerError as error:
        return MethodMap(method, params, None, Failed(str(error)), name=name)


def _say_drafts(maps: Sequence[MethodMap]) -> None:
    """A line that names the maps which are drafts, and what each leaves out."""
    named = [f"{in_markdown(entry.title)} ({entry.draft})" for entry in maps if entry.draft and entry.attribution]
    if named:
        st.caption(f"Drafts, until Explain replaces them: {', '.join(named)}.")


def _cost_line(entry: MethodMap, state: State) -> str:
    """The passes of a method's map, and whether it is there; or why there will be none. state: of the map that is no draft."""
    if entry.question is None:
        return "off for this network"
    if entry.reason:
        return "failed"
    if isinstance(state, Pending):
        fit = " with a fit" if must_fit(entry.question) else ""
        about = f"{passes_in_words(state.cost.passes)}, about {seconds_in_words(state.cost.seconds)}{fit}"
        return f"draft; in full {about}" if entry.draft else about
    return f"{passes_in_words(entry.question.passes)}, ready"
