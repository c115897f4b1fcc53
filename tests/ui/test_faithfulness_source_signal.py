"""The section on MIP-IN's source signal: the picture, the labelled set, and the networks where there is none."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
import torch
from support import page

import explainers as ex
from components.faithfulness import percentage_views
from explainers.data.labelled import digits_set
from explainers.data.reference import default
from explainers.metrics import average_percentage_change as metric

LINK = {"measurement": "Source signal (MIP-IN)", "network": "Digits: MLP-M of MIP-IN", "methods": ["MIP-IN"], "mip_in.images": "40",
        "source_pictures": "50"}
NAMES = [str(digit) for digit in range(10)]


@pytest.fixture()
def opened(open_app):
    return lambda **query: open_app("faithfulness", {**LINK, **query})


@pytest.fixture()
def planted():
    """Two classes with changes of 50 % and 0 %, and of 10 % upwards and downwards; one picture without a logit."""
    return metric.percentage_change(torch.tensor([4.0, 2.0, 10.0, -10.0, 0.0]), torch.tensor([2.0, 2.0, 11.0, -11.0, 1.0]),
                                    torch.tensor([0, 0, 3, 3, 3]))


def test_nothing_runs_before_it_is_asked_for(opened):
    app = opened(**{"mip_in.images": "53"})  # no other test fits on so many
    assert not page.errors(app) and not page.charts(app)
    assert "with a fit" in page.widget(app, "run-source-signal").label
    assert page.widget(app, "run-percentage-change").label.startswith("Measure 50 pictures, about")


def test_the_picture_stands_beside_its_source_signal_with_both_logits(opened):
    app = page.run_all(opened(), "source-signal")
    network = ex.load_model("digits_mlp")
    x = network.preprocess(next(sample for sample in ex.samples() if sample.name == page.chosen_picture(app)).load())
    extras = ex.explain(network, x, "mip_in", images=40).extras
    words = page.section(app, "source-signal")
    assert f"logit {extras['logit']:.3g}" in words and f"logit {extras['source_logit']:.3g}" in words
    shown, source = page.pictures(app, "source-signal")
    assert shown != source


def test_a_set_is_measured_as_the_metric_does(opened):
    app = page.run_all(opened(), "percentage-change")
    network, pictures = ex.load_model("digits_mlp"), digits_set(50)
    images = pictures.inputs(network)
    expected = metric.measure(network, images, pictures.labels, default(network, images[:1]), images=40)
    rows = {row[0]: row[1:] for row in page.table(app, "percentage-change")}
    assert rows["APC"][0].startswith(percentage_views._percent(expected.mean).replace("\u00a0", " "))
    assert rows["APC+"][1] == percentage_views._percent(expected.positive_median).replace("\u00a0", " ")
    chart = page.chart(app, "percentage-scatter")
    assert sum(len(page.numbers(trace["x"])) for trace in chart["data"]) == 50
    assert len(chart["data"]) == len(set(pictures.labels.tolist())) and not app.exception


def test_another_number_of_pictures_is_another_set(opened, engine):
    app = page.run_all(opened(), "percentage-change")
    before = engine.runs
    app = page.choose(app, "source_pictures", 100)
    assert engine.runs == before and page.has(app, "run-percentage-change")


def test_own_pictures_are_asked_for(opened):
    app = page.choose(opened(), "source_set", "My pictures")
    assert any(key.startswith("labelled_files") for key in page.keys(app)) and not page.has(app, "run-percentage-change")
    assert any("Upload ten pictures" in caption for caption in page.captions(app))


def test_without_the_method_in_the_row_its_defaults_are_used(opened):
    app = opened(methods=[])
    assert any("by its default settings" in caption for caption in page.captions(app)) and not page.infos(app)


def test_a_network_that_cannot_be_inverted_says_why(opened, monkeypatch):
    monkeypatch.setattr(ex.Method, "lacks", lambda self, network: "MIP-IN needs a chain of layers." if self.key == "mip_in" else None)
    app = opened()
    assert any(info.startswith("MIP-IN needs a chain of layers.") for info in page.infos(app))
    assert not page.has(app, "run-source-signal") and not page.errors(app)


def test_the_numbers_of_each_class(planted):
    first, second = percentage_views.by_class(planted)
    assert (first.label, first.images, first.mean, first.positive, first.median) == (0, 2, 0.25, 0.25, 0.25)
    assert (second.label, second.images) == (3, 2)
    assert (second.mean, second.positive, second.median) == pytest.approx((0.1, 0.05, 0.1))


def test_the_words_count_negative_and_missing_logits(planted):
    words = percentage_views._words(planted)
    assert "negative for 1 of them" in words and "1 more have a logit of zero" in words and "4 pictures" in words


def test_a_mean_that_few_pictures_make_is_said_to_be_so():
    before = torch.tensor([0.01, 10.0, 10.0, 10.0, 10.0])
    outlier = metric.percentage_change(before, before + 1, torch.zeros(5, dtype=torch.int64))
    assert "Read the medians." in percentage_views._words(outlier)
    assert "Read the medians." not in percentage_views._words(metric.percentage_change(
        before[1:], before[1:] + 1, torch.zeros(4, dtype=torch.int64)))


def test_every_picture_is_a_line_of_the_file_and_a_point_of_the_chart(planted):
    rows = list(csv.DictReader(io.StringIO(percentage_views.csv(planted, NAMES).decode())))
    assert rows[0] == {"label": "0", "class": "0", "logit": "4", "source_logit": "2", "drop": "0.5"}
    assert rows[4]["drop"] == "" and len(rows) == 5
    drawn = percentage_views.figure(planted, NAMES)
    assert [trace["name"] for trace in drawn["data"]] == ["0", "3"]
    assert drawn["data"][1]["x"].tolist() == [10, -10, 0] and drawn["data"][1]["y"].tolist() == [11, -11, 1]
    line = drawn["layout"]["shapes"][0]
    assert (line["x0"], line["y0"]) == (-11, -11) and (line["x1"], line["y1"]) == (11, 11)


def test_many_classes_share_one_mark():
    count = percentage_views.MOST_COLOURED + 1
    many = metric.percentage_change(torch.ones(count), torch.ones(count), torch.arange(count))
    drawn = percentage_views.figure(many, [str(label) for label in range(count)])
    assert len({trace["marker"]["color"] for trace in drawn["data"]}) == 1 and not drawn["layout"]["showlegend"]
    assert np.isnan(many.error) or many.error == 0
