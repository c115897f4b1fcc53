"""The class sensitivity page: the rows and their verdicts, the classes and their link, sets of images, downloads."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pytest
from app.reading import complaints, page_html
from PIL import Image

import explainers as ex
from components.class_sensitivity import class_exports, class_maps, class_set
from components.compute import gate
from components.state import session

CHEAP = ["Gradient", "Grad-CAM"]


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """The machine that runs the tests may be busy: cheap maps run by themselves all the same."""
    monkeypatch.setattr(gate, "FREE_SECONDS", float("inf"))


def opened(open_app, **query):
    return open_app(page="class_sensitivity", query={"methods": CHEAP, **query})


def rows(app) -> list[str]:
    """The HTML of each method's row."""
    return re.findall('<section class="class-row">.*?</section>', page_html(app), re.S)


def widget(app, kind, key):
    return next(one for one in getattr(app, kind) if one.key == key)


def test_a_sample_with_two_objects_is_explained_for_both(open_app):
    app = opened(open_app, picture="cat-crown")
    assert not complaints(app) and [re.search("<h3>(.*?)</h3>", row).group(1) for row in rows(app)] == CHEAP
    for row in rows(app):
        titles = re.findall('figcaption title="(.*?)"', row)
        assert titles == ["cat", "crown", "cat \u2212 crown"] and row.count("<img") == 3 and "not computed" not in row
        assert "Follows the class" in row and row.count("<tr>") == 2


def test_the_numbers_on_the_page_are_the_metrics(open_app, engine):
    app = opened(open_app, methods="Gradient", picture="cat-crown")
    net = session.network("scenes_vgg")
    x = net.preprocess(next(one for one in ex.samples() if one.name == "cat-crown").load())
    pair = net.categories.index("cat"), net.categories.index("crown")
    from explainers.metrics import class_sensitivity
    found = class_sensitivity.measure([ex.explain(net, x, "gradient", target=target) for target in pair]).between(*pair)
    assert f"rank correlation {found.rank:.3f}".replace("-", "\u2212") in rows(app)[0]
    table = page_html(app)[page_html(app).index('class="numbers"'):]
    assert all(f"{value:.3f}".replace("-", "\u2212") in table for value in (found.rank_absolute, found.ssim, found.l2_unit))


def test_a_map_that_ignores_the_class_is_named_and_comes_first(open_app):
    app = opened(open_app, methods="Gradient", controls="true")
    edges = ex.methods()["sobel"].title
    row = next(row for row in rows(app) if f"<h3>{edges}</h3>" in row)
    assert 'class="same">Hardly follows the class: nearly the same map for star and heart (rank correlation 1.000' in row
    page = page_html(app)
    assert f"{edges} (1.000)" in page and page.index('class="verdict warned"') < page.index('class="class-row"')
    table = page[page.index('class="numbers"'):]
    assert table.index(edges) < table.index("Gradient")


def test_classes_come_from_the_link_and_pairs_can_be_chosen(open_app):
    app = opened(open_app, methods="Gradient", held_against=["star", "cat", "crown"])
    assert widget(app, "multiselect", "held_against").value == ["star", "cat", "crown"]
    assert re.findall('figcaption title="(.*?)"', rows(app)[0])[-1] == "star \u2212 cat"
    pairs = next(one for one in app.selectbox if one.key.startswith("pair-"))
    assert pairs.options == ["star \u2212 cat", "star \u2212 crown", "cat \u2212 crown"]
    app = pairs.set_value(tuple(sorted_pair(app, 1, 2))).run()
    assert not app.exception and re.findall('figcaption title="(.*?)"', rows(app)[0])[-1] == "cat \u2212 crown"
    assert rows(app)[0].count("<tr>") == 3


def sorted_pair(app, first, second):
    """The class indices of two places in the choice of classes."""
    names = list(session.network("scenes_vgg").categories)
    chosen = widget(app, "multiselect", "held_against").value
    return [names.index(chosen[first]), names.index(chosen[second])]


def test_one_class_is_held_against_a_likely_one(open_app):
    app = opened(open_app, methods="Gradient", held_against=["crown"])
    titles = re.findall('figcaption title="(.*?)"', rows(app)[0])
    assert titles[0] == "crown" and titles[1] == "star" and len(titles) == 3
    app = opened(open_app, methods="Gradient", **{"class": "cat", "against": "flower"})
    assert re.findall('figcaption title="(.*?)"', rows(app)[0])[:2] == ["cat", "flower"]


def test_another_measure_redraws_the_matrices_and_computes_nothing(open_app, engine):
    app = opened(open_app, methods="Gradient")
    before, runs = rows(app)[0], engine.runs
    app = widget(app, "selectbox", "compared_by").set_value("l2_unit").run()
    assert engine.runs == runs and rows(app)[0] != before
    assert "l2, unit maps" in rows(app)[0] and ">0.000<" in rows(app)[0] and ">1.000<" not in rows(app)[0]


def test_costly_maps_wait_until_they_are_asked_for(open_app, engine, monkeypatch):
    monkeypatch.setattr(gate, "FREE_SECONDS", -1.0)
    app = opened(open_app, methods="Gradient", seed=1234)
    assert rows(app)[0].count("not computed") == 3 and "not all there yet" in rows(app)[0]
    asked = widget(app, "button", f"run-{class_maps.PLACE}")
    app = asked.click().run()
    assert rows(app)[0].count("not computed") == 0 and "ollows the class" in rows(app)[0]


def test_a_set_is_measured_when_asked_and_remembered(open_app, engine, monkeypatch):
    monkeypatch.setattr(class_set, "COUNTS", (2, 3))
    app = opened(open_app, methods="Gradient")
    assert "standard error" not in page_html(app)
    app = widget(app, "button", f"run-{class_set.PLACE}").click().run()
    assert not complaints(app) and "standard error over 3 fresh scenes" in page_html(app) and " \u00b1 " in page_html(app)
    done = engine.runs
    again = opened(open_app, methods="Gradient")
    assert "standard error over 3 fresh scenes" in page_html(again) and engine.runs == done


def test_a_method_that_cannot_says_why(open_app):
    app = opened(open_app, network="Digits: MLP-M of MIP-IN", methods=["Grad-CAM", "Gradient"])
    failing, working = sorted(rows(app), key=lambda row: "<img" in row)
    assert "needs a spatial feature map" in failing and working.count("<img") == 3
    assert not complaints(app)


def test_downloads_hold_what_the_page_shows(open_app, monkeypatch):
    seen = {}
    real = class_exports.draw

    def spy(workspace, choice, rows, shown, display):
        seen.update(workspace=workspace, rows=rows, shown=shown, display=display)
        real(workspace, choice, rows, shown, display)

    monkeypatch.setattr(class_exports, "draw", spy)
    opened(open_app, held_against=["star", "heart", "cat"])
    lines = list(csv.DictReader(io.StringIO(class_exports.numbers(seen["workspace"], seen["rows"]).decode())))
    assert len(lines) == 2 * 3 and {line["method"] for line in lines} == {"gradient", "grad_cam"}
    first = lines[0]
    found = next(row for row in seen["rows"] if row.method.key == first["method"]).found
    assert float(first["ssim"]) == pytest.approx(found.between(int(first["class_a"]), int(first["class_b"])).ssim, rel=1e-5)
    picture = Image.open(io.BytesIO(class_exports.figure(seen["workspace"], list(zip(seen["rows"], seen["shown"], strict=True)),
                                                         seen["display"])))
    assert picture.width > picture.height > 600 and np.asarray(picture.convert("L")).std() > 10
    assert {one.limit for one in seen["shown"][0]} == {seen["shown"][0][0].limit}  # one scale a method


@pytest.mark.parametrize(("method", "fits"), [("MIP-IN", True), ("Gradient", False)])
def test_a_fit_that_the_estimate_leaves_out_is_said(open_app, monkeypatch, method, fits):
    monkeypatch.setattr(gate, "FREE_SECONDS", -1.0)
    app = opened(open_app, methods=method, seed=4321)
    assert [one.value.endswith(", after a fit") for one in app.caption if " F" in one.value] == [fits, fits]
