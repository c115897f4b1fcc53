"""Masked input accuracy: how often the true label is the network's first choice when each image is seen through its own masks.

Each image is multiplied by the attribution mask (``methods.attribution_mask``) of its true label, mask upon mask:
Q_i = mean [argmax f(x P_i) = label] after i masks, so Q_0 is the plain accuracy. Q rises with i for a base method whose maps keep the
evidence for the label, and falls for one whose maps lose it (Lee, Chang 2021, section 3.1).

This is not an accuracy: the mask is made with the true label, so Q can exceed the plain accuracy and reach 100 %. It must not be
compared with the accuracy of a classifier. Compare base methods, or networks, with one another.

A ``reader``, another network, can be shown the same masked images (section 5.4, table 4). If it recognises the label, too, the
masks show what the class looks like; if not, they show what their own network responds to. The paper trains its readers, the
students, on masked images. Nothing is trained here, so the masked images are new to the reader, and dim ones are hard for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from explainers.attribution import Attribution
from explainers.context import Context, RunOptions
from explainers.contract import Citation, Metric, Score
from explainers.data.labelled import LabelledInputs
from explainers.methods import integrated_gradients
from explainers.methods.attribution_mask import (
    BASE,
    between_0_and_1,
    check_base,
    check_reader,
    logits_and_map,
    passes_of_an_iteration,
    read_by,
)
from explainers.networks.classifier import Classifier
from explainers.parameters import checked, integer
from explainers.passes import Passes
from explainers.progress import Progress


@dataclass(frozen=True)
class MaskedInputAccuracy:
    """``accuracy[i]``: the fraction (0 to 1) of the images that is classified correctly after i masks; i = 0 is the plain accuracy.

    ``reader_accuracy`` is the same for the network ``reader`` that reads the masked images; empty without one.
    """

    accuracy: tuple[float, ...]
    base: str
    images: int
    passes: Passes
    reader: str = ""
    reader_accuracy: tuple[float, ...] = ()


@dataclass(frozen=True)
class Params:
    """Whose maps become the masks, and how many masks."""

    base: str = BASE
    iterations: int = integer(10, low=0, high=100, label="Masks", help="How many masks are laid over each image, one after the other.")


def measure(network: Classifier, images: Tensor, labels: Tensor, base: str = "gradient_x_sign", iterations: int = 10,
            seed: int = 0, progress: Progress | None = None, reader: Classifier | None = None) -> MaskedInputAccuracy:
    """Masked input accuracy after 0 to ``iterations`` masks, over a labelled set.

    images: (N, C, H, W), preprocessed. labels: (N,) true classes. base: one of ``attribution_mask.BASES``. For most of them it costs
    one pass forward and back per image and iteration (the pass that makes a mask also gives the prediction under the one before)
    and one more forward; DeepLIFT takes two and two per image and iteration, Integrated Gradients 51 and 50. reader: another network
    of the same classes and input size, which reads the masked images, too, for one more pass forward per image and number of masks.
    seed: as in every metric; nothing here is random. Raises ExplainerError for an empty or mismatched set, or reader, and Cancelled.
    """
    labelled = LabelledInputs.given(network, images, labels, seed, reader=reader)
    params = checked(Params, "Masked input accuracy", {"base": base, "iterations": iterations})
    return evaluate([labelled], params, Context(network.metered(), seed, RunOptions(progress)))[0]


def evaluate(sets: Sequence[LabelledInputs], params: Params, context: Context) -> list[MaskedInputAccuracy]:
    """The accuracies of each labelled set."""
    if params.base == "deep_lift":  # each image goes through the network together with its baseline
        context.batch_size = max(1, context.batch_size // 2)
    return [_evaluate_one(labelled, params, context.part(number, number + 1, len(sets))) for number, labelled in enumerate(sets)]


def passes_of_sets(params: Params, sets: Sequence[LabelledInputs], maps: Sequence[Attribution]) -> Passes:
    """For each image those of the base method for each mask, and one forward; a reader's passes count as the network's."""
    reading = Passes(forward=params.iterations + 1)
    own = passes_of_an_iteration(params.base) * params.iterations + Passes(forward=1)
    return sum(((own + reading if labelled.reader else own) * labelled.count for labelled in sets), Passes())


def _evaluate_one(labelled: LabelledInputs, params: Params, context: Context) -> MaskedInputAccuracy:
    view, reader = context.network, labelled.reader
    check_base(view, params.base)
    if reader is not None:
        check_reader(view, reader)
    images, labels = labelled.load(context.progress)
    steps = params.iterations * _ticks(params.base)
    right = torch.zeros(2, params.iterations + 1, dtype=torch.long)

    def judged(a: int, b: int) -> Tensor:
        done = iter(range(1, steps))  # the last step of a batch is reported when the batch is done

        def tick() -> None:
            if (step := next(done, 0)):
                context.progress(a * steps + (b - a) * step, len(images) * steps)

        return _right_answers(view, reader, images[a:b].to(view.device), labels[a:b].to(view.device), params, tick)

    for _, _, counts in context.batches(len(images), judged):
        right += counts
    accuracy, of_reader = (tuple(row) for row in (right.double() / len(images)).tolist())
    passes = passes_of_sets(params, [labelled], [])
    if reader is None:
        return MaskedInputAccuracy(accuracy, params.base, len(images), passes)
    return MaskedInputAccuracy(accuracy, params.base, len(images), passes, reader.title, of_reader)


def _ticks(base: str) -> int:
    """How often progress is reported for each mask of a batch."""
    return integrated_gradients.Params().steps if base == "integrated_gradients" else 1


def _right_answers(network: Classifier, reader: Classifier | None, x: Tensor, labels: Tensor, params: Params,
                   tick: Callable[[], None]) -> Tensor:
    """(2, iterations + 1): how many images of a batch the network and the reader classify correctly after each number of masks."""
    mask, right, read = torch.ones_like(x), [], []

    def judge(logits: Tensor) -> None:
        right.append((logits.argmax(1) == labels).sum().cpu())
        if reader is not None:
            with torch.inference_mode():
                answers = reader.logits(read_by(reader, network, x * mask)).argmax(1)
            read.append((answers.cpu() == labels.cpu()).sum())

    for _ in range(params.iterations):
        logits, maps = logits_and_map(
            network, x * mask, lambda logits: logits.gather(1, labels[:, None])[:, 0], params.base, tick)
        judge(logits)
        mask = mask * between_0_and_1(maps)
        if _ticks(params.base) == 1:
            tick()
    with torch.inference_mode():
        logits = network.logits(x * mask)
    judge(logits)
    return torch.stack((torch.stack(right), torch.stack(read) if read else torch.zeros(len(right), dtype=torch.long)))


METRIC = Metric(
    title="Masked input accuracy", judges="labelled set", evaluate=evaluate, passes=passes_of_sets, params=Params, version=3,
    cheap={"iterations": 2},
    scores=(Score("after_the_last_mask", "Accuracy after the last mask", "higher", lambda result: result.accuracy[-1]),
            Score("plain", "Plain accuracy", "higher", lambda result: result.accuracy[0])),
    citation=Citation("Lee, Chang", "Attribution Mask: filtering out irrelevant features by recursively focusing attention on "
                        "inputs of DNNs", "arXiv 2102.07332, 2021", "section 3.1"),
    idea="How often the network names the right class when it sees each image only through its own attribution mask, mask upon "
         "mask. A method that carries the evidence back to the pixels makes it rise.",
    equation=r"Q_i = \frac{1}{N} \sum_n \big[\arg\max f(x_n \odot P_{n,i}) = y_n\big]",
    limits="It is no accuracy: the mask is made for the true label, so it can exceed the plain accuracy. Compare only methods or "
           "networks with one another. Another network that reads the masked images was not trained on any, so not all that it "
           "loses is the fault of the masks.",
)
