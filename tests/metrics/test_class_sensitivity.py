"""Class sensitivity: planted patches, a method that ignores the class, averages over images, and what is said of them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.networks import classifier
from torch import nn

import explainers as ex
from explainers.data import class_pairs
from explainers.metrics import class_sensitivity as cs
from explainers.metrics import map_distances as md
from explainers.target import Target


@pytest.fixture(scope="module")
def planted():
    """Class 0 reads a patch at the top left, class 1 a patch at the bottom right, class 2 nothing; one channel, 32 x 32."""
    dense = nn.Linear(32 * 32, 3, bias=False)
    weights = torch.zeros(3, 32, 32)
    weights[0, 4:8, 4:8] = weights[1, 20:24, 20:24] = 1.0
    dense.weight.data = weights.flatten(1)
    return classifier(nn.Sequential(nn.Flatten(), dense), classes=3, channels=1)


def explained(network, x, key, *targets, **params):
    return [ex.explain(network, x, key, target=target, **params) for target in targets]


def test_two_patches_give_disjoint_maps(planted):
    x = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    found = cs.measure(explained(planted, x, "gradient", 0, 1))
    assert found.between(0, 1).l2_max_abs == pytest.approx(math.sqrt(32))  # 16 pixels of 1 each
    assert found.between(0, 1).l2_unit == pytest.approx(math.sqrt(2))
    # 16 ones of n pixels each, never at once: Pearson's correlation of such indicators, which ranks do not change
    share = 16 / 1024
    assert found.between(0, 1).rank == pytest.approx(-share / (1 - share))
    assert cs.verdict(found.between(0, 1).rank, found.between(0, 1).l2_unit).level == "different"


def test_a_method_that_ignores_the_class_scores_0_and_1(toy, image):
    found = cs.measure(explained(toy, image, "sobel", 0, 1, 4))
    for name in md.MEASURES:
        assert found.matrices[name] == pytest.approx(np.zeros((3, 3)) if name.startswith("l2") else np.ones((3, 3))), name
    assert cs.verdict(found.between(0, 4).rank, found.between(0, 4).l2_unit).level == "same"


def test_a_contrast_is_a_target_and_its_opposite_is_its_opposite(toy, image):
    found = cs.measure(explained(toy, image, "gradient", (0, 1), (1, 0), 0))
    assert found.between((0, 1), (1, 0)).rank == pytest.approx(-1)
    assert found.between((0, 1), (1, 0)).l2_unit == pytest.approx(2)


def test_the_matrices_are_symmetric_and_equal_the_comparisons(toy, image):
    maps = explained(toy, image, "gradient_x_input", 0, 2, 3)
    found = cs.measure(maps)
    for name in md.MEASURES:
        matrix = found.matrices[name]
        assert matrix.shape == (3, 3) and (matrix == matrix.T).all()
        assert matrix[0, 2] == getattr(md.compare(maps[0].heatmap(), maps[2].heatmap()), name)
        assert found.over_pairs()[name] == pytest.approx((matrix[0, 1] + matrix[0, 2] + matrix[1, 2]) / 3)


def test_an_empty_map_is_named_and_never_averaged(planted):
    x = torch.ones(1, 1, 32, 32)
    found = cs.measure(explained(planted, x, "gradient", 0, 1, 2))
    assert found.flat == (Target.of(2),) and math.isnan(found.between(0, 2).rank)
    assert found.over_pairs()["l2_unit"] == pytest.approx(math.sqrt(2))  # the one pair that can be told
    only = cs.measure(explained(planted, x, "gradient", 0, 2))
    over = cs.over_images([found, only]).averages["rank"]
    assert (over.count, over.undefined) == (1, 1) and over.mean == found.between(0, 1).rank
    assert cs.verdict(only.between(0, 2).rank, only.between(0, 2).l2_unit).level == "unknown"


def test_a_set_is_the_average_of_its_images(toy):
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    classes, heard = ((0, 1), (2, 3), (4, 1)), []

    def explain(x, target, progress):
        return ex.explain(toy, x, "gradient", target=target, progress=progress)

    found = cs.measure_set(explain, images, classes, lambda done, total, _: heard.append((done, total)))
    each = [cs.measure(explained(toy, x[None], "gradient", *pair)).between(*pair).l2_max_abs
            for x, pair in zip(images, classes, strict=True)]
    assert found.images == 3 and found.averages["l2_max_abs"].mean == pytest.approx(np.mean(each))
    assert found.averages["l2_max_abs"].error == pytest.approx(np.std(each, ddof=1) / math.sqrt(3))
    assert heard[-1] == (6, 6) and [done for done, _ in heard] == sorted(done for done, _ in heard)
    with pytest.raises(ex.Cancelled):
        cs.measure_set(explain, images, classes, lambda done, total, _: done < 3)


def test_the_verdict_says_the_numbers():
    said = cs.verdict(0.982, 0.61, "dog and cat")
    assert said.level == "same" and all(word in said.words for word in ("0.982", "0.61", "dog and cat", "Hardly", "strengths shift"))
    assert cs.verdict(0.982, 0.11).level == "same" and "nearly the same map" in cs.verdict(0.982, 0.11).words
    assert "the map for cat is the same everywhere" in cs.verdict(math.nan, math.nan, flat="cat").words
    assert cs.verdict(0.9, 0.4).level == "alike" and cs.verdict(-0.3, 1.5).level == "different"
    assert "\u22120.300" in cs.verdict(-0.3, 1.5).words


def test_what_cannot_be_compared_is_refused(toy, image):
    maps = explained(toy, image, "gradient", 0, 1)
    for wrong in (maps[:1], [maps[0], maps[0]], []):
        with pytest.raises(ex.ExplainerError, match="at least two targets"):
            cs.measure(wrong)
    with pytest.raises(ex.ExplainerError, match="Only the target"):
        cs.measure([maps[0], replace(maps[1], seed=5)])
    with pytest.raises(ex.ExplainerError, match="no map for 4"):
        cs.measure(maps).between(0, 4)
    with pytest.raises(ex.ExplainerError, match="Every image"):
        cs.measure_set(lambda *_: None, torch.zeros(2, 3, 32, 32), [(0, 1)])
    with pytest.raises(ex.ExplainerError, match="no image"):
        cs.over_images([])


@pytest.fixture(scope="module")
def scenes_vgg():
    return ex.load_model("scenes_vgg")


def test_scenes_with_two_objects_come_with_their_classes(scenes_vgg):
    few, more = class_pairs.scenes_pairs(scenes_vgg, 1), class_pairs.scenes_pairs(scenes_vgg, 2)
    assert torch.equal(few.images, more.images[:1]) and few.classes == more.classes[:1]
    assert tuple(few.images.shape) == (1, 3, *scenes_vgg.input_size)
    assert all(len(pair) == 2 and pair[0] != pair[1] for pair in more.classes)
    assert not torch.equal(few.images, class_pairs.scenes_pairs(scenes_vgg, 1, seed=1).images)
    with pytest.raises(ex.Cancelled):
        class_pairs.scenes_pairs(scenes_vgg, 3, progress=lambda done, total, _: False)


def test_pictures_come_with_their_two_likeliest_classes(scenes_vgg):
    picture = next(sample for sample in ex.samples() if sample.name == "star-heart").load()
    found = class_pairs.pictures_pairs(scenes_vgg, [picture])
    ranked = scenes_vgg.predict(found.images)[0].argsort(descending=True).tolist()
    assert found.classes == (tuple(ranked[:2]),)
    names = {scenes_vgg.categories[index] for index in found.classes[0]}
    assert names == {"star", "heart"}
    with pytest.raises(ex.ExplainerError, match="at least one"):
        class_pairs.pictures_pairs(scenes_vgg, [])
    digit = ex.load_model(next(entry.name for entry in ex.models() if entry.name.startswith("digits")))
    drawn = class_pairs.digits_pairs(digit, 2)
    assert tuple(drawn.images.shape) == (2, 1, *digit.input_size) and len(drawn.classes) == 2
