"""The sanity checks page: maps revealed stage by stage, kept, told in words, and stopped at a cost."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from html import unescape
from io import StringIO

import pytest
from app.reading import complaints, page_html

import explainers as ex
from components.compute import gate
from explainers.methods import gradients

PAGE = {"network": "Digits: MLP-M of MIP-IN", "methods": ["Gradient"], "controls": "true"}


@pytest.fixture()
def at_once(monkeypatch):
    monkeypatch.setattr(gate, "FREE_SECONDS", float("inf"))  # the machine that runs the tests may be busy


def strip(app) -> str:
    return next(element.proto.body for element in app.get("html") if 'class="strip"' in element.proto.body)


def verdicts(app) -> str:
    return unescape(next((element.proto.body for element in app.get("html") if 'class="weighed"' in element.proto.body), ""))


def test_a_row_a_method_and_a_map_a_stage(open_app, at_once):
    app = open_app("sanity_checks", PAGE)
    found = strip(app)
    assert found.count('class="method"') == 4 and found.count("<img") == 4 * (3 + 1)
    assert "Last layer" in found and "+ Dense layer" in found and not complaints(app)


def test_the_edges_do_not_follow_the_weights_and_the_gradient_does(open_app, at_once):
    told = verdicts(open_app("sanity_checks", PAGE))
    gradient, edges = (told.split(title)[1].split("</dd>")[0] for title in ("Gradient", "Edges (Sobel)"))
    assert "It does not follow the last layer's weights" in edges and "still the same map (SSIM 1.00" in edges
    assert "follows" in gradient and "still the same map" not in gradient


def test_what_was_computed_is_not_computed_again(open_app, engine, at_once):
    app = open_app("sanity_checks", PAGE)
    before = engine.runs
    app.run()
    group(app, "likeness").set_value("HOG").run()
    group(app, "randomise").set_value("Last layer only").run()  # the first stage of the cascade
    assert engine.runs == before and "HOG" in page_html(app)
    group(app, "randomise").set_value("Independent").run()
    assert engine.runs > before


def group(app, key):
    return next(widget for widget in app.button_group if widget.key == key)


def test_another_seed_draws_other_weights(open_app, at_once):
    app = open_app("sanity_checks", PAGE)
    first = strip(app)
    seed = next(widget for widget in app.number_input if widget.key == "draw_seed")
    assert strip(seed.set_value(1).run()) != first


def test_what_costs_waits_for_its_button(open_app, monkeypatch):
    monkeypatch.setattr(gate, "FREE_SECONDS", -1.0)
    app = open_app("sanity_checks", {**PAGE, "methods": ["Gradient"], "draw_seed": "77"})
    button = next(widget for widget in app.button if widget.key == "run-sanity")
    assert button.label.startswith("Draw weights anew, 12 maps on 3 networks, about") and not verdicts(app)
    app = button.click().run()
    assert not app.exception and "Gradient" in verdicts(app) and not any(widget.key == "run-sanity" for widget in app.button)


def test_a_method_that_fits_says_so_and_never_runs_by_itself(open_app, at_once):
    app = open_app("sanity_checks", {**PAGE, "methods": ["MIP-IN"], "draw_seed": "78"})
    assert any(widget.key == "run-sanity" for widget in app.button)
    assert any("fits its statistics again on each of the randomised networks" in caption.value for caption in app.caption)


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_method_that_fails_leaves_the_others_alone(open_app, at_once, monkeypatch, everywhere):
    intact = ex.load_model("digits_mlp").fingerprint
    declared = gradients.METHODS["gradient"]

    def broken(network, *given):
        if everywhere or network.fingerprint != intact:
            raise ex.ExplainerError("It broke here.")
        return declared.attribute(network, *given)

    monkeypatch.setitem(gradients.METHODS, "gradient", replace(declared, attribute=broken))
    app = open_app("sanity_checks", {**PAGE, "draw_seed": "79", "seed": "79"})
    assert not app.exception and "Edges (Sobel)" in verdicts(app)
    assert "It broke here." in (" ".join(caption.value for caption in app.caption) if everywhere else strip(app) + verdicts(app))


def test_a_map_that_cannot_be_made_ends_its_row(open_app, monkeypatch):
    """Where even the map as learned fails, when the button was pressed for it."""
    monkeypatch.setattr(gate, "FREE_SECONDS", -1.0)

    def broken(*given):
        raise ex.ExplainerError("It broke here.")

    monkeypatch.setitem(gradients.METHODS, "gradient", replace(gradients.METHODS["gradient"], attribute=broken))
    app = open_app("sanity_checks", {"network": PAGE["network"], "methods": ["Gradient", "Grad-CAM", "Guided Backpropagation"],
                                     "draw_seed": "80", "seed": "80"})
    app = next(widget for widget in app.button if widget.key == "run-sanity").click().run()
    assert not app.exception and "It broke here." in verdicts(app) and "Guided Backpropagation" in verdicts(app)
    assert not any(widget.label.startswith("Explain") and "Guided" in widget.label for widget in app.button)


def test_the_last_layer_alone_is_a_table(open_app, at_once):
    app = open_app("sanity_checks", {**PAGE, "randomise": "Last layer only", "drawn": "Normal"})
    assert 'class="numbers"' in page_html(app) and strip(app).count("<img") == 4 * 2
    assert not any(chart.proto.id.endswith("weight-curves") for chart in app.get("plotly_chart"))


def test_the_downloads_say_everything(open_app, at_once, monkeypatch):
    from components.sanity_checks import sanity_report

    kept = {}
    original = sanity_report.downloads

    def watched(workspace, question, found, display):
        kept.update(csv=sanity_report.numbers(found), json=sanity_report.settings(workspace, question, found, display),
                    png=sanity_report.figure(workspace, question, found, display))
        original(workspace, question, found, display)

    monkeypatch.setattr(sanity_report, "downloads", watched)
    open_app("sanity_checks", PAGE)
    lines = list(csv.DictReader(StringIO(kept["csv"].decode())))
    assert len(lines) == 4 * 3 and {line["stage"] for line in lines} == {"Last layer (7)", "Dense layer (4)", "Dense layer (1)"}
    assert all(float(line["ssim"]) == pytest.approx(1) for line in lines if line["method"] == "sobel")
    facts = json.loads(kept["json"])
    assert facts["weights"]["randomised"] == "cascading" and len(facts["weights"]["stages"][2]["parameters"]) == 6
    assert kept["png"].startswith(b"\x89PNG")


@pytest.mark.parametrize(("methods", "line"), [([], "Choose at least one method"), (["grad_cam"], "None of the chosen methods")])
def test_nothing_to_draw_is_one_line(open_app, methods, line):
    app = open_app("sanity_checks", {"network": PAGE["network"], "methods": ["Gradient"]})
    app = next(widget for widget in app.multiselect if widget.key == "methods").set_value(methods).run()
    assert [one.value.startswith(line) for one in app.info] == [True] and 'class="strip"' not in page_html(app)


@pytest.mark.parametrize(("network", "off"), [("Digits: MLP-M of MIP-IN", True), ("Scenes: VGG with biases", False)])
def test_the_number_of_stages_is_off_where_it_changes_nothing(open_app, network, off):
    app = open_app("sanity_checks", {"network": network, "methods": ["Gradient"]})
    assert next(one for one in app.slider if one.key == "stages").disabled == off


def test_the_probability_is_named_where_another_class_comes_first(open_app, at_once):
    assert "p 0.97</span>" in strip(open_app("sanity_checks", {**PAGE, "class": "2"}))
    assert "says 2</span>" in (found := strip(open_app("sanity_checks", {**PAGE, "class": "5"}))) and "p &lt; 0.01 for 5" in found
