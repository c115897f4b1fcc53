"""Superpixels: connected regions of similar colour that methods show or hide as wholes.

A segmentation is a tensor (H, W) of whole numbers, the label of each pixel's region, from 0 on without gaps. It depends on the picture
alone: not on the network, the class or a seed. Lengths in pixels are meant for a picture of 224 pixels and shrink with smaller ones,
so that a digit of 28 pixels is cut into about as many regions as a photograph.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

SEGMENTATIONS = ("quickshift", "felzenszwalb", "slic", "grid")
_USUAL_SIDE = 224
_XRAI_SCALES = (50, 100, 150, 250, 500, 1200)


def superpixels(picture: Tensor, how: str, most: int) -> Tensor:
    """The labels (H, W) of the regions of a picture (C, H, W) with values from 0 to 1, grey or in three colours.

    how: "quickshift" with the settings of the LIME package (Ribeiro, Singh, Guestrin 2016); "felzenszwalb" with those of
    scikit-image's example; "slic" with those of the SHAP package's example for images; "grid", squares. most: the largest number of
    regions. slic and grid make about as many, the other two as many as the picture asks for; where these are too many, neighbours
    are merged. Raises ValueError for another name.
    """
    if how == "grid":
        return _grid(picture.shape[-2], picture.shape[-1], int(most**0.5))
    from skimage import segmentation  # brings scipy, which an app without these methods need not wait for

    pixels, scale = _colours(picture), _scale(picture)
    if how == "quickshift":
        labels = segmentation.quickshift(pixels, kernel_size=max(1.0, 4 * scale), max_dist=200, ratio=0.2)
    elif how == "felzenszwalb":
        labels = segmentation.felzenszwalb(pixels, scale=100, sigma=0.5, min_size=max(2, round(50 * scale**2)))
    elif how == "slic":
        labels = segmentation.slic(pixels, n_segments=most, compactness=30, sigma=3 * scale)
    else:
        raise ValueError(f"unknown segmentation {how!r}; there are {', '.join(SEGMENTATIONS)}")
    return merged(_without_gaps(labels), pixels, most)


def merged(labels: Tensor, pixels: np.ndarray, most: int) -> Tensor:
    """The segmentation (H, W) with neighbouring regions merged until there are at most this many.

    Always those two are merged whose merging adds the least to the squared differences between the pixels' colours and the mean
    colours of their regions (Ward 1963). pixels: (H, W, 3).
    """
    flat = labels.flatten().numpy()
    sizes = np.bincount(flat).astype(float)
    means = np.stack([np.bincount(flat, pixels[..., channel].ravel()) for channel in range(3)], 1) / sizes[:, None]
    names, edges = np.arange(len(sizes)), _neighbours(labels.numpy())  # the region that each first region is now part of
    for _ in range(len(sizes) - most):
        a, b = edges.T
        costs = sizes[a] * sizes[b] / (sizes[a] + sizes[b]) * np.square(means[a] - means[b]).sum(1)
        kept, gone = edges[costs.argmin()]
        total = sizes[kept] + sizes[gone]
        means[kept], sizes[kept] = (sizes[kept] * means[kept] + sizes[gone] * means[gone]) / total, total
        names[names == gone] = kept
        edges = np.sort(np.where(edges == gone, kept, edges), 1)
        edges = np.unique(edges[edges[:, 0] < edges[:, 1]], axis=0)
    return _without_gaps(names[labels.numpy()])


def _neighbours(labels: np.ndarray) -> np.ndarray:
    """The pairs of regions that share a border, (E, 2), each once with the smaller label first."""
    across, down = (labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])
    pairs = np.sort(np.concatenate([np.stack(sides, -1).reshape(-1, 2) for sides in (across, down)]), 1)
    return np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)


def felzenszwalb_regions(picture: Tensor, report: Callable[[], None] = lambda: None) -> Tensor:
    """Overlapping regions at six scales, as XRAI uses them: bool (H * W, regions), from a picture (C, H, W) from 0 to 1.

    The settings are those of the authors' code (PAIR saliency, ``xrai.py``). The picture is stretched to the range -1 to 1, resized to
    224 x 224 pixels, and cut by Felzenszwalb's method at the scales 50 to 1200, with sigma 0.8 and at least 150 pixels for a
    region. Each region then grows by a disc of 5 pixels, so that it includes its edges. report: called after each scale.
    """
    from skimage.segmentation import felzenszwalb
    from skimage.transform import resize

    pixels = _colours(picture)
    low, high = pixels.min(), pixels.max()
    pixels = 2 * (pixels - low) / max(high - low, 1e-12) - 1
    pixels = resize(pixels, (_USUAL_SIDE, _USUAL_SIDE), order=3, mode="edge", anti_aliasing=True)
    rows, columns = (_centres(side) for side in picture.shape[-2:])
    radius = round(5 * _scale(picture))
    regions = []
    for scale in _XRAI_SCALES:
        labels = felzenszwalb(pixels, scale=scale, sigma=0.8, min_size=150)[rows[:, None], columns]
        regions.append(grown(_without_gaps(labels), radius))
        report()
    return torch.cat(regions, 1)


def grown(labels: Tensor, radius: int) -> Tensor:
    """Each region of a segmentation (H, W), grown by a disc of this radius: bool (H * W, regions).

    A pixel belongs to the grown region if one of the pixels within the radius of it has the region's label.
    """
    height, width = labels.shape
    members = torch.zeros(height * width, int(labels.max()) + 1, dtype=torch.bool)
    pixels = torch.arange(height * width).view(height, width)
    for down in range(-radius, radius + 1):
        for right in range(-radius, radius + 1):
            if down**2 + right**2 > radius**2:
                continue
            here = pixels[max(0, -down):height - max(0, down), max(0, -right):width - max(0, right)]
            there = labels[max(0, down):height + min(0, down), max(0, right):width + min(0, right)]
            members[here.flatten(), there.flatten()] = True
    return members


def segment_means(x: Tensor, labels: Tensor) -> Tensor:
    """The image (1, C, H, W) with each pixel replaced by the mean of its region. labels: (H, W).

    The sums are made on the CPU, because a GPU adds in an order that changes from run to run.
    """
    flat, values = labels.flatten().cpu(), x[0].flatten(1).cpu().double()  # (H * W,), (C, H * W)
    sums = torch.zeros(values.shape[0], int(flat.max()) + 1, dtype=values.dtype).index_add_(1, flat, values)
    return (sums / torch.bincount(flat)).to(x)[:, labels.to(x.device)][None]


def _grid(height: int, width: int, side: int) -> Tensor:
    """Squares, ``side`` of them along each side of the picture."""
    rows, columns = (torch.arange(length) * min(side, length) // length for length in (height, width))
    return rows[:, None] * (int(columns[-1]) + 1) + columns


def _colours(picture: Tensor) -> np.ndarray:
    """(H, W, 3): grey pictures get three equal channels, because the methods compare colours as the eye sees them."""
    return picture.detach().cpu().double().expand(3, -1, -1).permute(1, 2, 0).numpy()


def _scale(picture: Tensor) -> float:
    """By how much lengths shrink: 1 for a picture of at least 224 pixels."""
    return min(1.0, max(picture.shape[-2:]) / _USUAL_SIDE)


def _centres(side: int) -> np.ndarray:
    """The row or column of 224 in which the centre of each pixel of a picture with this side lies."""
    return ((np.arange(side) + 0.5) * _USUAL_SIDE / side).astype(int)


def _without_gaps(labels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.unique(labels, return_inverse=True)[1].reshape(labels.shape))
