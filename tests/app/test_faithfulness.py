"""The faithfulness page's insertion and deletion: what it measures, what it says, what it keeps, what it waits for."""

from __future__ import annotations

import csv
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest

import explainers as ex
from app.reading import complaints, page_html
from components import baseline_views, curve_exports, curves, gate, rankings, scrub
from components.curve_runs import Measured
from components.runs import Job
from explainers.contract import Passes
from explainers.metrics import insertion_deletion as metric

PAGE = "faithfulness"
QUICK = {"network": "Digits: CNN-M of MIP-IN", "methods": ["Gradient", "Gradient x Input"], "step": "112"}


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    monkeypatch.setattr(gate, "FREE_SECONDS", float("inf"))  # the machine that runs the tests may be busy


def charts(app) -> list[dict]:
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def widget(app, kind: str, key: str):
    return next(one for one in getattr(app, kind) if one.key == key)


def made(key: str, insertion: float, deletion: float, **rest) -> Measured:
    """A map whose curves are flat at these AUCs."""
    flat, top = np.linspace(0, 1, 3), metric.Top(np.zeros((3, 3), int), np.zeros((3, 3)))
    up, down = 0 * flat + insertion, 0 * flat + deletion
    found = metric.InsertionDeletion(flat, up, down, top, top, "rise", 0, 1, (8, 8), Passes(3), **rest)
    job = Job(ex.methods()[key], found=SimpleNamespace(flags=(), signed=ex.methods()[key].signed))
    return Measured(job, curves.Style("#000000"), found)


def test_the_curves_of_all_methods_and_of_the_controls_are_drawn(open_app):
    app = open_app(PAGE, QUICK)
    assert not complaints(app)
    traces = charts(app)[0]["data"]
    keys = ["gradient", "gradient_x_input", "random", "center", "sobel"]
    for axis in ("x", "x2"):
        assert sorted(trace["legendgroup"] for trace in traces if trace["xaxis"] == axis) == sorted(keys)
    colours = {trace["legendgroup"]: (trace["line"]["color"], trace["line"]["dash"]) for trace in traces}
    assert {colours[key][0] for key in keys[2:]} == {curves.GREY} and len(set(colours.values())) == 5
    said = page_html(app)
    for key in keys:
        assert ex.methods()[key].title.replace("&", "&amp;") in said
    notes = " ".join(note["text"] for note in charts(app)[0]["layout"]["annotations"])
    assert "Insertion" in notes and scrub.HIGHER in notes and "Deletion" in notes and scrub.LOWER in notes


def test_what_is_drawn_is_what_the_metric_finds(open_app, engine):
    app = open_app(PAGE, {**QUICK, "protocol": "I-GOS", "cells": "7 \u00d7 7", "methods": ["Gradient"]})
    network = ex.load_model("digits_cnn")
    x = network.preprocess(next(sample for sample in ex.samples() if sample.kind == "digits").load())
    expected = metric.measure(network, x, ex.explain(network, x, "gradient"), protocol="i_gos", resolution=7, step=49)
    trace = next(t for t in charts(app)[0]["data"] if t["legendgroup"] == "gradient")
    assert trace["name"].endswith(f"{expected.insertion_auc:.3f}, {expected.deletion_auc:.3f}")


def test_a_change_of_the_share_asks_the_network_nothing(open_app, engine):
    app = open_app(PAGE, QUICK)
    before, pictures = engine.runs, page_html(app)
    app = widget(app, "slider", "share").set_value(50).run()
    assert engine.runs == before and page_html(app) != pictures
    assert charts(app)[0]["layout"]["shapes"][0]["x0"] == 0.5


@pytest.mark.parametrize("order", ["Values", "Magnitudes"])
def test_the_order_decides_the_curves_and_the_pictures(open_app, order):
    app = open_app(PAGE, {**QUICK, "methods": ["Gradient"], "order": order, "share": "25"})
    network = ex.load_model("digits_cnn")
    x = network.preprocess(next(sample for sample in ex.samples() if sample.kind == "digits").load())
    terms = {"order_by": {"Values": "value", "Magnitudes": "magnitude"}[order], "step": 112}
    attribution = ex.explain(network, x, "gradient")
    trace = next(t for t in charts(app)[0]["data"] if t["legendgroup"] == "gradient")
    assert ("largest magnitude first" in str(charts(app)[0])) == (order == "Magnitudes")
    expected = metric.measure(network, x, attribution, **terms)
    assert trace["name"].endswith(f"{expected.insertion_auc:.3f}, {expected.deletion_auc:.3f}")
    seen = metric.composites(network, x, attribution, 2 * 112 / 784, **terms)  # the point nearest to a quarter
    shown = [scrub.source(network, composite) for composite in seen]
    assert [name for name in shown if name in page_html(app)] == shown and shown[0] != shown[1]


def test_the_pictures_are_the_image_and_the_baseline_at_the_ends(open_app):
    import re

    whole, none = (re.findall(r'<img src="([^"]+)" alt="([^"]+)"', page_html(open_app(PAGE, {**QUICK, "share": share})))
                   for share in ("100", "0"))
    inserted, deleted = ({name: source for source, name in pictures if name.startswith("Gradient:")} for pictures in (whole, none))
    assert inserted["Gradient: inserted"] == deleted["Gradient: deleted"]
    assert inserted["Gradient: deleted"] != deleted["Gradient: inserted"]


def test_a_costly_measurement_waits_and_says_what_it_costs(open_app, engine, monkeypatch):
    monkeypatch.setattr(gate, "FREE_SECONDS", 0.0)
    app = open_app(PAGE, {**QUICK, "methods": [], "seed": "91"})
    assert not app.get("plotly_chart")
    button = widget(app, "button", "run-curves")
    assert button.label.startswith("Measure 3 maps, about")
    assert any("F" in caption.value and "B" not in caption.value for caption in app.caption)
    before = engine.runs
    app = button.click().run()
    assert charts(app) and engine.runs == before + 3
    app = app.run()
    assert engine.runs == before + 3


def test_only_what_is_new_is_measured(open_app, engine):
    app = open_app(PAGE, {**QUICK, "methods": ["Gradient"], "seed": "92"})
    before = engine.runs
    app = widget(app, "multiselect", "methods").set_value(["gradient", "gradient_x_input"]).run()
    assert engine.runs == before + 1 + 1 + 5  # one map, its curves, and those under five baselines
    assert len(charts(app)[0]["data"]) == 10


def test_a_stopped_measurement_stays_stopped_until_it_is_asked_for(open_app, engine, monkeypatch):
    keys, real = [], gate.opens
    monkeypatch.setattr(gate, "opens", lambda place, key, *rest, **more: keys.append((place, key)) or real(place, key, *rest, **more))
    app = open_app(PAGE, {**QUICK, "methods": ["Gradient"], "seed": "93"})
    app.session_state["stopped-curves"] = next(key for place, key in keys if place == "curves")
    engine.cache.clear()
    app = app.run()
    assert not app.get("plotly_chart") and any("Stopped." in caption.value for caption in app.caption)
    assert charts(widget(app, "button", "run-curves").click().run())


def test_a_measurement_that_fails_says_why(open_app, monkeypatch):
    def measure(*given, **more):
        raise ex.ExplainerError("It does not fit into the memory: choose a smaller network.")

    monkeypatch.setattr(metric, "measure", measure)
    app = open_app(PAGE, {**QUICK, "methods": ["Gradient"], "seed": "94"})
    assert complaints(app) == ["It does not fit into the memory: choose a smaller network."]


def test_the_other_labels_are_only_for_dmbp(open_app):
    app = open_app(PAGE, QUICK)
    assert not any(one.key == "labels" for one in app.multiselect)
    app = open_app(PAGE, {**QUICK, "protocol": "DMBP"})
    other = widget(app, "multiselect", "labels").options[-1]
    app = widget(app, "multiselect", "labels").set_value([other]).run()
    assert "cIM" in page_html(app) and not complaints(app)


def test_a_contrast_is_a_difference_of_probabilities(open_app):
    app = open_app(PAGE, QUICK)
    against = widget(app, "selectbox", "against")
    app = against.set_value(against.options[-1]).run()
    layout = charts(app)[0]["layout"]
    assert layout["yaxis"]["range"][0] < -1 and "difference" in layout["yaxis"]["title"]["text"]


def test_all_baselines_show_where_the_ranking_flips(open_app):
    app = open_app(PAGE, QUICK)
    assert len(charts(app)) == 3  # the curves, and below them insertion and deletion under all baselines
    said = page_html(app)
    assert "AUC and rank" in said and ("change places" in said or "the same under every baseline" in said)
    app = widget(app, "button_group", "ranked").set_value("Insertion").run()
    assert len(charts(app)) == 2
    titles = " ".join(note["text"] for note in charts(app)[1]["layout"]["annotations"])
    assert all(name in titles for name in ("training mean", "black", "image mean", "blurred", "noise"))


def test_a_map_without_a_run_is_named(open_app, monkeypatch):
    monkeypatch.setattr(ex.Classifier, "lacks", lambda self, m: "It needs feathers." if m.key == "gradient" else None)
    app = open_app(PAGE, QUICK)
    assert any("Not measured: Gradient (It needs feathers.)" in caption.value for caption in app.caption)


def test_who_does_not_beat_chance_is_told_so():
    chance = made("random", 0.4, 0.3)
    beaten = made("gradient", 0.39, 0.2), made("grad_cam", 0.5, 0.3), made("rise", 0.3, 0.4)
    lines = rankings.complaints([*beaten, made("i_gos", 0.5, 0.1), made("center", 0.1, 0.9), chance])
    assert [line.split(" does not")[0] for line in lines] == [one.title for one in beaten]
    assert "insertion" in lines[0] and "deletion" not in lines[0] and "deletion" in lines[1] and " and " in lines[2]


def test_a_flip_is_a_change_of_places_by_more_than_a_hair():
    views = {
        "as above": [made("gradient", 0.6, 0.1), made("grad_cam", 0.5, 0.1), made("rise", 0.4, 0.1), made("random", 0.1, 0.1)],
        "black": [made("gradient", 0.4, 0.1), made("grad_cam", 0.5, 0.1), made("rise", 0.398, 0.1), made("random", 0.9, 0.1)],
        "noise": [made("gradient", 0.6, 0.1), made("grad_cam", 0.4, 0.1), made("rise", 0.401, 0.1), made("random", 0.1, 0.1)],
    }
    titles = {key: ex.methods()[key].title for key in ("gradient", "grad_cam")}
    assert baseline_views.flipped(views, "insertion_auc") == {(titles["gradient"], titles["grad_cam"]): ["black"]}
    assert baseline_views.flipped(views, "deletion_auc") == {}
    assert baseline_views.overtaken(views, "insertion_auc") == {"black": [titles["gradient"], titles["grad_cam"], "RISE"]}
    assert baseline_views.ranks(views["black"], "insertion_auc") == {"random": 1, "grad_cam": 2, "gradient": 3, "rise": 4}
    drawn = baseline_views.table(views, "insertion_auc")
    assert (drawn.count("\u25b2"), drawn.count("\u25bc")) == (2, 3)


def test_lower_deletion_ranks_higher():
    assert baseline_views.ranks([made("gradient", 0, 0.2), made("rise", 0, 0.1)], "deletion_auc") == {"rise": 1, "gradient": 2}


def test_the_colours_stay_with_the_methods():
    one, two = curves.styles(["grad_cam", "gradient"]), curves.styles(["grad_cam", "gradient", "rise", "random"])
    assert all(one[key] == two[key] for key in one)
    every = curves.styles(list(ex.methods()))
    assert len(set(every.values())) == len(every)


def test_the_downloads_hold_every_point_and_the_terms(monkeypatch):
    found = [made("gradient", 0.5, 0.25, cim=0.125), made("random", 0.3, 0.3)]
    rows = list(csv.DictReader(io.StringIO(curve_exports.points(found).decode())))
    assert len(rows) == 2 * 2 * 3 and rows[0] == {"method": "gradient", "curve": "insertion", "fraction": "0", "probability": "0.5"}
    monkeypatch.setattr(curve_exports.exports, "settings", lambda workspace, jobs: {"seed": 0})
    terms = {"protocol": "dmbp", "baseline": ("blur", "zero"), "step": None, "resolution": 7, "output": "softmax", "labels": (2,),
             "order_by": "value"}
    facts = json.loads(json.dumps(curve_exports.settings(None, found, terms)))["insertion_deletion"]
    assert facts["terms"] == {"protocol": "dmbp", "baseline": {"insertion": "blur", "deletion": "zero"}, "step": None, "resolution": 7,
                              "output": "softmax", "labels": [2], "order_by": "value"}
    assert facts["results"]["gradient"]["difference"] == pytest.approx(0.25) and facts["results"]["gradient"]["cim"] == 0.125
    panels = scrub.panels(found, terms)
    assert curve_exports.figure(panels, "a & b", False, "png")[:4] == b"\x89PNG"
    assert b"<svg" in curve_exports.figure(panels, "a & b", False, "svg")


@pytest.mark.parametrize(("key", "insertion", "order_by", "hinted"), [
    ("gradient", 0.2, "value", True), ("gradient", 0.2, "magnitude", False), ("gradient", 0.5, "value", False),
    ("rise", 0.2, "value", False)])
def test_a_signed_map_that_loses_is_pointed_to_magnitudes(monkeypatch, key, insertion, order_by, hinted):
    said = []
    monkeypatch.setattr(rankings.st, "html", said.append)
    rankings.verdict([made(key, insertion, 0.1), made("random", 0.3, 0.3)], {"order_by": order_by})
    assert ("order by magnitudes" in said[0]) == hinted and ("does not beat" in said[0]) == (insertion < 0.3)


def test_without_a_method_one_line_asks_for_one(open_app):
    app = open_app(PAGE, QUICK)
    assert not app.info
    app = widget(app, "multiselect", "methods").set_value([]).run()
    assert [one.value.startswith("Choose at least one method") for one in app.info] == [True]


@pytest.mark.parametrize(("terms", "otherwise"), [({"step": "112"}, True), ({"deletion": "black"}, True), ({}, False)])
def test_the_protocol_is_not_claimed_for_what_was_chosen_otherwise(open_app, terms, otherwise):
    app = open_app(PAGE, {"network": QUICK["network"], "methods": ["Gradient"], **terms})
    said = next(one.value for one in app.caption if "one image row" in one.value)
    assert said.startswith("Chosen otherwise above; RISE itself: ") == otherwise
