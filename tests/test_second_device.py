"""Every method and metric keeps its tensors on the network's device: on a second device, which refuses what the CPU made."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from support.architectures import suited
from support.networks import classifier, drawn_images, residual_module
from support.second_device import OnDevice, moved, second_device

import explainers as ex
from explainers.contract import RawMap
from explainers.data.labelled import LabelledInputs
from explainers.data.reference import ReferenceSet

METHODS, METRICS = ex.methods(), ex.metrics()
LEFT = np.zeros((32, 32), bool)
LEFT[:, :16] = True
IMAGE = drawn_images(1, seed=3)
REFERENCE = ReferenceSet("drawn", "drawn", 40, lambda start, stop: drawn_images(40, seed=4)[start:stop])
NOT_FOLLOWED = {"lpr": "its torch.quantile changes a shape in place, which the wrapper around a tensor cannot follow"}


@cache
def on_device(network):
    return moved(network)


def tensors_in(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for part in value for tensor in tensors_in(part)]
    return [value] if isinstance(value, torch.Tensor) else []


@pytest.mark.parametrize("key", list(METHODS))
def test_every_method_runs_on_a_second_device(key):
    if key in NOT_FOLLOWED:
        pytest.skip(NOT_FOLLOWED[key])
    network, settings = suited(METHODS[key]), METHODS[key].cheap
    with second_device() as device:
        attribution = ex.explain(on_device(network), IMAGE.to(device), key, target=2, **settings)
    assert not any(isinstance(tensor, OnDevice) for tensor in tensors_in([attribution.native, attribution.extras]))
    there, here = attribution.native, ex.explain(network, IMAGE, key, target=2, **settings).native
    assert there.shape == here.shape and float(there.double().flatten() @ here.double().flatten()) > 0.98 * float(
        there.double().norm() * here.double().norm())  # generators of two devices draw alike; rounding may differ


@pytest.mark.parametrize("key", list(METRICS))
def test_every_metric_runs_on_a_second_device(key):
    metric, network = METRICS[key], classifier(residual_module())
    needed = {"region": LEFT} if key == "localisation" else {}

    def numbers(judged_network, image):
        if metric.judges == "labelled set":
            question = LabelledInputs.given(judged_network, drawn_images(6, seed=5), torch.arange(6) % 4, reference_set=REFERENCE)
        else:
            question = ex.ask(judged_network, image, "gradient", target=2)
        return metric.numbers(ex.judge(key, question, **{**metric.cheap, **needed}).run())

    with second_device() as device:
        there = numbers(on_device(network), IMAGE.to(device))
    assert there == pytest.approx(numbers(network, IMAGE), abs=1e-3, rel=1e-3)


# Whether the device refuses what a GPU would


def test_a_method_that_makes_a_tensor_on_the_cpu_is_refused(toy):
    def attribute(network, x, target, params, context):
        return RawMap((network.gradient(x, target) * torch.ones(x.shape[-2:]))[0])  # without device=x.device

    with second_device() as device:
        question = ex.ask(on_device(toy), IMAGE.to(device), "gradient", target=2)
        with pytest.raises(RuntimeError, match="two devices"):
            replace(question, method=replace(question.method, attribute=attribute)).run()


def test_the_device_computes_and_refuses():
    with second_device() as device:
        x = torch.arange(6.0, device=device).reshape(2, 3)
        assert x.sum().item() == 15 and x.tolist() == [[0, 1, 2], [3, 4, 5]] and x.cpu().numpy().sum() == 15
        assert (x + torch.tensor(1.0)).sum().item() == 21, "a number may come from the CPU"
        assert torch.randn(3, generator=torch.Generator(device).manual_seed(0), device=device).device == device
        weight = torch.ones(3, device=device, requires_grad=True)
        gradient = torch.autograd.grad((x * weight).sum(), weight)[0]
        assert isinstance(gradient, OnDevice) and gradient.tolist() == [3, 5, 7]
        for mistake in (lambda: x + torch.ones(3), lambda: x.cpu() + x, lambda: torch.cat((x, torch.ones(1, 3))),
                        lambda: torch.randn(3, generator=torch.Generator(), device=device)):
            with pytest.raises(RuntimeError, match="device"):
                mistake()
        with pytest.raises(TypeError, match="cpu"):
            x.numpy()
    assert torch.zeros(1).device.type == "cpu" and torch.Generator is not None
