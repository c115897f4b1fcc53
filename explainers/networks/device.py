"""The device that a network runs on."""

from __future__ import annotations

import ctypes
import sys

import torch

from explainers.errors import ExplainerError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def choose(name: str | torch.device | None = None) -> torch.device:
    """The named device; without a name CUDA, else Apple's MPS, else the CPU. Raises ExplainerError for one that is not there.

    On CUDA, TF32 is switched off for the whole process: with its 10-bit mantissas, maps change by more than methods differ.
    """
    device = torch.device(name) if name is not None else _best()
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device.type, False):
        names = ", ".join(name for name, there in available.items() if there)
        raise ExplainerError(f"There is no device {device} on this machine; there is {names}.")
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    if device.type == "cpu":
        _keep_large_blocks()
    return device


def _best() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _keep_large_blocks() -> None:
    """Make glibc keep freed memory for the next pass.

    By default it returns every block above 32 MiB to the kernel, which must clear the same memory again for each layer of each
    pass. With batches of images that took longer than the convolutions.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
