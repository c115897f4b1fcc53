"""The real network and the photograph that several of these tests use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import explainers as ex


@pytest.fixture(scope="session")
def weights(shared_data: Path) -> Path:
    """The checkpoint of SqueezeNet."""
    return shared_data / "weights" / "squeezenet1_0-imagenet.safetensors"


@pytest.fixture(scope="session")
def squeezenet(weights: Path) -> ex.Classifier:
    """SqueezeNet with its trained weights."""
    return ex.load_model("squeezenet1_0", weights=weights, device="cpu")


@pytest.fixture(scope="session")
def dog_and_cat(squeezenet: ex.Classifier, shared_data: Path) -> torch.Tensor:
    """The photograph of a dog (class 243) above a cat (282), as SqueezeNet sees it."""
    return squeezenet.preprocess(ex.load_image(shared_data / "imagenet" / "dog_and_cat.png"))
