"""The real SqueezeNet without its last layer: guided backpropagation hardly changes, the gradient does."""

from __future__ import annotations

import pytest
import torch

import explainers as ex
from explainers.metrics.sanity_checks import measure
from explainers.networks.stages import stages

pytestmark = pytest.mark.shared


def test_guided_backpropagation_keeps_its_map_without_the_last_layer_and_the_gradient_loses_it(squeezenet, shared_data):
    x = squeezenet.preprocess(ex.load_image(shared_data / "imagenet" / "dog_and_cat.png"))
    before = {name: tensor.clone() for name, tensor in squeezenet.module.state_dict().items()}

    def rank(method: str) -> float:
        found = measure(squeezenet, x, lambda network, x, target: ex.explain(network, x, method, target=target), target=243,
                        mode="last_layer", how="normal")
        assert found.steps[0].predictions.probability < 0.01 < 0.9 < found.steps[0].predictions.probability_before
        return found.steps[0].distances.rank

    assert rank("guided_backprop") > 0.85 and abs(rank("gradient")) < 0.4
    assert all(torch.equal(tensor, before[name]) for name, tensor in squeezenet.module.state_dict().items())


def test_fire_modules_are_stages(squeezenet):
    fires = ["12", "10", "9", "8", "7", "5", "4", "3"]
    assert [stage.title for stage in stages(squeezenet, 10)] == [
        "Last layer (classifier.1)", *(f"Block (features.{number})" for number in fires), "Convolution (features.0)"]
