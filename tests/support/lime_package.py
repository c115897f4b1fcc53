"""The coefficients of the package ``lime``, written by the method's authors, for given superpixels and copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from explainers.networks.classifier import Classifier


class _Drawn:
    """Stands in for the random state from which the package draws its copies."""

    def __init__(self, visible: Tensor):
        self.visible = visible

    def randint(self, low: int, high: int, size: int) -> np.ndarray:
        return self.visible.int().numpy().ravel().copy()


def package_fit(network: Classifier, x: Tensor, labels: Tensor, visible: Tensor, target: int, *, output: str = "softmax",
                **options: Any) -> tuple[Tensor, float]:
    """The coefficients (M,) and R squared that the package fits to copies in which ``visible`` (n, M) superpixels are shown.

    labels: (H, W). options: further arguments of the package's ``explain_instance``.
    """
    lime_image = pytest.importorskip("lime.lime_image", reason="the package lime is not installed")

    def classify(images: np.ndarray) -> np.ndarray:
        batch = network.preprocessing.normalise(torch.from_numpy(images).permute(0, 3, 1, 2)).float()
        with torch.inference_mode():
            logits = network.logits(batch).double()
        return (logits if output == "logit" else logits.softmax(-1)).numpy()

    explainer = lime_image.LimeImageExplainer(kernel_width=0.25)
    explainer.random_state = _Drawn(visible)
    picture = network.preprocessing.pixels(x.double())[0].permute(1, 2, 0).numpy()
    explanation = explainer.explain_instance(
        picture, classify, labels=(target,), top_labels=None, num_samples=len(visible), random_seed=0, batch_size=64,
        segmentation_fn=lambda image: labels.numpy(), **options)
    return torch.tensor([value for _, value in sorted(explanation.local_exp[target])]), explanation.score
