"""What a map does beside its passes is little. It is counted in operations on whole images or maps, because seconds vary."""

from __future__ import annotations

import pytest
import torch
from support.networks import classifier, drawn_images, residual_module
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import explainers as ex
from explainers.methods.guided import GUIDED

TOY, IMAGE = classifier(residual_module()), drawn_images(1, seed=3)
MOST = 6  # sums that show whether the image is finite (2), a copy of it and of the map, the map's least and largest value
VIEWS = ("alias", "as_strided", "detach", "expand", "permute", "select", "slice", "transpose", "squeeze", "view")


class Large(TorchDispatchMode):
    """The operations that read or write at least as many numbers as an image has; a view does neither."""

    def __init__(self):
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        tensors = (leaf for leaf in tree_leaves((args, out)) if isinstance(leaf, torch.Tensor))
        is_large = max((tensor.numel() for tensor in tensors), default=0) >= IMAGE.numel()
        if is_large and not any(name in str(function) for name in VIEWS):
            self.names.append(str(function))
        return out


def large(work) -> list[str]:
    """The names of the large operations of ``work``."""
    with Large() as operations:
        work()
    return operations.names


@pytest.mark.parametrize(("key", "its_pass"), [
    ("gradient", lambda: TOY.gradient(IMAGE, 2)),
    ("guided_backprop", lambda: TOY.gradient(IMAGE, 2, GUIDED)),
    ("grad_cam", lambda: TOY.predict(IMAGE)),
])
def test_a_map_of_one_pass_is_little_more_than_the_pass(key, its_pass):
    TOY.measure()
    whole, passes = large(lambda: ex.explain(TOY, IMAGE, key, target=2)), large(its_pass)
    assert passes and len(whole) - len(passes) <= MOST, f"{whole} of which the pass has {passes}"


def test_the_counter_sees_an_operation_too_many():
    assert large(lambda: (IMAGE + 1, IMAGE.view(-1), IMAGE[..., :4] + 1)) == ["aten.add.Tensor"]
