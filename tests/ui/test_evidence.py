"""The line of evidence under every map: grey until measured, then the words and numbers of the checks, and where they come from."""

from __future__ import annotations

import json

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from support import page

import explainers as ex
from components.compute import asked
from components.state import evidence
from explainers.metrics import class_sensitivity, localisation
from explainers.metrics.insertion_deletion import InsertionDeletion, Top
from explainers.metrics.map_distances import Distances
from explainers.metrics.protocols import Params
from explainers.metrics.sanity_checks import Predictions, Step
from explainers.passes import Passes

LINK = {"network": "scenes_vgg", "picture": "knight-flower", "methods": ["Grad-CAM"], "class": "flower", "seed": "7"}
GREY = [f"{part}: not measured yet" for part in ("Beats the controls", "Changes with the class", "Changes with the weights")]
RISE = Params()
CONTROLS = {key: method for key, method in ex.methods().items() if method.is_control}


def line(app: AppTest, method: str = "grad_cam") -> list[str]:
    """The labels of the links under a map, without the backslashes that keep Markdown from reading them."""
    return [each.proto.label.replace("\\", "") for each in page.nodes(app, f"evidence-{method}") if each.type == "page_link"]


def curves(insertion: float, deletion: float, steps: int = 1) -> InsertionDeletion:
    """Curves that are level, so that their areas are these numbers, of a map of 16 cells."""
    points = steps + 1
    top = Top(np.zeros((points, 3), int), np.zeros((points, 3)))
    return InsertionDeletion(np.linspace(0, 1, points), np.full(points, insertion), np.full(points, deletion), top, top, "rise",
                             ex.Target.of(0), 16 // steps, (4, 4), Passes())


def against(own: InsertionDeletion, settings: Params = RISE, **controls: tuple[float, float]) -> evidence.Finding:
    return evidence.against_controls(own, [(CONTROLS[key], curves(*numbers)) for key, numbers in controls.items()], settings)


def test_a_map_that_beats_every_control_is_told_against_the_best_of_them():
    finding = against(curves(0.45, 0.1), **{**dict.fromkeys(CONTROLS, (0.2, 0.3)), "random": (0.31, 0.2), "center": (0.4, 0.3)})
    assert finding == evidence.Finding("beats the controls: insertion 0.45 against 0.40 of Centre, by the RISE protocol")
    assert against(curves(0.45, 0.1), random=(0.31, 0.2)).words.startswith(f"beats 1 of {len(CONTROLS)} controls: ")


@pytest.mark.parametrize(("own", "words"), [
    ((0.31, 0.1), "no better than the control Random by insertion: 0.31 against 0.31"),
    ((0.35, 0.1), "no better than the control Centre by insertion: 0.35 against 0.40"),
    ((0.45, 0.2004), "no better than the control Random by deletion: 0.2004 against 0.2000")])
def test_a_map_that_a_control_matches_is_warned_of_with_the_numbers(own, words):
    finding = against(curves(*own), random=(0.31, 0.2), center=(0.4, 0.3))
    assert finding.warned and finding.words == f"{words}, by the RISE protocol"


def test_the_protocol_and_what_of_it_was_chosen_otherwise_are_said():
    own, random = curves(0.45, 0.1), (0.31, 0.2)
    assert against(own, Params("i_gos"), random=random).words.endswith("by the I-GOS protocol")
    for changed in (Params(order_by="magnitude"), Params(baseline="black"), Params(resolution=7)):
        assert against(own, changed, random=random).words.endswith("by the RISE protocol with other settings")
    assert against(own, Params(baseline=("blur", "zero")), random=random).words.endswith("by the RISE protocol")
    assert against(own, Params(most_steps=8), random=(0.05, 0.5)).words.endswith("by the RISE protocol, 1 steps so far")


@pytest.mark.parametrize(("own", "words", "warned"), [
    ((0.45, 0.1), f"beats 1 of {len(CONTROLS)} controls: insertion 0.45 against 0.40", False),
    ((0.43, 0.1), "too close to tell from the control Random by insertion: 0.43 against 0.40", False),
    ((0.38, 0.1), "too close to tell from the control Random by insertion: 0.38 against 0.40", False),
    ((0.50, 0.21), "too close to tell from the control Random by deletion: 0.21 against 0.20", False),
    ((0.36, 0.1), "no better than the control Random by insertion: 0.36 against 0.40", True)])
def test_coarse_curves_that_are_closer_than_their_error_give_no_verdict(own, words, warned):
    """With 8 steps an AUC is off by at most 0.3 / 8 = 0.0375."""
    def finding(steps: int) -> evidence.Finding:
        control = CONTROLS["random"], curves(0.4, 0.2, steps)
        return evidence.against_controls(curves(*own, steps), [control], Params(step=1, most_steps=steps))

    coarse = finding(8)
    assert coarse.words.startswith(words) and coarse.words.endswith(", 8 steps so far") and coarse.warned == warned
    assert "too close" not in finding(16).words and "so far" not in finding(16).words  # all the steps of 16 cells


def step(similarity: float, logits_rank: float = 0.1) -> Step:
    distances = Distances(0, 0, similarity, similarity, similarity, 0)
    return Step("", distances, Predictions(0.5, 0.1, logits_rank, 0, 1), np.zeros((2, 2), np.float32))


@pytest.mark.parametrize(("similarity", "words", "warned"), [
    (0.98, "stays the same without the trained weights: similarity 0.98, all 8 stages re-initialised", True),
    (0.8, "mostly stays without the trained weights: similarity 0.80, all 8 stages re-initialised", True),
    (0.6, "stays in part without the trained weights: similarity 0.60, all 8 stages re-initialised", False),
    (0.12, "changes with the weights: similarity 0.12, all 8 stages re-initialised", False),
    (float("nan"), "changes with the weights: cannot be told, a map is the same everywhere", False)])
def test_what_is_left_without_the_trained_weights(similarity, words, warned):
    assert evidence.against_weights(step(similarity), 8, 8, "cascading", "reinitialise") == evidence.Finding(words, warned)


def test_a_map_that_stays_while_the_predictions_stay_has_no_verdict():
    finding = evidence.against_weights(step(0.98, 0.99), 1, 1, "last_layer", "permute")
    assert finding == evidence.Finding("no verdict on the weights: neither the map nor the predictions changed")
    assert evidence.against_weights(step(0.1), 2, 8, "cascading", "permute").words.endswith("2 of 8 stages permuted")


def test_the_parts_are_grey_until_pages_measured_them(open_app, engine, monkeypatch):
    monkeypatch.setattr(asked, "FREE_SECONDS", float("inf"))
    engine.cache.clear()
    app = open_app(query=LINK)
    assert line(app)[:3] == GREY
    pages = [each.proto.page for each in page.nodes(app, "evidence-grad_cam") if each.type == "page_link"]
    assert pages == ["faithfulness", "class_sensitivity", "sanity_checks", "faithfulness"]
    for place in ("faithfulness", "class_sensitivity", "sanity_checks"):
        app.switch_page(f"pages/{place}.py").run()
        assert not app.exception
    app.switch_page("pages/compare.py").run()
    measured = line(app)
    network = ex.load_model("scenes_vgg")
    sample = next(sample for sample in ex.samples() if sample.name == "knight-flower")
    x, flower, knight = network.preprocess(sample.load()), *(network.categories.index(name) for name in ("flower", "knight"))
    maps = [engine.explain(network, x, "grad_cam", target=target, seed=7) for target in (flower, knight)]
    rank = class_sensitivity.measure(maps).between(flower, knight).rank
    assert f"similarity {rank:.2f}".replace("-", "\u2212") in measured[1] and "flower and knight" in measured[1]
    own, random = (engine.measure(ex.judge("insertion_deletion", ex.ask(network, x, key, target=flower, seed=7),
                                           baseline=("blur", "zero"))) for key in ("grad_cam", "random"))
    assert "by the RISE protocol" in measured[0]
    assert f"{own.insertion_auc:.2f} against " in measured[0] or own.deletion_auc >= random.deletion_auc
    assert "all 7 stages re-initialised" in measured[2]
    assert line(open_app(query=LINK)) == measured  # another session finds the results in the cache
    assert line(open_app(query={**LINK, "seed": "8"}))[:3] == GREY  # another question has results of its own


@pytest.mark.parametrize(("place", "query", "part", "words"), [
    ("faithfulness", {"protocol": "I-GOS"}, 0, "by the I-GOS protocol"),
    ("class_sensitivity", {"held_against": ["flower", "cat"]}, 1, "(rank correlation of the maps for flower and cat)"),
    ("sanity_checks", {"randomise": "Last layer only", "drawn": "Permuted"}, 2, "the last layer permuted")])
def test_what_a_page_measured_by_other_settings_is_said_with_them(open_app, monkeypatch, place, query, part, words):
    monkeypatch.setattr(asked, "FREE_SECONDS", float("inf"))
    app = open_app(place, {**LINK, "seed": "9", **query})
    app.switch_page("pages/compare.py").run()
    assert words in line(app)[part]
    assert [other for at, other in enumerate(line(app)[:3]) if at != part] == [grey for at, grey in enumerate(GREY) if at != part]


def test_the_evidence_is_in_the_settings_file(open_app, monkeypatch):
    monkeypatch.setattr(asked, "FREE_SECONDS", float("inf"))
    files: dict[str, bytes] = {}

    def button(label, data, *_, key="", **__):
        if key == "download-json":
            files[key] = data()

    monkeypatch.setattr(st, "download_button", button)
    app = open_app("class_sensitivity", {**LINK, "seed": "10"})
    app.switch_page("pages/compare.py").run()
    evidence_of_map = json.loads(files["download-json"])["evidence"]
    assert list(evidence_of_map) == ["grad_cam"] and set(evidence_of_map["grad_cam"]) == {evidence.CLASSES, evidence.PLACE}
    shown = line(app)
    assert [words[0].upper() + words[1:] for words in evidence_of_map["grad_cam"].values()] == [shown[1], shown[3]]


def test_where_a_map_lies_is_said_by_the_objects_mask(open_app, engine):
    words = line(open_app(query=LINK))[3]
    network = ex.load_model("scenes_vgg")
    sample = next(sample for sample in ex.samples() if sample.name == "knight-flower")
    inside = network.preprocessing.seen_mask(sample.masks[sample.labels.index("flower")], "crop")
    attribution = engine.explain(network, network.preprocess(sample.load()), "grad_cam", target=network.categories.index("flower"))
    result = localisation.measure(attribution, inside)
    assert words == (f"Lies on the flower: {100 * result.bounding_box:.0f}\u00a0% of its strongest pixels, by chance "
                     f"{100 * inside.mean():.0f}\u00a0%")
    elsewhere = localisation.measure(np.eye(8)[::-1] + np.eye(8), np.eye(8) + np.eye(8)[::-1] == 0)
    assert evidence.on_region("your box", elsewhere).words == (
        "lies on your box no more than by chance: 67\u00a0% of its strongest pixels against 75\u00a0%, a region so large that this "
        "says little")


def test_a_class_whose_object_is_not_in_the_picture_is_judged_by_no_region(open_app):
    app = open_app(query={**LINK, "class": "gear"})
    assert len(line(app)) == 3
    assert "The network gives gear" in page.heading(app) and "rank 3 of 16 classes" in page.heading(app)
    assert "rank" not in page.heading(open_app(query=LINK))


def test_nobody_is_judged_by_a_box_that_nobody_drew(open_app):
    app = open_app(query={**LINK, "picture": "cat", "class": "gear"})
    app.query_params["measurement"] = "Localisation"
    app.query_params["region"] = "Box"
    app.switch_page("pages/faithfulness.py").run()
    assert any("Draw a box" in info for info in page.infos(app)) and not page.table(app, "localisation-table")
    app.switch_page("pages/compare.py").run()
    assert len(line(app)) == 3
    app.switch_page("pages/faithfulness.py").run()
    page.choose(app, "measurement", "Localisation")
    page.choose(app, "region", "Box")
    page.choose(app, "box_left", 50.0)
    assert page.table(app, "localisation-table")
    app.switch_page("pages/compare.py").run()
    assert "Lies on your box" in line(app)[3]
    assert len(line(page.choose(app, "class", "cat"))) == 4


def test_a_control_has_no_line(open_app):
    app = open_app(query={**LINK, "controls": "true"})
    assert not page.has(app, "evidence-random") and page.has(app, "evidence-grad_cam")
