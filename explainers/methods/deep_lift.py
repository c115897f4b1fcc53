r"""DeepLIFT with the Rescale rule: what each pixel's difference from a baseline contributes to the change of the logit.

The image x and a baseline x' go through the network together. A layer that is affine passes differences on by its weights. At a
ReLU the slope is replaced by the quotient of the differences (Shrikumar, Greenside, Kundaje 2017, section 3.5.1):

    multiplier = (ReLU(s) - ReLU(s')) / (s - s')

So the contributions multiplier * (x - x') add up to f(x) - f(x'), the paper's summation to delta. The multipliers do not depend on the
class, so the map is linear in the logit.

The paper gives no rule for max-pooling; this is Captum's. Let y be the maximum of a window in x, at position i, and y' that in x', at
position j. Where y > y' the difference y - y' goes to position i, and where y < y' to position j. Each divides it by the difference
of the images at its position, which is at least as large. Captum 0.9 itself loses contributions where windows overlap, because its
unpooling keeps one value for each position, and where a pool follows a ReLU directly, because its hooks hand the ReLU the pool's plain
gradient. Here nothing is lost, and the map sums to f(x) - f(x') in both cases.

Where two values differ by less than ``TINY`` the quotient is replaced by the slope at x, as in Captum. In a network without biases and
with the baseline 0 every multiplier is that slope, and the map equals gradient x input (Ancona et al. 2018; Lee, Chang 2021,
appendix A).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from explainers.baselines import BASELINES, baseline
from explainers.context import Context
from explainers.contract import Citation, Method, RawMap
from explainers.methods.slopes import with_slope
from explainers.networks.classifier import Classifier
from explainers.networks.graph import Call, Rule, pool_at, pool_with_switches
from explainers.parameters import choice
from explainers.passes import Passes
from explainers.requirements import GRAPH, PIECEWISE_LINEAR
from explainers.target import Target

TINY = 1e-10  # a difference smaller than this counts as 0


def _quotient(change: Tensor, difference: Tensor, otherwise: Tensor | float) -> Tensor:
    """``change / difference``, and ``otherwise`` where the difference is tiny."""
    tiny = difference.abs() < TINY
    return torch.where(tiny, otherwise, change / torch.where(tiny, 1.0, difference))


def _relu(call: Call, x: Tensor) -> Tensor:
    """A ReLU, or ReLU6, of images and their baselines (2 N, ...), with the multiplier as the slope of the images' half."""
    values = x.detach()
    output = call.plain(values)
    (s, s_base), (y, y_base) = values.chunk(2), output.chunk(2)
    slope = (y.eq(s) & (y > 0)).to(x.dtype)  # 1 where it is neither shut nor, for ReLU6, saturated
    return with_slope(output, (_of_images(_quotient(y - y_base, s - s_base, slope)), x))


def _max_pool(call: Call, x: Tensor, *rest: object) -> Tensor:
    """Max-pooling of images and their baselines (2 N, C, H, W), by Captum's rule (see the top of this file)."""
    values = x.detach()
    output, switches = pool_with_switches(call, values, *rest)
    (s, s_base), (y, y_base), (at, at_base) = values.chunk(2), output.chunk(2), switches.chunk(2)
    difference, highest = s - s_base, torch.maximum(y, y_base)
    rise = _quotient(highest - y_base, pool_at(at, difference), 1.0)
    fall = _quotient(y - highest, pool_at(at_base, difference), 0.0)
    terms = ((rise, at), (fall, at_base))
    return with_slope(output, *((_of_images(factor), pool_at(torch.cat((places, places)), x)) for factor, places in terms))


def _of_images(factor: Tensor) -> Tensor:
    """The factor (N, ...) of the images, and 0 for their baselines, (2 N, ...)."""
    return torch.cat((factor, torch.zeros_like(factor)))


RESCALE: Mapping[str, Rule] = {"relu": _relu, "relu6": _relu, "max_pool": _max_pool}


def logits_and_multipliers(network: Classifier, x: Tensor, start: Tensor,
                           score: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """The logits (N, K) of images and the multipliers (N, C, H, W) of their differences from the baselines ``start``.

    ``score`` turns logits into one value for each image, (N,). Costs two passes forward and two back for each image.
    """
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = network.logits(torch.cat((x, start.detach())), RESCALE).chunk(2)[0]
        multipliers = torch.autograd.grad(score(logits).sum(), x)[0]
    return logits.detach(), multipliers


@dataclass(frozen=True)
class Params:
    """What the image is compared with."""

    baseline: str = choice("zero", *BASELINES, label="Baseline", help=(
        "What the image is compared with. zero: the mean colour. black: black pixels. blur: the image, blurred. noise: Gaussian "
        "noise. Pixels that equal the baseline get no attribution."))


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    start = baseline(network, x, params.baseline, context.generator())
    _, multipliers = logits_and_multipliers(network, x, start, target.score)
    return RawMap((multipliers * (x - start))[0])


METHOD = Method(
    title="DeepLIFT (Rescale)", short="DeepLIFT", family="gradient", attribute=attribute, params=Params, linear=True,
    passes=lambda params: Passes(forward=2, backward=2), needs=(GRAPH, PIECEWISE_LINEAR),
    citation=Citation("Shrikumar, Greenside, Kundaje", "Learning important features through propagating activation differences",
                      "ICML 2017", "section 3.5.1"),
    idea="Compare the image with a baseline: the change of the logit is handed back through the layers, and at each ReLU in "
         "proportion to the changes that reach it. The map sums to the logit's change.",
    equation=r"A = m \odot (x - x'), \qquad m_{\mathrm{ReLU}} = \frac{\max(0, s) - \max(0, s')}{s - s'}",
    limits="It depends on the baseline: pixels that look like it get nothing. What the logit already is for the baseline shows in no "
           "pixel. Changes that cancel in a sum before a ReLU are lost; the paper's other rule, RevealCancel, is not here.",
)
