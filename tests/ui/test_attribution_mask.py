"""The attribution mask page: what it shows is what the method, the metric and the network say."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from support import page
from support.page import captions, chart, charts, choose, click, errors, has, section

import explainers as ex
from components.attribution_mask import masked_accuracy
from components.compute import asked
from components.drawing import colour
from components.state.engine import network as shared_network
from explainers.data.labelled import scenes_set
from explainers.methods.attribution_mask import reader_logits
from explainers.metrics import masked_input_accuracy

PAGE = "attribution_mask"
FIRST = "star-heart"  # the picture that the app shows first for the network of the tests
TWO = ["Gradient x Sign (GxSI)", "Guided Backpropagation"]
KEYS = ["gradient_x_sign", "guided_backprop"]
LINES = "masking-lines"
OTHER = "Scenes: residual network"


def first_input(network: str = "scenes_vgg"):
    """What the app shows first: network, input and its top-1 class."""
    net = shared_network(network)
    x = net.preprocess(next(sample for sample in ex.samples() if sample.name == FIRST).load())
    return net, x, net.target(x, None).first


@pytest.fixture(scope="module")
def few_scenes():
    return scenes_set(4)


@pytest.fixture()
def free(monkeypatch) -> None:
    """Everything runs by itself, because the machine that runs the tests may be busy."""
    monkeypatch.setattr(asked, "FREE_SECONDS", float("inf"))


def test_the_lines_and_readings_are_the_methods(open_app, free):
    app = open_app(PAGE, {"bases": TWO, "mask_iterations": "4", "mask_step": "2"})
    net, x, target = first_input()
    lines, tiles = chart(app, LINES)["data"], section(app, "masking-tiles")
    for line, title, key in zip(lines, TWO, KEYS, strict=True):
        extras = ex.explain(net, x, "attribution_mask", target=target, base=key, iterations=4).extras
        assert line["y"] == pytest.approx([100 * value for value in extras["probability"]], abs=1e-3) and len(line["y"]) == 5
        assert line["marker"]["symbol"] == ["circle" if first == target else "x" for first in extras["prediction"]]
        assert f"{title} {100 * extras['probability'][2]:.1f} % logit" in tiles
        first, probability = net.categories[extras["prediction"][2]], extras["prediction_probability"][2]
        assert f"first: {first} {100 * probability:.1f} %" in tiles
    assert [line["name"] for line in lines] == TWO
    right, verdict = [symbol == "circle" for symbol in lines[1]["marker"]["symbol"]], section(app, "masking-verdict")
    assert not right[4] and f"Guided Backpropagation (from mask {4 - right[::-1].index(True) + 1} on)" in verdict
    assert "proves nothing" in verdict
    blank = net.predict(0 * x)[0]
    assert f"Blank: {net.categories[int(blank.argmax())]} {100 * float(blank.max()):.1f} %" in section(app, "masking-picture")
    app = choose(app, "mask_step", 0)
    whole, tiles = float(net.predict(x)[0, target]), section(app, "masking-tiles")
    assert all(f"{title} {100 * whole:.1f} % logit" in tiles for title in TWO)
    assert tiles.count(f"first: {net.categories[target]}") == 2


def test_the_pictures_are_the_masked_input_and_the_mask(open_app, free):
    app = open_app(PAGE, {"bases": TWO[:1], "mask_iterations": "2", "mask_step": "2", "mask_stretch": "false"})
    net, x, target = first_input()
    mask = ex.explain(net, x, "attribution_mask", target=target, base=KEYS[0], iterations=2).extras["masks"][1]
    left, grey = (decoded(source) for source in page.pictures(app, "masking-tiles"))
    assert np.abs(left - np.asarray(net.preprocessing.picture(x[0] * mask), float)).mean() < 4  # as far as a JPEG goes
    assert grey.mean() == pytest.approx(255 * float(mask.mean()), abs=1)
    assert "shown as it is" in section(app, "masking-tiles")
    app = choose(app, "mask_stretch", True)
    assert decoded(page.pictures(app, "masking-tiles")[1]).mean() > grey.mean()
    assert "times as strong" in section(app, "masking-tiles")


def decoded(source: str) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(base64.b64decode(source.split(",", 1)[1]))), float)


def test_fewer_masks_than_the_slider_stood_at_are_no_trouble(open_app, free):
    app = open_app(PAGE, {"bases": TWO[:1], "mask_iterations": "6", "mask_step": "5"})
    app = choose(app, "network", "scenes_nib_vgg")
    assert "Blank: all classes alike" in section(app, "masking-picture")
    app = choose(app, "mask_iterations", 2)
    assert not app.exception and len(chart(app, LINES)["data"][0]["y"]) == 3
    assert 0 <= page.value(app, "mask_step") <= 2


def test_a_costly_base_waits_and_the_others_do_not(open_app, monkeypatch):
    real = ex.Engine.cost

    def cost(self, question):
        passes = real(self, question).passes
        return ex.Cost(passes, 60.0 if question.settings.base == "guided_backprop" else 0.1)

    monkeypatch.setattr(ex.Engine, "cost", cost)
    app = open_app(PAGE, {"bases": TWO, "mask_iterations": "5"})
    assert [line["name"] for line in chart(app, LINES)["data"]] == TWO[:1]
    assert page.widget(app, "run-masking").label == "Mask, about 60 s"
    app = click(app, "run-masking")
    assert [line["name"] for line in chart(app, LINES)["data"]] == TWO
    assert not has(app, "run-masking")


def test_a_base_that_fails_leaves_the_others(open_app, free, monkeypatch):
    real = ex.Engine.explain

    def explain(self, question, **rest):
        if getattr(question.settings, "base", "") == "guided_backprop":
            raise ex.ExplainerError("It is not in the mood.")
        return real(self, question, **rest)

    monkeypatch.setattr(ex.Engine, "explain", explain)
    app = open_app(PAGE, {"bases": TWO, "mask_iterations": "3", "seed": "5"})
    assert [line["name"] for line in chart(app, LINES)["data"]] == TWO[:1]
    assert [warning.value for warning in app.warning] == [f"{TWO[1]}: It is not in the mood."]


@pytest.mark.parametrize("network", ["scenes_vgg", "scenes_nib_vgg"])
def test_every_iteration_is_shown_with_its_sum_beside_its_logit(open_app, free, network):
    product = ["Gradient x Input"]
    app = open_app(PAGE, {"network": network, "bases": product, "mask_iterations": "3", "mask_step": "1", "mask_stretch": "false"})
    assert not has(app, "every-mask-table")
    app = page.unfold(app, "every_mask")
    net, x, target = first_input(network)
    attribution = ex.explain(net, x, "attribution_mask", target=target, base="gradient_x_input", iterations=3)
    rows = {name: cells for name, *cells in page.table(app, "every-mask-table")}
    sums, logits = rows["Sum of attributions"], rows["Logit"]
    assert [number(text) for text in sums[:3]] == pytest.approx(attribution.extras["attribution_sum"], rel=0.006)
    assert [number(text) for text in logits] == pytest.approx(attribution.extras["logit"], rel=0.006) and sums[3] == "\u2013"
    assert (sums[:3] == logits[:3]) == (network == "scenes_nib_vgg")
    words = section(app, "every_mask")
    assert ("sum to the logit, because nothing is added by biases" in words) == (network == "scenes_nib_vgg")
    assert rows["Masks"] == ["0", "1", "2", "3"] and rows["First choice"][0].startswith(net.categories[target])
    sources = page.pictures(app, "every-mask-table")
    assert len(sources) == 4 + 3 + 3
    first_mask, first_map = decoded(sources[4]), decoded(sources[7])
    assert first_mask.mean() == pytest.approx(255 * float(attribution.extras["masks"][0].mean()), abs=1)
    shown = colour.prepare([(attribution.extras["attributions"][0].sum(0).numpy(), True)], colour.Display(clip=98))[0]
    expected = colour.over(shown, Image.new("RGB", (128, 128)), "None").astype(float)
    assert np.array_equal(first_map, expected) and rows["Attributions"][0] == f"\u00b1 {shown.limit:.3g}"
    app = choose(app, "mask_channels", "Red, green, blue")
    assert len(page.pictures(app, "every-mask-table")) == 4 + 3 * 3 + 3 * 3
    assert [name for name, *_ in page.table(app, "every-mask-table")][2:5] == ["Mask, red", "Mask, green", "Mask, blue"]
    red = decoded(page.pictures(app, "every-mask-table")[4])
    assert red.mean() == pytest.approx(255 * float(attribution.extras["masks"][0, 0].mean()), abs=1)


def number(text: str) -> float:
    return float(text.replace("\u2212", "-"))


def test_the_iterations_of_another_base_method_are_shown_when_it_is_chosen(open_app, free):
    app = page.unfold(open_app(PAGE, {"bases": TWO, "mask_iterations": "2"}), "every_mask")
    before = page.table(app, "every-mask-table")
    assert page.value(app, "mask_film") == TWO[0]
    app = choose(app, "mask_film", TWO[1])
    assert page.table(app, "every-mask-table") != before and f"{TWO[1]} is not made to sum" in section(app, "every_mask")


def test_a_reader_says_what_it_makes_of_the_masked_pictures(open_app, free):
    link = {"bases": TWO, "mask_iterations": "3", "mask_step": "3"}
    app = open_app(PAGE, link)
    assert page.value(app, "mask_reader") == "The same network" and "reader" not in section(app, "masking-tiles")
    assert "Scenes: VGG with biases" not in page.widget(app, "mask_reader").options
    app = choose(app, "mask_reader", OTHER)
    net, x, target = first_input()
    other, lines, tiles = shared_network("scenes_resnet"), chart(app, LINES)["data"], section(app, "masking-tiles")
    for line, title, key in zip(lines[2:], TWO, KEYS, strict=True):
        masks = ex.explain(net, x, "attribution_mask", target=target, base=key, iterations=3).extras["masks"]
        *probabilities, blank = reader_logits(other, net, x, masks).softmax(1)
        probabilities = torch.stack(probabilities)
        assert line["name"] == f"{title}, reader" and line["line"]["dash"] == "dot"
        assert line["y"] == pytest.approx((100 * probabilities[:, target]).tolist(), abs=1e-3)
        highest, first = probabilities[3].max(0)
        assert f"reader: {net.categories[int(first)]} {100 * float(highest):.1f} %" in tiles
    verdict = section(app, "masking-verdict")
    assert f"{OTHER} reads the same pictures" in verdict
    assert f"a blank picture it takes for {net.categories[int(blank.argmax())]} ({100 * float(blank.max()):.1f} %)" in verdict
    app = page.unfold(app, "every_mask")
    rows = {name: cells for name, *cells in page.table(app, "every-mask-table")}
    assert len(rows[f"Read by {OTHER}"]) == 4
    again = open_app(PAGE, {**link, "mask_reader": OTHER, "mask_channels": "Red, green, blue", "mask_film": TWO[1]})
    again = page.unfold(again, "every_mask")
    assert page.value(again, "mask_reader") == OTHER and len(chart(again, LINES)["data"]) == 4
    assert page.value(again, "mask_film") == TWO[1] and page.value(again, "mask_channels") == "Red, green, blue"


def test_a_reader_that_cannot_read_these_pictures_is_refused_with_the_reason(open_app, free, monkeypatch):
    def refuse(*_):
        raise ex.UnsupportedError("It takes images of another size.")

    monkeypatch.setattr("components.attribution_mask.reader.check_reader", refuse)
    app = open_app(PAGE, {"bases": TWO[:1], "mask_iterations": "1", "mask_reader": OTHER})
    assert [warning.value for warning in app.warning] == ["It takes images of another size."]
    assert len(chart(app, LINES)["data"]) == 1


def test_a_reader_has_curves_beside_the_networks(open_app, free, monkeypatch, few_scenes):
    monkeypatch.setattr(masked_accuracy, "scenes_set", lambda count, seed, progress: few_scenes)
    monkeypatch.setattr(masked_accuracy, "SIDE_BY_SIDE", ("scenes_nib_vgg", "scenes_vgg"))
    app = open_app(PAGE, {"mask_view": "A labelled set", "bases": TWO[:1], "mask_iterations": "2", "mask_noise": "0.2",
                          "mask_reader": "Scenes: VGG with biases"})
    nib, biased = shared_network("scenes_nib_vgg"), shared_network("scenes_vgg")
    result = masked_input_accuracy.measure(nib, few_scenes.inputs(nib, 0.2), few_scenes.labels, KEYS[0], 2, reader=biased)
    first, second = accuracies(app)
    assert first == [[100 * value for value in line] for line in (result.accuracy, result.reader_accuracy)]
    assert len(second) == 1  # the reader is the network itself there


def accuracies(app) -> list[list[list[float]]]:
    """The curves of each chart."""
    return [[line["y"] for line in spec["data"]] for spec in charts(app)]


def test_masked_input_accuracy_is_asked_for_measured_once_and_right(open_app, engine, monkeypatch, few_scenes):
    drawn = []
    monkeypatch.setattr(masked_accuracy, "scenes_set", lambda count, seed, progress: drawn.append(count) or few_scenes)
    monkeypatch.setattr(asked, "FREE_SECONDS", -1.0)
    app = open_app(PAGE, {"mask_view": "A labelled set", "bases": TWO, "mask_iterations": "2", "mask_noise": "0.12"})
    assert not charts(app) and not drawn and "no accuracy" in page.infos(app)[0]
    app = click(app, "run-masked-accuracy")
    expected = []
    for name in masked_accuracy.SIDE_BY_SIDE:
        net = shared_network(name)
        images = few_scenes.inputs(net, 0.12)
        measured = (masked_input_accuracy.measure(net, images, few_scenes.labels, key, 2) for key in KEYS)
        expected.append([[100 * value for value in result.accuracy] for result in measured])
    assert accuracies(app) == expected and drawn == [100]
    before = engine.runs
    assert accuracies(app.run()) == expected and engine.runs == before and not has(app, "run-masked-accuracy")
    again = open_app(PAGE, {"mask_view": "A labelled set", "bases": TWO[:1], "mask_iterations": "2", "mask_noise": "0.12"})
    assert accuracies(again) == [lines[:1] for lines in expected] and engine.runs == before and drawn == [100]


@pytest.mark.parametrize("change", [{"seed": "1"}, {"mask_noise": "0.1"}, {"mask_pictures": "50"}, {"mask_iterations": "3"}])
def test_another_set_is_measured_anew(open_app, engine, monkeypatch, few_scenes, change):
    monkeypatch.setattr(masked_accuracy, "scenes_set", lambda count, seed, progress: few_scenes)
    monkeypatch.setattr(asked, "FREE_SECONDS", float("inf"))
    link = {"mask_view": "A labelled set", "bases": TWO[:1], "mask_iterations": "2", "mask_noise": "0.2"}
    open_app(PAGE, link)
    open_app(query=change)  # the start page's maps
    before = engine.runs
    open_app(PAGE, link)
    assert engine.runs == before
    open_app(PAGE, {**link, **change})
    assert engine.runs == before + 2


def test_the_time_of_drawing_is_part_of_the_estimate_until_the_scenes_are_drawn(open_app, monkeypatch, few_scenes):
    monkeypatch.setattr(masked_accuracy, "scenes_set", lambda count, seed, progress: few_scenes)
    monkeypatch.setattr(masked_accuracy, "DRAW_SECONDS", 1000.0)
    link = {"mask_view": "A labelled set", "bases": TWO[:1], "mask_iterations": "1", "seed": "3"}
    monkeypatch.setattr(asked, "FREE_SECONDS", -1.0)
    app = open_app(PAGE, link)
    assert int(page.widget(app, "run-masked-accuracy").label.split()[-2]) == pytest.approx(100_000 / 60, rel=0.05)
    app = choose(click(app, "run-masked-accuracy"), "mask_iterations", 2)
    assert not charts(app) and "min" not in page.widget(app, "run-masked-accuracy").label


def test_a_persons_own_pictures_are_labelled_by_their_names(open_app, free, few_scenes):
    def png(i: int) -> bytes:
        buffer = BytesIO()
        Image.fromarray(few_scenes.pixels[i].permute(1, 2, 0).numpy()).save(buffer, "PNG")
        return buffer.getvalue()

    net, labels = shared_network("scenes_vgg"), few_scenes.labels.tolist()
    app = open_app(PAGE, {"mask_view": "A labelled set", "labelled": "My pictures", "bases": TWO[:1], "mask_iterations": "1"})
    assert not charts(app)
    files = [(f"{labels[0]}_a.png", png(0)), (f"{net.categories[labels[1]]} 7.png", png(1)), ("zebra.png", png(2)),
             (f"{labels[3]}_b.png", b"no picture")]
    app = page.upload(app, "labelled_files", *((name, data, "image/png") for name, data in files))
    lines = errors(app)
    assert len(lines) == 2 and "not a picture" in lines[1]
    assert lines[0].startswith("zebra.png: ") and "must begin" in lines[0]
    images = few_scenes.inputs(net)[:2]
    expected = masked_input_accuracy.measure(net, images, few_scenes.labels[:2], KEYS[0], 1).accuracy
    assert accuracies(app) == [[[100 * value for value in expected]]] and not app.exception


def test_small_grey_pictures_and_contrasts_are_taken(open_app, free):
    app = open_app(PAGE, {"network": "Digits: CNN-M of MIP-IN", "against": "9", "methods": ["Gradient"], "mask_iterations": "2"})
    assert not errors(app) and "\u2212 9" in page.heading(app) and " points " in section(app, "masking-tiles")
    app = page.unfold(app, "every_mask")
    rows = {name: cells for name, *cells in page.table(app, "every-mask-table")}
    assert not has(app, "mask_channels") and "points" in rows["Probability"][0] and len(rows["Difference of logits"]) == 3


def test_an_old_link_to_be_the_mask_leads_to_its_page(open_app):
    link = {"mask_view": "Be the mask", "mask_start": "Everything visible", "mask_baseline": "Blurred", "methods": ["Gradient"],
            "seed": "7"}
    app = open_app(PAGE, link)
    assert page.has(app, "mask_board") and not has(app, LINES)
    assert (page.value(app, "mask_start"), page.value(app, "mask_baseline"), page.value(app, "seed"), page.value(app, "methods")) == (
        "Everything visible", "Blurred", 7, ["gradient"])


@pytest.mark.parametrize(("network", "shown"), [("Digits: CNN-M of MIP-IN", True), ("Scenes: residual network", False)])
def test_a_network_that_scenes_do_not_measure_is_told_so(open_app, network, shown):
    app = open_app(PAGE, {"mask_view": "A labelled set", "network": network, "mask_pictures": "50", "mask_iterations": "2"})
    assert any(f"For {network} choose My pictures." in caption for caption in captions(app)) == shown


def test_a_network_of_photographs_asks_for_labelled_pictures(open_app):
    app = open_app(PAGE, {"mask_view": "A labelled set", "network": "efficientnet_lite0"})
    assert page.value(app, "labelled") == "My pictures" and has(app, "labelled_files") and not has(app, "run-masked-accuracy")
    assert any(caption.startswith("Photographs cannot be drawn afresh") for caption in captions(app))


@pytest.mark.parametrize(("against", "axis"), [("None", "probability, %"), ("crown", "difference of probability, points")])
def test_a_contrast_is_called_a_difference(open_app, free, against, axis):
    app = open_app(PAGE, {"bases": TWO[:1], "mask_iterations": "2", "against": against})
    assert chart(app, LINES)["layout"]["yaxis"]["title"]["text"] == axis


def test_a_class_that_was_never_first_is_not_said_to_have_been(open_app, free):
    text = section(open_app(PAGE, {"bases": TWO[:1], "mask_iterations": "2", "class": "crown"}), "masking-verdict")
    assert f"crown is not the first choice after 2 masks: {TWO[0]} (it never was)" in text and "no longer" not in text
