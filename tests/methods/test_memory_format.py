"""Methods keep "channels last" through both passes: on the CPU, layers in the other memory format take up to ten times as long."""

from __future__ import annotations

import pytest
import torch
from support.networks import classifier, drawn_images, residual_module
from torch._prims_common import suggest_memory_format
from torch.utils._python_dispatch import TorchDispatchMode

import explainers as ex
from explainers.methods.slopes import with_slope
from explainers.networks.graph import Call

METHODS = ex.methods()
TOY = classifier(residual_module())
aten = torch.ops.aten
WATCHED = {aten.convolution.default: (0,), aten.convolution_backward.default: (0, 1), aten.conv2d.default: (0,),
           aten.max_pool2d_with_indices.default: (0,), aten.max_pool2d_with_indices_backward.default: (0, 1)}
"""The layers whose time depends on the memory format, with the places of the maps among their arguments."""

ITS_OWN_LAYERS = {"mip_in", "extremal_perturbation", "i_gos", "i_gos_plus_plus", "meaningful_perturbation"}
"""Methods that blur or invert by convolutions of their own, of little work."""


class Watch(TorchDispatchMode):
    """Counts the maps (N, C, h, w) that go into the watched layers, and those that are not channels last."""

    def __init__(self):
        super().__init__()
        self.all, self.other = 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        for place in WATCHED.get(function, ()):
            value = args[place]
            if value.dim() == 4 and value.shape[1] > 1 and value.shape[2] * value.shape[3] > 1:
                self.all += 1
                self.other += suggest_memory_format(value) != torch.channels_last
        return function(*args, **(kwargs or {}))


def watched(key, **settings):
    with Watch() as watch:
        ex.explain(TOY, drawn_images(1, seed=3), key, target=2, **{**METHODS[key].cheap, **settings})
    return watch


ON_TOY = [key for key, method in METHODS.items() if method.lacks(TOY) is None and key not in ITS_OWN_LAYERS]


@pytest.mark.parametrize("key", ON_TOY)
def test_maps_stay_channels_last(key):
    watch = watched(key)
    assert watch.other <= 0.25 * watch.all, f"{watch.other} of {watch.all} maps are not channels last"


def test_a_view_of_one_image_would_be_noticed():
    """The fault that guided backpropagation and DMBP had: ``view_as`` gives the stride of the images another value."""
    def loses_format(call: Call, x: torch.Tensor) -> torch.Tensor:
        output = call.plain(x)
        return output.view_as(output)

    with Watch() as watch:
        TOY.gradient(drawn_images(1, seed=3), 2, {"relu": loses_format})
    assert watch.other > 0.5 * watch.all


def test_a_slope_replaces_the_gradient_and_keeps_value_and_format():
    x = drawn_images(1, seed=4, side=4).contiguous(memory_format=torch.channels_last).requires_grad_(True)
    value, factor = x.detach().exp(), drawn_images(1, seed=5, side=4)
    output = with_slope(value, (factor, 2 * x), (3.0, x.square()))
    assert torch.equal(output, value) and output.stride() == value.stride()
    gradient = torch.autograd.grad(output, x, torch.full_like(x, 2.0))[0]
    assert torch.allclose(gradient, 2 * (2 * factor + 6 * x.detach()))


@pytest.mark.parametrize("positive", [True, False])
def test_a_slope_is_that_of_the_sum_written_out(positive):
    """The former form of the rule: value + s(x) - s(x)."""
    x = drawn_images(2, seed=6, side=4).requires_grad_(True)
    factor = drawn_images(1, seed=7, side=4).abs() * (1 if positive else -1)
    by_sum = x.detach().exp() + factor * (x.sin() - x.sin().detach())
    by_rule = with_slope(x.detach().exp(), (factor, x.sin()))
    gradients = [torch.autograd.grad(output, x, torch.ones_like(x))[0] for output in (by_sum, by_rule)]
    assert torch.equal(by_sum, by_rule) and torch.equal(*gradients)
