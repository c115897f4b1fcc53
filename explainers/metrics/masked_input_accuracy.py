"""Masked input accuracy: how often the true label is the network's first choice when each image is seen through its own masks.

Each image is multiplied by the attribution mask (``methods.attribution_mask``) of its true label, mask upon mask:
Q_i = mean [argmax f(x P_i) = label] after i masks, so Q_0 is the plain accuracy. Q rises with i for a base method whose maps keep the
evidence for the label, and falls for one whose maps lose it (Lee, Chang 2021, section 3.1).

This is not an accuracy: the mask is made with the true label, so Q can exceed the plain accuracy and reach 100 %. It must not be
compared with the accuracy of a classifier. Compare base methods, or networks, with one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from explainers.attribution import Attribution
from explainers.context import Context, RunOptions
from explainers.contract import Citation, Metric, Score
from explainers.data.labelled import LabelledInputs
from explainers.methods.attribution_mask import ONE_PASS_BASES, between_0_and_1, check_base, logits_and_map
from explainers.networks.classifier import Classifier
from explainers.parameters import checked, choice, integer
from explainers.passes import Passes
from explainers.progress import Progress


@dataclass(frozen=True)
class MaskedInputAccuracy:
    """``accuracy[i]``: the fraction (0 to 1) of the images that is classified correctly after i masks; i = 0 is the plain accuracy."""

    accuracy: tuple[float, ...]
    base: str
    images: int
    passes: Passes


@dataclass(frozen=True)
class Params:
    """Whose maps become the masks, and how many masks."""

    base: str = choice("gradient_x_sign", *ONE_PASS_BASES, label="Base method", help="The method whose map becomes the mask.")
    iterations: int = integer(10, low=0, high=100, label="Masks", help="How many masks are laid over each image, one after the other.")


def measure(network: Classifier, images: Tensor, labels: Tensor, base: str = "gradient_x_sign", iterations: int = 10,
            seed: int = 0, progress: Progress | None = None) -> MaskedInputAccuracy:
    """Masked input accuracy after 0 to ``iterations`` masks, over a labelled set.

    images: (N, C, H, W), preprocessed. labels: (N,) true classes. base: one of ``attribution_mask.ONE_PASS_BASES``. It costs
    one pass forward and back per image and iteration (the pass that makes a mask also gives the prediction under the one before)
    and one more forward. seed: as in every metric; nothing here is random. Raises ExplainerError for an empty or mismatched set, and
    Cancelled.
    """
    labelled = LabelledInputs.given(network, images, labels, seed)
    params = checked(Params, "Masked input accuracy", {"base": base, "iterations": iterations})
    return evaluate([labelled], params, Context(network.metered(), seed, RunOptions(progress)))[0]


def evaluate(sets: Sequence[LabelledInputs], params: Params, context: Context) -> list[MaskedInputAccuracy]:
    """The accuracies of each labelled set."""
    return [_evaluate_one(labelled, params, context.part(number, number + 1, len(sets))) for number, labelled in enumerate(sets)]


def passes_of_sets(params: Params, sets: Sequence[LabelledInputs], maps: Sequence[Attribution]) -> Passes:
    """One pass forward and back per image and mask, and one forward."""
    images = sum(labelled.count for labelled in sets)
    return Passes(forward=images * (params.iterations + 1), backward=images * params.iterations)


def _evaluate_one(labelled: LabelledInputs, params: Params, context: Context) -> MaskedInputAccuracy:
    view, base, iterations = context.network, params.base, params.iterations
    check_base(view, base)
    images, labels = labelled.load(context.progress)
    right = torch.zeros(iterations + 1, dtype=torch.long)

    def judged(a: int, b: int) -> Tensor:
        return _right_answers(view, images[a:b].to(view.device), labels[a:b].to(view.device), base, iterations)

    for _, _, counts in context.batches(len(images), judged):
        right += counts
    return MaskedInputAccuracy(tuple((right.double() / len(images)).tolist()), base, len(images),
                               passes_of_sets(params, [labelled], []))


def _right_answers(network: Classifier, x: Tensor, labels: Tensor, base: str, iterations: int) -> Tensor:
    """(iterations + 1,): how many images of a batch are classified correctly after each number of masks."""
    mask, right = torch.ones_like(x), []
    for _ in range(iterations):
        logits, maps = logits_and_map(network, x * mask, lambda logits: logits.gather(1, labels[:, None])[:, 0], base)
        right.append((logits.argmax(1) == labels).sum())
        mask = mask * between_0_and_1(maps)
    with torch.inference_mode():
        right.append((network.logits(x * mask).argmax(1) == labels).sum())
    return torch.stack(right).cpu()


METRIC = Metric(
    title="Masked input accuracy", judges="labelled set", evaluate=evaluate, passes=passes_of_sets, params=Params, version=2,
    cheap={"iterations": 2},
    scores=(Score("after_the_last_mask", "Accuracy after the last mask", "higher", lambda result: result.accuracy[-1]),
            Score("plain", "Plain accuracy", "higher", lambda result: result.accuracy[0])),
    citation=Citation("Lee, Chang", "Attribution Mask: filtering out irrelevant features by recursively focusing attention on "
                        "inputs of DNNs", "arXiv 2102.07332, 2021", "section 3.1"),
    idea="How often the network names the right class when it sees each image only through its own attribution mask, mask upon "
         "mask. A method that carries the evidence back to the pixels makes it rise.",
    equation=r"Q_i = \frac{1}{N} \sum_n \big[\arg\max f(x_n \odot P_{n,i}) = y_n\big]",
    limits="It is no accuracy: the mask is made for the true label, so it can exceed the plain accuracy. Compare only methods or "
           "networks with one another.",
)
