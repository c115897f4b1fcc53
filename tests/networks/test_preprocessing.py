"""How a picture is fitted into a network's square input: geometry that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from explainers.errors import ExplainerError
from explainers.networks.preprocessing import FITS, Preprocessing

GREY = Preprocessing(32, 32, (0.2,), (1.0,))
COLOUR = Preprocessing(36, 32, (0.2, 0.4, 0.6), (0.5, 0.5, 0.5))


def stripes(width: int, height: int, count: int = 4) -> Image.Image:
    """Vertical stripes of equal width; their grey values are 0, 40, 80 ..."""
    columns = np.arange(width) * count // width * 40
    return Image.fromarray(np.broadcast_to(columns.astype(np.uint8), (height, width)).copy())


def test_a_wide_picture_is_seen_whole_between_borders_of_the_mean_colour():
    """128 x 64 becomes 32 x 16, so 8 rows above and below are filled with 0.2 * 255 = 51."""
    seen = np.asarray(GREY.seen(stripes(128, 64), "whole"))
    assert seen.shape == (32, 32)
    assert (seen[:8] == 51).all() and (seen[24:] == 51).all()
    assert seen[16, [4, 12, 20, 28]].tolist() == [0, 40, 80, 120]  # the middles of the four stripes


def test_a_tall_picture_gets_its_borders_at_the_sides():
    seen = np.asarray(COLOUR.seen(Image.new("RGB", (50, 100), "white"), "whole"))
    assert (seen[:, :8] == (51, 102, 153)).all() and (seen[:, 24:] == (51, 102, 153)).all()
    assert (seen[:, 8:24] == 255).all()


def test_the_borders_are_zero_for_the_network_but_for_rounding():
    x = COLOUR.tensor(Image.new("RGB", (64, 32), "white"), "whole")
    assert x[..., :8, :].abs().max() < 0.5 / 255 / 0.5
    assert torch.equal(x[..., 8:24, :], COLOUR.normalise(torch.ones(1, 3, 16, 32)))


def test_stretched_stripes_keep_their_order_and_fill_the_square():
    seen = np.asarray(GREY.seen(stripes(64, 200), "stretch"))
    assert seen[0, [4, 12, 20, 28]].tolist() == seen[31, [4, 12, 20, 28]].tolist() == [0, 40, 80, 120]


def test_cropped_stripes_lose_the_outer_ones():
    """Of 128 x 64 with four stripes of 32 columns the square in the middle holds the second and third."""
    seen = np.asarray(GREY.seen(stripes(128, 64), "crop"))
    assert set(np.unique(seen[:, [2, 8, 24, 29]])) == {40, 80}


@pytest.mark.parametrize("fit", FITS)
def test_a_square_picture_of_the_input_size_is_left_alone(fit):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8))
    assert np.array_equal(np.asarray(GREY.seen(image, fit)), np.asarray(image))


@pytest.mark.parametrize("fit, box", [("crop", (32, 0, 96, 64)), ("stretch", (0, 0, 128, 64)), ("whole", (0, -32, 128, 96))])
def test_the_box_is_the_part_that_the_input_covers(fit, box):
    assert GREY.crop_box((128, 64), fit) == box


@pytest.mark.parametrize("size", [(128, 64), (61, 97), (40, 333)])
@pytest.mark.parametrize("fit", FITS)
def test_the_box_leads_from_a_place_in_the_input_back_to_the_picture(size, fit):
    """A white square in the picture is found again where the box says, to the pixel of the input."""
    image = Image.new("L", size)
    left, top = size[0] // 2 - 6, size[1] // 2 - 6
    image.paste(255, (left, top, left + 12, top + 12))
    seen = np.asarray(GREY.seen(image, fit)).astype(float)
    if fit == "whole":
        seen[seen == 51] = 0
    rows, columns = (np.average(np.arange(32) + 0.5, weights=seen.sum(axis)) for axis in (1, 0))
    box = GREY.crop_box(size, fit)
    across, down = (box[2] - box[0]) / 32, (box[3] - box[1]) / 32
    assert box[0] + columns * across == pytest.approx(left + 6, abs=across)
    assert box[1] + rows * down == pytest.approx(top + 6, abs=down)


def test_a_mask_has_nothing_on_the_borders():
    """The mean colour itself is brighter than the middle here; a mask must not take the borders for the object."""
    bright = Preprocessing(32, 32, (0.9,), (1.0,))
    mask = np.ones((64, 128), bool)
    assert bright.seen_mask(mask, "whole").sum() == 16 * 32 and not bright.seen_mask(mask, "whole")[:8].any()
    assert bright.seen_mask(mask, "crop").all() and bright.seen_mask(mask, "stretch").all()


def test_the_thinnest_picture_still_has_a_row():
    seen = np.asarray(GREY.seen(Image.new("L", (3200, 8), 255), "whole"))
    assert (seen == 255).any(1).sum() == 1


def test_an_unknown_fit_is_refused_in_one_sentence():
    for ask in (lambda: GREY.seen(stripes(64, 64), "squash"), lambda: GREY.crop_box((64, 64), "squash")):
        with pytest.raises(ExplainerError, match="crop, whole or stretch, not by 'squash'"):
            ask()
