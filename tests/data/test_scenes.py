"""Scenes: the same seed gives the same picture, at any size, and the masks are the truth about it."""

from __future__ import annotations

import json
from dataclasses import replace
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from explainers.data import pools, scenes
from explainers.data.glyphs import ICONS, Pose, layers, level_for, place, window

SAMPLES = Path(__file__).resolve().parents[2] / "assets" / "samples"


def test_the_same_seed_gives_the_same_scene_and_another_seed_another():
    first, again, other = scenes.draw(11, 96, 2), scenes.draw(11, 96, 2), scenes.draw(12, 96, 2)
    assert first.labels == again.labels
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.masks, again.masks)
    assert not np.array_equal(first.image, other.image)


def test_drawing_leaves_the_global_generators_alone():
    np.random.seed(0)
    torch.manual_seed(0)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    scenes.draw_batch(2, seed=1, size=32)
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


def test_a_short_batch_is_the_beginning_of_a_long_one():
    images, labels = scenes.draw_batch(5, seed=3, size=48)
    fewer, fewer_labels = scenes.draw_batch(3, seed=3, size=48)
    assert images.shape == (5, 3, 48, 48) and images.dtype == torch.uint8 and labels.dtype == torch.int64
    assert torch.equal(images[:3], fewer) and torch.equal(labels[:3], fewer_labels)
    single = scenes.draw((3 << 32) + 1, 48)
    assert np.array_equal(single.image, images[1].permute(1, 2, 0).numpy())
    assert single.labels == (int(labels[1]),)


def test_shapes_types_and_two_different_objects():
    for seed in range(8):
        scene = scenes.draw(seed, 64, 2)
        assert scene.image.shape == (64, 64, 3) and scene.image.dtype == np.uint8
        assert scene.masks.shape == (2, 64, 64) and scene.masks.dtype == bool
        assert len(set(scene.labels)) == 2
    with pytest.raises(ValueError, match="1 or 2 objects"):
        scenes.draw(0, 64, 3)


@pytest.mark.parametrize("objects", [1, 2])
def test_masks_are_disjoint_and_show_enough_of_each_object(objects):
    for seed in range(16):
        masks = scenes.draw(seed, 128, objects).masks
        assert masks.sum(0).max() == 1
        assert masks.sum((1, 2)).min() > 100  # of 16384 pixels


@pytest.mark.parametrize("objects", [1, 2])
def test_a_scene_is_the_same_at_every_size(objects):
    for seed in range(4):
        small, large = scenes.draw(seed, 128, objects), scenes.draw(seed, 512, objects)
        shrunk = large.masks.reshape(objects, 128, 4, 128, 4).mean((2, 4)) >= 0.5
        overlap = (small.masks & shrunk).sum((1, 2)) / (small.masks | shrunk).sum((1, 2))
        assert overlap.min() > 0.9
        picture = large.image.reshape(128, 4, 128, 4, 3).mean((1, 3))
        difference = np.abs(picture - small.image)  # of 255
        assert difference.mean() < 2
        assert difference[small.masks.any(0)].mean() < 6


def test_the_mask_is_where_the_object_was_painted():
    """Painting the object in another colour changes the picture where the mask says that the object is, only there."""
    for seed in range(10):
        plan = scenes.plan(seed)
        with_object = scenes.render(plan, 96)
        signal = replace(plan.palette, objects=(((1.0, 0.0, 1.0),) * 3,))
        recoloured = scenes.render(replace(plan, palette=signal), 96)
        change = np.abs(with_object.image.astype(int) - recoloured.image).sum(2) > 12
        inside = with_object.masks[0]
        assert change[inside].mean() > 0.8
        padded = np.pad(inside, 2)
        near = np.any([padded[i : i + 96, j : j + 96] for i in range(5) for j in range(5)], axis=0)
        assert not change[~near].any()


def test_what_a_strip_hides_is_not_in_the_mask():
    plan = next(plan for plan in map(scenes.plan, range(50)) if any(piece.over for piece in plan.clutter))
    bare = replace(plan, clutter=tuple(piece for piece in plan.clutter if not piece.over))
    signal = replace(plan, palette=replace(plan.palette, objects=(((1.0, 0.0, 1.0),) * 3,)))
    shown, whole, recoloured = (scenes.render(p, 128) for p in (plan, bare, signal))
    hidden = whole.masks[0] & ~shown.masks[0]
    assert hidden.sum() > 20
    assert not (shown.masks[0] & ~whole.masks[0]).any()
    seen_through = np.abs(shown.image[hidden].astype(int) - recoloured.image[hidden]).sum(1) > 150
    assert seen_through.mean() < 0.1  # only the strip's soft edge lets some of the object through


def test_of_two_objects_in_one_place_the_front_one_owns_the_pixels():
    plan = scenes.plan(3, objects=2)
    together = tuple(replace(p, pose=replace(p.pose, centre=(0.5, 0.5))) for p in plan.objects)
    masks = scenes.render(replace(plan, objects=together, clutter=()), 128).masks
    alone = scenes.render(replace(plan, objects=together[::-1], clutter=()), 128).masks[1]  # the first, in front
    assert not (masks[0] & masks[1]).any()
    assert np.array_equal(masks[0], alone & ~masks[1])
    assert masks[0].sum() < alone.sum()


def test_every_class_comes_about_equally_often():
    labels = np.array([scenes.plan(seed).objects[0].label for seed in range(1600)])
    counts = np.bincount(labels, minlength=len(scenes.CLASSES))
    assert len(counts) == len(scenes.CLASSES) == 16
    # 100 expected with a standard deviation under 10: five of them either way.
    assert counts.min() > 50 and counts.max() < 150


def test_the_icons_are_solid_and_told_apart_by_shape():
    pose, whole = Pose((0.5, 0.5), 0.6, 0.0, mirrored=False), window((0, 0), (1, 1), 64)
    shapes = [place(level_for(layers(k).silhouette, 0.6 * 64), pose, whole, 64) > 0.5 for k in range(len(ICONS))]
    for k, shape in enumerate(shapes):
        assert shape.mean() > 0.04, ICONS[k].name
        for other in shapes[:k]:
            assert (shape & other).sum() / (shape | other).sum() < 0.8


def test_a_mirrored_icon_is_its_mirror_image():
    whole = window((0, 0), (1, 1), 64)
    level = layers(scenes.CLASSES.index("knight")).silhouette[3]
    plain = place(level, Pose((0.5, 0.5), 0.7, 0.3, mirrored=False), whole, 64)
    # Mirroring the picture of a turned icon is mirroring the icon and turning it the other way.
    mirrored = place(level, Pose((0.5, 0.5), 0.7, -0.3, mirrored=True), whole, 64)
    assert np.abs(plain[:, ::-1] - mirrored).max() < 1e-4
    assert np.abs(plain - mirrored).max() > 0.5


@pytest.mark.skipif(not (SAMPLES / "samples.json").exists(), reason="the sample pictures are not drawn yet")
def test_the_sample_pictures_are_what_the_seeds_draw():
    entries = json.loads((SAMPLES / "samples.json").read_text())
    for entry in entries:
        assert (SAMPLES / entry["file"]).stat().st_size < 250_000
        if entry["kind"] != "scenes":
            continue
        scene = scenes.draw(entry["seed"], 128, len(entry["labels"]))
        assert [scenes.CLASSES[label] for label in scene.labels] == entry["labels"]
        with Image.open(SAMPLES / entry["file"]) as picture:
            assert picture.size == (512, 512)
            small = np.asarray(picture.convert("RGB").reduce(4), dtype=int)
        assert np.abs(small - scene.image).mean() < 6
        for mask, drawn in zip(entry["masks"], scene.masks, strict=True):
            with Image.open(SAMPLES / mask["file"]) as picture:
                assert picture.mode == "1"
                shrunk = np.asarray(picture.convert("L").reduce(4)) > 127
            assert (shrunk & drawn).sum() / (shrunk | drawn).sum() > 0.9


class Threads:
    """Stands in for the context that starts processes, which takes seconds."""

    Pool = ThreadPool


@pytest.mark.parametrize("kept", [False, True])
def test_a_pool_is_the_batch_of_the_same_seed(kept, tmp_path, monkeypatch):
    """In memory, drawn by threads; in a folder, drawn by processes."""
    if not kept:
        monkeypatch.setattr(pools, "get_context", lambda way: Threads)
    images, labels = scenes.draw_batch(3, seed=4)
    for _ in range(1 + kept):  # the second time it is found
        pictures, classes = pools.scene_pool(3, 4, tmp_path if kept else None)
        assert np.array_equal(pictures, images.numpy())
        assert torch.equal(classes, labels)
        monkeypatch.setattr(pools, "_fill", None)  # not needed any more
