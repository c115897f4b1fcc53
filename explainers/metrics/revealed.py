"""The network's predictions when it sees some pixels of an image and a baseline in place of the others.

This is one point of an insertion or deletion curve, for any mask: rectangles that a person drew, or the highest pixels of a map. Only
masks of the same area can be compared.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from explainers.baselines import baseline as make_baseline
from explainers.context import Context, RunOptions
from explainers.errors import ExplainerError
from explainers.metrics.insertion_deletion import order
from explainers.networks.classifier import Classifier
from explainers.progress import Progress


def composites(network: Classifier, x: Tensor, masks: np.ndarray, baseline: str = "zero", seed: int = 0) -> Tensor:
    """(n, C, H, W): ``x`` (1, C, H, W) where a mask is True, the baseline where it is False.

    masks: (n, H, W) bool. baseline: a name of ``explainers.baselines``. seed: for the baseline "noise".
    Raises ExplainerError for masks of another size.
    """
    masks = np.asarray(masks, bool)
    if masks.ndim != 3 or masks.shape[1:] != tuple(x.shape[-2:]):
        raise ExplainerError(f"Masks must have shape (n, {x.shape[-2]}, {x.shape[-1]}), not {masks.shape}.")
    hidden = make_baseline(network, x, baseline, Context(network, seed).generator())
    return torch.where(torch.from_numpy(masks)[:, None].to(x.device), x, hidden)


def measure(network: Classifier, x: Tensor, masks: np.ndarray, baseline: str = "zero", seed: int = 0,
            progress: Progress | None = None) -> Tensor:
    """(n, K) softmax probabilities of each mask's composite, on the CPU; arguments as for ``composites``. One forward pass a mask.

    Raises ExplainerError for masks of another size, and Cancelled.
    """
    view = network.metered()
    context = Context(view, seed, RunOptions(progress))
    shown = composites(network, x.to(view.device), masks, baseline, seed)
    return torch.cat([part for _, _, part in context.batches(len(shown), lambda a, b: view.predict(shown[a:b]).cpu())])


def top_fraction(heatmap: np.ndarray, fraction: float) -> np.ndarray:
    """(H, W) bool: the ``fraction`` (0 to 1) of the pixels with the highest signed values; equal values are taken row by row.

    The number of pixels is fraction x H x W, rounded, so masks of equal fraction have equal area.
    """
    return order(heatmap).numpy() < round(fraction * heatmap.size)
