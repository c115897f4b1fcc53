"""A page that only has tasks, and a view that keeps what it is told of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest

import explainers as ex
from components.compute.task import Task


class Bench:
    """A page with tasks at one or more places, and a record of what happened to them."""

    def __init__(self) -> None:
        self.places: dict[str, list[Task]] = {}
        self.in_order = False
        self.view: Any = None
        self.results: dict[str, str] = {}
        self.tried: list[str] = []
        self.shown: list[tuple[int, Any]] = []
        self.states: dict[str, list[Any]] = {}
        self.schedules: dict[str, Any] = {}

    def add(self, label: str, seconds: float, place: str = "a", during: Callable[[], Any] = lambda: None, **more: Any) -> None:
        """A task that is estimated at ``seconds``, calls ``during`` in its middle, and gives its label in capitals."""
        self.places.setdefault(place, []).append(self.task(label, seconds, during, **more))

    def task(self, label: str, seconds: float, during: Callable[[], Any] = lambda: None, **more: Any) -> Task:
        """The task that ``add`` adds."""
        def compute(progress: Any) -> str:
            self.tried.append(label)
            progress(0, 2)
            during()
            progress(1, 2)
            self.results[label] = label.upper()
            return self.results[label]

        return Task(label, f"key of {label}", lambda: ex.Cost(ex.Passes(forward=10 * seconds), seconds),
                    lambda: self.results.get(label), compute, **more)

    def open(self) -> AppTest:
        """The page after its first run."""
        return AppTest.from_function(_page, args=(self,), default_timeout=20).run()


def _page(bench):
    from components.compute.schedule import Schedule

    for place, tasks in bench.places.items():
        schedule = bench.schedules[place] = Schedule(place, tasks, bench.in_order)
        schedule.offer("Count")
        bench.states[place] = schedule.run(lambda at, state: bench.shown.append((at, state)), bench.view)


def run(bench: Bench) -> AppTest:
    app = bench.open()
    assert not app.exception, app.exception
    return app


class Recorder:
    """A view that keeps what it is told."""

    def __init__(self) -> None:
        self.reports: list[tuple[int, str, float]] = []
        self.started: list[str] = []

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def start(self, task_key: str) -> None:
        self.started.append(task_key)

    def report(self, place: int, text: str, fraction: float, preview: Any) -> None:
        self.reports.append((place, text, fraction))
