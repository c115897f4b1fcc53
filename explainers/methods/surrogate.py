"""What LIME and KernelSHAP share: copies of the image with some superpixels hidden, and what the network says of them.

A coalition is a row of a bool tensor (n, M): which of the M superpixels are visible. All coalitions are drawn before the first pass,
and so do not depend on the batch size. The logits of all classes are memoized, so one set of passes serves every class.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from explainers.baselines import BASELINES, baseline
from explainers.context import Context
from explainers.contract import AuxiliaryOutput
from explainers.networks.classifier import Classifier
from explainers.parameters import choice, integer
from explainers.segments import SEGMENTATIONS, segment_means, superpixels
from explainers.target import Target

FILLS = ("segment_mean", *BASELINES)


class Settings(Protocol):
    """The settings that both methods have."""

    @property
    def segmentation(self) -> str: ...

    @property
    def segments(self) -> int: ...

    @property
    def fill(self) -> str: ...

    @property
    def output(self) -> str: ...


def segmentation_choice() -> Any:
    """The parameter ``segmentation``; by default that of the LIME package."""
    return choice("quickshift", *SEGMENTATIONS, label="Superpixels", help=(
        "How the picture is cut into regions. quickshift, felzenszwalb and slic follow its colours; grid makes squares."))


def segments_number(default: int) -> Any:
    """The parameter ``segments``."""
    return integer(default, low=2, high=400, label="Most superpixels", help=(
        "The largest number of regions. slic and grid make about as many. quickshift and felzenszwalb make as many as the picture "
        "asks for, and neighbours of similar colour are merged where these are too many."))


def fill_choice(default: str) -> Any:
    """The parameter ``fill``."""
    return choice(default, *FILLS, label="Fill", help=(
        "What a hidden superpixel shows. segment_mean: its own mean colour. zero: the mean colour of the training set. black: black "
        "pixels. blur: the image, blurred. noise: Gaussian noise."))


def output_choice(default: str) -> Any:
    """The parameter ``output``."""
    return choice(default, "softmax", "logit", label="Output", help=(
        "What is explained: the class's probability (softmax), or its logit. Of a contrast, the difference of the two classes'."))


@dataclass(frozen=True)
class Pieces:
    """An image in pieces. x, cover: the image and what hidden pieces show, (1, C, H, W). labels: the piece of each pixel, (H, W)."""

    x: Tensor
    cover: Tensor
    labels: Tensor

    @property
    def count(self) -> int:
        return int(self.labels.max()) + 1

    @property
    def sizes(self) -> Tensor:
        """The pixels of each piece, (M,)."""
        return torch.bincount(self.labels.flatten(), minlength=self.count).cpu()

    def showing(self, coalitions: Tensor) -> Tensor:
        """The images (n, C, H, W) in which the pieces of each coalition (n, M) are visible."""
        visible = coalitions.to(self.x.device)[:, self.labels]  # (n, H, W)
        return torch.where(visible[:, None], self.x, self.cover)

    def painted(self, values: Tensor) -> Tensor:
        """A map (1, H, W) that has the value of its piece at each pixel. values: (M,)."""
        return values[self.labels.cpu()].float()[None]


def cut(network: Classifier, x: Tensor, settings: Settings, context: Context) -> Pieces:
    """The image's superpixels, and what hides them."""
    key = ("superpixels", settings.segmentation, settings.segments)
    labels = context.memoize(key, lambda: superpixels(network.preprocessing.pixels(x)[0], settings.segmentation, settings.segments))
    labels = labels.to(x.device)
    if settings.fill == "segment_mean":
        return Pieces(x, segment_means(x, labels), labels)
    return Pieces(x, baseline(network, x, settings.fill, context.generator()), labels)


def coalition_logits(network: Classifier, pieces: Pieces, coalitions: Tensor, key: tuple[Hashable, ...], context: Context,
                     map_so_far: Callable[[Tensor], Tensor]) -> Tensor:
    """The logits (n, K) of the coalitions (n, M), on the CPU.

    key: what the coalitions and pieces depend on. map_so_far: makes a preview (1, H, W) from the logits of the first coalitions.
    """
    def compute() -> Tensor:
        parts: list[Tensor] = []

        @torch.inference_mode()
        def logits(a: int, b: int) -> Tensor:
            return network.logits(pieces.showing(coalitions[a:b])).cpu()

        for _, _, part in context.batches(len(coalitions), logits, lambda: map_so_far(torch.cat(parts))):
            parts.append(part)
        return torch.cat(parts)

    return context.memoize((*key, context.seed), compute)


def scores(logits: Tensor, target: Target, output: str) -> Tensor:
    """What is explained, (n,) in double precision: the target's logits, or probabilities."""
    values = logits.double()
    return target.score(values if output == "logit" else values.softmax(-1))


MOSAIC = AuxiliaryOutput(
    "superpixels", "Superpixels", "pictures",
    "The regions that are shown and hidden as wholes, each in its mean colour. Nothing within one of them is told apart.",
    make=lambda x, extras: segment_means(x.cpu(), extras["superpixels"].long()))
