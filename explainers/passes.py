"""Passes through a network: the unit in which methods and metrics state what they cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Passes:
    """Images sent forward and gradients sent back. One image through the whole network counts 1, through a part a fraction of 1."""

    forward: float = 0
    backward: float = 0

    def __add__(self, other: Passes) -> Passes:
        return Passes(self.forward + other.forward, self.backward + other.backward)

    def __sub__(self, other: Passes) -> Passes:
        return Passes(self.forward - other.forward, self.backward - other.backward)

    def __mul__(self, times: float) -> Passes:
        return Passes(self.forward * times, self.backward * times)

    def __bool__(self) -> bool:
        """Whether the network is used at all."""
        return bool(self.forward or self.backward)
