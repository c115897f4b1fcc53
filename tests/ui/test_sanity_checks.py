"""The sanity checks page: maps shown stage by stage, kept, judged in words, and stopped at a cost."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from io import StringIO

import pytest
from support import page
from support.page import choose, click, errors, has, section

import explainers as ex
from components.compute import asked
from components.sanity_checks import report, step_rows
from components.state.engine import network
from explainers.methods import declared
from explainers.metrics import sanity_checks as metric

MAPS = 1 + sum(method.is_control for method in ex.methods().values())  # of PAGE
PAGE = {"network": "Digits: MLP-M of MIP-IN", "methods": ["Gradient"], "controls": "true"}
RUN = "run-sanity"


@pytest.fixture()
def at_once(monkeypatch):
    monkeypatch.setattr(asked, "FREE_SECONDS", float("inf"))  # the machine that runs the tests may be busy


@pytest.fixture()
def never_at_once(monkeypatch):
    monkeypatch.setattr(asked, "FREE_SECONDS", -1.0)


def strip(app) -> str:
    """The text of the filmstrip."""
    return section(app, "filmstrip")


def verdicts(app) -> str:
    return section(app, "verdicts") if has(app, "verdicts") else ""


def test_a_row_a_method_and_a_map_a_stage(open_app, at_once):
    app = open_app("sanity_checks", PAGE)
    text = strip(app)
    assert len(page.pictures(app, "filmstrip")) == MAPS * (3 + 1) and all(title in text for title in ("Gradient", "Edges (Sobel)"))
    assert "Trained weights" in text and "Last layer" in text and "+ Dense layer" in text and not errors(app)


def test_the_edges_do_not_follow_the_weights_and_the_gradient_does(open_app, at_once):
    text = verdicts(open_app("sanity_checks", PAGE))
    edges = text.split("Edges (Sobel)")[1]
    gradient = text[:text.index(next(method.title for method in ex.methods().values() if method.is_control))]
    assert "It does not follow the last layer's weights" in edges and "still the same map (SSIM 1.00" in edges
    assert "follows" in gradient and "still the same map" not in gradient


def test_the_strip_shows_what_the_metric_measures_and_shares_its_results(open_app, engine, at_once):
    app = open_app("sanity_checks", {**PAGE, "controls": "false", "draw_seed": "5"})
    net = network("digits_mlp")
    sample = next(sample for sample in ex.samples() if sample.kind == "digits")
    question = ex.ask(net, net.preprocess(sample.load()), "gradient")
    before = engine.runs
    check = engine.measure(ex.judge("sanity_checks", question, draw_seed=5))
    assert engine.runs == before + 1  # the check itself; no map and no step is made again
    alone = metric.measure(net, question.x, lambda net, x, target: ex.explain(net, x, "gradient", target=target), seed=5)
    assert [step.distances for step in check.steps] == [step.distances for step in alone.steps]
    assert all(f"{step.distances.ssim:.2f}".replace("-", "\u2212") in strip(app) for step in alone.steps)


def test_what_was_computed_is_not_computed_again(open_app, engine, at_once):
    app = open_app("sanity_checks", PAGE)
    before = engine.runs
    app.run()
    choose(app, "likeness", "HOG")
    choose(app, "randomise", "Last layer only")  # the first stage of the cascade
    assert engine.runs == before and "HOG" in section(app, "similarities")
    choose(app, "randomise", "Independent")
    assert engine.runs > before


def test_another_seed_draws_other_weights(open_app, at_once):
    app = open_app("sanity_checks", PAGE)
    first = page.pictures(app, "filmstrip")
    assert page.pictures(choose(app, "draw_seed", 1), "filmstrip") != first


def test_what_costs_waits_for_its_button(open_app, never_at_once):
    app = open_app("sanity_checks", {**PAGE, "draw_seed": "77"})
    assert page.widget(app, RUN).label.startswith(f"Re-initialise weights, {3 * MAPS} maps on 3 networks, about") and not verdicts(app)
    app = click(app, RUN)
    assert not app.exception and "Gradient" in verdicts(app) and not has(app, RUN)


def test_the_original_maps_are_part_of_the_estimate_once(open_app, engine, never_at_once):
    app = open_app("sanity_checks", {**PAGE, "controls": "false", "seed": "76", "draw_seed": "76"})
    assert page.captions(app, "offer-sanity") == ["10 F + 4 B"]  # of 4 maps, 1 F + 1 B each; and 2 F for each of 3 comparisons


def test_cheap_stages_run_by_themselves_and_the_others_wait(open_app, monkeypatch):
    """The budget is spent stage by stage, so all methods can be compared at the first stages at once."""
    monkeypatch.setattr(asked, "may_run", lambda place, *_: place != "sanity" or next(turns) <= MAPS)
    turns = iter(range(1000))
    app = open_app("sanity_checks", {**PAGE, "draw_seed": "81"})
    assert len(page.pictures(app, "filmstrip")) == MAPS + MAPS + 1 and not verdicts(app)
    assert page.widget(app, RUN).label.startswith(f"Re-initialise weights, {2 * MAPS - 1} maps on 2 networks")


def test_a_stopped_run_keeps_what_is_finished(open_app, never_at_once, monkeypatch):
    app = open_app("sanity_checks", {**PAGE, "draw_seed": "82"})
    page.stop_at_next_report(monkeypatch, "sanity")
    app = click(app, RUN)
    assert not app.exception and "Stopped." in " ".join(page.captions(app)) and has(app, RUN)
    app = click(app, RUN)
    assert not has(app, RUN) and "Gradient" in verdicts(app)


def test_a_method_that_fits_says_so_and_never_runs_by_itself(open_app, at_once):
    app = open_app("sanity_checks", {**PAGE, "methods": ["MIP-IN"], "draw_seed": "78"})
    assert page.widget(app, RUN).label.startswith("Re-initialise weights, 3 maps on 3 networks, about")  # the controls' are there
    assert page.widget(app, RUN).label.endswith(" with a fit") and "Edges (Sobel)" in verdicts(app)
    assert any("With the time in which MIP-IN fits its statistics again" in caption for caption in page.captions(app))


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_method_that_fails_leaves_the_others_alone(open_app, at_once, monkeypatch, everywhere):
    intact = ex.load_model("digits_mlp").fingerprint
    gradient = declared()["gradient"]
    tried = []

    def broken(network, *given):
        tried.append(network)
        if everywhere or network.fingerprint != intact:
            raise ex.ExplainerError("It broke here.")
        return gradient.attribute(network, *given)

    monkeypatch.setitem(declared(), "gradient", replace(gradient, attribute=broken))
    app = open_app("sanity_checks", {**PAGE, "draw_seed": "79", "seed": "79"})
    assert not app.exception and "Edges (Sobel)" in verdicts(app)
    if everywhere:
        assert "Gradient is left out: It broke here." in page.captions(app)
    else:
        assert strip(app).count("It broke here.") == 3 and "It broke here." in verdicts(app)
    count = len(tried)
    app.run()
    assert len(tried) == count  # it is not tried again


def test_a_map_that_cannot_be_made_ends_its_row(open_app, never_at_once, monkeypatch):
    """Where even the map with trained weights fails, when the button was pressed for it."""
    def broken(*given):
        raise ex.ExplainerError("It broke here.")

    monkeypatch.setitem(declared(), "gradient", replace(declared()["gradient"], attribute=broken))
    app = open_app("sanity_checks", {"network": PAGE["network"], "methods": ["Gradient", "Grad-CAM", "Guided Backpropagation"],
                                     "draw_seed": "80", "seed": "80"})
    app = click(app, RUN)
    assert not app.exception and "It broke here." in verdicts(app) and "Guided Backpropagation" in verdicts(app)
    assert strip(app).count("It broke here.") == 3
    assert "ready" in section(app, "settings-guided_backprop")


def test_the_last_layer_alone_is_a_table(open_app, at_once):
    app = open_app("sanity_checks", {**PAGE, "randomise": "Last layer only", "drawn": "Normal"})
    assert len(page.table(app, "similarities")) == 1 + MAPS and len(page.pictures(app, "filmstrip")) == MAPS * 2
    assert not has(app, "weight-curves")


def test_the_curves_begin_with_the_trained_weights(open_app, at_once):
    app = open_app("sanity_checks", PAGE)
    axis = page.chart(app, "weight-curves")["layout"]["xaxis"]
    assert axis["ticktext"][0] == "trained" and len(axis["ticktext"]) == 4
    edges = next(trace for trace in page.chart(app, "weight-curves")["data"] if trace["name"] == "Edges (Sobel)")
    assert edges["y"] == pytest.approx([1] * 4)
    app = choose(app, "randomise", "Independent")
    assert len(page.chart(app, "weight-curves")["layout"]["xaxis"]["ticktext"]) == 3


def test_two_maps_can_be_compared_in_detail(open_app, engine, at_once):
    app = open_app("sanity_checks", PAGE)
    runs = engine.runs
    assert page.widget(app, "closely_method").label == "Compare in detail"
    app = choose(app, "closely_method", "Edges (Sobel)")
    text = page.words(app)
    assert "Sobel, trained weights" in text and "new weights down to: Last layer (7)" in text and "SSIM 1.00" in text
    assert len(page.maps(app)) == 2 and engine.runs == runs


def test_the_downloads_say_everything(open_app, at_once, monkeypatch):
    files = {}
    original = report.offer_downloads

    def watched(workspace, randomisation, rows, display):
        files.update(csv=report.numbers(rows), json=report.settings(workspace, randomisation, rows, display),
                     png=report.figure(workspace, randomisation, rows, display))
        original(workspace, randomisation, rows, display)

    monkeypatch.setattr(report, "offer_downloads", watched)
    app = open_app("sanity_checks", PAGE)
    assert all(has(app, f"download-{kind}") for kind in ("png", "csv", "json"))
    lines = list(csv.DictReader(StringIO(files["csv"].decode())))
    assert len(lines) == MAPS * 3 and {line["stage"] for line in lines} == {"Last layer (7)", "Dense layer (4)", "Dense layer (1)"}
    assert all(float(line["ssim"]) == pytest.approx(1) for line in lines if line["method"] == "sobel")
    facts = json.loads(files["json"])
    assert facts["weights"]["randomised"] == "cascading" and len(facts["weights"]["stages"][2]["parameters"]) == 6
    assert files["png"].startswith(b"\x89PNG")


@pytest.mark.parametrize(("methods", "line"), [([], "Choose at least one method"), (["grad_cam"], "None of the chosen methods")])
def test_nothing_to_draw_is_one_line(open_app, methods, line):
    app = open_app("sanity_checks", {"network": PAGE["network"], "methods": ["Gradient"]})
    app = choose(app, "methods", methods)
    assert [info.startswith(line) for info in page.infos(app)] == [True] and not has(app, "filmstrip")


@pytest.mark.parametrize(("name", "off"), [("Digits: MLP-M of MIP-IN", True), ("Scenes: VGG with biases", False)])
def test_the_number_of_stages_is_off_where_it_changes_nothing(open_app, name, off):
    app = open_app("sanity_checks", {"network": name, "methods": ["Gradient"]})
    assert page.widget(app, "stages").disabled == off


def test_the_probability_is_named_where_another_class_comes_first(open_app, at_once):
    text = strip(open_app("sanity_checks", {**PAGE, "class": "2"}))
    assert "p 1.00" in text and "p 1.00 for" not in text
    text = strip(open_app("sanity_checks", {**PAGE, "class": "5"}))
    assert "predicts 2" in text and "p < 0.01 for 5" in text


def test_statistics_that_are_shipped_are_fitted_again_on_copies_of_the_picture():
    lite0 = ex.load_model("efficientnet_lite0")
    question = ex.ask(lite0, lite0.preprocess(ex.samples()[0].load()), "iba", target=0)
    refitted = step_rows._refitted(question)
    changed = metric.StepQuestion(question, metric.schedule(lite0, "last_layer")[0]).changed_network()
    assert question.reference_set.statistics and refitted.reference_set.size < question.reference_set.size
    assert refitted.reference_set.identity == replace(question, network=changed).reference_set.identity
    assert "belong to its trained weights" in step_rows._what_is_fitted([question])
    assert "belong" not in step_rows._what_is_fitted([refitted])
