"""Be the mask: what the network says when it sees some pixels and a baseline in place of the others.

One point of an insertion or deletion curve, for any mask: a person's rectangles, or as many of a map's highest pixels. Two masks
of the same area can be compared; two of different areas cannot.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from explainers.baselines import baseline as make_baseline
from explainers.context import Context, Progress
from explainers.contract import ExplainerError
from explainers.metrics.insertion_deletion import order
from explainers.networks.classifier import Classifier


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
    """(n, K) probabilities, on the CPU, of what each mask leaves; arguments as for ``composites``. One pass forward a mask.

    Raises ExplainerError for masks of another size, and Cancelled.
    """
    view = network.metered()
    context = Context(view, seed, progress)
    shown = composites(network, x.to(view.device), masks, baseline, seed)
    return torch.cat([found for _, _, found in context.batches(len(shown), lambda a, b: view.predict(shown[a:b]).cpu())])


def top_share(heatmap: np.ndarray, share: float) -> np.ndarray:
    """(H, W) bool: the ``share`` (0 to 1) of the pixels with the highest values, signed; of equal ones, the first by row.

    The number of pixels is share x H x W, rounded, so masks of equal share have equal area.
    """
    return order(heatmap).numpy() < round(share * heatmap.size)
