"""The networks and the image that most tests use."""

from __future__ import annotations

import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # several processes share the cores, and torch's threads would wait for one another
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from support.networks import classifier, drawn_images, residual_module, seeded
from support.paths import SHARED
from torch import nn

from explainers.networks.classifier import Classifier


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many processes run the tests: two for the whole suite. Chosen tests run in this one, as do those of ``pytest -s``, whose
    output would not be seen from another process."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return 2 if whole and config.getoption("capture") != "no" else 0


@pytest.fixture(autouse=True)
def the_same_numbers_in_every_run() -> None:
    """What a test draws without a seed of its own: a comparison to the last digits fails where a number happens to lie at a kink."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def toy() -> Classifier:
    """A residual, batch-normed network with biases; 3 x 32 x 32 images, 5 classes."""
    return classifier(residual_module())


@pytest.fixture(scope="session")
def bias_free() -> Classifier:
    """Convolutions, ReLUs and a max-pool without any bias: f(a x) = a f(x) for a > 0."""
    return classifier(seeded(lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 256, 5, bias=False)), 1))


@pytest.fixture(scope="session")
def linear() -> Classifier:
    """One dense layer on the pixels: every attribution has a closed form."""
    return classifier(seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5)), 2))


@pytest.fixture()
def image() -> torch.Tensor:
    """(1, 3, 32, 32), as if normalised."""
    return drawn_images(1, seed=3)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real networks and photographs; tests that need it are skipped where it is missing."""
    if not SHARED.is_dir():
        pytest.skip("the real networks and photographs are not here")
    return SHARED
