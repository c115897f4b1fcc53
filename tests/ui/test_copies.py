"""One method several times in a comparison, with different settings: names, link, session file, and every page that compares maps."""

from __future__ import annotations

import csv
import io
from itertools import product

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest
from support import page
from support.page import choose, click, has, maps, value, widget, words

import explainers as ex
from components.class_sensitivity import class_exports
from components.compare import exports
from components.compute import asked, naming
from components.compute.method_row import MethodMap
from components.compute.task import Failed
from components.drawing import curves
from components.drawing.downloads import Answer
from components.state import entries, session_archive
from components.state.session_archive import Session
from explainers.metrics.map_distances import Average

TWO = {"methods": ["SmoothGrad"], "smoothgrad.samples": "2", "copies": "smoothgrad~2", "smoothgrad~2.samples": "3", "seed": "7"}
CURVES = {**TWO, "measurement": "Insertion and deletion", "cells": "7 \u00d7 7"}
TITLES = ["SmoothGrad \u00b7 samples 2", "SmoothGrad \u00b7 samples 3"]


@pytest.fixture(autouse=True)
def _unhurried(monkeypatch):
    monkeypatch.setattr(asked, "FREE_SECONDS", 120.0)  # the machine that runs the tests may be busy


def query(app: AppTest, name: str) -> list[str]:
    """The values of a parameter of the URL."""
    values = app.query_params.get(name, [])
    return [values] if isinstance(values, str) else list(values)


def named(**settings: dict) -> list[str]:
    """The titles of entries of IBA with these settings beside the defaults; copies are numbered in their order."""
    defaults = {parameter.name: parameter.default for parameter in ex.methods()["iba"].parameters}
    keys = ["iba", *(f"iba~{number}" for number in range(2, 7))]
    names = naming.names({key: {**defaults, **own} for key, own in zip(keys, settings.values(), strict=False)})
    return [name.title for name in names.values()]


def test_an_entry_that_is_alone_has_its_methods_title():
    assert named(a={"beta": 3.0}) == [ex.methods()["iba"].title]
    assert [name.title for name in naming.names({"iba": {}, "gradient": {}}).values()] == [
        ex.methods()[key].title for key in ("iba", "gradient")]


def test_entries_of_one_method_are_named_by_what_differs():
    assert named(a={"beta": 20.0}, b={"beta": 10.0}) == ["IBA \u00b7 beta 20", "IBA \u00b7 beta 10"]
    assert named(a={"steps": 1000}, b={"steps": 10, "layer": "features_0.3"}) == [
        "IBA \u00b7 layer auto, steps 1,000", "IBA \u00b7 layer features_0.3, steps 10"]


def test_where_settings_do_not_tell_entries_apart_their_numbers_do():
    assert named(a={}, b={}) == ["IBA 1", "IBA 2"]
    assert named(a={"beta": 5.0}, b={}, c={}) == ["IBA \u00b7 beta 5", "IBA 2 \u00b7 beta 10", "IBA 3 \u00b7 beta 10"]
    assert named(a={}, b={"beta": 1.0, "steps": 2, "rate": 0.5}) == ["IBA 1", "IBA 2"]
    assert named(a={"beta": 1.0}, b={"beta": 1.0000001}) == ["IBA 1 \u00b7 beta 1", "IBA 2 \u00b7 beta 1"]


def test_titles_are_unique_whatever_the_settings_are():
    for own in product(*[({}, {"beta": 1.0}, {"beta": 1.0, "steps": 3}, {"steps": 3, "rate": 0.5})] * 3):
        titles = named(**dict(zip("abc", own, strict=True)))
        assert len(set(titles)) == 3, own


def test_a_title_that_is_too_long_for_a_panel_has_the_number_there():
    long = "features_with_a_long_name.31"
    names = naming.names({"iba": {"layer": "auto"}, "iba~2": {"layer": long}})
    assert names["iba~2"].title == f"IBA \u00b7 layer {long}" and names["iba~2"].short == "IBA 2"
    assert names["iba"].short == "IBA \u00b7 layer auto" and names["iba~2"].difference == f"layer {long}"


def test_no_two_entries_share_a_style():
    keys = [key if copy == 1 else f"{key}~{copy}" for key, method in ex.methods().items()
            for copy in range(1, 2 if method.is_control else entries.MOST + 1)]
    styles = curves.styles(keys)
    early = [style for key, style in styles.items() if entries.number(key) <= 4]
    assert len(set(early)) == len(early) > 150
    for method in {entries.method_key(key) for key in keys if "~" in key}:
        own = [styles[key] for key in keys if entries.method_key(key) == method]
        assert len({style.colour for style in own}) == entries.MOST
        assert len({(style.dash, style.mark) for style in own}) == entries.MOST  # also without colours


# The compare page


def test_two_betas_give_two_maps_and_the_titles_name_them(open_app):
    app = open_app(query={"methods": ["Information Bottleneck (IBA)"], "copies": "iba~2", "iba.beta": "1", "iba~2.beta": "100",
                          "iba.steps": "2", "iba~2.steps": "2", "iba.copies": "2", "iba~2.copies": "2",
                          "iba.images": "20", "iba~2.images": "20", "seed": "7"})
    app = page.run_all(app)
    low, high = (page.numbers(each["z"]) for each in maps(app))
    assert not np.allclose(low, high)
    for title in ("IBA \u00b7 beta 1", "IBA \u00b7 beta 100"):
        assert f"{title} " in words(app)
    alt = page.node(app, "heatmaps").proto.alt
    assert "by IBA \u00b7 beta 1, IBA \u00b7 beta 100" in alt and "IBA \u00b7 beta 100: " in alt
    network = ex.load_model("scenes_vgg")
    x = network.preprocess(next(sample for sample in ex.samples() if sample.name == "star-heart").load())
    expected = ex.explain(network, x, "iba", beta=100, steps=2, copies=2, images=20, seed=7).heatmap()
    assert np.allclose(high, expected, atol=1e-4 * np.abs(expected).max())


def test_a_copy_starts_with_the_settings_of_the_entry_that_it_was_made_from(open_app, engine):
    app = click(open_app(query={**TWO, "copies": None, "smoothgrad~2.samples": None, "smoothgrad.noise": "0.2"}), "add-smoothgrad")
    assert value(app, "smoothgrad~2.samples") == 2 and value(app, "smoothgrad~2.noise") == 0.2
    assert query(app, "copies") == ["smoothgrad~2"] and query(app, "smoothgrad~2.samples") == ["2"]
    first, second = maps(app)
    assert first["z"] == second["z"] and "SmoothGrad 1" in words(app) and "SmoothGrad 2" in words(app)
    app = choose(app, "smoothgrad~2.samples", 3)
    first, second = maps(app)
    assert first["z"] != second["z"] and all(title in words(app) for title in TITLES)
    assert value(app, "smoothgrad.samples") == 2


def test_buttons_and_lines_of_evidence_belong_to_one_entry_each(open_app):
    app = open_app(query=TWO)
    assert [page.node(app, f"popover-{key}").proto.popover.label for key in ("smoothgrad", "smoothgrad~2")] == TITLES
    for key, title in zip(("smoothgrad", "smoothgrad~2"), TITLES, strict=True):
        assert title in page.section(app, f"evidence-{key}")
    assert "2 F + 2 B" in page.section(app, "settings-smoothgrad") and "3 F + 3 B" in page.section(app, "settings-smoothgrad~2")


def test_a_copy_can_be_removed_and_the_first_entry_cannot(open_app):
    app = open_app(query={**TWO, "copies": "smoothgrad~2 smoothgrad~3"})
    assert len(maps(app)) == 3 and not has(app, "remove-smoothgrad")
    app = click(app, "remove-smoothgrad~2")
    assert len(maps(app)) == 2 and has(app, "smoothgrad~3.samples") and not has(app, "smoothgrad~2.samples")
    assert query(app, "copies") == ["smoothgrad~3"]
    app = click(app, "add-smoothgrad~3")
    assert query(app, "copies") == ["smoothgrad~2 smoothgrad~3"] and len(maps(app)) == 3
    app = click(click(app, "remove-smoothgrad~2"), "remove-smoothgrad~3")
    assert len(maps(app)) == 1 and "SmoothGrad \u00b7" not in words(app) and not query(app, "copies")


def test_what_a_link_says_of_a_copy_that_is_not_there_does_not_wait_for_one(open_app):
    app = click(open_app(query={**TWO, "copies": None}), "add-smoothgrad")
    assert value(app, "smoothgrad~2.samples") == 2 and query(app, "smoothgrad~2.samples") == ["2"]
    app = open_app(query={**TWO, "copies": None, "smoothgrad.samples": None})
    assert not query(app, "smoothgrad~2.samples")
    assert value(click(app, "add-smoothgrad"), "smoothgrad~2.samples") == 50


def test_a_method_has_six_entries_at_most(open_app):
    app = open_app(query={**TWO, "copies": " ".join(f"smoothgrad~{number}" for number in range(2, 6)), "smoothgrad~2.samples": None})
    assert not widget(app, "add-smoothgrad").disabled
    app = click(app, "add-smoothgrad~4")
    assert len(maps(app)) == entries.MOST == 6 and widget(app, "add-smoothgrad").disabled


def test_without_its_method_a_copy_is_gone(open_app):
    app = open_app(query={**TWO, "methods": ["SmoothGrad", "Gradient"]})
    assert len(maps(app)) == 3
    app = choose(app, "methods", ["gradient"])
    assert len(maps(app)) == 1 and not query(app, "copies")


@pytest.mark.parametrize("copies", [
    "smoothgrad~999", "nope~2", "smoothgrad~x", "smoothgrad~", "smoothgrad~1", "smoothgrad~02", "~2", "random~2", "iba~2", "../a~2",
    "smoothgrad~2.samples", "smoothgrad~\u0662", " ".join(f"smoothgrad~{number}" for number in range(7, 5000))])
def test_nonsense_in_a_link_is_ignored(open_app, copies):
    app = open_app(query={**TWO, "copies": copies, "controls": "true"})
    controls = [method for method in ex.methods().values() if method.is_control]
    assert len(maps(app)) == 1 + len(controls) and not page.errors(app) and not query(app, "copies")


def test_what_is_right_in_a_link_is_kept_beside_nonsense(open_app):
    app = open_app(query={**TWO, "copies": "nope~2 smoothgrad~2 smoothgrad~2 smoothgrad~9"})
    assert len(maps(app)) == 2 and query(app, "copies") == ["smoothgrad~2"]


def test_a_link_comes_back_the_same_and_survives_a_change_of_page(open_app):
    app = open_app(query=TWO)
    assert {name: query(app, name) for name in TWO} == {name: [text] if isinstance(text, str) else text
                                                            for name, text in TWO.items()}
    before = maps(app)
    app.switch_page("pages/methods.py").run()
    app.switch_page("pages/compare.py").run()
    assert maps(app) == before and query(app, "copies") == ["smoothgrad~2"]


def test_downloads_have_an_entry_for_each_map():
    network = ex.load_model("digits_mlp")
    x = network.preprocess(next(sample for sample in ex.samples() if sample.kind == "digits").load())
    names = naming.names({"smoothgrad": {"samples": 2}, "smoothgrad~2": {"samples": 3}})
    answers = [Answer(question, question.run(), names[key]) for key, question in (
        ("smoothgrad", ex.ask(network, x, "smoothgrad", target=1, samples=2)),
        ("smoothgrad~2", ex.ask(network, x, "smoothgrad", target=1, samples=3)))]
    with np.load(io.BytesIO(exports.arrays(answers, np.zeros((2, 2, 3)), {}))) as content:
        assert np.array_equal(content["smoothgrad.native"], answers[0].attribution.native.numpy())
        assert np.array_equal(content["smoothgrad~2.native"], answers[1].attribution.native.numpy())
    entry = MethodMap(answers[1].question.method, {"samples": 3}, None, Failed(""), name=names["smoothgrad~2"])
    table = class_exports.set_numbers("net", "set", [(entry, {"rank": Average(0.5, 0.0, 1, 0)})])
    row = next(csv.DictReader(io.StringIO(table.decode())))
    assert row["method"] == "smoothgrad~2" and row["parameters"] == "{'samples': 3}"


# The other pages


@pytest.mark.parametrize("name", ["faithfulness", "class_sensitivity", "sanity_checks", "be_the_mask"])
def test_settings_are_the_same_on_every_page(open_app, name):
    """Of a method that is there once, too. The link keeps them."""
    app = open_app(query={**TWO, "measurement": "Localisation"})
    for _ in range(2):
        app.switch_page(f"pages/{name}.py").run()
        assert [value(app, f"{key}.samples") for key in ("smoothgrad", "smoothgrad~2")] == [2, 3]
        assert query(app, "smoothgrad.samples") == ["2"] and query(app, "smoothgrad~2.samples") == ["3"]
        app.switch_page("pages/compare.py").run()
        assert [value(app, f"{key}.samples") for key in ("smoothgrad", "smoothgrad~2")] == [2, 3]
        app.switch_page("pages/methods.py").run()


@pytest.mark.parametrize("name", ["faithfulness", "class_sensitivity", "sanity_checks", "adversarial_attack"])
def test_a_setting_that_no_link_named_is_kept_on_the_next_page(open_app, name):
    """What a link named is kept by AppTest anyway; that a browser keeps it, too, is tested in tests/browser."""
    app = open_app(query={"methods": ["Gradient"], "measurement": "Localisation", "attack_steps": "1"})
    app = choose(app, "gradient.times_input", True)
    assert value(app.switch_page(f"pages/{name}.py").run(), "gradient.times_input") is True


def test_faithfulness_measures_each_entry(open_app):
    app = page.run_all(open_app("faithfulness", query=CURVES), "curves")
    lines = {trace["legendgroup"]: trace for trace in page.chart(app, "curves-figure")["data"] if trace["mode"] == "lines+markers"}
    assert {"smoothgrad", "smoothgrad~2", "random"} <= lines.keys()
    assert lines["smoothgrad"]["name"].startswith(TITLES[0]) and lines["smoothgrad~2"]["name"].startswith(TITLES[1])
    assert lines["smoothgrad"]["line"]["color"] != lines["smoothgrad~2"]["line"]["color"]
    assert set(TITLES) <= {row[0] for row in page.table(app, "ranking")}


def test_faithfulness_takes_equal_entries(open_app):
    app = page.run_all(open_app("faithfulness", query={**CURVES, "smoothgrad~2.samples": "2"}), "curves")
    rows = {row[0]: row[1:] for row in page.table(app, "ranking")}
    assert rows["SmoothGrad 1"] == rows["SmoothGrad 2"]


@pytest.mark.parametrize(("measurement", "place", "container"), [
    ("Localisation", "", "localisation-table"), ("Sensitivity-n", "sensitivity", "")])
def test_the_other_measurements_name_each_entry(open_app, measurement, place, container):
    app = open_app("faithfulness", query={**TWO, "measurement": measurement, "sn_masks": "20", "sn_remove": "Tiles of 8 \u00d7 8"})
    app = page.run_all(app, place) if place else app
    if container:
        assert set(TITLES) <= {row[0] for row in page.table(app, container)}
    else:
        named_lines = {trace["legendgroup"]: trace["name"] for trace in page.chart(app, "sensitivity-curves")["data"]}
        assert named_lines["smoothgrad~2"].startswith(TITLES[1]) and named_lines["smoothgrad"].startswith(TITLES[0])


def test_class_sensitivity_has_a_row_for_each_entry(open_app):
    app = page.run_all(open_app("class_sensitivity", query=TWO), "class-maps")
    for key, title in zip(("smoothgrad", "smoothgrad~2"), TITLES, strict=True):
        assert page.section(app, f"class-row-{key}").startswith(title)
    assert set(TITLES) <= {row[0] for row in page.table(app, "class-table")}


def test_the_sanity_checks_have_a_row_for_each_entry(open_app):
    app = page.run_all(open_app("sanity_checks", query={**TWO, "randomise": "Last layer only"}), "sanity")
    assert page.terms(app, "verdicts").keys() == set(TITLES)
    assert set(TITLES) <= {row[0] for row in page.table(app, "similarities")}
    assert widget(app, "closely_method").options == TITLES


def test_be_the_mask_names_each_entry(open_app):
    app = page.run_all(open_app("be_the_mask", query=TWO))
    assert all(title in page.section(app, "mask-tiles") for title in TITLES)


def test_a_session_file_holds_the_copies(open_app):
    app = open_app(query=TWO)
    data = session_archive.write(Session("compare", {name: query(app, name) for name in app.query_params}))
    other = open_app(query={"methods": ["Gradient"]})
    other = click(page.upload(page.unfold(other, "session_file"), "open_session_file", ("session.zip", data, "application/zip")),
                  "confirm_session")
    assert maps(other) == maps(app) and value(other, "smoothgrad~2.samples") == 3 and query(other, "copies") == ["smoothgrad~2"]
