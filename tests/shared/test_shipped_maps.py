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
    """MIP-IN's statistics are rounded. IBA's are stored as they are, but their last bits depend on the number of threads.

    Either changes a map by less than 1 part in 1,000; the bound leaves room for other machines.
    """
    reference = from_pictures(network, shared_data / "imagenet-reference")
    x = network.preprocess(ex.load_image(shared_data / "imagenet" / "dog_and_cat.png"))
    for method in ("iba", "mip_in"):
        without, given = (ex.explain(network, x, method, target=243, reference=chosen).native for chosen in (None, reference))
        assert (without - given).norm() < 5e-3 * given.norm()
