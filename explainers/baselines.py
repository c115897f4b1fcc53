"""Images that stand for "nothing to see": where a path starts, and what hidden pixels are replaced by."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from explainers.networks.classifier import Classifier

BASELINES = ("zero", "black", "blurred", "noise")


def baseline(network: Classifier, x: Tensor, name: str, generator: torch.Generator) -> Tensor:
    """(N, C, H, W) in the network's normalised space, of the same shape as ``x``.

    zero: the training set's mean colour. black: black pixels. blurred: the image blurred with a standard deviation of a
    tenth of its side. noise: one draw of N(0, 1), the statistics of normalised images.
    """
    if name == "zero":
        return torch.zeros_like(x)
    if name == "black":
        return network.preprocessing.normalise(torch.zeros_like(x))
    if name == "blurred":
        return blur(x, sigma=x.shape[-1] / 10)
    if name == "noise":
        return torch.randn(x.shape, generator=generator).to(x.device)
    raise ValueError(f"unknown baseline {name!r}; there are {', '.join(BASELINES)}")


def blur(x: Tensor, sigma: float, radius: int | None = None) -> Tensor:
    """Gaussian blur of (N, C, H, W), separable, edges mirrored; ``radius`` is 3 sigma unless told, and fits the image."""
    radius = min(math.ceil(3 * sigma) if radius is None else radius, min(x.shape[-2:]) - 1)
    offsets = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, -1)
    padded = F.pad(x, (radius,) * 4, mode="reflect")
    rows = F.conv2d(padded, kernel[..., None, :], groups=x.shape[1])
    return F.conv2d(rows, kernel[..., :, None], groups=x.shape[1])
