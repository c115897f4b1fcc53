"""The device that a network runs on."""

from __future__ import annotations

import torch

from explainers.errors import ExplainerError
from explainers.memory import keep_large_blocks


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
        keep_large_blocks()
    return device


def _best() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
