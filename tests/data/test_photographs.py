"""The photographs that come with other packages, and the sentence for a picture that a network cannot know."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.paths import ROOT

import explainers as ex
from explainers.data import gallery, photographs
from explainers.data.scenes import CLASSES
from explainers.networks.imagenet import categories

PHOTOGRAPHS = photographs.photographs()


def test_the_photographs_come_first_and_the_one_with_two_objects_opens():
    kinds = [sample.kind for sample in ex.samples()]
    assert kinds == sorted(kinds, key=("photographs", "scenes", "digits").index) and set(kinds) == {"photographs", "scenes", "digits"}
    assert ex.samples()[0].labels == ("Egyptian cat", "espresso")
    names = [sample.name for sample in ex.samples()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("sample", PHOTOGRAPHS, ids=lambda sample: sample.name)
def test_a_photograph_is_colourful_names_its_source_and_classes_of_imagenet(sample):
    image = sample.load()
    assert image.mode == "RGB" and min(image.size) >= 300 and np.asarray(image).std() > 20
    assert sample.source.endswith(".") and any(word in sample.source for word in ("CC0", "public domain", "benchmark"))
    assert sample.labels and set(sample.labels) <= set(categories())


def test_two_photographs_stand_one_above_the_other():
    """Each half is the named rectangle of its file, and the masks are the halves."""
    pair = PHOTOGRAPHS[0]
    image = pair.load()
    assert image.size == (512, 512) and pair.has_masks
    with Image.open(pair.parts[0].file) as cat:
        upper = cat.convert("RGB").resize((512, 256), Image.Resampling.BICUBIC, box=(0, 74, 451, 300))
    assert np.array_equal(np.asarray(image)[:256], np.asarray(upper))
    masks = pair.masks
    assert masks.shape == (2, 512, 512) and masks[0, :256].all() and masks[1, 256:].all() and (masks.sum(0) == 1).all()
    assert not any(sample.has_masks for sample in PHOTOGRAPHS[1:])


def test_a_missing_file_or_package_only_makes_the_gallery_smaller(monkeypatch, tmp_path):
    spec = importlib.util.find_spec

    def without_skimage(name, *rest):
        return None if name == "skimage" else spec(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without_skimage)
    assert [sample.name for sample in photographs.photographs()] == ["grace-hopper"]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    monkeypatch.setattr(gallery, "_samples", gallery._samples.__wrapped__)  # without the list made before
    assert photographs.photographs() == [] and {sample.kind for sample in ex.samples()} == {"scenes", "digits"}


def test_the_photographs_are_read_without_importing_their_packages():
    code = ("import sys\nfrom explainers.data.photographs import photographs\nphotographs()[0].load()\n"
            "print(sorted({'skimage', 'matplotlib', 'pooch', 'pydicom'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def default_network() -> ex.Classifier:
    return ex.load_model("efficientnet_lite0")


@pytest.mark.parametrize("sample", [sample for sample in PHOTOGRAPHS if sample.name != "astronaut"], ids=lambda sample: sample.name)
def test_the_default_network_finds_what_is_in_the_photograph(default_network, sample):
    """Every label is among its five likeliest classes; both objects of the composed photograph are its first two."""
    likeliest = default_network.predict(default_network.preprocess(sample.load()))[0].topk(5).indices.tolist()
    names = [default_network.categories[index] for index in likeliest]
    assert set(sample.labels) <= set(names[: 2 if len(sample.labels) == 2 else 5]), names


def test_grad_cam_lies_on_the_half_that_shows_the_class(default_network):
    """Of the positive evidence for each class more than four fifths are in its half."""
    pair = PHOTOGRAPHS[0]
    x = default_network.preprocess(pair.load())
    for label, mask in zip(pair.labels, pair.masks, strict=True):
        attribution = ex.explain(default_network, x, "grad_cam", target=default_network.categories.index(label))
        evidence = attribution.heatmap().clip(min=0)
        assert evidence[default_network.preprocessing.seen_mask(mask)].sum() > 0.8 * evidence.sum()


@pytest.mark.parametrize("training_data, kind, words", [
    ("scenes", "photographs", "drawn scenes of 16 icons; a photograph is outside"),
    ("scenes", "", "a picture of yours is outside"),
    ("digits", "scenes", "drawn digits; a drawn scene is outside"),
    ("photographs", "scenes", "ImageNet's photographs; a drawn scene is outside"),
    ("photographs", "digits", "a drawn digit is outside"),
    ("cifar10", "scenes", "CIFAR-10's photographs; a drawn scene is outside"),
    ("cifar10", "photographs", "knows only the ten classes of CIFAR-10"),
    ("cifar10", "", "knows only the ten classes of CIFAR-10"),
])
def test_a_picture_that_the_network_cannot_know_is_said(training_data, kind, words):
    sentence = gallery.mismatch(training_data, kind)
    assert words in sentence and sentence.endswith(".") and sentence.count(". ") == 0


@pytest.mark.parametrize("training_data, kind", [
    ("scenes", "scenes"), ("digits", "digits"), ("photographs", "photographs"), ("photographs", ""), ("", "scenes"), ("", ""),
])
def test_nothing_is_said_where_it_fits_or_is_unknown(training_data, kind):
    assert gallery.mismatch(training_data, kind) == ""


def test_the_sentence_counts_the_icons_right():
    assert f" {len(CLASSES)} icons" in gallery.LEARNED["scenes"]
