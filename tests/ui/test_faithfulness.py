"""The faithfulness page's insertion and deletion: what it measures, what it says, what it keeps, what it waits for."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from support import page

import explainers as ex
from components.compute import asked
from components.drawing import curves
from components.faithfulness import baseline_views, curve_exports, map_curves, rankings, scrub
from components.faithfulness.map_curves import SCORES, MapCurves
from components.faithfulness.protocol_controls import BASELINES
from explainers.metrics import insertion_deletion as metric
from explainers.metrics.protocols import Params

QUICK = {"network": "Digits: CNN-M of MIP-IN", "methods": ["Gradient", "Gradient x Input"], "step": "112"}


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    monkeypatch.setattr(asked, "FREE_SECONDS", float("inf"))  # the machine that runs the tests may be busy


@pytest.fixture()
def opened(open_app):
    return lambda **query: open_app("faithfulness", {**QUICK, **query})


@pytest.fixture()
def digit():
    """The network of the page and its image, and the map by Gradient."""
    network = ex.load_model("digits_cnn")
    x = network.preprocess(next(sample for sample in ex.samples() if sample.kind == "digits").load())
    return network, x, ex.explain(network, x, "gradient")


def legend(app) -> dict[str, str]:
    """Each map's line in the legend, by the method's key."""
    return {trace["legendgroup"]: trace["name"] for trace in page.chart(app, "curves-figure")["data"]}


def aucs(result: metric.InsertionDeletion) -> str:
    return f"{result.insertion_auc:.3f}, {result.deletion_auc:.3f}"


def made(key: str, insertion: float, deletion: float, **rest) -> MapCurves:
    """A map whose curves are flat at these AUCs."""
    flat, top = np.linspace(0, 1, 3), metric.Top(np.zeros((3, 3), int), np.zeros((3, 3)))
    up, down = 0 * flat + insertion, 0 * flat + deletion
    result = metric.InsertionDeletion(flat, up, down, top, top, "rise", ex.Target.of(0), 1, (8, 8), ex.Passes(3), **rest)
    method = ex.methods()[key]
    return MapCurves(SimpleNamespace(method=method), SimpleNamespace(flags=(), signed=method.signed), curves.Style("#000000"), result)


def test_the_curves_of_all_methods_and_of_the_controls_are_drawn(opened):
    app = opened()
    assert not page.errors(app)
    traces = page.chart(app, "curves-figure")["data"]
    keys = ["gradient", "gradient_x_input", "random", "center", "sobel"]
    for axis in ("x", "x2"):
        assert sorted(trace["legendgroup"] for trace in traces if trace["xaxis"] == axis) == sorted(keys)
    colours = {trace["legendgroup"]: (trace["line"]["color"], trace["line"]["dash"]) for trace in traces}
    assert {colours[key][0] for key in keys[2:]} == {curves.GREY} and len(set(colours.values())) == 5
    titles = {ex.methods()[key].title for key in keys}
    assert {row[0] for row in page.table(app, "ranking")} == titles | {"Map"}
    assert all(title in page.section(app, "scrub") for title in titles)
    notes = page.chart_text(app, "curves-figure")
    assert "Insertion" in notes and "higher is better" in notes and "Deletion" in notes and "lower is better" in notes


def test_what_is_drawn_is_what_the_metric_measures(opened, digit):
    app = opened(protocol="I-GOS", cells="7 \u00d7 7", methods=["Gradient"])
    expected = metric.measure(*digit, protocol="i_gos", resolution=7, step=49)
    assert legend(app)["gradient"].endswith(aucs(expected))
    trace = next(trace for trace in page.chart(app, "curves-figure")["data"] if trace["legendgroup"] == "gradient")
    assert np.array_equal(page.numbers(trace["y"]), expected.insertion)


def test_a_change_of_the_share_asks_the_network_nothing(opened, engine):
    app = opened()
    before, pictures = engine.runs, page.pictures(app, "scrub")
    page.choose(app, "share", 50)
    assert engine.runs == before and page.pictures(app, "scrub") != pictures
    assert page.chart(app, "curves-figure")["layout"]["shapes"][0]["x0"] == 0.5


@pytest.mark.parametrize("order", ["Values", "Magnitudes"])
def test_the_order_decides_the_curves_and_the_pictures(opened, digit, order):
    app = opened(methods=["Gradient"], order=order, share="25")
    settings = {"order_by": {"Values": "value", "Magnitudes": "magnitude"}[order], "step": 112}
    assert ("largest magnitude first" in str(page.chart(app, "curves-figure"))) == (order == "Magnitudes")
    assert legend(app)["gradient"].endswith(aucs(metric.measure(*digit, **settings)))
    seen = metric.composites(*digit, 2 * 112 / 784, **settings)  # the point nearest to a quarter
    shown = [scrub.source(digit[0], composite) for composite in seen]
    assert page.pictures(app, "scrub")[:2] == shown and shown[0] != shown[1]


def test_the_pictures_are_the_image_and_the_baseline_at_the_ends(opened):
    (all_in, all_out, *_), (none_in, none_out, *_) = (page.pictures(opened(share=share), "scrub") for share in ("100", "0"))
    assert all_in == none_out and all_out != none_in


def test_a_costly_measurement_waits_and_says_what_it_costs(opened, engine, monkeypatch):
    monkeypatch.setattr(asked, "FREE_SECONDS", 0.0)
    app = opened(methods=[], seed="91")
    assert not page.charts(app)
    assert page.widget(app, "run-curves").label.startswith("Measure 3 maps, about")
    (cost,) = page.captions(app, "offer-curves")
    assert "F" in cost and "B" not in cost
    before = engine.runs
    page.click(app, "run-curves")
    assert page.chart(app, "curves-figure") and engine.runs == before + 3
    assert page.widget(app, "run-baselines").label.startswith("Measure under all 5 baselines, about")
    app.run()
    assert engine.runs == before + 3


def test_only_what_is_new_is_measured(opened, engine):
    app = opened(methods=["Gradient"], seed="92")
    before = engine.runs
    page.choose(app, "methods", ["gradient", "gradient_x_input"])
    assert engine.runs == before + 1 + 1 + 5  # one map, its curves, and those under five baselines
    assert len(page.chart(app, "curves-figure")["data"]) == 10


def test_while_a_new_map_waits_the_others_stay(opened, engine, monkeypatch):
    app = opened(methods=["Gradient"], seed="95")
    before = legend(app)
    monkeypatch.setattr(asked, "FREE_SECONDS", 0.0)
    page.choose(app, "methods", ["gradient", "gradient_x_input"])
    page.run_all(app)
    assert page.has(app, "run-curves") and legend(app) == before
    assert page.has(app, "baselines-insertion") and not page.has(app, "run-baselines")
    page.click(app, "run-curves")
    assert legend(app).keys() == before.keys() | {"gradient_x_input"}


def test_a_stopped_measurement_stays_stopped_until_it_is_asked_for(opened, engine, monkeypatch):
    page.stop_at_next_report(monkeypatch, "curves")
    app = opened(methods=["Gradient"], seed="93")
    for _ in range(2):
        assert not page.charts(app) and "Stopped." in page.captions(app, "offer-curves")[0]
        app.run()
    page.click(app, "run-curves")
    assert page.chart(app, "curves-figure") and not page.has(app, "run-curves")


def test_a_measurement_that_fails_says_why(opened, monkeypatch):
    def fail(*_, **__):
        raise ex.ExplainerError("It does not fit into the memory: choose a smaller network.")

    monkeypatch.setattr(metric, "Scene", fail)
    app = opened(methods=["Gradient"], seed="94")
    assert page.errors(app) == ["It does not fit into the memory: choose a smaller network."]
    assert not page.charts(app) and not app.exception


def test_the_other_labels_are_only_for_dmbp(opened):
    assert not page.has(opened(), "labels")
    app = opened(protocol="DMBP")
    page.choose(app, "labels", [page.widget(app, "labels").options[-1]])
    assert "cIM \u2191" in page.table(app, "ranking")[0] and not page.errors(app)


def test_a_contrast_is_a_difference_of_probabilities(opened):
    app = opened()
    page.choose(app, "against", page.widget(app, "against").options[-1])
    for key in ("curves-figure", "baselines-insertion"):
        layout = page.chart(app, key)["layout"]
        assert layout["yaxis"]["range"][0] < -1 and "difference" in layout["yaxis"]["title"]["text"]


def test_all_baselines_show_where_the_ranking_flips(opened):
    app = opened()
    assert page.has(app, "baselines-insertion") and page.has(app, "baselines-deletion")
    words = page.section(app, "baselines")
    assert "change places" in words or "the same under every baseline" in words
    assert page.table(app, "baselines")[0] == ["AUC and rank", "as above", *BASELINES]
    page.choose(app, "ranked", "Insertion")
    assert page.has(app, "baselines-insertion") and not page.has(app, "baselines-deletion")
    titles = page.chart_text(app, "baselines-insertion")
    assert all(name in titles for name in BASELINES)


def test_a_baseline_that_fails_leaves_the_others_alone(opened, engine, monkeypatch):
    measure = engine.measure_together

    def fail(measurements, progress=None):
        if measurements[0].settings.baseline == ("noise", "noise"):
            raise ex.ExplainerError("The noise fails.")
        return measure(measurements, progress)

    monkeypatch.setattr(engine, "measure_together", fail)
    app = opened(methods=[], seed="97", protocol="I-GOS", cells="7 \u00d7 7")
    assert page.table(app, "baselines")[0] == ["AUC and rank", "as above", *(name for name in BASELINES if name != "noise")]
    assert page.errors(app) == ["The noise fails."] and "measured so far" in page.section(app, "baselines")


def test_a_stop_keeps_the_baselines_that_are_measured(opened, engine, monkeypatch):
    measure, under = engine.measure_together, []

    def after_two(measurements, progress=None):
        under.append(measurements[0].settings.baseline)
        if len(under) == 1 + 3:  # the page's own settings come first
            page.stop_at_next_report(monkeypatch, "baselines")
        return measure(measurements, progress)

    monkeypatch.setattr(engine, "measure_together", after_two)
    app = opened(methods=[], seed="98")
    assert under[0] == ("blur", "zero") and len(under) == 4
    assert len(page.table(app, "baselines")[0]) == 2 + 2
    assert page.widget(app, "run-baselines").label.startswith("Measure under 3 more baselines, about")
    assert "Stopped." in page.captions(app, "offer-baselines")[0]
    page.click(app, "run-baselines")
    assert page.table(app, "baselines")[0] == ["AUC and rank", "as above", *BASELINES]


def test_a_map_without_a_run_is_named(opened, monkeypatch):
    monkeypatch.setattr(ex.Method, "lacks", lambda self, network: "It needs feathers." if self.key == "gradient" else None)
    assert any("Not measured: Gradient (It needs feathers.)" in caption for caption in page.captions(opened()))


def test_a_map_that_waits_is_named(opened, monkeypatch):
    monkeypatch.setattr(asked, "FREE_SECONDS", 0.0)
    app = opened(methods=["RISE"], seed="99")
    assert any("Not measured: RISE (its map waits for Explain)" in caption for caption in page.captions(app))


def test_who_does_not_beat_chance_is_named():
    chance = made("random", 0.4, 0.3)
    beaten = made("gradient", 0.39, 0.2), made("grad_cam", 0.5, 0.3), made("rise", 0.3, 0.4)
    lines = rankings.complaints([*beaten, made("i_gos", 0.5, 0.1), made("center", 0.1, 0.9), chance])
    assert [line.split(" does not")[0] for line in lines] == [row.title for row in beaten]
    assert lines[0].endswith("here: its insertion AUC, 0.39, is not above 0.40.")
    assert lines[1].endswith("here: its deletion AUC, 0.30, is not below 0.30.")
    assert " and " in lines[2]


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


def test_which_way_is_better_comes_from_the_metric(monkeypatch):
    view = [made("gradient", 0.9, 0.2), made("rise", 0.1, 0.1)]
    assert baseline_views.ranks(view, "insertion_auc") == {"gradient": 1, "rise": 2}
    monkeypatch.setitem(SCORES, "insertion_auc", replace(SCORES["insertion_auc"], better="lower"))
    assert baseline_views.ranks(view, "insertion_auc") == {"rise": 1, "gradient": 2}
    assert map_curves.better_in_words(SCORES["insertion_auc"]) == "lower is better \u2193"


def test_the_colours_stay_with_the_methods():
    one, two = curves.styles(["grad_cam", "gradient"]), curves.styles(["grad_cam", "gradient", "rise", "random"])
    assert all(one[key] == two[key] for key in one)
    every = curves.styles(list(ex.methods()))
    assert len(set(every.values())) == len(every)


def test_the_downloads_hold_every_point_and_the_terms(monkeypatch):
    measured = [made("gradient", 0.5, 0.25, cim=0.125), made("random", 0.3, 0.3)]
    rows = list(csv.DictReader(io.StringIO(curve_exports.points(measured).decode())))
    assert len(rows) == 2 * 2 * 3 and rows[0] == {"method": "gradient", "curve": "insertion", "fraction": "0", "probability": "0.5"}
    monkeypatch.setattr(curve_exports.downloads, "settings", lambda workspace, answers: {"seed": 0})
    settings = Params("dmbp", ("blur", "zero"), None, 7, "softmax", (2,), "value")
    facts = json.loads(json.dumps(curve_exports.all_settings(None, measured, settings)))["insertion_deletion"]
    assert facts["terms"] == {"protocol": "dmbp", "baseline": {"insertion": "blur", "deletion": "zero"}, "step": None, "resolution": 7,
                              "output": "softmax", "labels": [2], "order_by": "value"}
    assert facts["results"]["gradient"]["difference"] == pytest.approx(0.25) and facts["results"]["gradient"]["cim"] == 0.125
    panels = scrub.panels(measured, settings)
    assert curve_exports.figure(panels, "a & b", False, "png")[:4] == b"\x89PNG"
    assert b"<svg" in curve_exports.figure(panels, "a & b", False, "svg")


@pytest.mark.parametrize(("key", "insertion", "order_by", "hinted"), [
    ("gradient", 0.2, "value", True), ("gradient", 0.2, "magnitude", False), ("gradient", 0.5, "value", False),
    ("rise", 0.2, "value", False)])
def test_a_signed_map_that_loses_is_pointed_to_magnitudes(monkeypatch, key, insertion, order_by, hinted):
    html = []
    monkeypatch.setattr(rankings.st, "html", html.append)
    rankings.verdict([made(key, insertion, 0.1), made("random", 0.3, 0.3)], Params(order_by=order_by))
    assert ("order by magnitudes" in html[0]) == hinted and ("does not beat" in html[0]) == (insertion < 0.3)


def test_without_a_method_one_line_asks_for_one(opened):
    app = opened()
    assert not page.infos(app)
    page.choose(app, "methods", [])
    assert [info.startswith("Choose at least one method") for info in page.infos(app)] == [True]
    assert legend(app).keys() == {"random", "center", "sobel"}


@pytest.mark.parametrize(("changed", "otherwise"), [({"step": "112"}, True), ({"deletion": "black"}, True), ({"step": ""}, False)])
def test_the_protocol_is_not_claimed_for_what_was_chosen_otherwise(opened, changed, otherwise):
    app = opened(**{"methods": ["Gradient"], "step": "", **changed})
    words = next(caption for caption in page.captions(app) if "one image row" in caption)
    assert words.startswith("Chosen otherwise above; RISE itself: ") == otherwise
