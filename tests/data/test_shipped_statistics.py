"""Shipped statistics: the file gives back what was written, and the methods that need them run without any picture."""

from __future__ import annotations

import zipfile

import pytest
import torch
from support.networks import drawn_images

import explainers as ex
from explainers.context import Context
from explainers.data import shipped_statistics
from explainers.data.reference import default, from_pictures, shipped
from explainers.data.statistics import fit
from explainers.networks.embedded import WEIGHTS


@pytest.fixture(scope="module")
def lite0():
    return ex.load_model("efficientnet_lite0", device="cpu")


@pytest.fixture()
def photograph():
    return drawn_images(1, seed=9, side=224)


def written(tmp_path, **tensors):
    file = tmp_path / "some.zip"
    shipped_statistics.write(file, {("method", 1, "layer", (), 7): tensors}, {"pictures": 7})
    shipped_statistics.read.cache_clear()
    return file, shipped_statistics.read(file)


def test_small_tensors_come_back_exactly_and_large_ones_nearly(tmp_path):
    generator = torch.Generator().manual_seed(0)
    small, large = torch.randn(100, generator=generator), torch.randn(300, 300, generator=generator)
    sparse = torch.rand(300, 300, generator=generator) * (torch.rand(300, 300, generator=generator) < 0.1)
    sparse[0, 0] = 1e-9
    _, statistics = written(tmp_path, small=small, large=large, sparse=sparse)
    read = statistics.get(("method", 1, "layer", (), 7))
    assert read.keys() == {"small", "large", "sparse"} and torch.equal(read["small"], small)
    torch.testing.assert_close(read["large"], large, rtol=1e-3, atol=1e-4)
    assert torch.equal(read["sparse"] > 0, sparse > 0)  # a positive value stays positive: MIP-IN asks which cells are 0
    assert 0 < (read["sparse"].sqrt() - sparse.sqrt()).abs().max() <= 1 / 255


def test_only_its_own_keys_are_there(tmp_path):
    _, statistics = written(tmp_path, mean=torch.zeros(2))
    assert ("method", 1, "layer", (), 7) in statistics
    for other in (("method", 1, "layer", (), 70), ("method", 2, "layer", (), 7), ("method", 1, "layer")):
        assert other not in statistics and statistics.get(other) is None


def test_the_same_content_is_the_same_file_and_another_has_another_identity(tmp_path):
    file, statistics = written(tmp_path, mean=torch.zeros(2))
    before = file.read_bytes()
    _, again = written(tmp_path, mean=torch.zeros(2))
    assert file.read_bytes() == before and again.identity == statistics.identity
    with zipfile.ZipFile(file) as archive:  # no entry holds the time at which it was written
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert written(tmp_path, mean=torch.ones(2))[1].identity != statistics.identity


def test_a_set_of_statistics_gives_the_maps_of_the_pictures_it_was_fitted_on(toy, image, tmp_path, monkeypatch):
    reference = from_pictures(toy, [toy.preprocessing.picture(x) for x in drawn_images(12, seed=1)])
    file = tmp_path / "toy.zip"
    shipped_statistics.write(file, fit(toy, reference), {"pictures": 12})
    monkeypatch.setattr(toy, "statistics", file)
    assert shipped(toy).count(5) == 12 and default(toy, image).identity == shipped(toy).identity
    for method, settings in (("iba", {"steps": 3, "copies": 2}), ("mip_in", {"depth": "auto"}), ("mip_in", {"ridge": "paper"})):
        without, given = (ex.ask(toy, image, method, target=1, reference=chosen, **settings) for chosen in (None, reference))
        assert without.key != given.key
        torch.testing.assert_close(without.run().native, given.run().native)


def test_the_three_methods_explain_a_photograph_without_pictures(lite0, photograph):
    assert default(lite0, photograph).title == "400 photographs (shipped statistics)"
    quick = {"iba": {"steps": 1, "copies": 1}, "mip_in": {}, "input_iba": {"epochs": 0, "steps": 1, "copies": 1}}
    for method, settings in quick.items():
        attribution = ex.explain(lite0, photograph, method, target=3, **settings)
        assert attribution.native.isfinite().all() and not any("copies" in flag for flag in attribution.flags)


def test_every_class_and_contrast_of_mip_in_is_there(lite0, photograph):
    maps = [ex.explain(lite0, photograph, "mip_in", target=target).native for target in (0, 999, (281, 243))]
    assert not torch.equal(maps[0], maps[1]) and all(values.isfinite().all() for values in maps)


def test_another_layer_needs_pictures_and_says_so(lite0, photograph):
    with pytest.raises(ex.ExplainerError, match="set the layer to auto, or give a few hundred photographs"):
        ex.explain(lite0, photograph, "iba", layer="head_norm", steps=1)


def test_a_shipped_fit_takes_no_passes_and_is_known_beforehand(lite0, photograph):
    reference = shipped(lite0)
    context = Context(lite0, reference=reference)
    assert context.is_fitted(("iba", "add_5", 400)) and not context.is_fitted(("iba", "add_5", 100))


def test_the_files_that_come_with_the_app_are_small():
    sizes = [file.stat().st_size for file in WEIGHTS.parent.rglob("*") if file.is_file()]
    assert max(sizes) < 5_000_000 and sum(sizes) < 12_000_000
