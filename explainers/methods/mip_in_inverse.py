r"""How MIP-IN turns one layer round: the linear inverse that best rebuilds what went in from what is known of what came out.

S (n, ...) is the source signal above a layer, T (n, ...) what really entered the layer, for n reference images. Each
inverse minimises ||T - g(S)||^2 over g of the layer's own structure, and each has a closed form, solved in float64:

- dense: T ~ W S + b, W = Tc' Sc (Sc' Sc + lambda)^-1 with centred Tc, Sc. Where n is less than the width of S, or W would
  be larger than the images themselves, it stays in its dual form W = Tc' D, with D = (Sc Sc' + lambda)^-1 Sc: the
  25088 x 4096 matrix under VGG's head is never made;
- convolution: T ~ K * S, a transposed convolution of the same kernel size, stride, padding and dilation, without bias. Its
  normal equations fall apart by the phase of the stride, because a pixel sees only the taps of its own phase;
- max-pooling: S goes to where the maximum came from. Average pooling: S goes to all cells of its window, each of which
  is then scaled and shifted on its own (a ridge regression of one unknown).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Operator = Mapping[str, Tensor]
"""A fitted inverse: float32 tensors by name, as they are kept on disk."""

_BLOCK_NUMBERS = 2**23  # float64 numbers that one block of images may take: 64 MiB


@dataclass(frozen=True)
class Geometry:
    """What a convolution and its inverse have in common, each as (rows, columns)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    @classmethod
    def of(cls, layer: nn.Conv2d) -> Geometry:
        return cls(layer.kernel_size, layer.stride, layer.padding, layer.dilation)

    def taps(self, axis: int, phase: int) -> list[tuple[int, int]]:
        """The kernel's rows (or columns) d that reach pixels p = stride i + phase, each with the offset e of q = i + e."""
        reach = [(d, phase + self.padding[axis] - d * self.dilation[axis]) for d in range(self.kernel[axis])]
        return [(d, e // self.stride[axis]) for d, e in reach if e % self.stride[axis] == 0]

    def work(self, channels: int, size: tuple[int, int]) -> float:
        """Multiplications per image in the normal equations of an inverse that makes (., *size) from so many channels."""
        return prod(size) * (channels * prod(self.kernel)) ** 2 / prod(self.stride) ** 2


def solve(gram: Tensor, right: Tensor) -> Tensor:
    """The X with gram X = right, for a symmetric gram without negative eigenvalues.

    Jitter, from 1e-12 of the mean diagonal on, is added only where Cholesky's factors cannot be had without.
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
    """signal: (n, d) float64. entered: (n, e). ridge: lambda, or None for the best. ``dual`` forces a form; both are equal."""
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
    """The lambda that rebuilds unseen images best, by generalised cross-validation: least ||residual||^2 / (n - 1 - freedom)^2.

    The freedom is that of the fit, sum of e / (e + lambda) over the eigenvalues e of the Gram matrix.
    """
    n, d = centred.shape
    values, vectors = torch.linalg.eigh(centred @ centred.T if n < d else centred.T @ centred)
    values = values.clamp(min=0)
    spectrum = total = torch.zeros((), dtype=torch.float64, device=centred.device)
    for part in _centred_columns(entered, below):  # how much of what entered lies along each eigenvector
        along = vectors.T @ (part if n < d else centred.T @ part)
        spectrum = spectrum + along.square().sum(1)
        total = total + part.square().sum()
    certain = values > 1e-12 * values[-1]
    if n >= d:
        spectrum = spectrum / values.where(certain, 1)
    ridges = values.mean() * torch.logspace(-8, 1, 37, dtype=torch.float64).to(values)
    kept = torch.where(certain, values / (values + ridges[:, None]), 0)  # (37, eigenvalues)
    residual = total - ((1 - (1 - kept).square()) * spectrum).sum(1)
    free = (n - 1 - kept.sum(1)).clamp(min=1e-9)
    return float(ridges[(residual.clamp(min=0) / free.square()).argmin()])


def _centred_columns(entered: Tensor, below: Tensor) -> Iterator[Tensor]:
    """What entered, centred, in float64, a few columns at a time."""
    columns = max(1, _BLOCK_NUMBERS // len(entered))
    for part, middle in zip(entered.split(columns, 1), below.split(columns), strict=True):
        yield part.double() - middle


def invert_dense(inverse: Operator, signal: Tensor, bias: bool) -> Tensor:
    """(n, d) to (n, e)."""
    if bias:
        signal = signal - inverse["above"]
    if "weight" in inverse:
        found = signal @ inverse["weight"].to(signal).T
    else:
        found = (signal @ inverse["dual"].to(signal).T) @ inverse["images"].to(signal)
    return found + inverse["below"] if bias else found


def spread(pool: Callable[[Tensor], Tensor], entered: Tensor, signal: Tensor) -> Tensor:
    """The signal at the cells that the pooling took it from, in these very images; 0 elsewhere.

    Under max-pooling that is the cell of the maximum, under average pooling all cells of the window. A cell of several
    windows gets their mean, since each is an estimate of the same value.
    """
    with torch.enable_grad():
        cells = entered.detach().to(signal).clone().requires_grad_(True)
        pooled = pool(cells)
    backwards = torch.autograd.grad(pooled, cells, signal.reshape(pooled.shape), retain_graph=True)[0]
    shares = torch.autograd.grad(pooled, cells, torch.ones_like(pooled))[0]
    return backwards / shares.where(shares != 0, 1)


def fit_cells(signal: Tensor, entered: Tensor, ridge: float) -> Operator:
    """One slope per cell from the spread signal (n, C, h, w) to what entered there, and both means."""
    above, below = signal.mean(0), entered.mean(0, dtype=torch.float64)
    centred = signal - above
    covariance = (centred * (entered.double() - below)).sum(0)
    variance = centred.square().sum(0) + ridge
    slope = covariance / variance.where(variance != 0, 1)
    return {"slope": slope.float(), "above": above.float(), "below": below.float()}


def invert_cells(inverse: Operator, signal: Tensor, bias: bool) -> Tensor:
    """(n, C, h, w) to the same shape."""
    slope = inverse["slope"].to(signal)
    return slope * (signal - inverse["above"]) + inverse["below"] if bias else slope * signal


def fit_kernel(signal: Tensor, entered: Tensor, geometry: Geometry) -> Operator:
    """The kernel (O, I, kh, kw) with which the transposed convolution of signal (n, O, h, w) is nearest to entered (n, I, H, W)."""
    kernel = signal.new_zeros(signal.shape[1], entered.shape[1], *geometry.kernel)
    for phases in product(*(range(stride) for stride in geometry.stride)):
        taps = list(product(*(geometry.taps(axis, phase) for axis, phase in enumerate(phases))))
        if taps:
            there = entered[:, :, phases[0]::geometry.stride[0], phases[1]::geometry.stride[1]]
            found = _fit_taps(signal, there, [(down, right) for (_, down), (_, right) in taps])
            for k, ((row, _), (column, _)) in enumerate(taps):
                kernel[:, :, row, column] = found[:, k]
    return {"kernel": kernel.float()}


def _fit_taps(signal: Tensor, entered: Tensor, offsets: list[tuple[int, int]]) -> Tensor:
    """(O, taps, I): entered[p] ~ sum over taps of signal[p + offset], least squares over all pixels p of all images."""
    channels, unknowns = signal.shape[1], signal.shape[1] * len(offsets)
    gram = signal.new_zeros(unknowns, unknowns)
    cross = signal.new_zeros(unknowns, entered.shape[1])
    images = max(1, _BLOCK_NUMBERS // max(1, unknowns * prod(entered.shape[2:])))
    for above, below in zip(signal.split(images), entered.split(images), strict=True):
        seen = torch.stack([_shifted(above, offset, below.shape[2:]) for offset in offsets], 2)  # (n, O, taps, h, w)
        seen = seen.transpose(0, 2).transpose(0, 1).reshape(unknowns, -1)  # (O taps, n h w)
        gram += seen @ seen.T
        cross += seen @ below.transpose(0, 1).reshape(below.shape[1], -1).to(seen).T
    return solve(gram, cross).reshape(channels, len(offsets), -1)


def _shifted(signal: Tensor, offset: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """The pixels p of ``size`` with the signal at p + offset, 0 outside."""
    (down, right), (height, width) = offset, signal.shape[2:]
    return F.pad(signal, (-right, size[1] + right - width, -down, size[0] + down - height))


def invert_kernel(inverse: Operator, signal: Tensor, size: tuple[int, int], geometry: Geometry) -> Tensor:
    """(n, O, h, w) to (n, I, *size). Without bias, so the signal and the attribution go the same way."""
    least = [(signal.shape[2 + axis] - 1) * geometry.stride[axis] - 2 * geometry.padding[axis]
             + geometry.dilation[axis] * (geometry.kernel[axis] - 1) + 1 for axis in (0, 1)]
    beyond = [there - made for there, made in zip(size, least, strict=True)]
    return F.conv_transpose2d(signal, inverse["kernel"].to(signal), None, geometry.stride, geometry.padding, beyond,
                              dilation=geometry.dilation)
