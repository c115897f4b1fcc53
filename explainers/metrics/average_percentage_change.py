r"""Average percentage change (APC): how far the logit of MIP-IN's source signal is from the logit of the image itself.

If the source signal S kept all that the network's decision rests on, the intact network would give it the image's logit
Phi(X). For the images of each class, with Phi the logit of that class, and then averaged over the classes,

    APC  = mean_c mean_i |Phi(X_i) - Phi(S_i)| / |Phi(X_i)|,     APC+ = mean_c mean_i max(0, Phi(X_i) - Phi(S_i)) / |Phi(X_i)|.

The positive one forgives a source signal that the network finds better than the image (Deng and others 2021, section 5). Both
are shares here, 0.1 for 10 %. One logit near zero can outweigh a thousand images: read the medians beside the means. That
a source signal has the right logit says that enough is in it, not that nothing else is: the image itself scores 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from explainers.context import Context, Fits, Progress
from explainers.contract import ExplainerError, Metric, Reference, UnsupportedError
from explainers.data.reference import ReferenceSet
from explainers.methods import method
from explainers.methods.mip_in import source_signals
from explainers.networks.classifier import Classifier

_NO_LOGIT = 1e-6  # an image whose logit is smaller than this has no percentage


@dataclass(frozen=True)
class PercentageChange:
    """Each the mean over the classes of the mean, or median, over a class's images; shares, so 0.1 is 10 %."""

    mean: float
    positive: float
    median: float
    positive_median: float
    images: int
    skipped: int  # images whose logit is zero


def percentage_change(before: Tensor, after: Tensor, labels: Tensor) -> PercentageChange:
    """From the logits (N,) of the images and of their source signals, each that of its image's own class ``labels`` (N,)."""
    if before.ndim != 1 or not before.shape == after.shape == labels.shape:
        raise ExplainerError(f"Every image needs two logits and a label; the shapes are {tuple(before.shape)}, "
                             f"{tuple(after.shape)} and {tuple(labels.shape)}.")
    counts = before.abs() > _NO_LOGIT
    if not counts.any():
        raise ExplainerError("There is no image with a logit other than zero, so there is no percentage change.")
    before, after, labels = before[counts].double(), after[counts].double(), labels[counts]
    change = (before - after) / before.abs()
    classes = [change[labels == label] for label in labels.unique()]

    def over_classes(values: list[Tensor]) -> float:
        return torch.stack(values).mean().item()

    return PercentageChange(
        mean=over_classes([c.abs().mean() for c in classes]),
        positive=over_classes([c.clamp(min=0).mean() for c in classes]),
        median=over_classes([c.abs().quantile(0.5) for c in classes]),
        positive_median=over_classes([c.clamp(min=0).quantile(0.5) for c in classes]),
        images=len(before), skipped=int((~counts).sum()))


def measure(network: Classifier, images: Tensor, labels: Tensor, reference: ReferenceSet, /, seed: int = 0,
            progress: Progress | None = None, fits: Fits | None = None, **params: Any) -> PercentageChange:
    """The percentage change of MIP-IN's source signals over a labelled set, with one fit for each class in it.

    images: (N, C, H, W), preprocessed. labels: (N,) true classes. reference: what the inverses are fitted on. fits: where
    they are kept. params: MIP-IN's own, among them its ``images``, so the first four here go by position. Raises
    ExplainerError, UnsupportedError for a network it cannot invert, Cancelled.
    """
    mip_in = method("mip_in")
    settings, reason = mip_in.settings(**params), network.lacks(mip_in)
    if reason:
        raise UnsupportedError(reason)
    if len(images) == 0 or tuple(labels.shape) != (len(images),):
        raise ExplainerError(f"Every image needs one label: {len(images)} images came with labels of shape {tuple(labels.shape)}.")
    context = Context(network, seed, progress, reference=reference, fits=fits)
    before, after = torch.zeros(len(images)), torch.zeros(len(images))
    classes = labels.unique().tolist()
    for number, label in enumerate(classes):
        chosen = (labels == label).nonzero()[:, 0]
        part = context.part(number, number + 1, len(classes))
        before[chosen], after[chosen] = source_signals(network, images[chosen], label, settings, part)
    return percentage_change(before, after, labels.cpu())


METRIC = Metric(
    title="Average percentage change",
    reference=Reference("Deng, Zou, Du, Chen, Feng, Hu", "Mutual information preserving back-propagation: learn to invert for "
                        "faithful attribution", "KDD 2021", "section 5"),
    idea="How far the logit of MIP-IN's source signal is from the image's own. Small is better; the positive one forgives a "
         "source signal that the network finds better than the image.",
    equation=r"\mathrm{APC} = \operatorname{mean}_c \operatorname{mean}_i \frac{|\Phi(X_i) - \Phi(S_i)|}{|\Phi(X_i)|}",
    limits="One logit near zero can outweigh a thousand images: read the medians too. The image itself scores 0, so a small "
           "value says that enough was kept, not that nothing else was.",
)
