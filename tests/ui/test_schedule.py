"""The one scheduler: what runs by itself, in which order, what waits for the button, and what a stop or a failure leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.bench import Bench, Recorder, run
from support.page import click, errors, has, maps, section, stop_at_next_report, unfold, widget, words

import explainers as ex
from components.compute import asked
from components.compute.bar import Bar
from components.compute.task import Failed, Pending, Ready, Task, refused


@pytest.fixture()
def bench() -> Bench:
    return Bench()


def stop(bench: Bench, place: str = "a") -> None:
    """What a click on Stop does in the middle of a run: its callback, and a new run of the page."""
    import streamlit as st

    asked.stop(place, bench.schedules[place].key)
    st.rerun()


def test_what_is_free_runs_by_itself_the_cheapest_first_and_results_keep_their_places(bench):
    for label, seconds in (("dear", 1.5), ("cheap", 0.1), ("middle", 0.5)):
        bench.add(label, seconds)
    app = run(bench)
    assert bench.tried == ["cheap", "middle", "dear"]
    assert bench.states["a"] == [Ready("DEAR"), Ready("CHEAP"), Ready("MIDDLE")]
    assert not has(app, "run-a")


def test_tasks_can_run_in_their_own_order(bench):
    bench.in_order = True
    for label, seconds in (("dear", 1.5), ("cheap", 0.1), ("middle", 0.5)):
        bench.add(label, seconds)
    run(bench)
    assert bench.tried == ["dear", "cheap", "middle"]


def test_the_budget_is_for_all_tasks_together_and_the_rest_waits_for_the_button(bench):
    for label, seconds in (("one", 1.0), ("two", 1.5), ("three", 2.0), ("four", 60.0)):
        bench.add(label, seconds)
    app = run(bench)
    assert bench.tried == ["one", "two"]
    assert bench.states["a"][2:] == [Pending(ex.Cost(ex.Passes(20), 2.0)), Pending(ex.Cost(ex.Passes(600), 60.0))]
    assert widget(app, "run-a").label == "Count, about 62 s"
    assert "620 F" in section(app, "offer-a")
    app = click(app, "run-a")
    assert bench.tried == ["one", "two", "three", "four"] and not has(app, "run-a")
    assert all(isinstance(state, Ready) for state in bench.states["a"])


def test_what_must_first_be_fitted_never_runs_unasked_and_uses_up_no_budget(bench):
    bench.add("fitted", 1.0, fits=True)
    bench.add("plain", 2.5)
    app = run(bench)
    assert bench.tried == ["plain"]
    assert widget(app, "run-a").label == "Count, about 1.0 s with a fit"
    click(app, "run-a")
    assert bench.tried == ["plain", "fitted"]


def test_what_is_known_is_not_computed(bench):
    bench.add("one", 60.0)
    bench.results["one"] = "KNOWN"
    app = run(bench)
    assert not bench.tried and bench.states["a"] == [Ready("KNOWN")] and not has(app, "run-a")


def test_what_an_earlier_task_brings_along_is_not_computed(bench):
    bench.add("first", 0.1, during=lambda: bench.results.update(second="ALONG"))
    bench.add("second", 0.2)
    run(bench)
    assert bench.tried == ["first"] and bench.states["a"] == [Ready("FIRST"), Ready("ALONG")]


def test_each_result_is_shown_as_it_comes(bench):
    seen = []
    bench.add("slow", 0.2, during=lambda: seen.append(list(bench.shown)))
    bench.add("quick", 0.1)
    run(bench)
    assert seen == [[(1, Ready("QUICK"))]] and bench.shown == [(1, Ready("QUICK")), (0, Ready("SLOW"))]


def test_a_stop_keeps_what_is_finished_and_runs_no_further_until_it_is_asked_for(bench):
    def once() -> None:
        if bench.tried.count("second") == 1:
            stop(bench)

    bench.add("first", 0.1)
    bench.add("second", 0.2, during=once)
    bench.add("third", 0.3)
    app = run(bench)
    assert bench.tried == ["first", "second"]
    assert bench.states["a"][0] == Ready("FIRST") and all(state.stopped for state in bench.states["a"][1:])
    assert "Stopped." in section(app, "offer-a")
    app.run()
    assert bench.tried == ["first", "second"]
    app = click(app, "run-a")
    assert bench.tried == ["first", "second", "second", "third"]
    assert all(isinstance(state, Ready) for state in bench.states["a"]) and not has(app, "offer-a")


def test_the_stop_of_one_place_leaves_the_others_alone(bench):
    bench.add("here", 0.1, "a", during=lambda: stop(bench, "a"))
    bench.add("there", 0.1, "b")
    app = run(bench)
    assert bench.tried == ["here", "there"]
    assert bench.states["a"][0].stopped and bench.states["b"] == [Ready("THERE")]
    assert has(app, "run-a") and not has(app, "run-b")


def test_what_was_asked_or_stopped_counts_for_those_tasks_only(bench):
    bench.add("first", 0.1, during=lambda: stop(bench))
    app = run(bench)
    assert bench.tried == ["first"]
    bench.places.clear()
    bench.add("other", 0.1)
    app.run()
    assert bench.tried == ["first", "other"]
    bench.add("dear", 60.0)
    app.run()
    app = click(app, "run-a")
    assert bench.tried[-1] == "dear"
    bench.add("dearer", 70.0)
    app.run()
    assert bench.tried[-1] == "dear" and has(app, "run-a")


def test_a_stop_takes_back_what_was_asked_for(bench):
    bench.add("dear", 60.0, during=lambda: stop(bench))
    app = click(run(bench), "run-a")
    assert bench.tried == ["dear"]
    dear = bench.places.pop("a")
    bench.add("other", 0.1, during=lambda: stop(bench))
    app.run()
    bench.places["a"] = dear
    app.run()
    assert bench.tried == ["dear", "other"] and has(app, "run-a")


def fail(error: Exception) -> Callable[[], None]:
    def raising() -> None:
        raise error

    return raising


def test_a_failure_leaves_the_others_and_is_remembered(bench):
    bench.add("bad", 0.1, during=fail(ex.ExplainerError("The map has no eyes.")))
    bench.add("broken", 0.2, during=fail(ZeroDivisionError("a secret path")))
    bench.add("good", 0.3)
    app = run(bench)
    expected = [Failed("The map has no eyes."), Failed("broken failed (ZeroDivisionError); the log has the details."), Ready("GOOD")]
    assert bench.states["a"] == expected and bench.tried == ["bad", "broken", "good"]
    app.run()
    assert bench.states["a"] == expected and bench.tried == ["bad", "broken", "good"] and not has(app, "run-a")


def test_clear_map_cache_forgets_failures(open_app, monkeypatch):
    real, tries = ex.Engine.explain, []

    def explain(self, question, **rest):
        tries.append(question)
        if len(tries) == 1:
            raise ex.ExplainerError("Not today.")
        return real(self, question, **rest)

    monkeypatch.setattr(ex.Engine, "explain", explain)
    app = open_app(query={"methods": ["Gradient"], "seed": "101"})
    assert "Not today." in words(app) and not maps(app)
    app.run()
    assert len(tries) == 1 and "Not today." in words(app)
    app = click(unfold(app, "cached_maps"), "clear_cache")
    assert len(tries) == 2 and "Not today." not in words(app) and maps(app) and not errors(app)


def test_a_refused_task_says_why_and_is_never_tried(bench):
    bench.add("good", 0.1)
    bench.places["a"].append(refused("Feather map", "It needs feathers."))
    bench.add("costly", 60.0, refusal="It needs wings.")
    app = run(bench)
    assert bench.states["a"] == [Ready("GOOD"), Failed("It needs feathers."), Failed("It needs wings.")]
    assert bench.tried == ["good"] and not has(app, "run-a")


def test_a_refusal_while_looking_up_is_a_failure(bench):
    bench.places["a"] = [Task("odd", "key", lambda: ex.Cost(ex.Passes(), 0.0), fail(ex.ExplainerError("No such layer.")), lambda p: 1)]
    run(bench)
    assert bench.states["a"] == [Failed("No such layer.")]


def with_draft(bench: Bench, seconds: float = 60.0, of_draft: float = 5.0, **more: Any) -> None:
    bench.add("whole", seconds, draft=bench.task("draft", of_draft, **more))


def test_a_draft_is_offered_beside_the_whole_and_replaced_by_it(bench):
    with_draft(bench)
    bench.add("cheap", 2.5)
    bench.add("also cheap", 2.0)
    app = run(bench)
    assert bench.tried == ["also cheap"] and widget(app, "run-a").label == "Count, about 62 s"
    assert widget(app, "draft-a").label == "Draft, about 7.5 s"
    app = click(app, "draft-a")
    assert bench.tried == ["also cheap", "cheap", "draft"] and not has(app, "draft-a")
    schedule = bench.schedules["a"]
    assert schedule.drafts == [Ready("DRAFT"), None, None] and isinstance(schedule.states[0], Pending)
    assert bench.shown[-1] == (0, Ready("DRAFT")) and widget(app, "run-a").label == "Count, about 60 s"
    app = click(app, "run-a")
    assert bench.tried[3:] == ["whole"] and bench.states["a"][0] == Ready("WHOLE") and not has(app, "run-a")


def test_a_draft_that_is_free_is_the_first_answer(bench):
    with_draft(bench, of_draft=2.0)
    app = run(bench)
    assert bench.tried == ["draft"] and not has(app, "draft-a") and has(app, "run-a")
    app.run()
    assert bench.tried == ["draft"]


@pytest.mark.parametrize(("of_draft", "more"), [(50.0, {}), (2.0, {"fits": True}), (5.0, {})])
def test_a_draft_runs_by_itself_only_where_it_is_free_and_is_offered_only_where_it_saves_time(bench, of_draft, more):
    with_draft(bench, of_draft=of_draft, **more)
    app = run(bench)
    assert not bench.tried and has(app, "draft-a") == (of_draft < 50)


def test_there_is_no_draft_of_what_is_free_or_known(bench):
    with_draft(bench, seconds=2.0, of_draft=0.1)
    run(bench)
    assert bench.tried == ["whole"]


def test_a_skipped_or_stopped_draft_is_offered_again(bench):
    def press(action: Callable[[], None]) -> Callable[[], None]:
        def once() -> None:
            if bench.tried.count("draft") == 1:
                import streamlit as st

                action()
                st.rerun()
        return once

    for action in (lambda: stop(bench), lambda: asked.skip("a", bench.schedules["a"].key, "key of draft")):
        bench.places.clear()
        bench.tried.clear()
        bench.results.clear()
        with_draft(bench, during=press(action))
        app = click(run(bench), "draft-a")
        assert bench.tried == ["draft"] and has(app, "draft-a") and has(app, "run-a")
        click(app, "draft-a")
        assert bench.tried == ["draft", "draft"] and bench.schedules["a"].drafts == [Ready("DRAFT")]


def test_the_bar_has_a_stop_that_stops_its_own_place(bench, monkeypatch):
    monkeypatch.setattr(Bar, "__exit__", lambda *_: None)  # leave it on the page
    bench.add("only", 1.0)
    app = run(bench)
    assert next(node for node in app if node.type == "progress").proto.text == "only, about 1.0 s left"
    bench.results.clear()
    app = click(app, "stop-a")
    assert bench.tried == ["only"] and "Stopped." in section(app, "offer-a")


def test_a_newer_run_ends_an_older_one_at_the_next_step(bench):
    """The progress callback reads the session, which is where Streamlit ends a script that was replaced."""
    from streamlit.runtime.scriptrunner import get_script_run_ctx

    bench.view = Recorder()  # which itself touches nothing of Streamlit
    bench.add("slow", 1.0, during=lambda: get_script_run_ctx().script_requests.request_stop())
    bench.open()
    assert bench.tried == ["slow"] and len(bench.view.reports) == 1 and not bench.results


def test_a_click_on_stop_in_the_app_ends_the_run(open_app, engine, monkeypatch):
    stop_at_next_report(monkeypatch, "maps")
    app = open_app(query={"methods": ["Gradient"], "seed": "102"})
    assert not maps(app) and "Stopped." in words(app) and widget(app, "run-maps").label.startswith("Explain, about ")
