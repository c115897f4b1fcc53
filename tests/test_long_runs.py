"""What a process holds after many runs: results within their bounds, and nothing of what has ended."""

from __future__ import annotations

import gc
import random
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

import explainers as ex
from explainers.memory import give_back
from explainers.networks.randomised import WAYS, randomised
from explainers.networks.stages import stages

MOST_PASSES = 9  # forward, of the methods that are tried


@contextmanager
def nothing_collected() -> Iterator[None]:
    """Python's garbage collection stands still, so that only what nothing refers to is freed."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def tensor_bytes() -> int:
    """The bytes of all tensors that this process holds, also those that only wait for the garbage collection."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # asking some of torch's objects for their type warns
        tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    return sum({tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}.values())


def test_maps_leave_no_tensors_behind(toy, image):
    """After every method has run once, so that what is loaded and prepared once is there, further runs add nothing."""
    engine, chance = ex.Engine(), random.Random(0)
    methods = [method for method in ex.methods().values() if not method.lacks(toy) and not method.fits_statistics
               and method.cost(method.settings(**method.cheap), toy).forward <= MOST_PASSES]
    assert len(methods) >= 15

    def held_after_all() -> int:
        for method in methods:
            x = image + chance.random()
            engine.explain(toy, x, method.key, target=chance.randrange(5), **method.cheap)
        engine._memos.clear()
        return tensor_bytes()

    held_after_all()
    with nothing_collected():
        assert held_after_all() <= held_after_all() == held_after_all()


@pytest.mark.parametrize("how", WAYS)
def test_randomised_weights_go_with_their_last_user(how, toy, image):
    """The sanity checks make a copy of the network for every stage: ten of VGG16 would be 5 GB."""
    assert toy.graph is not None
    with nothing_collected():
        copied = randomised(toy, stages(toy)[:2], how)
        ex.explain(copied, image, "gradient", target=0)
        ex.explain(copied, image, "grad_cam", target=0)
        module = weakref.ref(copied.module)
        assert module() is not None
        del copied
        assert module() is None


def test_memory_in_circles_is_given_back():
    class Part:
        pass

    with nothing_collected():
        first, second = Part(), Part()
        first.other, second.other = second, first
        first.weights = torch.zeros(10)
        weights = weakref.ref(first.weights)
        del first, second
        assert weights() is not None
        give_back()
        assert weights() is None


def test_what_is_kept_of_samples_grows_to_64_mb_and_no_further(tmp_path):
    engine, sizes = ex.Engine(ex.MapCache(tmp_path)), []
    for number in range(17):
        engine.cache.put(f"{number:064x}", torch.zeros(2**19))  # 2 MB
        engine._memos.of("image").keep(("layer gradient", number), (torch.zeros(2**19), ex.Passes()))
        sizes.append(engine.kept_bytes / 2**20)
    assert max(sizes) <= 64 and sizes[-1] >= 60
