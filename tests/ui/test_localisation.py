"""The localisation section: regions from masks, drawn boxes and outlines, and the table."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest
from support import page

import explainers as ex
from components.compute import asked
from components.faithfulness import localisation as section_table
from components.faithfulness import regions
from explainers.metrics import localisation

LINK = {"measurement": "Localisation", "picture": "star-heart", "methods": "Gradient", "class": "heart"}


@pytest.fixture()
def section(open_app):
    def opened(**query) -> AppTest:
        return open_app("faithfulness", {**LINK, **query})

    return opened


def table(app: AppTest) -> dict[str, list[str]]:
    """The words of each row by its first."""
    return {row[0]: row[1:] for row in page.table(app, "localisation-table")}


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def heart(network: ex.Classifier) -> np.ndarray:
    from PIL import Image

    sample = next(one for one in ex.samples() if one.name == "star-heart")
    mask = sample.masks[sample.labels.index("heart")]
    return np.asarray(network.seen(Image.fromarray(mask)).convert("L")) >= 128


def draw(app: AppTest, **selection) -> AppTest:
    """What the browser sends when something was drawn on the picture."""
    with_defaults = {"points": [], "point_indices": [], "box": [], "lasso": [], **selection}
    app.session_state["region-picture"] = {"selection": with_defaults}
    size = (128, 128)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(regions.st, "session_state", app.session_state)
        patched.setattr(regions.st, "query_params", app.query_params)
        regions.take(with_defaults, size)
    return app.run()


def test_the_object_of_the_class_is_measured(section, engine):
    app = section()
    network = ex.load_model("scenes_vgg")
    sample = next(one for one in ex.samples() if one.name == "star-heart")
    attribution = engine.explain(network, network.preprocess(sample.load()), "gradient", target=network.categories.index("heart"))
    expected = localisation.measure(attribution, heart(network))
    rows = table(app)
    assert rows["Gradient"][2:] == [percent(expected.bounding_box), percent(expected.energy), percent(expected.ehr)]
    assert rows["Gradient"][:2] == ["hit" if expected.pointing else "miss", "hit" if expected.pointing_near else "miss"]
    assert rows["Chance"][0] == percent(expected.area) and rows["Chance"][1] == percent(expected.chance.pointing_near)
    assert {"Centre", "Random", "Edges (Sobel)"} <= rows.keys()
    assert "another object" not in page.section(app, "localisation-table")
    page.choose(app, "region_box", True)
    assert table(app)["Chance"][0] == percent(localisation.bounding_box(heart(network)).mean())
    page.choose(app, "region", "star")
    assert "another object" in page.section(app, "localisation-table")


def test_a_box_comes_from_the_link_and_another_from_the_picture(section):
    app = section(region="Box", box_left="40", box_top="40", box_right="60", box_bottom="59.5")
    assert table(app)["Chance"][0] == percent(26 * 25 / 128**2)  # pixels whose middles lie in 51.2 to 76.8 and 51.2 to 76.16
    assert "Gradient does not beat the centre control here" in page.section(app, "localisation-table")
    draw(app, box=[{"xref": "x", "yref": "y", "x": [-0.5, 63.5], "y": [127.5, 31.5]}])
    assert page.value(app, "region") == "Box"
    assert [page.value(app, f"box_{side}") for side in ("left", "top", "right", "bottom")] == [0, 25, 50, 100]
    assert table(app)["Chance"][0] == percent(0.375)
    assert "above 33" in " ".join(page.captions(app))


def test_a_drawn_outline_becomes_the_region_and_an_empty_selection_changes_nothing(section):
    app = section(region="Outline")
    assert ["lasso" in info for info in page.infos(app)] == [True]  # there is none yet
    draw(app, lasso=[{"xref": "x", "yref": "y", "x": [-0.5, 127.5, -0.5], "y": [-0.5, -0.5, 127.5]}])
    assert page.value(app, "region") == "Outline" and not page.infos(app)
    assert float(table(app)["Chance"][0].split(" ")[0]) == pytest.approx(50, abs=1)
    before = table(app)
    assert table(draw(app)) == before


def test_an_outline_stands_in_the_link_and_can_be_typed(section):
    app = section(region="Outline", region_outline="0,0 100,0 0,100")
    assert not page.infos(app) and float(table(app)["Chance"][0].split(" ")[0]) == pytest.approx(50, abs=1)
    app = section(region="heart")
    corners = [(30 + 20 * math.cos(turn), 50 + 20 * math.sin(turn)) for turn in np.linspace(0, 2 * math.pi, 200)]
    draw(app, lasso=[{"xref": "x", "yref": "y", "x": [1.28 * x - 0.5 for x, _ in corners], "y": [1.28 * y - 0.5 for _, y in corners]}])
    written = page.value(app, "region_outline")
    assert app.query_params["region_outline"] == written
    assert 12 < len(written.split()) < 40  # enough corners for a circle, few enough for a link
    assert float(table(app)["Chance"][0].split(" ")[0]) == pytest.approx(100 * math.pi * 0.2**2, abs=0.4)
    assert table(section(region="Outline", region_outline=written)) == table(app)


@pytest.mark.parametrize("wrong", ["heart", "10,10 20,20", "1,2,3 4,5,6 7,8,9", "0,0 200,0 0,100", "nan,0 100,0 0,100"])
def test_corners_that_are_none_are_told_in_one_sentence(section, wrong):
    app = section(region="Outline", region_outline=wrong)
    assert ["three or more corners" in info for info in page.infos(app)] == [True] and not app.exception


@pytest.mark.parametrize(("points", "kept"), [
    ([(0, 0), (10, 0.2), (20, -0.3), (30, 0)], [0, 3]), ([(0, 0), (10, 0), (10, 10), (0, 10), (0, 0)], [0, 1, 2, 3, 4]),
    ([(5, 5), (5, 5), (5, 5)], [0, 2])])
def test_an_outline_is_straightened_by_little(points, kept):
    points = np.array(points, float)
    assert np.array_equal(regions.straightened(points), points[kept])


def test_an_empty_or_full_box_is_told_in_one_sentence(section):
    app = section(region="Box", box_left="0", box_right="100", box_top="0", box_bottom="100")
    assert ["whole" in info for info in page.infos(app)] == [True]
    page.choose(app, "box_right", 0.0)
    assert ["empty" in info for info in page.infos(app)] == [True]
    assert not app.exception


def test_the_region_follows_the_class_and_the_picture(section):
    app = section(region="star")
    assert page.value(app, "region") == "star"
    page.choose(app, "class", "star")
    page.choose(app, "class", "heart")
    assert page.value(app, "region") == "heart"
    page.click(app, "picture-knight-flower")
    assert not app.exception and page.value(app, "region") in ("knight", "flower")


def test_a_picture_without_masks_takes_a_box_once_it_is_drawn(section):
    app = section(picture="digit-3", network="Digits: CNN-M of MIP-IN", **{"class": "3"})
    assert not app.exception and page.widget(app, "region").options == ["Box", "Outline"]
    assert ["Draw a box" in info for info in page.infos(app)] == [True] and not table(app)
    page.choose(app, "box_left", 0.0)
    assert float(table(app)["Chance"][0].split(" ")[0]) == pytest.approx(100 * 0.75 * 0.5, abs=2)


def test_the_downloaded_table_holds_every_map():
    methods = list(ex.methods().values())[:2]
    results = localisation.measure([np.eye(16), -np.eye(16)], localisation.box(0, 0, 3, 3, (16, 16)))
    content = section_table.table(list(zip(methods, results, strict=True)))
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    assert [row["method"] for row in rows] == [method.key for method in methods]
    assert all(float(rows[0][name]) == getattr(results[0], name) for name in section_table.COLUMNS) and rows[1]["energy"] == "nan"


def test_without_the_controls_the_maps_that_are_there_are_measured(section, monkeypatch):
    app = section(seed="81")
    monkeypatch.setattr(asked, "is_stopped", lambda place, key: place == "maps")
    page.choose(app, "seed", 82)
    assert not app.exception and "Random" not in table(app)
