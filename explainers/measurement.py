"""One metric applied to one subject: an immutable value that can be run, as a ``Question`` is for maps.

    measurement = judge("insertion_deletion", question, protocol="i_gos")
    result = measurement.run()
    measurement.metric.numbers(result)           # {"insertion_auc": ..., "deletion_auc": ..., ...}

Its key is made of the metric, its version, its settings and the subject.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, get_args, get_type_hints

from explainers.attribution import Attribution
from explainers.context import Context, RunOptions
from explainers.contract import Metric
from explainers.data.labelled import LabelledInputs
from explainers.errors import ExplainerError
from explainers.keys import key_of
from explainers.memory import in_one_sentence
from explainers.metrics import metric as find_metric
from explainers.networks.classifier import Classifier
from explainers.passes import Passes
from explainers.question import Question

Subject = Question | LabelledInputs
"""What a metric judges: the map of a question, maps of questions derived from it, or a labelled set."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """A request for one result of a metric, ready to be run. ``settings`` is an instance of the metric's settings dataclass."""

    metric: Metric
    subject: Subject
    settings: Any

    def __post_init__(self) -> None:
        if not self.metric.key:
            raise ExplainerError(f"Take {self.metric.title} from ex.metrics(), which knows its key, or use ex.judge.")
        takes = LabelledInputs if self.metric.judges == "labelled set" else Question
        if not isinstance(self.subject, takes):
            raise ExplainerError(f"{self.metric.title} judges a {self.metric.judges}: give a {takes.__name__}, not a "
                                 f"{type(self.subject).__name__}.")

    @cached_property
    def key(self) -> str:
        """A sha256 hex digest of everything that decides the result."""
        return key_of("measurement", self.metric.key, self.metric.version, self.settings, self.subject)

    @property
    def result_type(self) -> type:
        """The class of the result, which the metric's ``evaluate`` declares."""
        return _result_type(self.metric.evaluate)

    @property
    def network(self) -> Classifier:
        """The network of the subject."""
        return self.subject.network

    def passes(self, attribution: Attribution | None = None) -> Passes:
        """The passes when it is run alone, without those of making maps. attribution: the map, for a metric that judges a "map"."""
        return passes_together([self], [attribution] if attribution else [])

    def run(self, options: RunOptions | None = None) -> Any:
        """Compute the result. Raises ExplainerError and Cancelled."""
        return run_together([self], options)[0]


@lru_cache(maxsize=32)
def _result_type(evaluate: Callable[..., Any]) -> type:
    """The class ``R`` of a function that is declared to return ``list[R]``; ``object`` where it declares nothing."""
    (declared,) = get_args(get_type_hints(evaluate).get("return", list[object])) or (object,)
    return declared if isinstance(declared, type) else object


def judge(metric: str, subject: Subject, **settings: Any) -> Measurement:
    """The measurement of a subject by a metric's key and settings by name. Raises ExplainerError."""
    declaration = find_metric(metric)
    return Measurement(declaration, subject, declaration.settings(**settings))


def run_together(measurements: Sequence[Measurement], options: RunOptions | None = None) -> list[Any]:
    """The results of measurements of one metric, network, image, target and settings, computed in common batches, in their order."""
    first = measurements[0]
    with in_one_sentence(first.network.title):
        context = Context(first.network.metered(), first.subject.seed, options, first.subject.reference_set)
        context.progress(0, 1)
        results = first.metric.evaluate([measurement.subject for measurement in measurements], first.settings, context)
        context.progress(1, 1)
        return results


def passes_together(measurements: Sequence[Measurement], maps: Sequence[Attribution]) -> Passes:
    """The passes of ``run_together`` without those of making maps. maps: the subjects' maps, for a metric that judges a "map"."""
    first = measurements[0]
    return first.metric.passes(first.settings, [measurement.subject for measurement in measurements], maps)
