"""One metric put to one subject: an immutable value that can be run, as a ``Question`` is for maps.

    measurement = judge("insertion_deletion", question, protocol="i_gos")
    result = measurement.run()
    measurement.metric.numbers(result)           # {"insertion_auc": ..., "deletion_auc": ..., ...}

Its key is made of the metric, its version, its settings and the subject; nobody writes one by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from explainers.attribution import Attribution
from explainers.context import Context, RunOptions
from explainers.contract import Metric
from explainers.data.labelled import LabelledInputs
from explainers.errors import ExplainerError
from explainers.keys import key_of
from explainers.metrics import metric as find_metric
from explainers.networks.classifier import Classifier
from explainers.passes import Passes
from explainers.question import Question

Subject = Question | LabelledInputs
"""What a metric judges: the map of a question (or maps of questions derived from it), or a labelled set."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """What is measured, ready to be run. ``settings`` is an instance of the metric's settings dataclass."""

    metric: Metric
    subject: Subject
    settings: Any

    def __post_init__(self) -> None:
        takes = LabelledInputs if self.metric.judges == "labelled set" else Question
        if not isinstance(self.subject, takes):
            raise ExplainerError(f"{self.metric.title} judges a {self.metric.judges}: give a {takes.__name__}, not a "
                                 f"{type(self.subject).__name__}.")

    @cached_property
    def key(self) -> str:
        """A sha256 hex digest of all that decides the result."""
        return key_of("measurement", self.metric.key, self.metric.version, self.settings, self.subject)

    @property
    def network(self) -> Classifier:
        """The network that is asked."""
        return self.subject.network

    def passes(self, attribution: Attribution | None = None) -> Passes:
        """What it sends through the network when run alone, beside making maps. attribution: the map, where one is judged."""
        return passes_together([self], [attribution] if attribution else [])

    def run(self, options: RunOptions | None = None) -> Any:
        """Measure. Raises ExplainerError and Cancelled."""
        return run_together([self], options)[0]


def judge(metric: str, subject: Subject, **settings: Any) -> Measurement:
    """The measurement of a subject by a metric's key and settings by name. Raises ExplainerError."""
    found = find_metric(metric)
    return Measurement(found, subject, found.settings(**settings))


def run_together(measurements: Sequence[Measurement], options: RunOptions | None = None) -> list[Any]:
    """Results in the order of the measurements, which have one metric, network, image, target and settings, in common batches."""
    first = measurements[0]
    network = first.network.metered()
    context = Context(network, first.subject.seed, options, first.subject.reference_set)
    context.progress(0, 1)
    results = first.metric.evaluate([one.subject for one in measurements], first.settings, context)
    context.progress(1, 1)
    return results


def passes_together(measurements: Sequence[Measurement], maps: Sequence[Attribution]) -> Passes:
    """What ``run_together`` sends through the network beside making maps; ``maps`` are the subjects' own where one is judged."""
    first = measurements[0]
    return first.metric.passes(first.settings, [one.subject for one in measurements], maps)
