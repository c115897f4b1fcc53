"""The Sensitivity-n section: curves of all maps from one set of removals, the download, and what waits."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from support import page

import explainers as ex
from components.compute import asked
from components.faithfulness import sensitivity
from explainers.metrics import sensitivity_n as metric

LINK = {"measurement": "Sensitivity-n", "picture": "star-heart", "methods": "Gradient", "class": "heart", "sn_masks": "20"}
CONTROLS = {"random", "center", "sobel", "input_magnitude", "random_weights_gradient"}


@pytest.fixture()
def opened(open_app):
    return lambda **query: open_app("faithfulness", {**LINK, **query})


def curves(app) -> dict[str, list[float]]:
    """Each map's correlations by the method's key."""
    return {trace["legendgroup"]: page.numbers(trace["y"]).tolist() for trace in page.chart(app, "sensitivity-curves")["data"]}


def test_a_new_map_costs_no_pass(opened, engine, monkeypatch):
    monkeypatch.setattr(asked, "FREE_SECONDS", 60.0)
    app = opened(seed="11")  # whose maps no other test has made
    before, runs = curves(app), engine.runs
    assert before.keys() == {"gradient"} | CONTROLS
    images, logits = [], ex.Classifier.logits
    monkeypatch.setattr(ex.Classifier, "logits", lambda self, x, *rest: images.append(len(x)) or logits(self, x, *rest))
    monkeypatch.setattr(asked, "FREE_SECONDS", 0.0)  # what costs nothing runs all the same
    page.run_all(page.choose(app, "methods", ["gradient", "gradient_x_input"]))
    assert curves(app).keys() == {"gradient", "gradient_x_input"} | CONTROLS and curves(app)["gradient"] == before["gradient"]
    assert engine.runs == runs + 2  # the new map and its correlations
    assert sum(images) <= 1  # the new map's own pass
    monkeypatch.setattr(asked, "FREE_SECONDS", 60.0)
    page.choose(app, "sn_remove", "Tiles of 8 \u00d7 8")
    assert len(curves(app)) == 2 + len(CONTROLS) and any("tiles" in caption for caption in page.captions(app))
    assert curves(app)["gradient"] != before["gradient"] and sum(images) > 100


def test_what_is_drawn_is_what_the_metric_measures(opened, engine, monkeypatch):
    monkeypatch.setattr(asked, "FREE_SECONDS", 60.0)
    app = opened(sn_remove="Tiles of 8 \u00d7 8", sn_largest="25 %", seed="3")
    network = ex.load_model("scenes_vgg")
    x = network.preprocess(next(sample for sample in ex.samples() if sample.name == "star-heart").load())
    target = network.categories.index("heart")
    attribution = ex.explain(network, x, "gradient", target=target, seed=3)
    counts = metric.log_spaced(256, 0.25, sensitivity.POINTS)
    expected = metric.measure(network, x, attribution, target=target, counts=counts, masks=20, tile=8, seed=3)
    assert np.array_equal(curves(app)["gradient"], expected.correlation)


def test_the_downloaded_curves_have_a_row_for_each_n():
    methods = list(ex.methods().values())[:2]
    results = [metric.SensitivityN(np.array([1, 4]), np.array(row), 5, ex.Passes()) for row in ([0.5, np.nan], [0.25, -1])]
    first, second = csv.DictReader(io.StringIO(sensitivity.table(methods, results).decode()))
    keys = [method.key for method in methods]
    assert first == {"n": "1", keys[0]: "0.5", keys[1]: "0.25"} and second == {"n": "4", keys[0]: "nan", keys[1]: "-1.0"}


def test_a_costly_measurement_waits_to_be_asked_for(opened, monkeypatch):
    monkeypatch.setattr(asked, "FREE_SECONDS", 0.0)
    app = opened(**{"class": "star", "seed": "5"})
    assert not page.charts(app)
    page.click(app, "run-sensitivity")
    free = CONTROLS - {"random_weights_gradient"}  # whose map is not free, and was not asked for
    assert curves(app).keys() >= free and not page.has(app, "run-sensitivity")


def test_a_measurement_that_fails_says_why(opened, engine, monkeypatch):
    def fail(*_):
        raise ex.ExplainerError("It does not fit into the memory: choose a smaller network.")

    monkeypatch.setattr(asked, "FREE_SECONDS", 60.0)
    monkeypatch.setattr(engine, "measure_together", fail)
    app = opened(seed="6")
    assert page.errors(app) == ["It does not fit into the memory: choose a smaller network."] and not page.charts(app)


def test_without_the_random_control_chance_is_that_of_the_masks(monkeypatch):
    warned = []
    monkeypatch.setattr(sensitivity, "warn", warned.extend)
    method = ex.methods()["gradient"]
    weak, strong = (metric.SensitivityN(np.array([1, 4]), np.full(2, mean), 50, ex.Passes()) for mean in (0.19, 0.2))
    sensitivity._words([method, method], [weak, strong], "pixels")  # 1.96 / sqrt(2 x 50) = 0.196
    assert len(warned) == 1 and "its mean is 0.19" in warned[0]


def test_a_draft_comes_first_and_the_button_replaces_it(opened, engine, monkeypatch):
    real = engine.cost_together

    def cost(measurements):
        counts = getattr(measurements[0].settings, "counts", None)
        seconds = 60.0 if counts and len(counts) > sensitivity.DRAFT_POINTS else 0.5
        passes = real(measurements).passes
        return ex.Cost(passes, seconds if passes else 0.0)

    monkeypatch.setattr(engine, "cost_together", cost)
    monkeypatch.setattr(asked, "FREE_SECONDS", 30.0)
    app = opened(seed="6")
    assert len(curves(app)["gradient"]) == sensitivity.DRAFT_POINTS
    assert any(caption.startswith("A draft so far: 20 sets for each of 4 n") for caption in page.captions(app))
    page.click(app, "run-sensitivity")
    assert len(curves(app)["gradient"]) == sensitivity.POINTS and not any("draft so far" in each for each in page.captions(app))
