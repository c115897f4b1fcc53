"""The localisation and Sensitivity-n sections: regions from masks, drawn boxes and outlines, the table, the curves, the gate."""

from __future__ import annotations

import csv
import io
import json
import math
import re

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import explainers as ex
from app.reading import page_html
from components import gate, regions, sensitivity
from components import localisation as section_table
from components.runs import Job
from explainers.metrics import localisation, sensitivity_n

LINK = {"measurement": "Localisation", "picture": "star-heart", "methods": "Gradient", "class": "heart"}


@pytest.fixture()
def section(open_app):
    def opened(**query) -> AppTest:
        return open_app("faithfulness", {**LINK, **query})

    return opened


def table(app: AppTest) -> dict[str, list[str]]:
    """The words of each row by its first."""
    found = re.search(r'<table class="numbers localisation">.*?</table>', page_html(app), re.S)
    rows = re.findall(r"<tr.*?</tr>", found[0], re.S)
    words = [[re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[dh].*?</t[dh]>", row, re.S)] for row in rows]
    return {row[0]: row[1:] for row in words}


def percent(share: float) -> str:
    return f"{100 * share:.1f}\u202f%"


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
    found = engine.explain(network, network.preprocess(sample.load()), "gradient", target=network.categories.index("heart"))
    expected = localisation.measure(found, heart(network))
    rows = table(app)
    assert rows["Gradient"][2:] == [percent(expected.bounding_box), percent(expected.energy), percent(expected.ehr)]
    assert rows["Gradient"][:2] == ["hit" if expected.pointing else "miss", "hit" if expected.pointing_near else "miss"]
    assert rows["Chance"][0] == percent(expected.area) and rows["Chance"][1] == percent(expected.chance.pointing_near)
    assert {"Centre", "Random", "Edges (Sobel)"} <= rows.keys()
    assert "another object" not in page_html(app)
    app.toggle(key="region_box").set_value(True).run()
    assert table(app)["Chance"][0] == percent(localisation.bounding_box(heart(network)).mean())
    app.segmented_control(key="region").set_value("star").run()
    assert "another object" in page_html(app)


def test_a_box_comes_from_the_link_and_another_from_the_picture(section):
    app = section(region="Box", box_left="40", box_top="40", box_right="60", box_bottom="59.5")
    assert table(app)["Chance"][0] == percent(26 * 25 / 128**2)  # pixels whose middles lie in 51.2 to 76.8 and 51.2 to 76.16
    assert "Gradient does not beat the centre control here" in page_html(app)
    draw(app, box=[{"xref": "x", "yref": "y", "x": [-0.5, 63.5], "y": [127.5, 31.5]}])
    assert app.segmented_control(key="region").value == "Box"
    assert [app.number_input(key=f"box_{side}").value for side in ("left", "top", "right", "bottom")] == [0, 25, 50, 100]
    assert table(app)["Chance"][0] == percent(0.375)
    assert "above 33" in " ".join(caption.value for caption in app.caption)


def test_a_drawn_outline_becomes_the_region_and_an_empty_selection_changes_nothing(section):
    app = section(region="Outline")
    assert ["lasso" in info.value for info in app.info] == [True]  # there is none yet
    draw(app, lasso=[{"xref": "x", "yref": "y", "x": [-0.5, 127.5, -0.5], "y": [-0.5, -0.5, 127.5]}])
    assert app.segmented_control(key="region").value == "Outline" and not app.info
    assert float(table(app)["Chance"][0].split("\u202f")[0]) == pytest.approx(50, abs=1)
    before = table(app)
    assert table(draw(app)) == before


def test_an_outline_stands_in_the_link_and_can_be_typed(section):
    app = section(region="Outline", region_outline="0,0 100,0 0,100")
    assert not app.info and float(table(app)["Chance"][0].split("\u202f")[0]) == pytest.approx(50, abs=1)
    app = section(region="heart")
    corners = [(30 + 20 * math.cos(turn), 50 + 20 * math.sin(turn)) for turn in np.linspace(0, 2 * math.pi, 200)]
    draw(app, lasso=[{"xref": "x", "yref": "y", "x": [1.28 * x - 0.5 for x, _ in corners], "y": [1.28 * y - 0.5 for _, y in corners]}])
    written = app.text_input(key="region_outline").value
    assert app.query_params["region_outline"] == written
    assert 12 < len(written.split()) < 40  # enough corners for a circle, few enough for a link
    assert float(table(app)["Chance"][0].split("\u202f")[0]) == pytest.approx(100 * math.pi * 0.2**2, abs=0.4)
    assert table(section(region="Outline", region_outline=written)) == table(app)


@pytest.mark.parametrize("wrong", ["heart", "10,10 20,20", "1,2,3 4,5,6 7,8,9", "0,0 200,0 0,100", "nan,0 100,0 0,100"])
def test_corners_that_are_none_are_told_in_one_sentence(section, wrong):
    app = section(region="Outline", region_outline=wrong)
    assert ["three or more corners" in info.value for info in app.info] == [True] and not app.exception


@pytest.mark.parametrize(("points", "kept"), [
    ([(0, 0), (10, 0.2), (20, -0.3), (30, 0)], [0, 3]), ([(0, 0), (10, 0), (10, 10), (0, 10), (0, 0)], [0, 1, 2, 3, 4]),
    ([(5, 5), (5, 5), (5, 5)], [0, 2])])
def test_an_outline_is_straightened_by_little(points, kept):
    points = np.array(points, float)
    assert np.array_equal(regions.straightened(points), points[kept])


def test_an_empty_or_full_box_is_told_in_one_sentence(section):
    app = section(region="Box", box_left="0", box_right="100", box_top="0", box_bottom="100")
    assert ["whole" in info.value for info in app.info] == [True]
    app.number_input(key="box_right").set_value(0.0).run()
    assert ["empty" in info.value for info in app.info] == [True]
    assert not app.exception


def test_the_region_follows_the_class_and_the_picture(section):
    app = section(region="star")
    assert app.segmented_control(key="region").value == "star"
    app.selectbox(key="class").set_value("star").run()
    app.selectbox(key="class").set_value("heart").run()
    assert app.segmented_control(key="region").value == "heart"
    app.button(key="picture-knight-flower").click().run()
    assert not app.exception and app.segmented_control(key="region").value in ("knight", "flower")


def test_a_picture_without_masks_takes_a_box(section):
    app = section(picture="digit-3", network="Digits: CNN-M of MIP-IN", **{"class": "3"})
    assert not app.exception and app.segmented_control(key="region").options == ["Box", "Outline"]
    assert table(app)["Chance"][0] == percent(0.25)


def test_the_downloaded_table_holds_every_map():
    jobs = [Job(method) for method in list(ex.methods().values())[:2]]
    region = localisation.box(0, 0, 3, 3, (16, 16))
    found = localisation.measure([np.eye(16), -np.eye(16)], region)
    rows = list(csv.DictReader(io.StringIO(section_table.table(jobs, found).decode())))
    assert [row["method"] for row in rows] == [job.method.key for job in jobs]
    assert all(float(rows[0][name]) == getattr(found[0], name) for name in section_table.COLUMNS) and rows[1]["energy"] == "nan"


# Sensitivity-n

NEXT = {**LINK, "measurement": "Sensitivity-n", "sn_masks": "20"}


def curves(app: AppTest) -> dict[str, dict]:
    chart = next(one for one in app.get("plotly_chart") if "sensitivity" in one.proto.id)
    return {trace["legendgroup"]: trace for trace in json.loads(chart.proto.spec)["data"]}


def test_the_curves_of_all_maps_come_from_one_run(open_app, engine, monkeypatch):
    monkeypatch.setattr(gate, "FREE_SECONDS", 60.0)
    app = open_app("faithfulness", NEXT)
    found = curves(app)
    assert set(found) == {"gradient", "random", "center", "sobel"}
    runs = engine.runs
    app.multiselect(key="methods").set_value(["gradient", "gradient_x_input"]).run()
    assert set(curves(app)) == {"gradient", "gradient_x_input", "random", "center", "sobel"}
    assert engine.runs == runs + 1  # the new map alone
    assert curves(app)["gradient"]["y"] == found["gradient"]["y"]
    app.segmented_control(key="sn_remove").set_value("Tiles of 8 \u00d7 8").run()
    assert len(curves(app)) == 5 and "tiles" in " ".join(caption.value for caption in app.caption)
    assert curves(app)["gradient"]["y"] != found["gradient"]["y"]


def test_the_downloaded_curves_have_a_row_for_each_n():
    jobs = [Job(method) for method in list(ex.methods().values())[:2]]
    found = [sensitivity_n.SensitivityN(np.array([1, 4]), np.array(row), 5, ex.Passes()) for row in ([0.5, np.nan], [0.25, -1])]
    first, second = csv.DictReader(io.StringIO(sensitivity.table(jobs, found).decode()))
    keys = [job.method.key for job in jobs]
    assert first == {"n": "1", keys[0]: "0.5", keys[1]: "0.25"} and second == {"n": "4", keys[0]: "nan", keys[1]: "-1.0"}


def test_a_costly_measurement_waits_to_be_asked_for(open_app, monkeypatch):
    monkeypatch.setattr(gate, "FREE_SECONDS", 0.0)
    app = open_app("faithfulness", {**NEXT, "class": "star", "seed": "5", "methods": "Gradient"})
    assert not [one for one in app.get("plotly_chart") if "sensitivity" in one.proto.id]
    app.button(key="run-sensitivity").click().run()
    assert {"random", "center", "sobel"} <= set(curves(app)) and not [one for one in app.button if one.key == "run-sensitivity"]
