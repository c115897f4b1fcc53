"""The methods that Captum has too give Captum's maps, on the embedded residual network (its ReLU is reused)."""

from __future__ import annotations

import pytest
import torch
from support.captum_maps import compare, prepared, table, without_noise

import explainers as ex
from explainers.networks.embedded import EMBEDDED, load_weights


@pytest.fixture(scope="module")
def scenes_resnet():
    module = EMBEDDED["scenes_resnet"].build()
    module.load_state_dict(load_weights("scenes_resnet"))
    return ex.load_model("scenes_resnet", device="cpu"), prepared(module)


@pytest.mark.parametrize("target", [0, 9])
def test_maps_equal_captums(scenes_resnet, target):
    network, module = scenes_resnet
    x = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(target))
    errors = compare(network, module, module.layer3, x, target)
    print(table(errors))
    assert len(errors) == 8 and max(errors.values()) < 1e-5, table(errors)


def test_smoothgrad_equals_captum_with_the_same_noise(scenes_resnet):
    network, module = scenes_resnet
    x = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(5))
    assert without_noise(network, module, x, 3) < 1e-5
