"""SmoothGrad: the gradient averaged over noisy copies of the image. Without noise it is the gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from explainers.context import Context
from explainers.contract import Citation, Method, RawMap
from explainers.networks.classifier import Classifier
from explainers.parameters import integer, real, switch
from explainers.passes import Passes
from explainers.target import Target


@dataclass(frozen=True)
class Params:
    """The noise, and how the gradients become a map."""

    samples: int = integer(50, low=1, high=1000, label="Samples", help="Noisy copies to average over. More give a smoother map.")
    noise: float = real(0.15, low=0.0, high=1.0, label="Noise level", help=(
        "Standard deviation of the noise, as a fraction of the normalised image's range. 0 gives the plain gradient."))
    squared: bool = switch(False, label="Squared", help="Average the squared gradients instead; the map is then unsigned.")
    times_input: bool = switch(False, label="Times input", help="Multiply the averaged gradient by the image.")


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    sigma = params.noise * (x.max() - x.min())
    total, done = torch.zeros_like(x[0]), 0

    def noisy_gradients(a: int, b: int) -> Tensor:
        noise = torch.cat([torch.randn(x.shape, generator=context.generator(i)) for i in range(a, b)])
        gradients = network.gradient(x + sigma * noise.to(x.device), target)  # (b - a, C, H, W)
        return (gradients.square() if params.squared else gradients).sum(0)

    def mean() -> Tensor:
        """The map of the samples so far."""
        return total / done * x[0] if params.times_input else total / done

    for _, stop, part in context.batches(params.samples, noisy_gradients, mean):
        total, done = total + part, stop
    return RawMap(mean(), signed=not params.squared or params.times_input)


METHOD = Method(
    title="SmoothGrad", family="gradient", attribute=attribute, params=Params,
    linear=True, previews=True, cheap={"samples": 7}, draft={"samples": 12},
    passes=lambda params: Passes(forward=params.samples, backward=params.samples),
    citation=Citation("Smilkov, Thorat, Kim, Viegas, Wattenberg", "SmoothGrad: removing noise by adding noise",
                        "arXiv 1706.03825, 2017", "section 3"),
    idea="Average the gradient over many noisy copies of the image, so that its variation from pixel to pixel cancels.",
    equation=r"A = \frac{1}{n} \sum_{i=1}^{n} \frac{\partial f_c(x + \varepsilon_i)}{\partial x},"
             r"\quad \varepsilon_i \sim \mathcal{N}(0, \sigma^2)",
    limits="It explains the network on noisy images. The noise level decides how much detail remains.",
)
