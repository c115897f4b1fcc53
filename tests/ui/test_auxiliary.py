"""What methods show beside their maps: closed and free of charge at first, drawn when it is opened."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from support import page
from support.page import charts, errors, run_all, section, unfold

import explainers as ex
from components.compare import parts_bars, tiles
from components.drawing.colour import Display
from explainers.contract import AuxiliaryOutput, RawMap
from explainers.methods import declared

SECTIONS = {
    "Attribution mask": ("attribution_mask", {"attribution_mask.iterations": "4"}, ["The image", "Masked input 4", "probability"]),
    "DMBP": ("dmbp", {"dmbp.iterations": "3"}, ["Positive part", "Negative part", "Logit without"]),
    "MIP-IN": ("mip_in", {"mip_in.images": "40", "network": "Digits: MLP-M of MIP-IN"}, ["Source signal", "Change of the logit"]),
}


def sections(app) -> list[str]:
    return [key for key in page.keys(app) if key.startswith("extras.")]


def test_nothing_is_shown_where_methods_have_no_auxiliary_outputs(open_app):
    assert not sections(open_app(query={"methods": ["Gradient"]}))


@pytest.mark.parametrize("title", SECTIONS)
def test_a_section_is_drawn_when_it_is_opened(open_app, title):
    method, settings, expected = SECTIONS[title]
    key = f"extras.{method}"
    app = run_all(open_app(query={"methods": [title], **settings}))
    assert sections(app) == [key]
    assert section(app, key) == f"Inside {title}" and not charts(app, key)
    app = unfold(app, key)
    assert not app.exception and not errors(app)
    text = section(app, key)
    assert all(word in text for word in expected), text
    traces = sum(output.kind == "trace" for output in ex.methods()[method].auxiliary_outputs)
    assert sum(len(chart["data"]) for chart in charts(app, key)) == traces


def test_a_long_film_is_cut_to_a_few_pictures_with_the_first_and_the_last(open_app):
    app = run_all(open_app(query={"methods": ["Attribution mask"], "attribution_mask.iterations": "30"}))
    text = section(unfold(app, "extras.attribution_mask"), "extras.attribution_mask")
    assert len(set(re.findall(r"Masked input (\d+)", text))) == 9 and "The image" in text and "Masked input 30" in text


SIDE = 128  # of the app's network
NEW = (
    AuxiliaryOutput("sources", "Source signals", "signals", "From the logit down.", labels="names", numbers=("sizes",)),
    AuxiliaryOutput("mapping", "Positive mapping", "weights", "Raises it."),
    AuxiliaryOutput("other", "Negative mapping", "weights", "Lowers it."),
    AuxiliaryOutput("signed", "Attributions", "maps", "Of each iteration.", numbers=("sums",)),
    AuxiliaryOutput("mask", "Mask", "masks", "Channel by channel."),
    AuxiliaryOutput("origin", "Logit by origin", "parts", "What adds what.", unit="logit", parts=("Image", "Biases")),
)


@pytest.fixture()
def extras() -> dict:
    """Values of all kinds in ``NEW``, with planted places."""
    mapping = torch.zeros(3, SIDE, SIDE)
    mapping[0, :64, :64], mapping[1, 64:, 64:] = 1.0, -1.0
    signed = torch.zeros(12, 3, SIDE, SIDE)
    signed[:, 0, 0, 0], signed[:, 1, 9, 9] = 2.0, -1.0
    mask = torch.zeros(2, 3, SIDE, SIDE)
    mask[:, 1] = 0.5
    mask[:, 2] = 1.0
    sources = [torch.tensor([2.0]), torch.tensor([3.0, 1.0, -4.0, 2.0, 0.0]), torch.ones(7, 16, 16), torch.zeros(3, SIDE, SIDE)]
    return {"sources": sources, "names": ["logit", "dense", "conv 1", "pixels"], "sizes": [1.0, 5.0, 7.0, 3.0],
            "mapping": mapping, "other": -0.5 * mapping, "signed": signed, "sums": [float(step) for step in range(12)], "mask": mask,
            "origin": [3.0, -1.0]}


@pytest.fixture()
def drawing(extras) -> tiles.Drawing:
    """Draws ``extras`` as those of a map of the app's network."""
    network = ex.load_model("scenes_nib_vgg")
    seen = Image.new("RGB", (SIDE, SIDE), "grey")
    workspace = SimpleNamespace(network=network, input=SimpleNamespace(seen=seen))
    attribution = SimpleNamespace(extras=extras, input_size=(SIDE, SIDE))
    return tiles.Drawing(workspace, ex.methods()["gradient"], attribution, Display())


def films(drawing: tiles.Drawing, extras: dict, *names: str) -> dict[str, tiles.Film]:
    """The films of these outputs by title; that of the single pictures has none."""
    return {film.title: film for film in drawing.films([(output, extras[output.name]) for output in NEW if output.name in names])}


def test_signals_become_cells_maps_and_a_picture_with_their_names(drawing, extras):
    film = films(drawing, extras, "sources")["Source signals"]
    assert [tile.title for tile in film.tiles] == extras["names"] and film.text == "From the logit down."
    logit, dense, conv, pixels = film.tiles
    assert logit.shown.values.tolist() == [[2.0]] and logit.text == "sizes 1 2"
    assert np.array_equal(dense.shown.values, [[3, 1, -4], [2, 0, np.nan]], equal_nan=True)  # the last cell is empty
    assert dense.picture is None and "5 numbers, row by row" in dense.text
    assert conv.shown.values == pytest.approx(np.ones((SIDE, SIDE))) and "Mean of 7 channels, 16 \u00d7 16." in conv.text
    assert pixels.shown is None and np.asarray(pixels.picture).std() < 60 and pixels.picture.size == (SIDE, SIDE)


def test_weights_share_a_scale_and_are_grey_where_they_are_zero(drawing, extras):
    (film,) = films(drawing, extras, "mapping", "other").values()
    assert film.title == "" and len(film.tiles) == 2
    first, second = (np.asarray(tile.picture) for tile in film.tiles)
    assert first[0, 0].tolist() == [255, 128, 128] and first[100, 100].tolist() == [128, 0, 128]
    assert first[0, 100].tolist() == [128] * 3
    assert second[0, 0].tolist() == [64, 128, 128] and second[100, 100].tolist() == [128, 191, 128]  # half as strong
    assert all("Grey is 0, full colour \u00b11." in tile.text for tile in film.tiles)
    assert film.tiles[1].alt == "Negative mapping in colour: from \u22120.5 to 0.5, grey is 0"


def test_an_outlier_does_not_set_the_scale_of_weights():
    weights = torch.full((3, 100, 100), 0.1)
    weights[0, 0, 0] = 50.0
    assert tiles.weights_limit([weights, 0.5 * weights]) == pytest.approx(0.1)
    assert tiles.weights_limit([torch.zeros(3, 8, 8)]) == 1.0


def test_maps_of_many_iterations_are_cut_and_keep_their_numbers(drawing, extras):
    film = films(drawing, extras, "signed")["Attributions"]
    assert len(film.tiles) == tiles.MOST_PICTURES
    assert [film.tiles[at].title for at in (0, -1)] == ["Attributions 1", "Attributions 12"]
    assert [film.tiles[at].text for at in (0, -1)] == ["sums 0", "sums 11"]
    assert film.tiles[0].shown.values[0, 0] == 2 and film.tiles[0].shown.values[9, 9] == -1 and film.tiles[0].shown.diverging


def test_masks_are_grey_pictures_channel_by_channel(drawing, extras):
    film = films(drawing, extras, "mask")["Mask"]
    assert [tile.title for tile in film.tiles] == ["Mask 1", "Mask 2"]
    letters, words, pictures = zip(*film.tiles[1].masks, strict=True)
    assert letters == ("R", "G", "B") and words == tuple(
        f"Mask 2, {colour}: mean {mean}" for colour, mean in (("red", "0"), ("green", "0.5"), ("blue", "1")))
    assert [np.unique(picture).tolist() for picture in pictures] == [[0], [128], [255]]
    assert all(f'alt="{each}"' in tiles.as_html(film, on_dark=False) for each in words)
    grey = drawing.films([(NEW[4], extras["mask"][:, :1])])[0]
    assert [mask[:2] for mask in grey.tiles[0].masks] == [("", "Mask 1: mean 0")]


def edges(html: str) -> list[tuple[float, float]]:
    """Where the pieces of the bars begin and end, in percent of the bar's width."""
    pieces = re.findall(r'<i style="left: ([\d.]+)%; width: ([\d.]+)%', html)
    return [(float(left), float(left) + float(width)) for left, width in pieces]


def marks(html: str, which: str) -> list[float]:
    return [float(left) for left in re.findall(rf'class="{which}" style="left: ([\d.]+)%', html)]


def test_parts_of_one_sign_fill_the_bar(extras):
    html = parts_bars.as_html([(NEW[5], [3.0, 1.0])])
    assert edges(html) == [(0, 75), (75, 100)] and marks(html, "zero") == [0] and marks(html, "total") == [100]
    assert "75\u00a0%" in html and "25\u00a0%" in html and "of the total" in html and "total 4 logit" in html
    assert 'aria-label="Logit by origin: Image 3 (75\u00a0% of the total), Biases 1 (25\u00a0% of the total), total 4"' in html


def test_parts_of_both_signs_go_to_both_sides_of_zero():
    html = parts_bars.as_html([(NEW[5], [3.0, -1.0])])
    assert edges(html) == [(25, 100), (0, 25)] and marks(html, "zero") == [25] and marks(html, "total") == [75]
    assert "total 2 logit" in html and "\u22121" in html and "of the sum of magnitudes" in html


def test_negative_parts_stand_left_of_zero_and_bars_of_one_unit_share_a_scale():
    positive, negative = replace(NEW[5], title="y+"), replace(NEW[5], title="y\u2212")
    html = parts_bars.as_html([(positive, [6.0, 0.0]), (negative, [-1.0, -1.0])])
    assert marks(html, "zero") == [25, 25] and marks(html, "total") == [100, 0]
    assert edges(html) == [(25, 100), (100, 100), (12.5, 25), (0, 12.5)]  # the second part is 0
    other = replace(NEW[5], unit="%")
    assert marks(parts_bars.as_html([(positive, [6.0, 0.0]), (other, [-1.0, -1.0])]), "zero") == [0, 100]


def test_parts_without_any_size_do_not_divide_by_zero():
    assert parts_bars.percentages([0.0, 0.0]) == [0.0, 0.0]
    assert marks(parts_bars.as_html([(NEW[5], [0.0, 0.0])]), "zero") == [0]


def test_all_new_kinds_stand_on_the_page(open_app, monkeypatch, extras):
    def attribute(network, x, *_):
        return RawMap(torch.ones_like(x[0]), extras)

    plain = declared()["gradient"]
    monkeypatch.setitem(declared(), "gradient", replace(plain, attribute=attribute, auxiliary_outputs=NEW, version=999))
    app = unfold(run_all(open_app(query={"methods": ["Gradient"]})), "extras.gradient")
    assert not app.exception and not errors(app)
    text = section(app, "extras.gradient")
    for words in ("Source signals From the logit down.", "conv 1", "Positive mapping", "Attributions 12", "sums 11", "Mask 2",
                  "Logit by origin", "total 2 logit", "Biases"):
        assert words in text, words
    assert len(page.pictures(app, "extras.gradient")) == (1 + 1 + 2 + 1) + 2 + 2 * 10 + 2 * 3  # a map lies over the picture
