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
from components.drawing.downloads import Answer
from components.faithfulness import baseline_views, curve_exports, map_curves, rankings, refinement, scrub
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


def lines(app) -> list[dict]:
    """The curves in the figure, without the rings on them."""
    return [trace for trace in page.chart(app, "curves-figure")["data"] if trace["mode"] == "lines+markers"]


def legend(app) -> dict[str, str]:
    """Each map's line in the legend, by the method's key."""
    return {trace["legendgroup"]: trace["name"] for trace in lines(app)}


def aucs(result: metric.InsertionDeletion) -> str:
    return f"{result.insertion_auc:.3f}, {result.deletion_auc:.3f}"


def made(key: str, insertion: float, deletion: float, settings: Params | None = None, **rest) -> MapCurves:
    """A map whose curves are flat at these AUCs. They have two steps of the eight that the protocol takes for 8 x 8 cells."""
    flat, top = np.linspace(0, 1, 3), metric.Top(np.zeros((3, 3), int), np.zeros((3, 3)))
    up, down = 0 * flat + insertion, 0 * flat + deletion
    result = metric.InsertionDeletion(flat, up, down, top, top, "rise", ex.Target.of(0), 1, (8, 8), ex.Passes(3), **rest)
    method = ex.methods()[key]
    attribution = SimpleNamespace(flags=(), signed=method.signed, params=vars(method.settings()))
    return MapCurves(SimpleNamespace(method=method), attribution, curves.Style("#000000"), result,
                     settings or Params())


def test_the_curves_of_all_methods_and_of_the_controls_are_drawn(opened):
    app = opened()
    assert not page.errors(app)
    traces = lines(app)
    keys = ["gradient", "gradient_x_input", "random", "center", "sobel", "input_magnitude", "random_weights_gradient"]
    for axis in ("x", "x2"):
        assert sorted(trace["legendgroup"] for trace in traces if trace["xaxis"] == axis) == sorted(keys)
    colours = {trace["legendgroup"]: (trace["line"]["color"], trace["line"]["dash"], trace["marker"]["symbol"]) for trace in traces}
    assert {colours[key][0] for key in keys[2:]} == {curves.GREY} and len(set(colours.values())) == 7
    titles = {ex.methods()[key].title for key in keys}
    assert {row[0] for row in page.table(app, "ranking")} == titles | {"Map"}
    assert all(title in page.section(app, "scrub") for title in titles)
    notes = page.chart_text(app, "curves-figure")
    assert "Insertion" in notes and "higher is better" in notes and "Deletion" in notes and "lower is better" in notes


def test_what_is_drawn_is_what_the_metric_measures(opened, digit):
    app = opened(protocol="I-GOS", cells="7 \u00d7 7", methods=["Gradient"])
    expected = metric.measure(*digit, protocol="i_gos", resolution=7, step=49)
    assert legend(app)["gradient"].endswith(aucs(expected))
    trace = next(trace for trace in lines(app) if trace["legendgroup"] == "gradient")
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
    assert page.widget(app, "run-curves").label.startswith("Measure 4 maps, about")
    (cost,) = page.captions(app, "offer-curves")
    assert "F" in cost and "B" not in cost
    before = engine.runs
    page.click(app, "run-curves")
    assert page.chart(app, "curves-figure") and engine.runs == before + 4
    assert page.widget(app, "run-baselines").label.startswith("Measure under all 5 baselines, about")
    app.run()
    assert engine.runs == before + 4


def test_only_what_is_new_is_measured(opened, engine):
    app = opened(methods=["Gradient"], seed="92")
    before = engine.runs
    page.choose(app, "methods", ["gradient", "gradient_x_input"])
    assert engine.runs == before + 1 + 1 + 5  # one map, its curves, and those under five baselines
    assert len(lines(app)) == 14


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


def test_a_map_that_cannot_be_ordered_says_why(opened, monkeypatch):
    def fail(*_):
        raise ex.ExplainerError("The map is not finite.")

    monkeypatch.setattr(Params, "cells", fail)
    app = opened(methods=["Gradient"], seed="96", step="")
    assert page.errors(app) == ["The map is not finite."] and not page.charts(app)


def test_the_other_labels_are_only_for_dmbp(opened):
    assert not page.has(opened(), "labels")
    app = opened(protocol="DMBP")
    page.choose(app, "labels", [page.widget(app, "labels").options[-1]])
    assert "cIM \u2191" in page.table(app, "ranking")[0] and not page.errors(app)


SCENE = {"network": "Scenes: VGG with biases", "picture": "star-heart", "class": "heart", "protocol": "DMBP",
         "methods": ["Gradient"], "step": "4096"}


def test_the_other_object_of_a_sample_is_filled_in_for_cim(open_app):
    """And a person can choose another one."""
    network = ex.load_model("scenes_vgg")
    names = list(network.categories)
    x = network.preprocess(next(sample for sample in ex.samples() if sample.name == "star-heart").load())
    attribution = ex.explain(network, x, "gradient", target=names.index("heart"))

    def cim(label: str) -> str:
        return f"{metric.measure(network, x, attribution, protocol='dmbp', step=4096, labels=(names.index(label),)).cim:.3f}"

    app = open_app("faithfulness", SCENE)
    assert page.widget(app, "labels").placeholder == "star (in this sample)"
    head, *rows = page.table(app, "ranking")
    assert next(row for row in rows if row[0] == "Gradient")[head.index("cIM \u2191")] == cim("star") != cim("sun")
    page.choose(app, "labels", ["sun"])
    head, *rows = page.table(app, "ranking")
    assert next(row for row in rows if row[0] == "Gradient")[head.index("cIM \u2191")] == cim("sun")


def test_there_is_no_cim_by_magnitude(open_app):
    app = open_app("faithfulness", {**SCENE, "order": "Magnitudes"})
    assert "cIM \u2191" not in page.table(app, "ranking")[0] and not page.errors(app)
    assert any("No cIM: it orders by value" in caption for caption in page.captions(app))


def test_where_the_class_is_lost_and_regained_stands_in_the_table_and_on_the_curves(opened, digit):
    app = opened(methods=["Gradient"])
    expected = metric.measure(*digit, step=112)
    head, *rows = page.table(app, "ranking")
    row = next(row for row in rows if row[0] == "Gradient")
    assert row[head.index("Class lost at \u2193")] == rankings._share(expected.lost_at).replace("\u00a0", " ")
    assert row[head.index("Class regained at \u2193")] == rankings._share(expected.regained_at).replace("\u00a0", " ")
    rings = {trace["xaxis"]: page.numbers(trace["x"])[0] for trace in page.chart(app, "curves-figure")["data"]
             if trace["mode"] == "markers"}
    assert rings == {"x": pytest.approx(expected.regained_at), "x2": pytest.approx(expected.lost_at)}  # none for the controls


@pytest.mark.parametrize(("fraction", "words"), [(None, "never"), (0.0, "0 %"), (0.0125, "1.2 %"), (0.25, "25 %"), (1.0, "100 %")])
def test_a_share_in_words(fraction, words):
    assert rankings._share(fraction).replace("\u00a0", " ") == words


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


def test_coarse_curves_flip_only_by_more_than_their_error():
    """By two steps an AUC may be off by 0.15."""
    def views(settings: Params):
        random = made("random", 0.5, 0.1, settings)
        return {"as above": [made("gradient", 0.6, 0.1, settings), made("rise", 0.4, 0.1, settings), random],
                "black": [made("gradient", 0.4, 0.1, settings), made("rise", near, 0.1, settings), random]}

    pair = tuple(ex.methods()[key].title for key in ("gradient", "rise"))
    near = 0.5
    assert baseline_views.flipped(views(Params()), "insertion_auc") == {pair: ["black"]}
    assert baseline_views.overtaken(views(Params()), "insertion_auc") == {"black": [pair[0]]}
    coarse = views(Params(most_steps=2))
    assert baseline_views.flipped(coarse, "insertion_auc") == {} == baseline_views.overtaken(coarse, "insertion_auc")
    near = 0.6
    assert baseline_views.flipped(views(Params(most_steps=2)), "insertion_auc") == {pair: ["black"]}


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
    settings = Params("dmbp", ("blur", "zero"), None, 7, "softmax", (2,), "value")
    measured = [made("gradient", 0.5, 0.25, settings, cim=0.125), made("random", 0.3, 0.3, settings)]
    rows = list(csv.DictReader(io.StringIO(curve_exports.points(measured).decode())))
    assert len(rows) == 2 * 2 * 3 and rows[0] == {"method": "gradient", "curve": "insertion", "fraction": "0", "probability": "0.5",
                                                    "steps": "2", "all_steps": "8"}
    monkeypatch.setattr(curve_exports.downloads, "settings", lambda workspace, answers: {"seed": 0})
    facts = json.loads(json.dumps(curve_exports.all_settings(None, measured)))["insertion_deletion"]
    assert facts["terms"] == {"protocol": "dmbp", "baseline": {"insertion": "blur", "deletion": "zero"}, "step": None, "resolution": 7,
                              "output": "softmax", "labels": [2], "order_by": "value", "most_steps": None}
    assert facts["results"]["gradient"]["difference"] == pytest.approx(0.25) and facts["results"]["gradient"]["cim"] == 0.125
    panels = scrub.panels(measured)
    assert curve_exports.figure(panels, "a & b", False, "png")[:4] == b"\x89PNG"
    assert b"<svg" in curve_exports.figure(panels, "a & b", False, "svg")


@pytest.mark.parametrize(("key", "insertion", "order_by", "hinted"), [
    ("gradient", 0.2, "value", True), ("gradient", 0.2, "magnitude", False), ("gradient", 0.5, "value", False),
    ("rise", 0.2, "value", False)])
def test_a_signed_map_that_loses_is_pointed_to_magnitudes(monkeypatch, key, insertion, order_by, hinted):
    html = []
    monkeypatch.setattr(rankings.st, "html", html.append)
    settings = Params(order_by=order_by)
    rankings.verdict([made(key, insertion, 0.1, settings), made("random", 0.3, 0.3, settings)])
    assert ("multiply Gradient by the image" in html[0]) == hinted
    assert ("order by magnitudes" in html[0]) == hinted and ("does not beat" in html[0]) == (insertion < 0.3)


def test_a_map_that_is_multiplied_by_the_image_already_is_not_told_to(monkeypatch):
    html = []
    monkeypatch.setattr(rankings.st, "html", html.append)
    loser = made("guided_grad_cam", 0.2, 0.1)
    product = replace(loser, attribution=SimpleNamespace(flags=(), signed=True, params={"times_input": True}))
    rankings.verdict([loser, made("gradient", 0.2, 0.1), made("random", 0.3, 0.3)])
    assert "or multiply Guided Grad-CAM and Gradient by the image (Times input in the settings)." in html[0]
    rankings.verdict([product, made("random", 0.3, 0.3)])
    assert "order by magnitudes above." in html[1] and "multiply" not in html[1]


def test_without_a_method_one_line_asks_for_one(opened):
    app = opened()
    assert not page.infos(app)
    page.choose(app, "methods", [])
    assert [info.startswith("Choose at least one method") for info in page.infos(app)] == [True]
    assert legend(app).keys() == {key for key, method in ex.methods().items() if method.is_control}


def steps_of(app) -> int:
    """How many steps the curves on the page have."""
    return len(page.numbers(page.chart(app, "curves-figure")["data"][0]["x"])) - 1


def test_the_page_opens_with_coarse_curves_and_the_button_makes_them_finer(opened, engine, digit, monkeypatch):
    monkeypatch.setattr(asked, "may_run", lambda place, key, *_: place != "curves" or asked.is_asked(place, key) or next(turns) < 1)
    turns = iter(range(1000))  # of the levels of the curves only the first is free
    app = opened(methods=["Gradient"], step="", seed="131")
    coarse = metric.measure(*digit, most_steps=8)
    assert steps_of(app) == 7 == len(coarse.fractions) - 1 and legend(app)["gradient"].endswith(aucs(coarse))
    assert any("7 of 28 steps" in caption for caption in page.captions(app, "so-far"))
    assert all("coarse, 7 of 28 steps" in row[-1] for row in page.table(app, "ranking")[1:])
    assert page.widget(app, "run-curves").label.startswith("Finer curves, about")
    before = engine.runs
    app = page.click(app, "run-curves")
    assert steps_of(app) == 28 and legend(app)["gradient"].endswith(aucs(metric.measure(*digit)))
    assert not page.has(app, "run-curves") and not page.has(app, "so-far") and "coarse" not in page.section(app, "ranking")
    assert engine.runs >= before + 2 * 6  # 14 steps and 28 steps, of one method and five controls


def test_free_levels_run_one_after_another_and_the_page_is_drawn_with_each(opened, monkeypatch):
    drawn = []
    original = scrub.draw
    monkeypatch.setattr(scrub, "draw", lambda workspace, measured: drawn.append(measured[0].steps) or original(workspace, measured))
    opened(methods=["Gradient"], step="", seed="132")
    assert drawn == [7, 14, 28]


@pytest.mark.parametrize(("affordable", "steps"), [(8, 7), (4, 4), (2, 2)])
def test_a_slow_network_begins_with_fewer_steps(opened, engine, monkeypatch, affordable, steps):
    """Of the levels only those with so many steps, or fewer, take no longer than what runs unasked."""
    real = engine.cost_together

    def cost(measurements):
        most = getattr(measurements[0].settings, "most_steps", 1)
        return ex.Cost(real(measurements).passes, 2.0 if most and most <= affordable else 60.0)

    monkeypatch.setattr(engine, "cost_together", cost)
    monkeypatch.setattr(asked, "FREE_SECONDS", 3.0)
    app = opened(methods=["Gradient"], step="", seed=str(140 + affordable))
    assert steps_of(app) == steps and page.widget(app, "run-curves").label.startswith("Finer curves, about")


def test_coarse_levels_are_not_measured_where_finer_ones_are_known(opened, engine):
    app = opened(methods=["Gradient"], step="", seed="133")
    before = engine.runs
    again = opened(methods=["Gradient"], step="", seed="133")
    assert engine.runs == before and steps_of(again) == steps_of(app) == 28


@pytest.mark.parametrize(("step", "expected"), [(None, [8, 16, None]), (98, [None]), (1, [8, 16, 32, None])])
def test_the_levels_end_with_the_settings_themselves(digit, step, expected):
    settings = Params(step=step)
    network, x, attribution = digit
    answers = [Answer(ex.ask(network, x, "gradient"), attribution)]
    assert [level.most_steps for level in refinement.levels(answers, settings)] == expected
    assert refinement.levels(answers, settings)[-1] == settings


@pytest.mark.parametrize(("insertion", "says"), [
    (0.5, "beats the random control"), (0.4, "cannot tell yet whether Gradient beats"), (0.2, "cannot tell yet"),
    (0.1, "does not beat the random control")])
def test_coarse_curves_say_nothing_of_what_is_too_close(monkeypatch, insertion, says):
    """By two steps an AUC may be off by 0.15."""
    html = []
    monkeypatch.setattr(rankings.st, "html", html.append)
    coarse = Params(most_steps=2, order_by="magnitude")
    rankings.verdict([made("gradient", insertion, 0.1, coarse), made("random", 0.3, 0.3, coarse)])
    assert says in html[0]
    rankings.verdict([made("gradient", insertion, 0.1), made("random", 0.3, 0.3)])
    assert "cannot tell" not in html[1]


def test_coarse_curves_are_marked_wherever_they_are_shown(monkeypatch):
    html = []
    monkeypatch.setattr(rankings.st, "html", html.append)
    coarse = Params(most_steps=2)
    measured = [made("gradient", 0.5, 0.1, coarse), made("random", 0.3, 0.3, coarse)]
    assert map_curves.so_far(measured) == "2 of 8 steps" and map_curves.so_far([made("gradient", 0.5, 0.1)]) == ""
    rankings.verdict(measured)
    assert html[0].endswith("by coarse curves so far.</p>")
    monkeypatch.setattr(curve_exports.downloads, "settings", lambda workspace, answers: {})
    facts = curve_exports.all_settings(None, measured)["insertion_deletion"]
    random = facts["results"]["random"]
    assert (facts["terms"]["most_steps"], random["steps"], random["all_steps"]) == (2, 2, 8)


@pytest.mark.parametrize(("changed", "otherwise"), [({"step": "112"}, True), ({"deletion": "black"}, True), ({"step": ""}, False)])
def test_the_protocol_is_not_claimed_for_what_was_chosen_otherwise(opened, changed, otherwise):
    app = opened(**{"methods": ["Gradient"], "step": "", **changed})
    words = next(caption for caption in page.captions(app) if "one image row" in caption)
    assert words.startswith("Chosen otherwise above; RISE itself: ") == otherwise
