r"""DeepSHAP: DeepLIFT's map averaged over reference pictures, an estimate of Shapley values of the logit.

Each map compares the image with one picture r and sums to f(x) - f(r), so the mean sums to f(x) - mean f(r) (Lundberg, Lee 2017,
section 4.2, as Captum's DeepLiftShap and shap's DeepExplainer have it). The rules of the layers are those of DeepLIFT (see
``deep_lift``). The pictures are those of the network's reference set. The InputIBA paper compares with ten baselines of zeros,
for which DeepSHAP is DeepLIFT.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from explainers.context import Context
from explainers.contract import AuxiliaryOutput, Citation, Method, RawMap
from explainers.methods.deep_lift import logits_and_multipliers
from explainers.methods.reference_pictures import pictures
from explainers.methods.relevance import pixels_and_rest
from explainers.networks.classifier import Classifier
from explainers.parameters import integer
from explainers.passes import Passes
from explainers.requirements import GRAPH, PIECEWISE_LINEAR, REFERENCE_SET
from explainers.target import Target


@dataclass(frozen=True)
class Params:
    """How many pictures the image is compared with."""

    images: int = integer(10, low=1, high=1000, label="Reference images", help=(
        "How many pictures of the reference set the image is compared with. More give a steadier map. If the set is smaller, all "
        "of it."))


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    drawn = pictures(network, x, params.images, context)
    total, scores, done = torch.zeros_like(x[0]), torch.zeros(()), 0
    context.batch_size = max(1, context.batch_size // 2)  # every picture goes through the network beside a copy of the image

    def contributions(a: int, b: int) -> tuple[Tensor, Tensor]:
        start = drawn.draw(a, b).to(x.device)
        logits, multipliers = logits_and_multipliers(network, x.expand(b - a, -1, -1, -1), start, target.score)
        return (multipliers * (x - start)).sum(0), target.score(logits[:1]).cpu()[0]

    def mean() -> Tensor:
        """The map of the pictures so far."""
        return total / done

    for _, done, (part, scores) in context.batches(drawn.count, contributions, mean):  # noqa: B007
        total = total + part
    native = mean()
    return RawMap(native, {"parts": pixels_and_rest(native, scores), "reference_images": drawn.count}, flags=drawn.flags)


METHOD = Method(
    title="DeepSHAP", family="gradient", attribute=attribute, params=Params, linear=True, previews=True,
    passes=lambda params: Passes(forward=2 * params.images, backward=2 * params.images), cheap={"images": 4}, draft={"images": 3},
    needs=(GRAPH, PIECEWISE_LINEAR, REFERENCE_SET),
    citation=Citation("Lundberg, Lee", "A unified approach to interpreting model predictions", "NeurIPS 2017", "section 4.2"),
    idea="Compare the image with each of several reference pictures by DeepLIFT, and average the maps. The map sums to the logit "
         "minus the reference pictures' mean logit.",
    equation=r"A = \frac{1}{n} \sum_{k=1}^{n} m(x, r_k) \odot (x - r_k)",
    limits="An estimate from a few reference pictures: other pictures give another map, in which their own shapes can show. It "
           "approximates Shapley values only as far as the network is linear and pixels are independent.",
    auxiliary_outputs=(
        AuxiliaryOutput("parts", "What the logit is made of", "parts", (
            "The sum of the map, and the mean logit of the reference pictures. Together they are the logit."), unit="logit",
            parts=("Pixels", "Mean of the references")),
        AuxiliaryOutput("reference_images", "Reference images", "number", "How many pictures the image was compared with."),
    ),
)
