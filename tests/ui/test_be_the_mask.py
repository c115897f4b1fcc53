"""The page "be the mask": boxes become masks, by mouse, by numbers and by a link, and the network's answers are shown beside them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from support import page
from support.page import choose, click, draw_on, errors, section

import explainers as ex
from components.be_the_mask.boxes import CENTRE, Box, as_text, drawn, from_text, mask_of, opening, same_area
from components.be_the_mask.game import BASELINES, BOARD, EDGES, HIDDEN, HIDE
from components.compute import asked
from components.state.engine import network as shared_network
from explainers.metrics.revealed import measure

PAGE = "be_the_mask"
FIRST = "star-heart"  # the picture that the app shows first for the network of the tests
QUICK = {"methods": ["Gradient"]}


@pytest.fixture()
def free(monkeypatch) -> None:
    """Everything runs by itself, because the machine that runs the tests may be busy."""
    monkeypatch.setattr(asked, "FREE_SECONDS", float("inf"))


@pytest.fixture()
def scene():
    """What the app shows first: the sample, the network, its input and the top-1 class."""
    sample = next(sample for sample in ex.samples() if sample.name == FIRST)
    network = shared_network("scenes_vgg")
    x = network.preprocess(sample.load())
    return sample, network, x, network.target(x, None).first


def reading(app) -> float:
    """The large number, in %."""
    words = section(app, "mask-reading").split(" %", 1)[0]
    return float(words.rsplit(" ", 1)[-1])


def numbers(app) -> tuple[float, ...]:
    return tuple(page.value(app, f"mask_{edge}") for edge in EDGES)


def held(app) -> str:
    """The boxes that the link holds."""
    text = app.query_params["boxes"]
    return text if isinstance(text, str) else text[-1]


def on_board(left: float, right: float, top: float, bottom: float) -> dict[str, list[float]]:
    """A box on the board; pixel i covers i - 0.5 to i + 0.5."""
    return {"x": [left - 0.5, right - 0.5], "y": [bottom - 0.5, top - 0.5]}


def test_the_page_opens_with_a_box_around_the_object_of_the_class(open_app, scene):
    sample, network, x, target = scene
    app = open_app(PAGE, QUICK)
    label = network.categories[target]
    inside = np.asarray(network.seen(Image.fromarray(sample.masks[sample.labels.index(label)].astype(np.uint8) * 255)))[..., 0] >= 128
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    edges = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    assert numbers(app) == pytest.approx([100 * edge / 128 for edge in edges], abs=0.01)
    mask = np.zeros((1, 128, 128), bool)
    mask[0, rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1] = True
    assert reading(app) == pytest.approx(100 * float(measure(network, x, mask)[0, target]), abs=0.06)
    whole = 100 * float(network.predict(x)[0, target])
    assert f"from the whole picture's {whole:.1f} %" in section(app, "mask-reading")
    assert f"Whole picture {label} {whole:.1f} %" in section(app, "mask-reading")


def test_a_picture_without_known_objects_opens_with_its_middle():
    network = SimpleNamespace(input_size=(28, 28), categories=("0", "1"), fingerprint="none", seen=None)
    picture = SimpleNamespace(name="upload-0123", digest="0123")
    workspace = SimpleNamespace(network=network, picture=picture, input=SimpleNamespace(fit="crop"), target=ex.Target.of(0))
    assert opening(workspace, True) == Box(*CENTRE, True)
    assert mask_of([opening(workspace, True)], False, (28, 28)).sum() == 14 * 14


def test_visible_begins_with_the_box_hidden(open_app, scene):
    _, network, x, target = scene
    app = open_app(PAGE, {**QUICK, "mask_start": "Everything visible"})
    before = reading(app)
    app = click(app, "mask_reset")
    assert reading(app) == pytest.approx(100 * float(network.predict(x)[0, target]), abs=0.06) and reading(app) != before
    assert "+0.0 points" in section(app, "mask-reading") and "100.0 % of the picture" in section(app, "mask-reading")


@pytest.mark.parametrize("baseline", ["Mean colour", "Blurred"])
def test_boxes_are_seen_and_methods_get_the_same_area(open_app, free, scene, baseline):
    _, net, x, target = scene
    app = click(open_app(PAGE, {**QUICK, "mask_baseline": baseline}), "mask_reset")
    nothing = float(measure(net, x, np.zeros((1, 128, 128), bool), BASELINES[baseline])[0, target])
    assert reading(app) == pytest.approx(100 * nothing, abs=0.06)
    app = draw_on(app, BOARD, box=[on_board(70, 126, 20, 80)])
    one_box = reading(app)
    app = choose(app, f"mask_action-{HIDDEN}", HIDE)
    app = draw_on(app, BOARD, box=[on_board(90, 100, 30, 50)])
    mask = np.zeros((128, 128), bool)
    mask[20:80, 70:126] = True
    mask[30:50, 90:100] = False
    heatmap = ex.explain(net, x, "gradient", target=target).heatmap()
    masks = np.stack([mask, same_area(heatmap, float(mask.mean()), False)])
    yours, method = measure(net, x, masks, BASELINES[baseline])[:, target].tolist()
    assert masks[1].sum() == mask.sum() == 56 * 60 - 10 * 20
    assert reading(app) == pytest.approx(100 * yours, abs=0.06)
    assert f"Gradient {100 * method:.1f} % first: " in section(app, "mask-tiles")
    assert f"{100 * mask.mean():.1f} % of the picture" in section(app, "mask-reading")
    app = click(app, "mask_undo")
    assert reading(app) == one_box and f"{100 * 56 * 60 / 128**2:.1f} % of the picture" in section(app, "mask-reading")
    app = click(app, "mask_reset")
    assert "0.0 % of the picture" in section(app, "mask-reading") and page.widget(app, "mask_undo").disabled


def test_numbers_move_the_last_box_and_a_button_adds_one(open_app):
    app = click(open_app(PAGE, QUICK), "mask_reset")
    assert page.widget(app, "mask_left").disabled
    app = click(app, "mask_add")
    assert numbers(app) == CENTRE and "25.0 % of the picture" in section(app, "mask-reading")
    app = choose(app, "mask_left", 50.0)
    assert "12.5 % of the picture" in section(app, "mask-reading") and held(app) == "show 50,25,75,75"
    app = choose(app, "mask_left", 80.0)
    assert any("empty" in caption for caption in page.captions(app)) and "0.0 % of the picture" in section(app, "mask-reading")
    app = choose(click(app, "mask_add"), "mask_bottom", 50.0)
    assert held(app) == "show 80,25,75,75; show 25,25,75,50"
    assert numbers(click(app, "mask_undo")) == (80, 25, 75, 75)


def test_a_drawn_box_is_what_the_numbers_show(open_app):
    app = draw_on(open_app(PAGE, QUICK), BOARD, box=[on_board(32, 64, 0, 128)])
    assert numbers(app) == (25, 0, 50, 100)


def test_a_link_restores_the_boxes(open_app):
    app = open_app(PAGE, {**QUICK, "boxes": "show 0,0,50,50; hide 0,0,25,25"})
    assert numbers(app) == (0, 0, 25, 25) and f"{100 * (0.25 - 0.0625):.1f} % of the picture" in section(app, "mask-reading")


def test_another_picture_is_another_game(open_app):
    app = draw_on(open_app(PAGE, QUICK), BOARD, box=[on_board(0, 9, 0, 9)])
    assert "boxes" in app.query_params
    other = next(key for key in sorted(page.keys(app)) if key.startswith("picture-") and "star" not in key)
    app = click(app, other)
    assert "boxes" not in app.query_params and numbers(app) != (0, 0, 7.03, 7.03)


def test_an_empty_selection_is_no_box(open_app):
    app = open_app(PAGE, QUICK)
    before = numbers(app)
    app = draw_on(app, BOARD, box=[])
    assert not app.exception and numbers(app) == before


def test_a_box_is_taken_either_way_round_and_clipped():
    taken = drawn({"x": [20.2, 9.7], "y": [-4, 5.4]}, True, (32, 32))
    assert taken.slices((32, 32)) == (slice(0, 6), slice(10, 21)) and taken.reveals
    assert drawn({"x": [-9, 99], "y": [99, -9]}, True, (8, 10)).slices((8, 10)) == (slice(0, 8), slice(0, 10))
    assert drawn({"x": [3.1, 3.2], "y": [0, 5]}, True, (8, 10)) is None
    assert drawn({"x": [40, 50], "y": [0, 5]}, True, (8, 10)) is None


def test_later_boxes_win():
    mask = mask_of([Box(20, 12.5, 60, 62.5, False), Box(30, 12.5, 40, 62.5, True)], True, (8, 10))
    assert mask.sum() == 80 - 16 + 4 and mask[1, 3] and not mask[1, 2]


@pytest.mark.parametrize("boxes", [[], [Box(1.5, 0, 99.99, 100, True), Box(0, 0, 3, 4, False)]])
def test_a_link_holds_what_it_is_given(boxes):
    assert from_text(as_text(boxes)) == boxes


@pytest.mark.parametrize("text", ["", "show 1,2,3", "paint 1,2,3,4", "show 0,0,101,5", "show a,b,c,d", "show 0,0,nan,5"])
def test_nonsense_in_a_link_is_no_box(text):
    assert from_text(text) is None


def test_the_same_area_is_the_highest_or_all_but_the_highest():
    heatmap = np.arange(20.0).reshape(4, 5)
    assert same_area(heatmap, 0.25, False).sum() == 5 and same_area(heatmap, 0.25, False)[3].all()
    assert same_area(heatmap, 0.75, True).sum() == 15 and not same_area(heatmap, 0.75, True)[3].any()


def test_small_grey_pictures_and_contrasts_are_taken(open_app, free):
    app = open_app(PAGE, {**QUICK, "network": "Digits: CNN-M of MIP-IN", "against": "9"})
    assert not errors(app) and "\u2212 9" in page.heading(app) and " points " in section(app, "mask-tiles")
