"""Baseline images without evidence: the start of an integration path, or the replacement of hidden pixels."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from explainers.networks.classifier import Classifier

BASELINES = ("zero", "black", "blur", "noise")


def baseline(network: Classifier, x: Tensor, name: str, generator: torch.Generator) -> Tensor:
    """(N, C, H, W) in the network's normalised space, of the same shape as ``x``.

    zero: the training set's mean colour. black: black pixels. blur: the image blurred with a standard deviation of a
    tenth of its width. noise: one draw from N(0, 1), roughly the distribution of normalised pixels. Raises ValueError for
    another name.
    """
    if name == "zero":
        return torch.zeros_like(x)
    if name == "black":
        return network.preprocessing.normalise(torch.zeros_like(x))
    if name == "blur":
        return blur(x, sigma=x.shape[-1] / 10)
    if name == "noise":
        return torch.randn(x.shape, generator=generator).to(x.device)
    raise ValueError(f"unknown baseline {name!r}; there are {', '.join(BASELINES)}")


def blur(x: Tensor, sigma: float, radius: int | None = None) -> Tensor:
    """Gaussian blur of (N, C, H, W) with mirrored edges. ``radius`` is 3 sigma by default, and at most the image's side - 1."""
    radius = min(math.ceil(3 * sigma) if radius is None else radius, min(x.shape[-2:]) - 1)
    offsets = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return _filtered(F.pad(x, (radius,) * 4, mode="reflect"), kernel / kernel.sum())


def i_gos_blur(x: Tensor) -> Tensor:
    """The blur that I-GOS replaces hidden pixels with: kernel 51 and deviation 50 at 224 pixels, in proportion at other sizes."""
    scale = x.shape[-1] / 224
    return blur(x, sigma=50 * scale, radius=max(1, round(25 * scale)))


def rise_blur(x: Tensor) -> Tensor:
    """The blur that RISE's insertion starts from: kernel 11, deviation 5, zeros beyond the edges (Petsiuk, Das, Saenko 2018).

    The authors make the kernel by filtering an impulse of 11 pixels with mirrored edges, so the tails of the Gaussian beyond
    11 pixels are folded back into the kernel.
    """
    side, sigma, reach = 11, 5.0, 20
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    impulse = np.pad(np.eye(side)[side // 2], reach, mode="symmetric")
    kernel = np.convolve(impulse, weights / weights.sum(), mode="valid")
    return _filtered(F.pad(x, (side // 2,) * 4), torch.from_numpy(kernel).to(x))


def median_blur(x: Tensor, side: int) -> Tensor:
    """Each pixel's median, channel by channel, over a window of ``side`` x ``side`` pixels (odd); the edge pixels are repeated."""
    windows = F.pad(x, (side // 2,) * 4, mode="replicate").unfold(2, side, 1).unfold(3, side, 1)  # (N, C, H, W, side, side)
    rows = [windows[:, :, row].flatten(-2).median(-1).values for row in range(x.shape[2])]  # one by one, to save memory
    return torch.stack(rows, 2)


def blur_pyramid(x: Tensor, levels: int, sigma: float) -> Tensor:
    """(L, C, H, W) from an image (1, C, H, W): Gaussian blurs whose deviation falls linearly from ``sigma`` to 0, the image itself.

    The mean colour, 0, lies beyond the edges.
    """
    return torch.cat([blur_towards_zero(x, sigma * (1 - level / (levels - 1))) for level in range(levels - 1)] + [x])


def blur_towards_zero(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (N, C, H, W) with 0 beyond the edges and a kernel that reaches to 4 deviations, as in TorchRay."""
    radius = math.ceil(4 * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return _filtered(F.pad(x, (radius,) * 4), kernel / kernel.sum())


def _filtered(padded: Tensor, kernel: Tensor) -> Tensor:
    """Filters a padded (N, C, H, W) with the kernel (k,) along each row and then along each column."""
    channels = padded.shape[1]
    kernel = kernel.expand(channels, 1, -1)
    rows = F.conv2d(padded, kernel[..., None, :], groups=channels)
    return F.conv2d(rows, kernel[..., :, None], groups=channels)
