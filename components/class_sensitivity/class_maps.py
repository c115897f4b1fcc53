"""The maps of every method for every class and for the contrast of a pair, and how far the classes' maps are apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import explainers as ex
from components.class_sensitivity.class_choice import Choice
from components.compute.method_row import MethodMap
from components.compute.schedule import Schedule
from components.compute.task import Failed, Ready, State, Task, map_task, refused
from components.state import evidence
from components.state.engine import engine
from components.state.workspace import Workspace
from explainers.metrics.class_sensitivity import ClassSensitivity
from explainers.metrics.map_distances import Distances

PLACE = "class-maps"


@dataclass(frozen=True)
class ClassRow:
    """One entry: a state of its map for each of ``targets``, the classes and last the contrast.

    distances: between the classes' maps; None until all are there.
    """

    entry: MethodMap
    targets: tuple[ex.Target, ...]
    states: tuple[State, ...]
    distances: ClassSensitivity | None

    @property
    def key(self) -> str:
        """The entry's key."""
        return self.entry.key

    @property
    def title(self) -> str:
        """The entry's title."""
        return self.entry.title

    @property
    def attributions(self) -> tuple[ex.Attribution | None, ...]:
        """The maps, None where one is not there."""
        return tuple(state.value if isinstance(state, Ready) else None for state in self.states)

    @property
    def reason(self) -> str:
        """Why a map cannot be made; empty where all are there or may come."""
        return next((state.reason for state in self.states if isinstance(state, Failed)), "")

    @property
    def pair(self) -> Distances | None:
        """How far the maps of the contrast's two classes are apart."""
        return self.distances.between(*self.targets[-1].classes) if self.distances else None


class ClassMaps:
    """The rows of a choice and their schedule: what is cheap or was asked for runs, the cheapest first."""

    def __init__(self, workspace: Workspace, choice: Choice) -> None:
        self.choice = choice
        self._names = workspace.network.categories
        self.schedule = Schedule(PLACE, [self._task(method_map, target) for method_map in choice.methods for target in choice.targets])

    def _task(self, method_map: MethodMap, target: ex.Target) -> Task:
        if method_map.question is None:
            return refused(method_map.title, method_map.reason)
        return map_task(replace(method_map.question, target=target), f"{method_map.title} for {target.words(self._names)}")

    @property
    def rows(self) -> list[ClassRow]:
        """A row a method, with what is known now."""
        return [self.row(place) for place in range(len(self.choice.methods))]

    def row(self, place: int) -> ClassRow:
        """The row of the method at this place."""
        method_map, targets = self.choice.methods[place], self.choice.targets
        states = tuple(self.schedule.states[place * len(targets):(place + 1) * len(targets)])
        distances = None
        if method_map.question is not None and all(isinstance(state, Ready) for state in states[:-1]):
            question = replace(method_map.question, target=targets[0])  # whatever the sidebar's class is, the result is the same
            distances = engine().measure(ex.judge("class_sensitivity", question, classes=self.choice.classes))
            evidence.record_classes(question, distances, self.choice.pair)
        return ClassRow(method_map, targets, states, distances)

    def run(self, show: Callable[[int, ClassRow], None]) -> list[ClassRow]:
        """Make the maps that are due. show: called with a row's place and the row after each of its maps."""
        def shown(at: int, _: State) -> None:
            place = at // len(self.choice.targets)
            show(place, self.row(place))

        self.schedule.run(shown)
        return self.rows
