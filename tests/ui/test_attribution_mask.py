"""The attribution mask page: what it shows is what the method, the metric and the network say; and boxes that become masks."""

from __future__ import annotations

import json
import re
from io import BytesIO

import numpy as np
import pytest
from app.reading import complaints, figure, page_html
from PIL import Image

import explainers as ex
from components.attribution_mask import be_the_mask, masked_accuracy
from components.attribution_mask.be_the_mask import BOARD, HIDE, REVEAL, STROKES, Stroke, mask_of, same_area, stroke_of
from components.compute import gate
from components.sidebar import picture_picker
from components.state import session
from explainers.data.labelled import scenes_set
from explainers.metrics import masked_input_accuracy
from explainers.metrics.revealed import measure

PAGE = "attribution_mask"
TWO = ["Gradient x Sign (GxSI)", "Guided Backpropagation"]
KEYS = ["gradient_x_sign", "guided_backprop"]


def first_sight(network: str = "scenes_vgg"):
    """What the app shows first: network, input and its top-1 class."""
    net = session.network(network)
    samples = {picture.name: picture for picture in picture_picker.samples_of(net.training_data)}
    x = net.preprocess(samples[picture_picker.FIRST[0]].image)
    return net, x, net.target(x, None)


def pressed(app, key):
    return next(button for button in app.button if button.key == key).click().run()


def reading(app) -> float:
    """The large number of "be the mask", in %."""
    return float(re.search(r'mask-reading"><h3>.*?</h3><b>([\d.]+) %', page_html(app)).group(1))


@pytest.fixture(scope="module")
def few_scenes():
    return scenes_set(4)


def test_the_lines_and_readings_are_the_methods(open_app):
    app = open_app(PAGE, {"bases": TWO, "mask_iterations": "4", "mask_step": "2"})
    net, x, target = first_sight()
    lines = figure(app)["data"]
    for line, key in zip(lines, KEYS, strict=True):
        extras = ex.explain(net, x, "attribution_mask", target=target, base=key, iterations=4).extras
        assert line["y"] == pytest.approx([100 * value for value in extras["probability"]], abs=1e-3) and len(line["y"]) == 5
        assert line["marker"]["symbol"] == ["circle" if first == target else "x" for first in extras["prediction"]]
        assert f'<b>{100 * extras["probability"][2]:.1f} %</b>' in page_html(app)
    assert [line["name"] for line in lines] == TWO and 'class="lost"' in page_html(app)
    right = [symbol == "circle" for symbol in lines[1]["marker"]["symbol"]]
    assert not right[4] and f"Guided Backpropagation (from mask {4 - right[::-1].index(True) + 1} on)" in page_html(app)
    assert "proves nothing" in page_html(app)
    blank = net.predict(0 * x)[0]
    assert f"Blank: {net.categories[int(blank.argmax())]} {100 * float(blank.max()):.1f}&nbsp;%" in page_html(app)
    app = next(slider for slider in app.slider if slider.key == "mask_step").set_value(0).run()
    whole = float(net.predict(x)[0, target])
    assert page_html(app).count(f'<div class="reading"><b>{100 * whole:.1f} %</b>') == 2
    assert 'class="lost"' not in page_html(app)


def test_fewer_masks_than_the_slider_stood_at_are_no_trouble(open_app):
    app = open_app(PAGE, {"bases": TWO[:1], "mask_iterations": "6", "mask_step": "5"})
    app.session_state["network"] = "scenes_nib_vgg"
    app = next(slider for slider in app.slider if slider.key == "mask_iterations").set_value(2).run()
    assert "Blank: all classes alike" in page_html(app)
    assert not app.exception and len(figure(app)["data"][0]["y"]) == 3
    assert 0 <= next(slider for slider in app.slider if slider.key == "mask_step").value <= 2


def test_a_costly_base_waits_and_the_others_do_not(open_app, monkeypatch):
    real = ex.Engine.cost

    def cost(self, network, method, **params):
        found = real(self, network, method, **params)
        return ex.Cost(found.passes, 60.0 if params.get("base") == "guided_backprop" else 0.1)

    monkeypatch.setattr(ex.Engine, "cost", cost)
    app = open_app(PAGE, {"bases": TWO, "mask_iterations": "5"})
    assert [line["name"] for line in figure(app)["data"]] == TWO[:1]
    app = pressed(app, "ask-masking")
    assert [line["name"] for line in figure(app)["data"]] == TWO
    assert not any(button.key == "ask-masking" for button in app.button)


def charts(app) -> list[list[list[float]]]:
    """The curves of each chart."""
    return [[line["y"] for line in json.loads(chart.proto.spec)["data"]] for chart in app.get("plotly_chart")]


def test_masked_input_accuracy_is_asked_for_measured_once_and_right(open_app, engine, monkeypatch, few_scenes):
    monkeypatch.setattr(masked_accuracy, "scenes_set", lambda count, seed, progress: few_scenes)
    monkeypatch.setattr(gate, "FREE_SECONDS", -1.0)
    app = open_app(PAGE, {"mask_view": "A labelled set", "bases": TWO, "mask_iterations": "2", "mask_noise": "0.12"})
    assert not charts(app) and "no accuracy" in app.info[0].value
    app = pressed(app, "ask-accuracy")
    expected = []
    for name in masked_accuracy.SIDE_BY_SIDE:
        net = session.network(name)
        images = few_scenes.inputs(net, 0.12)
        expected.append([[100 * share for share in masked_input_accuracy.measure(net, images, few_scenes.labels, key, 2).accuracy]
                         for key in KEYS])
    assert charts(app) == expected
    before = engine.runs
    app.session_state["asked-masked-accuracy"] = "something else"
    assert charts(app.run()) == expected and engine.runs == before


def test_a_persons_own_pictures_are_labelled_by_their_names(open_app, few_scenes):
    def png(i: int) -> bytes:
        buffer = BytesIO()
        Image.fromarray(few_scenes.pixels[i].permute(1, 2, 0).numpy()).save(buffer, "PNG")
        return buffer.getvalue()

    net, labels = session.network("scenes_vgg"), few_scenes.labels.tolist()
    app = open_app(PAGE, {"mask_view": "A labelled set", "labelled": "My pictures", "bases": TWO[:1], "mask_iterations": "1"})
    assert not charts(app)
    uploader = next(one for one in app.file_uploader if one.key == "labelled_files")
    files = [(f"{labels[0]}_a.png", png(0)), (f"{net.categories[labels[1]]} 7.png", png(1)), ("zebra.png", png(2)),
             (f"{labels[3]}_b.png", b"no picture")]
    for name, data in files:
        uploader.upload(name, data)
    app = app.run()
    said = complaints(app)
    assert len(said) == 2 and "not a picture" in said[1]
    assert said[0].startswith("zebra.png: ") and "must begin" in said[0]
    images = few_scenes.inputs(net)[:2]
    expected = masked_input_accuracy.measure(net, images, few_scenes.labels[:2], KEYS[0], 1).accuracy
    assert charts(app) == [[[100 * share for share in expected]]] and not app.exception


def test_visible_shows_everything(open_app):
    net, x, target = first_sight()
    app = open_app(PAGE, {"mask_view": "Be the mask", "mask_start": "Everything visible", "methods": ["Gradient"]})
    assert reading(app) == pytest.approx(100 * float(net.predict(x)[0, target]), abs=0.06)
    assert "+0.0 points" in page_html(app) and "100.0 % of the picture" in page_html(app)


@pytest.mark.parametrize("baseline", ["Mean colour", "Blurred"])
def test_boxes_are_seen_and_methods_get_the_same_area(open_app, baseline):
    app = open_app(PAGE, {"mask_view": "Be the mask", "mask_baseline": baseline, "methods": ["Gradient"]})
    net, x, target = first_sight()
    nothing = float(measure(net, x, np.zeros((1, 128, 128), bool), be_the_mask.BASELINES[baseline])[0, target])
    assert reading(app) == pytest.approx(100 * nothing, abs=0.06)
    boxes = [Stroke(70, 126, 20, 80, True), Stroke(90, 100, 30, 50, False)]
    app.session_state[STROKES][1].extend(boxes)
    app = app.run()
    mask = mask_of(boxes, False, (128, 128))
    heatmap = ex.explain(net, x, "gradient", target=target).heatmap()
    masks = np.stack([mask, same_area(heatmap, float(mask.mean()), False)])
    yours, method = measure(net, x, masks, be_the_mask.BASELINES[baseline])[:, target].tolist()
    assert masks[1].sum() == mask.sum() == 56 * 60 - 10 * 20
    assert reading(app) == pytest.approx(100 * yours, abs=0.06)
    assert f"<b>{100 * method:.1f} %</b>" in page_html(app) and f"{100 * mask.mean():.1f} % of the picture" in page_html(app)
    app = pressed(app, "mask_undo")
    assert app.session_state[STROKES][1] == boxes[:1] and reading(app) != pytest.approx(100 * yours, abs=0.06)
    app = pressed(app, "mask_reset")
    assert app.session_state[STROKES][1] == [] and "0.0 % of the picture" in page_html(app)


def test_another_picture_is_another_game(open_app):
    app = open_app(PAGE, {"mask_view": "Be the mask", "methods": ["Gradient"]})
    app.session_state[STROKES][1].append(Stroke(0, 9, 0, 9, True))
    button = next(b for b in app.button if b.key.startswith("picture-") and "star" not in b.key)
    assert button.click().run().session_state[STROKES][1] == []


def test_a_drawn_box_becomes_a_stroke_and_an_empty_selection_does_not(monkeypatch):
    state = {STROKES: ("game", []), "mask_action-s": REVEAL, BOARD: {"selection": {"box": [{"x": [20.2, 9.7], "y": [-4, 5.4]}]}}}
    monkeypatch.setattr(be_the_mask.st, "session_state", state)
    be_the_mask._drawn("s", (32, 32))
    state["mask_action-s"] = HIDE
    be_the_mask._drawn("s", (32, 32))
    state[BOARD] = {"selection": {"box": []}}
    be_the_mask._drawn("s", (32, 32))
    assert state[STROKES][1] == [Stroke(10, 21, 0, 6, True), Stroke(10, 21, 0, 6, False)]


def test_boxes_are_clipped_to_the_picture_and_later_ones_win():
    assert stroke_of({"x": [-9, 99], "y": [99, -9]}, True, (8, 10)) == Stroke(0, 10, 0, 8, True)
    assert stroke_of({"x": [3.1, 3.2], "y": [0, 5]}, True, (8, 10)) is None
    assert stroke_of({"x": [40, 50], "y": [0, 5]}, True, (8, 10)) is None
    mask = mask_of([Stroke(2, 6, 1, 5, False), Stroke(3, 4, 1, 5, True)], True, (8, 10))
    assert mask.sum() == 80 - 16 + 4 and mask[1, 3] and not mask[1, 2]


def test_the_same_area_is_the_highest_or_all_but_the_highest():
    heatmap = np.arange(20.0).reshape(4, 5)
    assert same_area(heatmap, 0.25, False).sum() == 5 and same_area(heatmap, 0.25, False)[3].all()
    assert same_area(heatmap, 0.75, True).sum() == 15 and not same_area(heatmap, 0.75, True)[3].any()


@pytest.mark.parametrize("view", ["One picture", "Be the mask"])
def test_small_grey_pictures_and_contrasts_are_taken(open_app, view):
    app = open_app(PAGE, {"mask_view": view, "network": "Digits: CNN-M of MIP-IN", "against": "9", "methods": ["Gradient"],
                          "mask_iterations": "2"})
    assert not complaints(app) and "\u2212 9" in page_html(app) and " points</b>" in page_html(app)


@pytest.mark.parametrize(("network", "told"), [("Digits: CNN-M of MIP-IN", True), ("Scenes: residual network", False)])
def test_a_network_that_scenes_do_not_measure_is_told_so(open_app, network, told):
    app = open_app(PAGE, {"mask_view": "A labelled set", "network": network})
    assert any(f"For {network} choose My pictures." in one.value for one in app.caption) == told


@pytest.mark.parametrize(("against", "axis"), [("None", "probability, %"), ("crown", "difference of probability, points")])
def test_a_contrast_is_called_a_difference(open_app, monkeypatch, against, axis):
    monkeypatch.setattr(gate, "FREE_SECONDS", float("inf"))
    app = open_app(PAGE, {"bases": TWO[:1], "mask_iterations": "2", "against": against})
    assert figure(app)["layout"]["yaxis"]["title"]["text"] == axis


def test_a_class_that_was_never_first_is_not_said_to_have_been(open_app, monkeypatch):
    monkeypatch.setattr(gate, "FREE_SECONDS", float("inf"))
    told = page_html(open_app(PAGE, {"bases": TWO[:1], "mask_iterations": "2", "class": "crown"}))
    assert f"crown is not the first choice after 2 masks: {TWO[0]} (it never was)" in told and "no longer" not in told
