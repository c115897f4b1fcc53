"""The pictures of a reference set, for methods that need the pictures themselves and not only statistics of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from explainers.context import Context
from explainers.data.reference import ReferenceSet, neighbourhood
from explainers.networks.classifier import Classifier

NOT_HERE = ("computed with altered copies of this image, because the network's reference pictures are not here, only their "
            "statistics: give pictures of what it was trained on")


COPIES = 64  # of the explained image, where the pictures are not here


@dataclass(frozen=True)
class Pictures:
    """``count`` pictures of a reference set, every ``step``-th. flags: a warning where they are copies of the explained image."""

    reference: ReferenceSet
    count: int
    step: int
    flags: tuple[str, ...]

    def draw(self, start: int, stop: int) -> Tensor:
        """(stop - start, C, H, W), normalised, on the CPU."""
        if self.step == 1:
            return self.reference.draw(start, stop)
        return torch.cat([self.reference.draw(i * self.step, i * self.step + 1) for i in range(start, stop)])


def pictures(network: Classifier, x: Tensor, count: int, context: Context) -> Pictures:
    """At most ``count`` reference pictures. Where the set holds only statistics, copies of the image ``x`` take their place.

    A person's pictures are taken at equal distances, because folders are often sorted by class. Generated ones have no order.
    """
    reference, flags = context.reference, tuple[str, ...]()
    if reference.statistics is not None:
        reference, flags = neighbourhood(network, x, COPIES), (NOT_HERE,)
    count = min(count, reference.size)
    return Pictures(reference, count, reference.size // count if reference.private else 1, flags)
