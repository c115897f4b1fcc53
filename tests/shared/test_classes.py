"""Class sensitivity on the real SqueezeNet and the picture of a dog and a cat: the papers' finding, and what rectifying leaves."""

from __future__ import annotations

import pytest

import explainers as ex
from explainers.metrics import class_sensitivity
from explainers.target import Target

pytestmark = pytest.mark.shared
DOG, CAT, GREAT_DANE = 243, 282, 246


@pytest.fixture(scope="module")
def compared(shared_data):
    """A function from a method to its class sensitivity."""
    network = ex.load_model("squeezenet1_0", weights=shared_data / "weights" / "squeezenet1_0-imagenet.safetensors", device="cpu")
    x = network.preprocess(ex.load_image(shared_data / "imagenet" / "dog_and_cat.png"))
    return lambda key: class_sensitivity.measure([ex.explain(network, x, key, target=target) for target in (DOG, CAT, GREAT_DANE)])


def level(found, pair):
    one = found.between(*pair)
    return class_sensitivity.verdict(one.rank, one.l2_unit).level


def test_guided_backpropagation_is_flagged_and_gradient_and_grad_cam_are_not(compared):
    assert level(compared("guided_backprop"), (DOG, CAT)) == "same"
    for key in ("gradient", "grad_cam"):
        assert level(compared(key), (DOG, CAT)) == "different", key
    dogs, both = (compared("gradient").between(DOG, other).rank for other in (GREAT_DANE, CAT))
    assert dogs > both + 0.2  # two breeds of dog are closer than a dog and a cat


def test_deconvnet_is_empty_for_the_cat_and_the_same_for_both_dogs(compared):
    """Rectified at every ReLU whatever went forward, the cat's signal dies in the squeeze layer of the sixth fire module."""
    found = compared("deconvnet")
    assert found.flat == (Target((CAT,)),) and level(found, (DOG, CAT)) == "unknown"
    assert level(found, (DOG, GREAT_DANE)) == "same" and found.between(DOG, GREAT_DANE).l2_unit < 0.01
