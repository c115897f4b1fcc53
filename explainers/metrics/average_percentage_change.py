r"""Average percentage change (APC): how far the logit of MIP-IN's source signal is from the logit of the image itself.

If the source signal S contained everything that the network's decision depends on, the network would give it the same logit
Phi(X) as the image. For the images of each class, with Phi the logit of that class, and then averaged over the classes,

    APC  = mean_c mean_i |Phi(X_i) - Phi(S_i)| / |Phi(X_i)|,     APC+ = mean_c mean_i max(0, Phi(X_i) - Phi(S_i)) / |Phi(X_i)|.

APC+ ignores source signals with a higher logit than the image (Deng and others 2021, section 5). Both are fractions here, 0.1 for
10 %. One logit near zero can outweigh a thousand images, so read the medians beside the means. A source signal with the right logit
contains enough, but it may contain more than what counts: the image itself scores 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explainers.attribution import Attribution
from explainers.context import Context, FitStore, RunOptions
from explainers.contract import Citation, Metric, Score
from explainers.data.labelled import LabelledInputs
from explainers.data.reference import ReferenceSet
from explainers.errors import ExplainerError, UnsupportedError
from explainers.methods import method
from explainers.methods.mip_in import Params, source_signals
from explainers.networks.classifier import Classifier
from explainers.passes import Passes
from explainers.progress import Progress
from explainers.target import Target

_NO_LOGIT = 1e-6  # an image whose logit is smaller than this has no percentage


@dataclass(frozen=True, eq=False)
class PercentageChange:
    """The mean over the classes of the mean, or median, over a class's images; 0.1 is 10 %.

    error, positive_error: the standard errors of ``mean`` and ``positive`` over the classes; NaN for a single class.
    before, after: the logits (N,) of all images and of their source signals, float32. labels: the images' classes (N,), int64.
    """

    mean: float
    positive: float
    median: float
    positive_median: float
    images: int
    skipped: int  # images whose logit is zero
    error: float
    positive_error: float
    before: np.ndarray
    after: np.ndarray
    labels: np.ndarray


def percentage_change(before: Tensor, after: Tensor, labels: Tensor) -> PercentageChange:
    """From the logits (N,) of the images and of their source signals, each the logit of the image's own class in ``labels`` (N,)."""
    if before.ndim != 1 or not before.shape == after.shape == labels.shape:
        raise ExplainerError(f"Every image needs two logits and a label; the shapes are {tuple(before.shape)}, "
                             f"{tuple(after.shape)} and {tuple(labels.shape)}.")
    counts = before.abs() > _NO_LOGIT
    if not counts.any():
        raise ExplainerError("There is no image with a logit other than zero, so there is no percentage change.")
    change = ((before.double() - after.double()) / before.double().abs())[counts]
    classes = [change[labels[counts] == label] for label in labels[counts].unique()]
    means = torch.stack([c.abs().mean() for c in classes])
    positive_means = torch.stack([c.clamp(min=0).mean() for c in classes])
    return PercentageChange(
        mean=means.mean().item(), positive=positive_means.mean().item(),
        median=torch.stack([c.abs().quantile(0.5) for c in classes]).mean().item(),
        positive_median=torch.stack([c.clamp(min=0).quantile(0.5) for c in classes]).mean().item(),
        images=len(change), skipped=int((~counts).sum()),
        error=_standard_error(means), positive_error=_standard_error(positive_means),
        before=before.float().numpy(), after=after.float().numpy(), labels=labels.numpy())


def _standard_error(means: Tensor) -> float:
    """Of the mean of these values (C,); NaN where there is only one."""
    return (means.std() / len(means) ** 0.5).item() if len(means) > 1 else math.nan


def measure(network: Classifier, images: Tensor, labels: Tensor, reference: ReferenceSet, /, seed: int = 0,
            progress: Progress | None = None, fits: FitStore | None = None, **params: Any) -> PercentageChange:
    """The percentage change of MIP-IN's source signals over a labelled set, with one fit for each class in it.

    images: (N, C, H, W), preprocessed. labels: (N,) true classes. reference: what the inverses are fitted on. fits: where
    they are kept. params: MIP-IN's own, among them its ``images``, so the first four here go by position. Raises
    ExplainerError, UnsupportedError for a network it cannot invert, Cancelled.
    """
    labelled = LabelledInputs.given(network, images, labels, seed, reference)
    context = Context(network.metered(), seed, RunOptions(progress, fits=fits), reference)
    return evaluate([labelled], method("mip_in").settings(**params), context)[0]


def evaluate(sets: Sequence[LabelledInputs], params: Params, context: Context) -> list[PercentageChange]:
    """The percentage change over each labelled set. Raises UnsupportedError for a network that MIP-IN cannot invert."""
    reason = method("mip_in").lacks(context.network)
    if reason:
        raise UnsupportedError(reason)
    return [_evaluate_one(labelled, params, context.part(number, number + 1, len(sets))) for number, labelled in enumerate(sets)]


def passes_of_sets(params: Params, sets: Sequence[LabelledInputs], maps: Sequence[Attribution]) -> Passes:
    """Each image, and its source signal from where it lies."""
    each = method("mip_in").cost(params, sets[0].network)
    return each * sum(labelled.count for labelled in sets)


def _evaluate_one(labelled: LabelledInputs, params: Params, context: Context) -> PercentageChange:
    images, labels = labelled.load(context.progress)
    before, after = torch.zeros(len(images)), torch.zeros(len(images))
    classes = labels.unique().tolist()
    for number, label in enumerate(classes):
        chosen = (labels == label).nonzero()[:, 0]
        part = context.part(number, number + 1, len(classes))
        before[chosen], after[chosen] = source_signals(context.network, images[chosen], Target.of(label), params, part)
    return percentage_change(before, after, labels.cpu())


METRIC = Metric(
    title="Average percentage change", judges="labelled set", evaluate=evaluate, passes=passes_of_sets, params=Params, version=3,
    cheap={"images": 40},
    scores=(Score("mean", "APC", "lower", lambda change: change.mean),
            Score("positive", "APC+", "lower", lambda change: change.positive)),
    citation=Citation("Deng, Zou, Chen, Feng, Du, Hu", "Mutual information preserving back-propagation: learn to invert for "
                        "faithful attribution", "KDD 2021", "section 5"),
    idea="How far the logit of MIP-IN's source signal is from the image's own. APC+ ignores source "
         "signals with a higher logit than the image.",
    equation=r"\mathrm{APC} = \operatorname{mean}_c \operatorname{mean}_i \frac{|\Phi(X_i) - \Phi(S_i)|}{|\Phi(X_i)|}",
    limits="One logit near zero can outweigh a thousand images: read the medians too. The image itself scores 0, so a small "
           "value shows that the source signal contains enough, not that it contains only what counts.",
)
