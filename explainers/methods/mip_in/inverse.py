r"""MIP-IN's inverse of one layer: the linear map that best reconstructs the layer's input from a signal at its output.

For n reference images, S (n, ...) is the source signal at the layer's output and T (n, ...) are the layer's true inputs
(``entered`` in the code). Each inverse minimises ||T - g(S)||^2 over maps g of the layer's own structure (Deng and others 2021,
section 4.1). All have closed forms, solved in float64:

- dense: T ~ W S + b with W = Tc' D for centred Tc and Sc, where D = Sc (Sc' Sc + lambda)^-1 = (Sc Sc' + lambda)^-1 Sc is computed
  with the smaller Gram matrix (equation 6). The dual form stores D and Tc instead of W, where that takes less memory, as for
  the 25088 x 4096 matrix of VGG's first dense layer and 1000 images.
- convolution: T ~ K * S, a transposed convolution of the same kernel size, stride, padding and dilation, without bias (equation 7).
  Its normal equations separate by the pixels' phase relative to the stride, because a pixel sees only the taps of its phase. They
  are added up in blocks of images. Where all pixels of all images would take too long, each image gives every k-th pixel, beginning
  at another one than the image before it, so that all images and all places count.
- max-pooling: S goes to the position of the maximum. Average pooling: S goes to all cells of its window, and each cell is
  scaled and shifted by a ridge regression with one unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Operator = Mapping[str, Tensor]
"""A fitted inverse: float32 tensors by name, as they are stored on disk."""

_BLOCK_NUMBERS = 2**23  # float64 numbers in one block of images: 64 MiB
_KERNEL_WORK = 1e10  # multiplications in one convolution's normal equations: about a second on one CPU core


@dataclass(frozen=True)
class Geometry:
    """The geometry that a convolution and its inverse share, each entry as (rows, columns)."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @classmethod
    def of(cls, layer: nn.Conv2d) -> Geometry:
        assert not isinstance(layer.padding, str)  # the chains of ``Graph.chain`` hold no such convolution
        return cls(layer.kernel_size, layer.stride, layer.padding, layer.dilation)

    def taps(self, axis: int, phase: int) -> list[tuple[int, int]]:
        """(d, e) for each kernel row (or column) d that connects input pixels stride i + phase with output pixels i + e."""
        reach = [(d, phase + self.padding[axis] - d * self.dilation[axis]) for d in range(self.kernel[axis])]
        return [(d, e // self.stride[axis]) for d, e in reach if e % self.stride[axis] == 0]

    def pixel_step(self, images: int, channels: int, size: Sequence[int]) -> int:
        """k, where a fit uses every k-th pixel: the least with which the normal equations take ``_KERNEL_WORK`` multiplications.

        images: their number. channels: those of the signal. size: (h, w) of the input. k is at most the number of images, so that
        every place is seen in some image.
        """
        return max(1, min(images, ceil(self.fit_work(images, channels, size) / _KERNEL_WORK)))

    def fit_work(self, images: int, channels: int, size: Sequence[int]) -> float:
        """The multiplications of the normal equations over all pixels; the arguments are those of ``pixel_step``."""
        return images * prod(size) * (channels * prod(self.kernel)) ** 2 / prod(self.stride) ** 2


def solve(gram: Tensor, right: Tensor) -> Tensor:
    """The X with gram X = right, for a symmetric positive semidefinite gram.

    Where the Cholesky factorisation fails, a multiple of the identity is added, from 1e-12 of the mean diagonal upwards.
    """
    mean = gram.diagonal().mean()
    if mean == 0:
        return torch.zeros_like(right)
    jitter = 0.0
    while True:
        factor, failed = torch.linalg.cholesky_ex(gram + jitter * mean * torch.eye(len(gram)).to(gram))
        if not failed:
            return torch.cholesky_solve(right, factor)
        jitter = max(1e-12, 10 * jitter)


def fit_dense(signal: Tensor, entered: Tensor, ridge: float | None, dual: bool | None = None) -> Operator:
    """signal: (n, d) float64. entered: (n, e). ridge: lambda, None for ``best_ridge``. dual: forces one of two equivalent forms."""
    (n, d), e = signal.shape, entered.shape[1]
    above, below = signal.mean(0), entered.mean(0, dtype=torch.float64)
    centred = signal - above
    ridge = best_ridge(centred, entered, below) if ridge is None else ridge
    if n < d:
        gram = centred @ centred.T
        weights = solve(gram + ridge * torch.eye(n).to(gram), centred)  # (n, d)
    else:
        gram = centred.T @ centred
        weights = solve(gram + ridge * torch.eye(d).to(gram), centred.T).T
    means = {"above": above.float(), "below": below.float()}
    if e * d > n * (e + d) if dual is None else dual:
        return {**means, "dual": weights.float(), "images": (entered.double() - below).float()}
    rows = [part.T @ weights for part in _centred_columns(entered, below)]
    return {**means, "weight": torch.cat(rows).float()}


def best_ridge(centred: Tensor, entered: Tensor, below: Tensor) -> float:
    """The lambda of least generalised cross-validation error, ||residual||^2 / (n - 1 - freedom)^2.

    It estimates which lambda reconstructs unseen images best. The fit's degrees of freedom are the sum of e / (e + lambda) over the
    eigenvalues e of the Gram matrix.
    """
    n, d = centred.shape
    values, vectors = torch.linalg.eigh(centred @ centred.T if n < d else centred.T @ centred)
    values = values.clamp(min=0)
    spectrum = total = torch.zeros((), dtype=torch.float64, device=centred.device)
    for part in _centred_columns(entered, below):  # squared norm of the inputs along each eigenvector
        along = vectors.T @ (part if n < d else centred.T @ part)
        spectrum = spectrum + along.square().sum(1)
        total = total + part.square().sum()
    nonzero = values > 1e-12 * values[-1]
    if n >= d:
        spectrum = spectrum / values.where(nonzero, 1)
    ridges = values.mean() * torch.logspace(-8, 1, 37, dtype=torch.float64).to(values)
    kept = torch.where(nonzero, values / (values + ridges[:, None]), 0)  # (37, eigenvalues)
    residual = total - ((1 - (1 - kept).square()) * spectrum).sum(1)
    free = (n - 1 - kept.sum(1)).clamp(min=1e-9)
    return float(ridges[(residual.clamp(min=0) / free.square()).argmin()])


def _centred_columns(entered: Tensor, below: Tensor) -> Iterator[Tensor]:
    """The centred inputs in float64, a few columns at a time, to save memory."""
    columns = max(1, _BLOCK_NUMBERS // len(entered))
    for part, mean in zip(entered.split(columns, 1), below.split(columns), strict=True):
        yield part.double() - mean


def invert_dense(inverse: Operator, signal: Tensor, bias: bool) -> Tensor:
    """The signal (n, d) at the output to the signal (n, e) at the input. ``bias``: with the fitted means, or linear only."""
    if bias:
        signal = signal - inverse["above"]
    if "weight" in inverse:
        inverted = signal @ inverse["weight"].to(signal).T
    else:
        inverted = (signal @ inverse["dual"].to(signal).T) @ inverse["images"].to(signal)
    return inverted + inverse["below"] if bias else inverted


def spread(pool: Callable[[Tensor], Tensor], entered: Tensor, signal: Tensor) -> Tensor:
    """The signal of each pooling window at the cells that its output depends on, and 0 at all others.

    Under max-pooling that is the cell of the maximum, under average pooling every cell of the window. A cell in several windows
    gets the mean of their signals, because each is an estimate of the same value.
    """
    with torch.enable_grad():
        cells = entered.detach().to(signal).clone().requires_grad_(True)
        pooled = pool(cells)
    total = torch.autograd.grad(pooled, cells, signal.reshape(pooled.shape), retain_graph=True)[0]
    weight = torch.autograd.grad(pooled, cells, torch.ones_like(pooled))[0]
    return total / weight.where(weight != 0, 1)


def fit_cells(signal: Tensor, entered: Tensor, ridge: float) -> Operator:
    """One slope per cell from the spread signal (n, C, h, w) to the cell's true inputs, and the means of both."""
    above, below = signal.mean(0), entered.mean(0, dtype=torch.float64)
    centred = signal - above
    covariance = (centred * (entered.double() - below)).sum(0)
    variance = centred.square().sum(0) + ridge
    slope = covariance / variance.where(variance != 0, 1)
    return {"slope": slope.float(), "above": above.float(), "below": below.float()}


def invert_cells(inverse: Operator, signal: Tensor, bias: bool) -> Tensor:
    """The spread signal (n, C, h, w), scaled and, with ``bias``, shifted in each cell."""
    slope = inverse["slope"].to(signal)
    return slope * (signal - inverse["above"]) + inverse["below"] if bias else slope * signal


def fit_kernel(signal: Tensor, entered: Tensor, geometry: Geometry, step: int = 1) -> Operator:
    """The kernel (O, I, kh, kw) whose transposed convolution of signal (n, O, h, w) best fits entered (n, I, H, W).

    step: every how many pixels the fit uses, see ``Geometry.pixel_step``.
    """
    kernel = torch.zeros(signal.shape[1], entered.shape[1], *geometry.kernel, dtype=torch.float64, device=signal.device)
    for phases in product(*(range(stride) for stride in geometry.stride)):
        taps = list(product(*(geometry.taps(axis, phase) for axis, phase in enumerate(phases))))
        pixels = entered[:, :, phases[0]::geometry.stride[0], phases[1]::geometry.stride[1]]
        if taps and pixels.numel():
            weights = _fit_taps(signal, pixels, [(down, right) for (_, down), (_, right) in taps], step)
            for k, ((row, _), (column, _)) in enumerate(taps):
                kernel[:, :, row, column] = weights[:, k]
    return {"kernel": kernel.float()}


def _fit_taps(signal: Tensor, entered: Tensor, offsets: list[tuple[int, int]], step: int) -> Tensor:
    """(O, taps, I): least-squares weights w in entered[p] ~ sum over taps of w signal[p + offset].

    The sum of squares is over the pixels p of all images; with step k, image i gives the pixels i, i + k, i + 2k, ... (modulo k).
    """
    channels, unknowns, (height, width) = signal.shape[1], signal.shape[1] * len(offsets), entered.shape[2:]
    gram = torch.zeros(unknowns, unknowns, dtype=torch.float64, device=signal.device)
    cross = gram.new_zeros(unknowns, entered.shape[1])
    for first in range(min(step, len(signal))):
        pixels = torch.arange(height * width, device=signal.device)[first::step]
        images = max(1, _BLOCK_NUMBERS // max(1, unknowns * len(pixels)))
        for above, below in zip(signal[first::step].split(images), entered[first::step].split(images), strict=True):
            columns = _at_taps(above.double(), offsets, pixels // width, pixels % width).flatten(2)  # (O, taps, n pixels)
            columns = columns.flatten(0, 1)
            gram += columns @ columns.T
            cross += columns @ below.flatten(2)[:, :, pixels].transpose(0, 1).flatten(1).to(columns).T
    return solve(gram, cross).reshape(channels, len(offsets), -1)


def _at_taps(signal: Tensor, offsets: list[tuple[int, int]], rows: Tensor, columns: Tensor) -> Tensor:
    """(O, taps, n, pixels): the signal (n, O, h, w) at each pixel + offset, and 0 where that is outside of the signal."""
    height, width = signal.shape[2:]
    values = []
    for down, right in offsets:
        y, x = rows + down, columns + right
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        values.append(signal[:, :, y.clamp(0, height - 1), x.clamp(0, width - 1)] * inside)
    return torch.stack(values).permute(2, 0, 1, 3)


def invert_kernel(inverse: Operator, signal: Tensor, size: Sequence[int], geometry: Geometry) -> Tensor:
    """The signal (n, O, h, w) to (n, I, *size). There is no bias, so source signal and attribution are inverted alike."""
    least = [(signal.shape[2 + axis] - 1) * geometry.stride[axis] - 2 * geometry.padding[axis]
             + geometry.dilation[axis] * (geometry.kernel[axis] - 1) + 1 for axis in (0, 1)]
    output_padding = [wanted - made for wanted, made in zip(size, least, strict=True)]
    return F.conv_transpose2d(signal, inverse["kernel"].to(signal), None, geometry.stride, geometry.padding, output_padding,
                              dilation=geometry.dilation)
