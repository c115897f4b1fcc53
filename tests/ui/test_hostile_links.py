"""A link may say anything: the page is drawn all the same, and what it cannot use falls back to a default or to one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from streamlit.runtime.state.session_state import SessionState
from streamlit.testing.v1 import AppTest
from support import corpus_links, page
from support.corpus_links import BESIDE_WIDGETS, VALUES
from support.networks import APP_NETWORK
from support.paths import ROOT

import explainers as ex
from components.compute import asked
from components.drawing import number_field
from components.state import entries

SETTINGS = ("input_iba", "rise", "gradient", "integrated_gradients", "xrai")  # whose settings have widgets of every kind
PAGES: dict[str, tuple[dict[str, Any], ...]] = {  # each page, and what some of its links say instead, so that all its widgets come
    "compare": ({"methods": [ex.methods()[key].title for key in SETTINGS]},),
    "be_the_mask": ({},),
    "faithfulness": (
        {"measurement": "Insertion and deletion", "protocol": "DMBP"}, {"measurement": "Localisation", "region": "Box"},
        {"measurement": "Localisation", "region": "Outline"}, {"measurement": "Localisation", "region": "umbrella"},
        {"measurement": "Sensitivity-n"}, {"measurement": "Source signal (MIP-IN)"}),
    "class_sensitivity": ({},),
    "sanity_checks": ({},),
    "attribution_mask": ({"mask_view": "One picture"}, {"mask_view": "A labelled set"}),
    "adversarial_attack": ({"attack_direction": "Towards another class"}, {}),
    "methods": ({},),
}
NEED_RESULTS: dict[str, tuple[set[str], dict[str, Any]]] = {  # widgets of results, and the quickest way to have these
    "attribution_mask": ({"mask_step", "mask_stretch", "mask_line"},
                         {"mask_view": "One picture", "bases": ["Gradient"], "mask_iterations": "1"}),
    "faithfulness": ({"share", "ranked"},
                     {"measurement": "Insertion and deletion", "protocol": "I-GOS", "cells": "7 \u00d7 7", "step": "24"}),
    "sanity_checks": ({"closely_method"}, {"randomise": "Last layer only"}),
}
Opened = Callable[[str, dict[str, Any]], AppTest]


@pytest.fixture()
def opened(engine, monkeypatch) -> Opened:
    """Opens a page by a link at once, as a browser does. What costs time is not run: here only the controls matter."""
    monkeypatch.setattr(asked, "may_run", lambda *_args, **_rest: False)

    def open_page(name: str, query: dict[str, Any]) -> AppTest:
        app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
        for parameter, value in {"network": APP_NETWORK, "methods": ["Gradient"], **query}.items():
            app.query_params[parameter] = value
        return app.switch_page(f"pages/{name}.py").run()

    return open_page


@pytest.fixture(scope="module")
def widgets() -> Iterator[dict[str, Any]]:
    """What Streamlit knows of each bound widget that was drawn in this module, by its key."""
    seen: dict[str, Any] = {}
    bind = SessionState._handle_query_param_binding

    def recorded(self: SessionState, metadata: Any, key: str, widget_id: str) -> bool:
        seen[key] = metadata
        return bind(self, metadata, key, widget_id)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SessionState, "_handle_query_param_binding", recorded)
        yield seen


def fine(app: AppTest) -> bool:
    """Whether the page is drawn without an error in it, and says what it does not take in a sentence each at most."""
    return not app.exception and page.has(app, "heading") and all(1 < len(line) < 400 for line in page.errors(app))


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_drawn_whatever_its_parameters_say(opened, name):
    """Each parameter has ten values here, those of neighbouring parameters the other ten; all twenty are tried below."""
    settings = [f"{key}.{parameter.name}" for key in SETTINGS for parameter in entries.parameters_of(key)] if name == "compare" else []
    drawn_elsewhere = {"methods", *BESIDE_WIDGETS} - {"copies", "boxes", "reference_count", "reference_id", "picture_file"}
    parameters = sorted((corpus_links.bound_parameters() | {"copies", "boxes", *(f"box_{edge}" for edge in ("left", "top"))})
                        - drawn_elsewhere)
    failures = []
    for query in corpus_links.links([*parameters, *settings], PAGES[name]):
        app = opened(name, query)
        if not fine(app):
            failures.append((page.errors(app), [(each.message, each.stack_trace[-2:]) for each in app.exception], query))
    assert not failures, failures


@pytest.mark.parametrize("parameter", ["picture", "network", "network_id", "methods"])
def test_what_a_link_says_of_files_and_methods_is_answered_in_a_sentence(opened, parameter):
    for shift, value in enumerate(VALUES):
        if parameter == "network_id" and shift % 4:  # it is compared, and shown only where it consists of hex digits
            continue
        app = opened("be_the_mask", {"embed": VALUES[shift - 1], "picture_file": VALUES[shift - 2], parameter: value})
        assert not app.exception, (parameter, value)
        assert page.has(app, "heading") or len([each for each in page.nodes(app, "missing") if each.type == "warning"]) == 1


def test_every_bound_widget_takes_or_refuses_every_value(opened, widgets):
    """By Streamlit's own reading of a value, for all widgets that the pages draw. A field for whole numbers never meets an infinite
    number, and a choice that must be made no empty value: these are taken out of the link before."""
    for name, always in PAGES.items():
        for query in always:
            opened(name, query)
    taken = 0
    for key, metadata in widgets.items():
        for value in VALUES:
            words = value if isinstance(value, list) else [value]
            if not any(words) or (metadata.value_type == "double_value" and any(map(number_field.is_infinite, words))):
                continue
            taken += SessionState()._seed_widget_from_url(metadata, key, "widget", value)
    assert len(widgets) > 60 and taken
    needs_files = {"level", "width", "labelled_all", "reference_all"}
    needs_results = set().union(*(parameters for parameters, _ in NEED_RESULTS.values()))  # see below
    needs_open_section = {"class_images", "mask_film", "mask_channels"}
    assert corpus_links.bound_parameters() - set(widgets) <= needs_files | needs_results | needs_open_section


@pytest.mark.parametrize("name", NEED_RESULTS)
def test_widgets_that_need_results_take_or_refuse_every_value(opened, widgets, monkeypatch, name):
    monkeypatch.undo()  # here the pages compute
    parameters, settings = NEED_RESULTS[name]
    for query in corpus_links.links(sorted(parameters), [settings]):
        widgets.clear()
        app = opened(name, query)
        assert fine(app), (page.errors(app), app.exception, query)
        assert parameters <= set(widgets)


@pytest.mark.parametrize(("value", "kept"), [("inf", 0), ("1e400", 0), ("-inf", 0), ("7", 7)])
def test_an_infinite_whole_number_is_the_default(opened, value, kept):
    app = opened("compare", {"seed": value})
    assert page.value(app, "seed") == kept and not app.exception
