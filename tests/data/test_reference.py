"""Reference sets: numbered images that do not depend on how they are asked for, and an honest last resort."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import explainers as ex
from explainers.data.reference import default, from_pictures, neighbourhood, procedural


@pytest.fixture(scope="module")
def digits():
    return ex.load_model("digits_mlp", device="cpu")


def pictures(count):
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)) for _ in range(count)]


@pytest.mark.parametrize("batch", [1, 7, 130])
def test_an_image_does_not_depend_on_the_batches(digits, batch):
    made = procedural(digits, 140)
    whole = torch.cat(list(made.batches(140)))
    assert whole.shape == (140, 1, 28, 28) and torch.equal(torch.cat(list(made.batches(140, batch))), whole)
    assert len(np.unique(whole.flatten(1).numpy(), axis=0)) == 140  # no image is drawn twice
    assert len(torch.cat(list(made.batches(9)))) == 9 and len(torch.cat(list(made.batches(999)))) == 140


def test_a_procedural_set_is_recognised_by_its_network(digits):
    images = torch.cat(list(procedural(digits, 64).batches(64)))
    assert digits.predict(images).amax(1).median() > 0.9


def test_pictures_are_preprocessed_in_order(toy):
    given = pictures(3)
    made = from_pictures(toy, given)
    assert made.size == 3 and torch.equal(made.draw(1, 2), toy.preprocess(given[1]))
    assert made.identity != from_pictures(toy, given[::-1]).identity


def test_a_folder_is_read_in_the_order_of_its_names(toy, tmp_path, monkeypatch):
    for name, picture in zip("ba", pictures(2), strict=True):
        picture.save(tmp_path / f"{name}.png")
    backwards = sorted(tmp_path.iterdir(), reverse=True)
    monkeypatch.setattr(type(tmp_path), "iterdir", lambda folder: iter(backwards))
    assert torch.equal(from_pictures(toy, tmp_path).draw(0, 1), toy.preprocess(pictures(2)[1]))


def test_a_folder_skips_what_is_no_picture(toy, tmp_path):
    for i, picture in enumerate(pictures(2)):
        picture.save(tmp_path / f"{i}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("no picture either")
    assert from_pictures(toy, tmp_path).size == 2


def test_too_few_pictures_and_no_folder_are_refused(toy, tmp_path):
    with pytest.raises(ex.ExplainerError, match="at least two"):
        from_pictures(toy, pictures(1))
    with pytest.raises(ex.ExplainerError, match="no folder"):
        from_pictures(toy, tmp_path / "nowhere")
    with pytest.raises(ex.ExplainerError, match="brings no reference images"):
        procedural(toy)


def test_copies_of_the_image_differ_and_say_what_they_are(toy, image):
    made = neighbourhood(toy, image, 8)
    copies = made.draw(0, 8)
    assert copies.shape == (8, 3, 32, 32) and torch.isfinite(copies).all()
    assert len({c.numpy().tobytes() for c in copies}) == 8
    assert torch.equal(copies[3:5], made.draw(3, 5)) and "copies of this image" in made.note


def test_the_default_is_the_networks_own_set(digits, toy, image):
    assert default(digits, torch.zeros(1, 1, 28, 28)).title.endswith("digits") and not default(digits, image).note
    assert default(toy, image).note


@pytest.mark.parametrize("own", [True, False])
def test_neither_a_persons_pictures_nor_what_was_fitted_on_them_is_on_disk(digits, tmp_path, own):
    made = from_pictures(digits, pictures(12)) if own else procedural(digits, 12)
    engine = ex.Engine(cache=ex.MapCache(tmp_path))
    x = digits.preprocess(pictures(13)[-1])
    engine.explain(digits, x, "mip_in", target=3, reference=made, images=12)
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*.result"))
    pixels = made.draw(0, 1).numpy().tobytes()
    assert kept == b"" if own else pixels in kept
