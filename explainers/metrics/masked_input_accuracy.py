"""Masked input accuracy: how often the network names the right class, when it sees each image through that class's own mask.

Every image is masked by the attribution mask (``methods.attribution_mask``) of its true label, iteration by iteration, and
counted as right when the true label is the network's first choice: Q_i = mean [argmax f(x P_i) = label], so Q_0 is the plain
accuracy. A base method that carries the label's evidence faithfully back to the pixels makes Q rise; one that loses it on the
way makes it fall (Lee, Kim, Ko 2021, section 3.1).

This is not an accuracy: the label is told to the method that makes the mask, so Q can pass the plain accuracy and reach 100 %,
and no comparison with a classifier's accuracy means anything. Compare only base methods, or networks, with one another.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from explainers.context import Context, Progress
from explainers.contract import ExplainerError, Metric, ParameterError, Passes, Reference
from explainers.methods.attribution_mask import ONE_PASS_BASES, between_0_and_1, check_base, look
from explainers.networks.classifier import Classifier


@dataclass(frozen=True)
class MaskedInputAccuracy:
    """``accuracy[i]`` after i masks, from 0 (the plain accuracy) on: shares of ``images`` between 0 and 1."""

    accuracy: tuple[float, ...]
    base: str
    images: int
    passes: Passes


def measure(network: Classifier, images: Tensor, labels: Tensor, base: str = "gradient_x_sign", iterations: int = 10,
            seed: int = 0, progress: Progress | None = None) -> MaskedInputAccuracy:
    """Masked input accuracy after 0 to ``iterations`` masks, over a labelled set.

    images: (N, C, H, W), preprocessed. labels: (N,) true classes. base: one of ``attribution_mask.ONE_PASS_BASES``. It costs
    one pass forward and back per image and iteration, the pass that makes a mask also judging the one before, and one forward.
    seed: as in every metric; nothing here is random. Raises ExplainerError for an empty or mismatched set, Cancelled.
    """
    if base not in ONE_PASS_BASES:
        raise ParameterError(f"base must be one of {', '.join(map(repr, ONE_PASS_BASES))}, not {base!r}.")
    if len(images) == 0 or tuple(labels.shape) != (len(images),):
        raise ExplainerError(f"Every image needs one label: {len(images)} images came with labels of shape {tuple(labels.shape)}.")
    check_base(network, base)
    view = network.metered()
    context = Context(view, seed, progress)
    right = torch.zeros(iterations + 1, dtype=torch.long)

    def judged(a: int, b: int) -> Tensor:
        return _right_answers(view, images[a:b].to(view.device), labels[a:b].to(view.device), base, iterations)

    for _, _, found in context.batches(len(images), judged):
        right += found
    return MaskedInputAccuracy(tuple((right.double() / len(images)).tolist()), base, len(images), view.meter.passes)


def _right_answers(network: Classifier, x: Tensor, labels: Tensor, base: str, iterations: int) -> Tensor:
    """(iterations + 1,) how many of a batch are named right, through each mask."""
    mask, right = torch.ones_like(x), []
    for _ in range(iterations):
        logits, maps = look(network, x * mask, lambda logits: logits.gather(1, labels[:, None])[:, 0], base)
        right.append((logits.argmax(1) == labels).sum())
        mask = mask * between_0_and_1(maps)
    with torch.inference_mode():
        right.append((network.logits(x * mask).argmax(1) == labels).sum())
    return torch.stack(right).cpu()


METRIC = Metric(
    title="Masked input accuracy",
    reference=Reference("Lee, Kim, Ko", "Attribution Mask: filtering out irrelevant features by recursively focusing attention on "
                        "inputs of DNNs", "arXiv 2102.07332, 2021", "section 3.1"),
    idea="How often the network names the right class when it sees each image only through its own attribution mask, mask upon "
         "mask. A method that carries the evidence back to the pixels makes it rise.",
    equation=r"Q_i = \frac{1}{N} \sum_n \big[\arg\max f(x_n \odot P_{n,i}) = y_n\big]",
    limits="It is no accuracy: the mask is made for the true label, so it can pass the plain accuracy. Compare only methods or "
           "networks with one another.",
)
