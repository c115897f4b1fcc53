"""Digits: seeded, framed as MNIST's are, and ten readable classes."""

from __future__ import annotations

import numpy as np
import torch

from explainers.data import digits
from explainers.data.pen import WRITTEN, pen_matrices


def test_the_same_seed_gives_the_same_digits_and_another_seed_others():
    images, labels = digits.draw_batch(40, seed=5)
    again, same = digits.draw_batch(40, seed=5)
    other, _ = digits.draw_batch(40, seed=6)
    assert images.shape == (40, 1, 28, 28) and images.dtype == torch.uint8 and labels.dtype == torch.int64
    assert torch.equal(images, again) and torch.equal(labels, same)
    assert not torch.equal(images, other)


def test_a_short_batch_is_the_beginning_of_a_long_one():
    images, labels = digits.draw_batch(300, seed=7)
    for k in (0, 1, 100, 128, 129):
        fewer, fewer_labels = digits.draw_batch(k, seed=7)
        assert torch.equal(images[:k], fewer) and torch.equal(labels[:k], fewer_labels)


def test_no_digit_comes_twice():
    images = digits.draw_batch(512, seed=8)[0].flatten(1)
    assert len(images.unique(dim=0)) == 512


def test_drawing_leaves_the_global_generators_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    digits.draw_batch(3, seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_classes_are_balanced():
    counts = torch.bincount(digits.draw_batch(1280, seed=2)[1], minlength=10)
    assert counts.min() >= 120 and counts.max() <= 136


def test_digits_are_framed_as_mnist_frames_them():
    """White on black, about 20 pixels long, the centre of mass in the middle."""
    images = digits.draw_batch(256, seed=4)[0][:, 0].float() / 255
    assert images[:, 0, :].mean() < 0.02 and images[:, :, 0].mean() < 0.02
    assert 0.08 < images.mean() < 0.25
    ticks = torch.arange(28) + 0.5
    mass = images.sum((1, 2))
    for axis in (1, 2):
        middle = (images.sum(axis) * ticks).sum(1) / mass
        assert abs(middle.mean() - 14.5) < 0.1  # MNIST's own: half a pixel beyond the middle
        assert (middle - 14.5).abs().max() < 1.5
    inked = images > 0.5
    sides = torch.stack([inked.any(axis).sum(1) for axis in (1, 2)])
    assert 17 <= sides.amax(0).float().mean() <= 21


def test_pen_curves_pass_through_their_control_points():
    matrices, controls, of_digit = pen_matrices()
    assert torch.allclose(matrices.sum(2), torch.ones(matrices.shape[:2]), atol=1e-5)  # moves with its points
    paths = matrices @ controls
    for way, (digit, strokes) in enumerate(WRITTEN):
        assert way in of_digit[digit]
        for point in (p for stroke in strokes for p in stroke):
            assert np.hypot(*(paths[way].numpy() - point).T).min() < 0.03
    assert all(of_digit)
