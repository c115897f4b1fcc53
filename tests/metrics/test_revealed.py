"""Be the mask: composites pixel by pixel, probabilities of closed forms, areas that are exactly as asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import explainers as ex
from explainers.baselines import baseline
from explainers.metrics.revealed import composites, measure, top_fraction


def masks_of(*rectangles, side=32):
    masks = np.zeros((len(rectangles), side, side), bool)
    for mask, (top, bottom, left, right) in zip(masks, rectangles, strict=True):
        mask[top:bottom, left:right] = True
    return masks


@pytest.mark.parametrize("name", ["zero", "blur", "noise"])
def test_a_composite_is_the_image_within_and_the_baseline_without(toy, image, name):
    masks = masks_of((0, 32, 0, 32), (0, 0, 0, 0), (4, 9, 20, 30))
    found = composites(toy, image, masks, name)
    assert torch.equal(found[0], image[0])
    assert torch.equal(found[2][:, 4:9, 20:30], image[0][:, 4:9, 20:30])
    found[2][:, 4:9, 20:30] = found[1][:, 4:9, 20:30]
    assert torch.equal(found[2], found[1]) and not torch.equal(found[1], image[0])
    if name != "noise":
        assert torch.equal(found[1], baseline(toy, image, name, torch.Generator())[0])


def test_probabilities_of_a_linear_network_have_a_closed_form(linear, image):
    """The logits of what is revealed are the bias and the revealed pixels' Gradient x Input."""
    mask = masks_of((3, 17, 5, 30))
    products = torch.stack([ex.explain(linear, image, "gradient_x_input", target=k).native for k in range(5)])
    bias = linear.logits(torch.zeros_like(image))[0]
    expected = (bias + (products * torch.from_numpy(mask)).sum((1, 2, 3))).softmax(-1)
    assert torch.allclose(measure(linear, image, mask)[0], expected, atol=1e-5)


def test_everything_revealed_is_the_image_and_nothing_the_baseline(toy, image):
    found = measure(toy, image, masks_of((0, 32, 0, 32), (0, 0, 0, 0)))
    assert torch.allclose(found, toy.predict(torch.cat((image, torch.zeros_like(image)))), atol=1e-6)


def test_the_batch_size_does_not_matter_and_progress_is_told(toy, image, monkeypatch):
    masks = np.random.default_rng(0).random((7, 32, 32)) < 0.4
    expected, heard = measure(toy, image, masks), []
    monkeypatch.setattr("explainers.context.fitting_batch", lambda network: 3)
    found = measure(toy, image, masks, progress=lambda done, total, preview: heard.append((done, total)))
    assert torch.allclose(found, expected, atol=1e-6) and heard[-1] == (7, 7) and len(heard) == 3
    with pytest.raises(ex.Cancelled):
        measure(toy, image, masks, progress=lambda done, total, preview: False)


@pytest.mark.parametrize("shape", [(2, 16, 32), (32, 32)])
def test_masks_of_another_size_are_refused(toy, image, shape):
    with pytest.raises(ex.ExplainerError, match=r"\(n, 32, 32\)"):
        measure(toy, image, np.zeros(shape, bool))


def test_the_top_share_takes_the_highest_values_and_of_equal_ones_the_first():
    heatmap = np.array([[1.0, -9.0, 3.0], [3.0, 3.0, -2.0]])
    assert top_fraction(heatmap, 2 / 6).tolist() == [[False, False, True], [True, False, False]]
    assert top_fraction(heatmap, 5 / 6).tolist() == [[True, False, True], [True, True, True]]
    assert not top_fraction(heatmap, 0).any() and top_fraction(heatmap, 1).all()
    assert top_fraction(np.zeros((4, 4)), 0.25).tolist()[0] == [True] * 4


@pytest.mark.parametrize("share", [0.001, 0.31, 0.5, 0.999])
def test_equal_shares_have_equal_areas(share):
    rng = np.random.default_rng(1)
    assert {int(top_fraction(rng.normal(size=(20, 30)).round(1), share).sum()) for _ in range(5)} == {round(600 * share)}
