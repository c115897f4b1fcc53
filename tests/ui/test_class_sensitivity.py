"""The class sensitivity page: the rows and their verdicts, the classes and their link, sets of images, downloads."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from support import page
from support.page import choose, click, errors, has, section

import explainers as ex
from components.class_sensitivity import class_exports, class_maps, class_set
from components.compute import asked
from components.state.engine import network
from explainers.data.reference import neighbourhood, procedural
from explainers.methods import declared
from explainers.metrics import class_sensitivity

CHEAP = ["Gradient", "Grad-CAM"]
ROW = "class-row-gradient"
RUN_MAPS, RUN_SET = f"run-{class_maps.PLACE}", f"run-{class_set.PLACE}"


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """The machine that runs the tests may be busy: cheap maps run by themselves all the same. Sets are small."""
    monkeypatch.setattr(asked, "FREE_SECONDS", float("inf"))
    monkeypatch.setattr(class_set, "COUNTS", (2, 3))


def opened(open_app, **query):
    return open_app(page="class_sensitivity", query={"methods": CHEAP, **query})


def rows(app) -> dict[str, str]:
    """The text of each method's row, by method, in their order."""
    return {each.key.removeprefix("class-row-"): section(app, each.key) for each in page.nodes(app)
            if (getattr(each, "key", None) or "").startswith("class-row-")}


def measured(engine, method, *classes, picture="cat-crown"):
    """How far the maps of these classes are apart, by the library alone, and the class indices."""
    net = network("scenes_vgg")
    x = net.preprocess(next(sample for sample in ex.samples() if sample.name == picture).load())
    indices = [net.categories.index(name) for name in classes]
    return class_sensitivity.measure([ex.explain(net, x, method, target=index) for index in indices]), indices


def test_a_sample_with_two_objects_is_explained_for_both(open_app):
    app = opened(open_app, picture="cat-crown")
    assert not errors(app) and list(rows(app)) == ["gradient", "grad_cam"]
    for key, text in rows(app).items():
        at = [text.index(title) for title in ("cat ", "crown ", "cat \u2212 crown contrast")]
        assert at == sorted(at) and "Follows the class" in text and "not computed" not in text
        assert len(page.pictures(app, f"class-row-{key}")) == 3 and len(page.table(app, f"class-row-{key}")) == 2


def test_the_numbers_on_the_page_are_the_metrics(open_app, engine):
    app = opened(open_app, methods="Gradient", picture="cat-crown")
    distances, pair = measured(engine, "gradient", "cat", "crown")
    between = distances.between(*pair)
    assert f"rank correlation {between.rank:.3f}".replace("-", "\u2212") in rows(app)["gradient"]
    table = page.table(app, "class-table")[1]
    assert all(f"{value:.3f}".replace("-", "\u2212") in table for value in (between.rank_absolute, between.ssim, between.l2_unit))


def test_a_map_that_ignores_the_class_is_named_and_comes_first(open_app):
    app = opened(open_app, methods="Gradient", controls="true")
    edges = ex.methods()["sobel"].title
    assert "Hardly follows the class: nearly the same map for star and heart (rank correlation 1.000" in rows(app)["sobel"]
    assert f"{edges} (1.000)" in section(app, "verdict")
    whole = section(app)
    assert whole.index("Hardly follow the class") < whole.index(rows(app)["gradient"])
    methods = [row[0] for row in page.table(app, "class-table")]
    assert methods.index(edges) < methods.index("Gradient")


def test_classes_come_from_the_link_and_pairs_can_be_chosen(open_app):
    app = opened(open_app, methods="Gradient", held_against=["star", "cat", "crown"])
    assert page.value(app, "held_against") == ["star", "cat", "crown"]
    assert "star \u2212 cat contrast" in rows(app)["gradient"]
    pairs = next(box for box in app.selectbox if box.key.startswith("pair-"))
    assert pairs.options == ["star \u2212 cat", "star \u2212 crown", "cat \u2212 crown"]
    app = pairs.set_value(tuple(map(network("scenes_vgg").categories.index, ("cat", "crown")))).run()
    assert not app.exception and "cat \u2212 crown contrast" in rows(app)["gradient"]
    assert len(page.table(app, ROW)) == 3


def test_one_class_is_compared_with_a_likely_one(open_app):
    assert "crown \u2212 star contrast" in rows(opened(open_app, methods="Gradient", held_against=["crown"]))["gradient"]
    app = opened(open_app, methods="Gradient", **{"class": "cat", "against": "flower"})
    assert "cat \u2212 flower contrast" in rows(app)["gradient"]


def test_the_class_of_the_sidebar_changes_no_distance(open_app, engine):
    """Neither maps nor distances of chosen classes depend on what is explained elsewhere, so nothing is computed again."""
    app = opened(open_app, methods="Gradient", held_against=["cat", "crown"])
    before, runs = rows(app), engine.runs
    app = choose(app, "class", "flower")
    assert rows(app) == before and engine.runs == runs


def test_another_measure_redraws_the_matrices_and_computes_nothing(open_app, engine):
    app = opened(open_app, methods="Gradient")
    before, runs = page.table(app, ROW), engine.runs
    app = choose(app, "compared_by", "l2_unit")
    matrix = page.table(app, ROW)
    assert engine.runs == runs and matrix != before and "l2, unit maps" in rows(app)["gradient"]
    assert [matrix[0][1], matrix[1][2]] == ["0.000"] * 2 and "1.000" not in [*matrix[0], *matrix[1]]


def test_costly_maps_wait_until_they_are_asked_for(open_app, monkeypatch):
    monkeypatch.setattr(asked, "FREE_SECONDS", -1.0)
    app = opened(open_app, methods="Gradient", seed=1234)
    assert rows(app)["gradient"].count("not computed") == 3 and "not all there yet" in rows(app)["gradient"]
    assert page.widget(app, RUN_MAPS).label.startswith("Explain the classes, about ")
    app = click(app, RUN_MAPS)
    assert "not computed" not in rows(app)["gradient"] and "ollows the class" in rows(app)["gradient"]
    assert not has(app, RUN_MAPS)


def test_a_map_that_fails_ends_its_row_and_is_not_tried_again(open_app, monkeypatch):
    tried = []

    def broken(*given):
        tried.append(given)
        raise ex.ExplainerError("It broke here.")

    monkeypatch.setitem(declared(), "gradient", replace(declared()["gradient"], attribute=broken))
    app = opened(open_app, seed=77)
    assert not app.exception and "It broke here." in rows(app)["gradient"] and "ollows the class" in rows(app)["grad_cam"]
    assert "Gradient: It broke here." in page.captions(app, "class-set")
    count = len(tried)
    app.run()
    assert len(tried) == count > 0


def test_a_set_waits_where_it_is_costly_and_is_remembered(open_app, engine, monkeypatch):
    monkeypatch.setattr(asked, "FREE_SECONDS", -1.0)
    app = opened(open_app, methods="Gradient", seed=11)
    assert "standard error" not in section(app, "class-set")
    assert page.widget(app, RUN_SET).label.startswith("Measure over 3 images, about ")
    app = click(app, RUN_SET)
    text = section(app, "class-set")
    assert not errors(app) and "standard error over 3 fresh scenes" in text and " \u00b1 " in text and not has(app, RUN_SET)
    done = engine.runs
    again = opened(open_app, methods="Gradient", seed=11)
    assert section(again, "class-set") == text and engine.runs == done


def test_a_cheap_set_is_measured_by_itself_and_agrees_with_the_metric(open_app):
    app = opened(open_app, methods="Gradient")
    net = network("scenes_vgg")
    pairs = class_set.scenes_pairs(net, 3)
    each = [class_sensitivity.measure([ex.explain(net, x, "gradient", target=target) for target in classes])
            for x, classes in zip(pairs.images.split(1), pairs.classes, strict=True)]
    rank = class_sensitivity.over_images(each).averages["rank"]
    assert page.table(app, "class-set")[1][1] == f"{rank.mean:.3f} \u00b1 {rank.error:.3f}".replace("-", "\u2212")


def test_a_method_that_cannot_says_why(open_app):
    app = opened(open_app, network="Digits: MLP-M of MIP-IN", methods=["Grad-CAM", "Gradient"])
    assert "needs a spatial feature map" in rows(app)["grad_cam"] and not page.pictures(app, "class-row-grad_cam")
    assert len(page.pictures(app, ROW)) == 3 and not errors(app)


def test_downloads_hold_what_the_page_shows(open_app, monkeypatch):
    seen = {}
    real = class_exports.draw

    def spy(workspace, rows, shown, display):
        seen.update(workspace=workspace, rows=rows, shown=shown, display=display)
        real(workspace, rows, shown, display)

    monkeypatch.setattr(class_exports, "draw", spy)
    app = opened(open_app, held_against=["star", "heart", "cat"])
    assert has(app, "class-png") and has(app, "class-csv") and has(app, "class-set-csv")
    lines = list(csv.DictReader(io.StringIO(class_exports.numbers(seen["workspace"], seen["rows"]).decode())))
    assert len(lines) == 2 * 3 and {line["method"] for line in lines} == {"gradient", "grad_cam"}
    first = lines[0]
    distances = next(row for row in seen["rows"] if row.key == first["method"]).distances
    assert float(first["ssim"]) == pytest.approx(distances.between(int(first["class_a"]), int(first["class_b"])).ssim, rel=1e-5)
    picture = Image.open(io.BytesIO(class_exports.figure(seen["workspace"], list(zip(seen["rows"], seen["shown"], strict=True)),
                                                         seen["display"])))
    assert picture.width > picture.height > 600 and np.asarray(picture.convert("L")).std() > 10
    assert {one.limit for one in seen["shown"][0]} == {seen["shown"][0][0].limit}  # one scale a method


@pytest.mark.parametrize(("method", "fits"), [("MIP-IN", True), ("Gradient", False)])
def test_a_fit_that_the_estimate_leaves_out_is_said(open_app, monkeypatch, method, fits):
    monkeypatch.setattr(asked, "FREE_SECONDS", -1.0)
    app = opened(open_app, methods=method, seed=4321)
    assert [page.widget(app, key).label.endswith(" with a fit") for key in (RUN_MAPS, RUN_SET)] == [fits, fits]


def test_a_set_counts_one_fit_for_all_images_or_one_for_each(open_app):
    """Statistics of a reference set serve all images, those of copies of an image serve it alone."""
    open_app()  # the engine of this process
    net = network("scenes_vgg")
    question = ex.ask(net, net.preprocess(ex.samples()[-1].load()), "iba", target=1, images=40)
    images = class_set.ImageSet("", "", 5, lambda progress: pytest.fail("No image is needed."))
    fits = {name: class_set._fit_seconds(replace(question, reference=reference), images) for name, reference in {
        "drawn": procedural(net, 64), "copies": neighbourhood(net, question.x, 64)}.items()}
    assert fits["copies"] == pytest.approx(5 * fits["drawn"]) and fits["drawn"] > 0


def test_a_network_of_photographs_says_what_to_upload(open_app, monkeypatch):
    open_app()  # the engine of this process
    monkeypatch.setattr(network("scenes_vgg"), "training_data", "photographs")
    app = opened(open_app, methods="Gradient", picture="cat-crown")
    place = page.captions(app, "class-set")
    assert place == ["Photographs cannot be drawn afresh as scenes can. For this network the set is made of your own pictures: upload "
                     "two or more in the sidebar. Each is explained for its two likeliest classes."]
    assert not has(app, RUN_SET) and not has(app, "class_images")
