"""The declarations of methods and metrics.

A method is one file (or folder) in ``explainers/methods``, a metric one file in ``explainers/metrics``. Each has a settings
dataclass, one function that computes, and a declaration, ``METHOD`` or ``METRIC``. Widgets, cards, cost estimates, cache keys and
generic tests are made from the declaration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from explainers.attribution import Attribution
from explainers.context import Context
from explainers.data.reference import ReferenceSet
from explainers.networks.classifier import Classifier
from explainers.parameters import NoParameters, Parameter, checked, parameters_of
from explainers.passes import Passes
from explainers.requirements import REFERENCE_SET, Requirement, reason_against
from explainers.target import Target


@dataclass(frozen=True)
class Citation:
    """The publication that a method or a metric comes from."""

    authors: str
    title: str
    venue: str
    section: str = ""

    def __str__(self) -> str:
        return f"{self.authors}: {self.title}. {self.venue}" + (f", {self.section}." if self.section else ".")


@dataclass(frozen=True)
class RawMap:
    """What a method's ``attribute`` returns. ``Question.run`` adds the target, the settings and the cost.

    ``native`` is (C, h, w), signed, at the method's own resolution. ``extras`` are the auxiliary outputs by name: tensors,
    numbers, strings and lists of them. ``reduction`` says how channels become one map: ``sum`` or ``max_abs`` (the largest
    magnitude). ``signed`` is False where these settings make a signed method's map non-negative. ``flags`` are warnings about this
    map, each one line in lower case without a full stop.
    """

    native: Tensor
    extras: dict[str, Any] = field(default_factory=dict)
    reduction: str = "sum"
    signed: bool = True
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class AuxiliaryOutput:
    """A result beside the map that helps to interpret it: the entry ``name`` of ``extras``, and how it is drawn.

    kind is one of
    "map": (h, w) or (C, h, w), signed, its channels are summed;
    "strength": the same, non-negative;
    "fraction": (h, w), from 0 to 1;
    "pictures": (N, C, H, W) in the network's normalised scale, either one picture or the image and one for each iteration;
    "signal": (C, h, w), drawn as a picture where it has the input's shape, else as a map of the channels' mean;
    "signals": a list of such signals or of vectors (d,), one for each layer, drawn as a filmstrip with the names that ``labels`` has;
    "weights": (C, H, W), signed weights on the input, drawn in its colours with grey for 0; those of one method share a scale;
    "maps": (N, C, H, W), signed, one for each iteration, each on its own scale;
    "masks": (N, C, H, W), from 0 to 1, one for each iteration; the channels are drawn separately;
    "trace": a list of numbers, one for each step, or for what ``along`` names;
    "parts": a list of numbers that add up to a total, drawn as a bar with the names in ``parts``;
    "number"; "text".

    make: computes the value from the image (1, C, H, W) and the extras, where these hold only its parts. numbers: for
    "pictures", "maps" and "masks", the names of traces that hold one number for each of them. labels: for "signals", the entry
    of ``extras`` with their names. parts: for "parts", the names of the numbers. unit: of a trace, a number or parts; traces of
    one unit share a chart. along: of a trace, what its values are counted by. follows: of a trace, whether it tells if the
    method moved (see ``attribution.unmoved``). A setting of the method may leave an output out.
    """

    name: str
    title: str
    kind: str
    help: str
    unit: str = ""
    along: str = "step"
    make: Callable[[Tensor, Mapping[str, Any]], Tensor] | None = None
    numbers: tuple[str, ...] = ()
    follows: bool = True
    labels: str = ""
    parts: tuple[str, ...] = ()

    def of(self, x: Tensor, extras: Mapping[str, Any]) -> Any:
        """The value of this output, or None where the settings leave it out. x: the explained image (1, C, H, W)."""
        if self.name not in extras:
            return None
        return self.make(x, extras) if self.make else extras[self.name]


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What methods and metrics declare alike. ``key`` is the name in Python and in links; ``title`` is the name for people."""

    title: str
    citation: Citation
    idea: str  # one or two sentences
    equation: str  # LaTeX, without dollar signs
    limits: str  # when the map, or the number, misleads
    params: type = NoParameters
    cheap: Mapping[str, Any] = field(default_factory=dict)  # settings with which tests and benchmarks take little time
    version: int = 1  # part of the cache key: raise it when the same question, or measurement, would give another result
    key: str = ""  # filled from the file's name by explainers.methods or explainers.metrics

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The declared parameters, in the order of the settings dataclass."""
        return parameters_of(self.params)

    def settings(self, **values: Any) -> Any:
        """A checked instance of the settings dataclass. Raises ParameterError."""
        return checked(self.params, self.title, values)


@dataclass(frozen=True, kw_only=True)
class Method(Declaration):
    """A method's declaration.

    passes_on: exact, for a method that runs parts of the network. overhead: the passes that take as long as what a map computes
    beside its own, for estimates of time. fit: the keys under which ``Context.fit`` keeps the statistics of a map, of which one is
    enough, and the passes that take as long as fitting them. draft: settings of a quick first answer, lower than the defaults, for a
    method that takes long.
    """

    attribute: Callable[[Classifier, Tensor, Target, Any, Context], RawMap]
    passes: Callable[[Any], Passes]
    family: str  # "gradient", "activation", "attention", "perturbation", "optimisation", "decomposition" or "control"
    passes_on: Callable[[Any, Classifier], Passes] | None = None
    overhead: Callable[[Any, Classifier], Passes] | None = None
    fit: Callable[[Any, Classifier, Target, ReferenceSet], tuple[Sequence[tuple[Any, ...]], Passes]] | None = None
    needs: tuple[Requirement, ...] = ()
    signed: bool = True
    linear: bool = False  # linear in the logit: the map of the contrast a - b is the map of a minus the map of b
    previews: bool = False  # whether it reports the map so far while it runs
    short: str = ""  # a name for narrow places, such as IBA; empty where the title is short enough
    draft: Mapping[str, Any] = field(default_factory=dict)
    upsample: str = "bilinear"  # or "nearest", "corners": how the native map is brought to the input's resolution
    auxiliary_outputs: tuple[AuxiliaryOutput, ...] = ()

    @property
    def short_title(self) -> str:
        """The name for narrow places."""
        return self.short or self.title

    @property
    def is_control(self) -> bool:
        """Whether this is a control: its map does not depend on what the network has learned, and a useful method must do better."""
        return self.family == "control"

    @property
    def fits_statistics(self) -> bool:
        """Whether the method first fits statistics on a reference set; ``passes`` leaves the fit out."""
        return REFERENCE_SET in self.needs

    def cost(self, settings: Any, network: Classifier) -> Passes:
        """The passes of one map of this network, without those of statistics that are fitted once on a reference set."""
        return self.passes_on(settings, network) if self.passes_on else self.passes(settings)

    def time_cost(self, settings: Any, network: Classifier) -> Passes:
        """The passes that take as long as one map, for estimates of time: those of ``cost`` and the ``overhead``."""
        return self.cost(settings, network) + (self.overhead(settings, network) if self.overhead else Passes())

    def lacks(self, network: Classifier) -> str | None:
        """Why the method cannot explain this network, in one sentence; None if it can."""
        return reason_against(self.title, self.needs, network)


@dataclass(frozen=True)
class Score:
    """One number of a metric's result, as a table shows it. ``better`` is "higher" or "lower"."""

    name: str
    title: str
    better: str
    of: Callable[[Any], float]


@dataclass(frozen=True, kw_only=True)
class Metric(Declaration):
    """A metric's declaration.

    judges: what the metric measures, which decides what ``evaluate`` is given as subjects:
    "map": questions (``question.Question``) of one network, image and target; each question's map is judged;
    "class maps": questions; the maps of several classes are compared;
    "randomised maps": questions; the map is compared with those of networks with re-initialised weights;
    "labelled set": ``data.labelled.LabelledInputs``; no map is needed.

    evaluate: ``evaluate(subjects, settings, context)`` returns one result for each subject. Subjects that are measured together
    share passes where the metric can. It gets maps from ``context.explain``.
    passes: ``passes(settings, subjects, maps)``, the passes of ``evaluate`` without those of making maps. ``maps`` are the
    subjects' maps, for a metric that judges a "map".
    questions: ``questions(settings, subject)``, the number of maps that a subject needs; for estimates of time.
    stored: ``stored(settings, subject)``, the key of what ``evaluate`` keeps by ``context.stored``, so that later maps of the same
    image need no pass for it; None for a metric that keeps nothing.
    """

    judges: str
    evaluate: Callable[[Sequence[Any], Any, Context], list[Any]]
    passes: Callable[[Any, Sequence[Any], Sequence[Attribution]], Passes]
    scores: tuple[Score, ...]  # the first one is the headline
    questions: Callable[[Any, Any], int] = lambda settings, subject: 1
    stored: Callable[[Any, Any], tuple[Any, ...]] | None = None

    @property
    def better(self) -> str:
        """Which way the headline score is better: "higher" or "lower"."""
        return self.scores[0].better

    def numbers(self, result: Any) -> dict[str, float]:
        """The scores of a result by name."""
        return {score.name: float(score.of(result)) for score in self.scores}
