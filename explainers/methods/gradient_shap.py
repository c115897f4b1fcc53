r"""GradientSHAP, or expected gradients: integrated gradients averaged over baselines, one random point of each path.

Erion et al. 2021; the program is Lundberg's and Captum's. With baselines b from a distribution and a uniform on [0, 1], the map
is the expectation of (x - b) * gradient at b + a (x - b). Its sum is on average f(x) minus the mean of f(b). The baselines should
be images like those that the network was trained on. Gaussian noise around the mean colour, as in Captum's example, needs no
pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from explainers.baselines import BASELINES, baseline
from explainers.context import Context
from explainers.contract import Citation, Method, RawMap
from explainers.data.reference import ReferenceSet
from explainers.methods.reference_pictures import pictures
from explainers.networks.classifier import Classifier
from explainers.parameters import choice, integer, real
from explainers.passes import Passes
from explainers.requirements import REFERENCE_SET
from explainers.target import Target


@dataclass(frozen=True)
class Params:
    """The baselines, and how many points are drawn."""

    samples: int = integer(50, low=1, high=1000, label="Samples", help=(
        "Points to average over, each on the path from another baseline. More give a smoother map."))
    baselines: str = choice("reference", "reference", *BASELINES, label="Baselines", help=(
        "Where the paths start. reference: pictures of the reference set, one for each sample. zero: the mean colour. black: "
        "black pixels. blur: the image, blurred. noise: Gaussian noise around the mean colour, another for each sample."))
    image_noise: float = real(0.0, low=0.0, high=1.0, label="Noise on the image", help=(
        "Standard deviation of noise that is added to the image in each sample, in the normalised scale. 0 adds none."))


def baselines(network: Classifier, x: Tensor, params: Params,
              context: Context) -> tuple[Callable[[int, int], Tensor], tuple[str, ...]]:
    """A function that gives the baselines (b - a, C, H, W) of samples a to b, and warnings. Too few pictures are repeated."""
    if params.baselines == "reference":
        drawn = pictures(network, x, params.samples, context)
        images = drawn.draw(0, drawn.count)
        return lambda a, b: images[torch.arange(a, b) % len(images)].to(x.device), drawn.flags
    if params.baselines == "noise":
        return lambda a, b: torch.cat([baseline(network, x, "noise", context.generator(3 * i)) for i in range(a, b)]), ()
    start = baseline(network, x, params.baselines, context.generator())
    return lambda a, b: start, ()


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    start_of, flags = baselines(network, x, params, context)
    total, done = torch.zeros_like(x[0]), 0

    def sampled(a: int, b: int) -> Tensor:
        """The summed attributions of samples a to b; of each sample's three generators the first is its baseline's."""
        fractions = torch.stack([torch.rand(1, 1, 1, generator=context.generator(3 * i + 1)) for i in range(a, b)]).to(x.device)
        start, end = start_of(a, b), x
        if params.image_noise:
            noise = torch.cat([torch.randn(x.shape, generator=context.generator(3 * i + 2)) for i in range(a, b)])
            end = x + params.image_noise * noise.to(x.device)
        return (network.gradient(start + fractions * (end - start), target) * (end - start)).sum(0)

    for _, stop, part in context.batches(params.samples, sampled, lambda: total / done):
        total, done = total + part, stop
    return RawMap(total / done, flags=flags)


def fit(params: Params, network: Classifier, target: Target, reference: ReferenceSet) -> tuple[Sequence[tuple[Any, ...]], Passes]:
    """Nothing is fitted, so no pass; but with the baselines ``reference`` the map depends on the pictures of the set."""
    return ([("pictures", params.samples)] if params.baselines == "reference" else []), Passes()


METHOD = Method(
    title="GradientSHAP (expected gradients)", short="GradientSHAP", family="gradient", attribute=attribute, params=Params,
    linear=True, previews=True, cheap={"samples": 7}, draft={"samples": 12}, needs=(REFERENCE_SET,), fit=fit,
    passes=lambda params: Passes(forward=params.samples, backward=params.samples),
    citation=Citation("Erion, Janizek, Sturmfels, Lundberg, Lee", "Improving performance of deep learning models with axiomatic "
                      "attribution priors and expected gradients", "Nature Machine Intelligence 2021"),
    idea="Integrated gradients, averaged over many baselines, so that no single one decides which pixels get nothing. Each "
         "sample takes one random point of one path.",
    equation=r"A = \mathbb{E}_{b,\, \alpha}\Big[(x - b) \odot \frac{\partial f_c(b + \alpha (x - b))}{\partial x}\Big]",
    limits="A random estimate: another seed gives another map, and its sum is the logit's change only on average. "
           "It says what differs from the reference pictures, whose own shapes can show. Noise baselines are unlike any picture.",
)
