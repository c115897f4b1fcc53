"""The maps of each method for the picture and for the attacked one, and their insertion and deletion curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from PIL import Image

import explainers as ex
from components.compute.method_row import MethodMap
from components.compute.schedule import Schedule
from components.compute.task import Failed, Ready, State, Task, map_task, measurement_task, refused
from components.state.workspace import Workspace
from explainers.attack import Attack
from explainers.metrics import map_distances
from explainers.metrics.insertion_deletion import InsertionDeletion

MAPS, CURVES = "attack-maps", "attack-curves"
CELLS, POINTS = 28, 32  # cells a side in which all maps are ordered, as in the paper's figures 8 and 9; steps of a curve at most


@dataclass(frozen=True)
class View:
    """A picture and the class that is explained in it. name: of the class. which: "picture", or "attacked". x: (1, C, H, W)."""

    name: str
    which: str
    x: Any
    seen: Image.Image
    target: ex.Target
    probability: float

    @property
    def title(self) -> str:
        """The picture and the class in words."""
        return f"{self.which}: {self.name}"


def views(workspace: Workspace, attack: Attack) -> tuple[View, ...]:
    """The picture for its class, the attacked one for the same class, and for the class that is now the first choice, if it is
    another one."""
    names = workspace.network.categories
    own = ex.Target.of(attack.target)
    attacked = workspace.network.preprocessing.picture(attack.x[0]).convert("RGB")
    both = (View(names[attack.target], "picture", workspace.input.x, workspace.input.seen, own,
                 float(attack.before[attack.target])),
            View(names[attack.target], "attacked", attack.x, attacked, own, float(attack.after[attack.target])))
    if not attack.is_lost:
        return both
    now = attack.first_after
    return (*both, View(names[now], "attacked", attack.x, attacked, ex.Target.of(now), float(attack.after[now])))


@dataclass(frozen=True)
class Row:
    """One entry: for each view the state of its map and, once they are measured, its curves."""

    entry: MethodMap
    states: tuple[State, ...]
    curves: tuple[InsertionDeletion | None, ...]

    @property
    def maps(self) -> tuple[ex.Attribution | None, ...]:
        """The maps, None where one is not there."""
        return tuple(state.value if isinstance(state, Ready) else None for state in self.states)

    @property
    def reason(self) -> str:
        """Why a map cannot be made; empty where all are there or may come."""
        return next((state.reason for state in self.states if isinstance(state, Failed)), "")

    @cached_property
    def similarities(self) -> tuple[float | None, ...]:
        """For each later view the rank correlation of its map with the first view's; None where a map is missing."""
        first, *later = self.maps
        return tuple(map_distances.rank(first.heatmap(), other.heatmap()) if first and other else None for other in later)


class AttackedMaps:
    """The maps of all entries for all views, and then their curves, each with its schedule."""

    def __init__(self, entries: Sequence[MethodMap], shown: Sequence[View], cells: int) -> None:
        self.entries, self.views = list(entries), tuple(shown)
        self._cells = min(CELLS, cells)
        self.schedule = Schedule(MAPS, [self._task(entry, view) for entry in self.entries for view in self.views])
        self._curves: list[State] = []

    def _task(self, entry: MethodMap, view: View) -> Task:
        question = _question(entry, view)
        return map_task(question, f"{entry.title}, {view.title}") if question else refused(entry.title, entry.reason)

    def row(self, place: int) -> Row:
        """The entry at this place with what is known now."""
        count = len(self.views)
        states = tuple(self.schedule.states[place * count:(place + 1) * count])
        return Row(self.entries[place], states, tuple(self._curve(place, at) for at in range(count)))

    @property
    def rows(self) -> list[Row]:
        """All entries with what is known now."""
        return [self.row(place) for place in range(len(self.entries))]

    def run(self, show: Callable[[int], None]) -> None:
        """Make the maps that are due. show: called with an entry's place after each of its maps."""
        self.schedule.run(lambda at, _: show(at // len(self.views)))

    def curves_schedule(self) -> Schedule | None:
        """The schedule of the curves of all maps that are there, one task a view; None where there is no map."""
        tasks = [self._curves_task(at) for at in range(len(self.views)) if self._measured(at)]
        return Schedule(CURVES, tasks) if tasks else None

    def run_curves(self, schedule: Schedule) -> list[str]:
        """Measure what is due. Returns why measurements failed."""
        self._curves = schedule.run()
        return [state.reason for state in self._curves if isinstance(state, Failed)]

    def _curves_task(self, at: int) -> Task:
        """The curves of one view's maps, which go through the network together."""
        questions = [question for place in self._measured(at) if (question := _question(self.entries[place], self.views[at]))]
        return measurement_task([ex.judge("insertion_deletion", question, protocol="i_gos", resolution=self._cells, most_steps=POINTS)
                                 for question in questions], f"Curves, {self.views[at].title}")

    def _measured(self, at: int) -> list[int]:
        """The places of the entries whose map for this view is there."""
        count = len(self.views)
        return [place for place in range(len(self.entries)) if isinstance(self.schedule.states[place * count + at], Ready)]

    def _curve(self, place: int, at: int) -> InsertionDeletion | None:
        measured = [view for view in range(len(self.views)) if self._measured(view)]
        if at not in measured or not self._curves or place not in self._measured(at):
            return None
        state = self._curves[measured.index(at)]
        return state.value[self._measured(at).index(place)] if isinstance(state, Ready) else None


def _question(entry: MethodMap, view: View) -> ex.Question | None:
    """The entry's question about a view; None where its settings are refused."""
    return replace(entry.question, x=view.x, target=view.target) if entry.question else None
