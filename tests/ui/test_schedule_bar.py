"""What the bar above a page says and offers while tasks run: steps, seconds, turns, Skip and Stop."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from support.bench import Bench, Recorder, run
from support.page import click, has

import explainers as ex
from components.compute import asked
from components.compute.bar import Bar
from components.compute.task import Pending, Ready, Task
from components.compute.turn_words import still_to_come, until_its_turn
from explainers.line import Run, Sharing, Wait


@pytest.fixture()
def bench() -> Bench:
    return Bench()


def test_the_bar_names_what_runs_and_says_how_long_it_still_takes(bench):
    bench.view = Recorder()
    bench.add("second", 2.0)
    bench.add("first", 1.0)
    run(bench)
    places, texts, fractions = zip(*bench.view.reports, strict=True)
    assert places == (1, 1, 0, 0) and bench.view.started == ["key of first", "key of second"]
    assert texts[0] == "first, 1 of 2, about 3.0 s left" and texts[2].startswith("second, 2 of 2, about ")
    assert all(text.endswith(" left") for text in texts)
    assert fractions == pytest.approx([0, 1 / 6, 1 / 3, 2 / 3])


def test_a_run_that_waits_for_another_session_says_so(bench):
    bench.view = Recorder()

    def compute(progress: Any) -> str:
        progress(0, 0)
        progress(0, 1)
        return "DONE"

    bench.places["a"] = [Task("only", "key", lambda: ex.Cost(ex.Passes(), 1.0), lambda: None, compute)]
    run(bench)
    texts = [text for _, text, _ in bench.view.reports]
    assert texts == ["only, waits for another session's run", "only, about 1.0 s left"]


def test_who_waits_reads_the_place_and_the_seconds_and_who_shares_reads_with_how_many(bench, engine):
    """Two runs of other sessions are in the line of the app's own engine, put there by hand."""
    line = engine._turns._line
    others = [Run(expected=30.0), Run(expected=8.0)]
    for other in others:
        line.join(other)

    def compute(progress: Any) -> str:
        others[0].since -= 60  # the first has had the device for long, and ends
        line.withdraw(others[0])
        engine.compute(lambda: progress(0, 2), progress, seconds=60.0)
        return "DONE"

    def report(place: int, text: str, fraction: float, preview: Any) -> None:
        Recorder.report(bench.view, place, text, fraction, preview)
        if len(bench.view.reports) == 1:  # the second gives way
            line.join(others[1])

    bench.view = Recorder()
    bench.view.report = report
    bench.places["a"] = [Task("only", "key", lambda: ex.Cost(ex.Passes(), 1.0), lambda: None, compute)]
    try:
        run(bench)
    finally:
        for other in others:
            line.withdraw(other)
    first, last = (text for _, text, _ in bench.view.reports)
    assert re.fullmatch(r"only, waits for other sessions' runs, place 1 in the line, about [12]\.\d s", first)
    assert last == "only, about 2.0 s left, in turns with another run"  # 1 s of its own, and as long for the other


@pytest.mark.parametrize(("wait", "words"), [
    (None, "waits for another session's run"),
    (Wait(3, 4.0, False, False), "waits for other sessions' runs, place 3 in the line, about 4.0 s"),
    (Wait(1, 0.001, False, False), "waits for other sessions' runs, place 1 in the line, about 1.0 s"),
    (Wait(1, 200.0, True, True), "waits for another session that computes the same, about 3 min"),
    (Wait(2, 2.0, False, True), "about 20 s left, in turns with another run")])
def test_the_words_for_waiting(wait, words):
    assert until_its_turn(SimpleNamespace(waiting=lambda: wait, sharing=lambda seconds: Sharing(1, 8.0)), 12.0) == words


@pytest.mark.parametrize(("sharing", "words"), [
    (None, "about 12 s left"),
    (Sharing(1, 8.0), "about 20 s left, in turns with another run"),
    (Sharing(3, 36.0), "about 48 s left, in turns with 3 other runs")])
def test_the_words_for_what_is_still_to_come(sharing, words):
    assert still_to_come(SimpleNamespace(sharing=lambda seconds: sharing), 12.0) == words


def test_skip_stops_only_the_task_that_runs(bench):
    def skip() -> None:
        if bench.tried.count("second") == 1:
            import streamlit as st

            asked.skip("a", bench.schedules["a"].key, "key of second")
            st.rerun()

    bench.add("first", 0.1)
    bench.add("second", 0.2, during=skip)
    bench.add("third", 0.3)
    app = run(bench)
    assert bench.tried == ["first", "second", "third"]
    first, second, third = bench.states["a"]
    assert (first, third) == (Ready("FIRST"), Ready("THIRD")) and second == Pending(ex.Cost(ex.Passes(2), 0.2), stopped=True)
    app.run()
    assert bench.tried == ["first", "second", "third"]
    app = click(app, "run-a")
    assert bench.tried[3:] == ["second"] and all(isinstance(state, Ready) for state in bench.states["a"])


def test_the_bar_offers_skip_where_several_tasks_run_and_skips_what_it_named(bench, monkeypatch):
    monkeypatch.setattr(Bar, "__exit__", lambda *_: None)  # leave it on the page
    bench.add("first", 0.1)
    assert not has(run(bench), "skip-a")
    bench.results.clear()
    bench.add("second", 0.2)
    app = run(bench)
    bench.results.clear()
    bench.tried.clear()
    click(app, "skip-a")  # the second was the last to run
    assert bench.tried == ["first"] and bench.states["a"][1].stopped
