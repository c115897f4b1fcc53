r"""XRAI: integrated gradients, gathered in regions of the picture. The regions with the most attribution for each pixel come first.

1. Integrated gradients from a black and from a white image to this one, averaged. So neither dark nor bright pixels are blind spots.
2. The picture is cut into regions at six scales, which overlap (see ``segments.felzenszwalb_regions``).
3. From an empty set M on, the region s with the highest density of attribution among its new pixels s \ M is added to M, again and
   again. The density at that moment is the value of these pixels (Kapishnikov et al. 2019, section 3.2 and algorithm 1).

A region that would add less than 50 pixels (of a picture of 224 x 224) is skipped, and the pixels that are left at the end get their
own mean, as in the authors' code (PAIR saliency). Each value is a mean over its pixels, so the map has the sum of the pixels'
attributions: with ``channels="sum"`` it sums to f(x) minus the mean of f(black) and f(white). The authors' code takes the largest
channel instead, which sums to more. It also integrates with 100 equidistant points for each baseline; the Gauss-Legendre points used
here need fewer for the same accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from explainers.context import Context
from explainers.contract import AuxiliaryOutput, Citation, Method, RawMap
from explainers.methods.integrated_gradients import nodes
from explainers.networks.classifier import Classifier
from explainers.parameters import choice, integer
from explainers.passes import Passes
from explainers.segments import felzenszwalb_regions
from explainers.target import Target

_FEWEST_PIXELS = 50 / 224**2  # as a fraction of the picture


@dataclass(frozen=True)
class Params:
    """The attributions that the regions gather."""

    steps: int = integer(50, low=1, high=1000, label="Steps", help=(
        "Points on each of the two paths, from black and from white to the image."))
    channels: str = choice("max", "max", "sum", label="Channels", help=(
        "A pixel's attribution: that of its largest channel, as in the authors' code, or the sum of its channels. With the sum the "
        "map sums to the change of the logit."))


def black_and_white_gradients(network: Classifier, x: Tensor, target: Target, steps: int, context: Context) -> Tensor:
    """Integrated gradients (C, H, W), averaged over the baselines black and white. Costs 2 ``steps`` passes, forward and back."""
    points, weights = (torch.tensor(values, dtype=x.dtype, device=x.device).view(-1, 1, 1, 1)
                       for values in nodes(steps, "gauss_legendre"))
    black, white = (network.preprocessing.normalise(torch.full_like(x, level)) for level in (0.0, 1.0))
    total = torch.zeros_like(x[0])

    def weighted_gradients(a: int, b: int) -> Tensor:
        index = torch.arange(a, b, device=x.device)
        start = torch.where((index < steps).view(-1, 1, 1, 1), black, white)
        difference, at = x - start, index % steps
        return (weights[at] / 2 * network.gradient(start + points[at] * difference, target) * difference).sum(0)

    for _, _, part in context.batches(2 * steps, weighted_gradients):
        total += part
    return total


def gathered(pixels: np.ndarray, regions: np.ndarray, fewest: int) -> tuple[np.ndarray, int]:
    """The map (P,): each pixel's value is the density of the region with which it was added. Also how many regions were added.

    pixels: the attributions (P,). regions: bool (P, R). fewest: a region that adds fewer pixels than this is left out. The sums and
    sizes of what each region would add are kept and reduced by the pixels that become covered, so that each pixel is read once.
    """
    from scipy.sparse import csr_array  # a pixel lies in few of the regions

    values, members = np.full(len(pixels), np.nan), csr_array(regions, dtype=np.float64)
    sums, sizes = pixels @ members, members.sum(0)
    added = 0
    while (sizes >= max(1, fewest)).any():
        densities = np.where(sizes >= max(1, fewest), sums / np.maximum(sizes, 1), -np.inf)
        best = int(densities.argmax())
        new = np.flatnonzero(regions[:, best] & np.isnan(values))
        values[new] = pixels[new].mean()
        covered = members[new]
        sums, sizes = sums - pixels[new] @ covered, sizes - covered.sum(0)
        added += 1
    left = np.isnan(values)
    if left.any():
        values[left] = pixels[left].mean()
    return values, added


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    attributions = context.memoize(("black_and_white_gradients", params.steps, target),
                                   lambda: black_and_white_gradients(network, x, target, params.steps, context))
    pixels = (attributions.amax(0) if params.channels == "max" else attributions.sum(0)).cpu().double()
    regions = context.memoize(("felzenszwalb_regions",), lambda: felzenszwalb_regions(
        network.preprocessing.pixels(x)[0], lambda: context.progress(1, 1)))
    values, added = gathered(pixels.flatten().numpy(), regions.numpy(), round(_FEWEST_PIXELS * pixels.numel()))
    return RawMap(torch.from_numpy(values).view(1, *pixels.shape), extras={"regions": regions.shape[1], "added": added})


METHOD = Method(
    title="XRAI", family="gradient", attribute=attribute, params=Params, upsample="nearest",
    cheap={"steps": 5}, draft={"steps": 12},
    passes=lambda params: Passes(forward=2 * params.steps, backward=2 * params.steps),
    citation=Citation("Kapishnikov, Bolukbasi, Viégas, Terry", "XRAI: better attributions through regions", "ICCV 2019", "section 3"),
    idea="Integrated gradients from black and from white are gathered in regions of the picture. The region with the most attribution "
         "for each of its pixels comes first, and its mean is the value of all of them.",
    equation=r"A_u = \frac{1}{|s \setminus M|} \sum_{v \in s \setminus M} \mathrm{IG}_v \ \text{ for } u \in s \setminus M, \qquad "
             r"s = \arg\max_{s'} \frac{1}{|s' \setminus M|} \sum_{v \in s' \setminus M} \mathrm{IG}_v",
    limits="The borders are those of the picture's colours, not of what the network uses: the map looks tidy even where the "
           "attributions below it are noise. It tells nothing apart within a region. By default a pixel counts with its largest "
           "channel, which hides evidence against the class.",
    auxiliary_outputs=(
        AuxiliaryOutput("regions", "Regions", "number", "How many overlapping regions of six scales there are to choose from."),
        AuxiliaryOutput("added", "Regions added", "number", (
            "How many of them were added, each with its own value, until the picture was covered.")),
    ),
)
