"""What methods declare to show beside their maps is there, in the declared kind; the folder is walked, as for the methods."""

from __future__ import annotations

import math

import pytest
import torch
from support.architectures import suited
from support.equality import same

import explainers as ex
from explainers.baselines import i_gos_blur
from explainers.contract import AuxiliaryOutput

SHOWING = {key: method for key, method in ex.methods().items() if method.auxiliary_outputs}
PAPERS = {"attribution_mask", "dmbp", "i_gos", "iba", "input_iba", "mip_in"}
every_extra = pytest.mark.parametrize(
    ("key", "extra"), [(key, extra) for key, method in SHOWING.items() for extra in method.auxiliary_outputs],
    ids=lambda value: value.name if isinstance(value, AuxiliaryOutput) else value)


@pytest.fixture(scope="session")
def maps():
    """Each method's map of one image, with few iterations."""
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    return x, {key: ex.explain(suited(method), x, key, target=2, **method.cheap) for key, method in SHOWING.items()}


def is_kind(extra: AuxiliaryOutput, value: object, x: torch.Tensor) -> bool:
    """Whether a value is what its declaration says; see ``AuxiliaryOutput``."""
    kind = extra.kind
    if kind in {"map", "strength", "fraction", "signal"}:
        fits = isinstance(value, torch.Tensor) and value.ndim in ((2, 3) if kind != "signal" else (3,)) and value.isfinite().all()
        return bool(fits and (kind in {"map", "signal"} or value.min() >= 0) and (kind != "fraction" or value.max() <= 1))
    if kind == "signals":
        return len(value) > 0 and all(signal.ndim in (1, 3) and bool(signal.isfinite().all()) for signal in value)
    if kind == "weights":
        return value.shape == x.shape[1:] and bool(value.isfinite().all())
    if kind in {"pictures", "maps", "masks"}:
        within = kind != "masks" or bool(value.min() >= 0 and value.max() <= 1)
        return value.ndim == 4 and value.shape[1:] == x.shape[1:] and bool(value.isfinite().all()) and within
    if kind in {"trace", "parts"}:
        complete = kind == "trace" or len(value) == len(extra.parts) > 0
        return isinstance(value, list) and all(math.isfinite(number) for number in value) and complete
    return isinstance(value, (int, float)) and math.isfinite(value) if kind == "number" else isinstance(value, str) and kind == "text"


@every_extra
def test_a_declared_extra_is_there_and_of_its_kind(key, extra, maps):
    x, found = maps
    value = extra.of(x, found[key].extras)
    assert value is not None and is_kind(extra, value, x), f"{extra.name} is no {extra.kind}: {value!r}"
    assert extra.title and extra.help.endswith(".")
    labelled = [extra.labels] if extra.labels else []
    assert all(len(found[key].extras[name]) == len(value) for name in [*extra.numbers, *labelled])


@every_extra
def test_an_extra_survives_the_cache(key, extra, maps, tmp_path):
    x, found = maps
    for memory in (1, 2**28):  # from the disk, from memory
        cache = ex.MapCache(tmp_path, memory_bytes=memory)
        cache.put("abcd", found[key])
        again, before = extra.of(x, cache.get("abcd").extras), extra.of(x, found[key].extras)
        assert same(again, before)


def test_the_papers_methods_show_something():
    assert set(SHOWING) >= PAPERS
    assert all(len({extra.name for extra in method.auxiliary_outputs}) == len(method.auxiliary_outputs) for method in SHOWING.values())


def test_what_settings_leave_out_is_left_out(toy, maps):
    x, _ = maps
    alone = ex.explain(toy, x, "dmbp", target=2, iterations=2, variant="dmbp_plus").extras
    shown = {extra.name: extra.of(x, alone) for extra in SHOWING["dmbp"].auxiliary_outputs}
    assert shown["negative"] is None and shown["y_negative"] is None and shown["positive"] is not None


def test_dmbps_parts_add_up_to_its_map(maps):
    x, found = maps
    positive, negative = (extra.of(x, found["dmbp"].extras) for extra in SHOWING["dmbp"].auxiliary_outputs[:2])
    assert torch.allclose(positive + negative, found["dmbp"].native, atol=1e-6)


def test_the_masked_inputs_begin_with_the_image_and_end_under_the_map(maps):
    x, found = maps
    pictures = SHOWING["attribution_mask"].auxiliary_outputs[0].of(x, found["attribution_mask"].extras)
    assert torch.equal(pictures[:1], x) and torch.allclose(pictures[-1:], x * found["attribution_mask"].native)


def test_i_gos_shows_the_image_under_a_mask_of_ones_and_its_blur_under_zeros(maps):
    x, _ = maps
    show = SHOWING["i_gos"].auxiliary_outputs[0]
    assert torch.allclose(show.of(x, {"mask": torch.ones(7, 7)}), x, atol=1e-6)
    assert torch.allclose(show.of(x, {"mask": torch.zeros(7, 7)}), i_gos_blur(x), atol=1e-6)
