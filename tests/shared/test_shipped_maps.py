"""EfficientNet-Lite0 on real photographs: its accuracy, and maps from shipped statistics against maps from the pictures."""

from __future__ import annotations

import pytest
import torch

import explainers as ex
from explainers.data.reference import from_pictures

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def network():
    return ex.load_model("efficientnet_lite0", device="cpu")


def test_it_classifies_four_of_five_photographs(network, shared_data):
    files = sorted((shared_data / "imagenet").glob("[0-9][0-9][0-9]_*.jpg"))
    labels = torch.tensor([int(file.name[:3]) for file in files])
    inputs = [network.preprocess(ex.load_image(file)) for file in files]
    predicted = torch.cat([network.predict(torch.cat(inputs[start:start + 20])).argmax(1) for start in range(0, len(inputs), 20)])
    assert len(files) == 100 and (predicted == labels).sum() >= 80


def test_shipped_statistics_give_the_maps_of_the_photographs_themselves(network, shared_data):
    """IBA's statistics are stored exactly. MIP-IN's are rounded, which changes its map by about 1 part in 10,000."""
    reference = from_pictures(network, shared_data / "imagenet-reference")
    x = network.preprocess(ex.load_image(shared_data / "imagenet" / "dog_and_cat.png"))
    for method, tolerance in (("iba", 1e-5), ("mip_in", 1e-3)):
        without, given = (ex.explain(network, x, method, target=243, reference=chosen).native for chosen in (None, reference))
        assert (without - given).norm() < tolerance * given.norm()
