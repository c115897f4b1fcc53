"""Labelled sets: the labels that names give, and draws that stay what they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import explainers as ex
from explainers.data import scenes
from explainers.data.labelled import LabelledSet, label_in, pictures_set, scenes_set

NAMES = ("crane", "bull mastiff", "tiger cat", "tiger", "crane", "St. Bernard")


@pytest.mark.parametrize(("file", "label"), [
    ("1_anything.jpg", 1), ("0003.png", 3), ("4 crane.jpg", 4), ("folder/2-x.png", 2), ("tiger_7.jpg", 3), ("tiger-cat.png", 2),
    ("Bull_Mastiff (12).JPG", 1), ("st bernard 1.png", 5)])
def test_a_name_begins_with_its_class(file, label):
    assert label_in(file, NAMES) == label


@pytest.mark.parametrize(("file", "said"), [
    ("tigers.jpg", "must begin"), ("photo_tiger.jpg", "must begin"), (".jpg", "must begin"), ("6_x.jpg", "0 to 5"),
    ("crane 1.jpg", "2 classes are called 'crane'")])
def test_a_name_without_a_class_is_refused(file, said):
    with pytest.raises(ex.ExplainerError, match=said):
        label_in(file, NAMES)


def test_fresh_scenes_are_the_scenes_and_the_first_stay_the_first():
    few, more, other = scenes_set(1), scenes_set(2), scenes_set(1, seed=1)
    assert few.pixels.shape == (1, 3, 128, 128) and torch.equal(few.pixels, more.pixels[:1])
    assert torch.equal(few.labels, more.labels[:1]) and not torch.equal(more.pixels[0], more.pixels[1])
    assert not torch.equal(few.pixels, other.pixels) and len({few.identity, more.identity, other.identity}) == 3
    network = ex.load_model("scenes_vgg")
    assert torch.allclose(network.preprocessing.pixels(few.inputs(network)) * 255, few.pixels.float(), atol=1e-3)
    assert len(scenes.CLASSES) > int(few.labels.max())


def test_drawing_can_be_stopped():
    heard = []
    with pytest.raises(ex.Cancelled):
        scenes_set(5, progress=lambda done, total, preview: heard.append((done, total)) or done < 2)
    assert heard == [(1, 5), (2, 5)]


def test_noise_is_seeded_by_image_and_as_strong_as_asked():
    network = ex.load_model("scenes_vgg")
    flat = torch.full((3, 3, 128, 128), 128, dtype=torch.uint8)
    one = LabelledSet("", "", flat, torch.zeros(3, dtype=torch.long))
    noisy = network.preprocessing.pixels(one.inputs(network, noise=0.1))
    assert float(noisy.std()) == pytest.approx(0.1, rel=0.02) and not torch.equal(noisy[0], noisy[1])
    fewer = LabelledSet("", "", flat[:2], one.labels[:2])
    assert torch.equal(fewer.inputs(network, noise=0.1), one.inputs(network, noise=0.1)[:2])
    assert not torch.equal(one.inputs(network, noise=0.1, seed=1), one.inputs(network, noise=0.1))


def test_pictures_become_what_the_network_sees():
    network = ex.load_model("scenes_vgg")
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (150, 200, 3), dtype=np.uint8)) for _ in range(2)]
    found = pictures_set(network, [("2_a.png", images[0]), (f"{network.categories[5]}.png", images[1])])
    assert found.labels.tolist() == [2, 5]
    assert torch.allclose(found.inputs(network)[1:], network.preprocess(images[1]), atol=1e-5)
    assert pictures_set(network, [("3_a.png", images[0]), ("5.png", images[1])]).identity != found.identity
    with pytest.raises(ex.ExplainerError, match="at least one"):
        pictures_set(network, [])
    with pytest.raises(ex.ExplainerError, match="takes images of 1 x 28 x 28"):
        found.inputs(ex.load_model("digits_cnn"))
