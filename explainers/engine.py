"""Explaining and measuring. ``explain`` has no cache; an ``Engine`` caches results and shares the device between runs in turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from torch import Tensor

from explainers import ensembles
from explainers.attribution import Attribution
from explainers.cache import MapCache, Owner
from explainers.context import RunOptions, is_fitted, stored_name
from explainers.contract import Method
from explainers.data.reference import ReferenceSet
from explainers.keys import is_private, key_of
from explainers.line import Sharing, Wait
from explainers.measurement import Measurement, passes_together, run_together
from explainers.memory import in_one_sentence
from explainers.memos import Memos, SharedFits
from explainers.methods import method as find_method
from explainers.networks.classifier import Classifier
from explainers.passes import Passes
from explainers.progress import Progress
from explainers.question import Question, Request, ask
from explainers.target import PlainTarget, Target
from explainers.turns import Turns

T = TypeVar("T")

_FASTEST, _SLOWEST = 0.2, 20.0  # bounds of the correction learned from one run, so that one stalled run cannot spoil the estimates


@dataclass(frozen=True)
class Cost:
    """The cost of a run that is still to come: passes, and estimated seconds."""

    passes: Passes
    seconds: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.passes + other.passes, self.seconds + other.seconds)


def explain(network: Classifier, x: Tensor, method: str, *, target: Target | PlainTarget | None = None, seed: int = 0,
            progress: Progress | None = None, reference: ReferenceSet | None = None, **params: Any) -> Attribution:
    """Explain one image with one method.

    x: (1, C, H, W), preprocessed. target: a class index, ``(a, b)`` for logit a - logit b, or None for the top-1 class.
    progress: ``progress(done, total, preview)``, which returns False, or raises, to stop. reference: the images that a method
    fits its statistics on, where it needs any (``data.reference.default`` unless given). params: the method's own.
    Raises ExplainerError (an unknown method, target or parameter, a network that the method cannot explain) and Cancelled.
    """
    question = ask(network, x, method, target=target, seed=seed, reference=reference, **params)
    return question.run(RunOptions(progress=progress))


class Engine:
    """Explains and measures with a cache, one run at a time on the device; long runs give way to others (see ``turns``).

    Any number of threads may use one engine. What several of them ask for at the same time is computed once. Methods of the same image
    and network share intermediate results (one backward pass serves all gradient methods). Each method of the engine that takes a
    ``Question`` also takes the arguments of ``explain``.
    """

    def __init__(self, cache: MapCache | None = None):
        self.cache = cache or MapCache(None)
        self.runs = 0
        self._turns = Turns()
        self._memos = Memos()
        self._pace: dict[tuple[str, str], float] = {}  # measured seconds of the last run / seconds estimated from its passes
        self._timed: set[str] = set()  # the networks whose passes have been timed, so that an estimate costs nothing

    @in_one_sentence()
    def explain(self, question: Question | Classifier, *arguments: Any, progress: Progress | None = None,
                **keywords: Any) -> Attribution:
        """The map of the question. One that was computed before comes from the cache, equal to the bit."""
        question = _question(question, *arguments, **keywords)

        def compute() -> Attribution:
            options, fits = self._options(question, progress), self.must_fit(question)
            begin = self._working_time()
            attribution = question.run(options)
            seconds = self._working_time() - begin
            if not options.memo.hits and not fits:  # else the passes do not tell the time
                self._learn(question.network, question.method.key, question.time_passes, seconds)
            return replace(attribution, seconds=min(attribution.seconds, seconds))  # its own include the time that it waited

        with self.cache.in_memory(question.stays_in_memory):
            return self._get_or_compute(question.key, compute, progress, Attribution,
                                        lambda: self._if_timed(question.network, lambda: self.cost(question)))

    def cached(self, question: Question | Classifier, *arguments: Any, **keywords: Any) -> Attribution | None:
        """The map if it is in the cache, else None. Without a target the network predicts one; nothing else is computed."""
        return self.cache.get(_question(question, *arguments, **keywords).key, Attribution)

    def request(self, question: Question | Classifier, *arguments: Any, **keywords: Any) -> Request:
        """The question as digests and plain values; its ``key`` is the cache key."""
        return _question(question, *arguments, **keywords).request

    @in_one_sentence()
    def cost(self, question: Question | Classifier, *arguments: Any, **keywords: Any) -> Cost:
        """The passes of a map and its estimated seconds; ``cost(network, "rise", masks=100)`` needs no image.

        The first call for a network measures the time of its passes. Once the method has run, its measured time corrects the estimate.
        The seconds include those of statistics that the question's method must first fit; the passes do not.
        """
        if not isinstance(question, Question):
            method = find_method(*arguments)
            own, ensemble = ensembles.split(method.title, keywords)
            return self._map_cost(question, method, method.settings(**own), ensemble.members)
        cost = self._map_cost(question.network, question.method, question.settings, question.ensemble.members)
        return Cost(cost.passes, cost.seconds + self.fit_seconds(question))

    def fit_seconds(self, question: Question, anew: bool = False) -> float:
        """The estimated seconds of fitting the statistics of this question. anew: also where they are stored or shipped."""
        return self._seconds(question.network, self._fit_passes(question, anew))

    def must_fit(self, question: Question) -> bool:
        """Whether the map of this question has to wait for statistics that are still to be fitted."""
        return bool(self._fit_passes(question))

    def _map_cost(self, network: Classifier, method: Method, settings: Any, members: int) -> Cost:
        """The cost of a map, or of an ensemble of ``members`` maps."""
        estimate = self._estimate(network, method.key, method.time_cost(settings, network) * members)
        return Cost(method.cost(settings, network) * members, estimate.seconds)

    def _fit_passes(self, question: Question, anew: bool = False) -> Passes:
        """The passes that take as long as fitting the statistics of this question; none where they are stored, unless ``anew``."""
        reference = question.reference_set
        if question.method.fit is None or reference is None or question.lacks:
            return Passes()
        keys, passes = question.method.fit(question.settings, question.network, question.target, reference)
        fitted = not anew and any(is_fitted(question.network, reference, key, self.cache.unrecorded) for key in keys)
        return Passes() if fitted else passes

    def measure(self, measurement: Measurement, progress: Progress | None = None) -> Any:
        """The result of one measurement, from the cache if it was measured before."""
        return self.measure_together([measurement], progress)[0]

    @in_one_sentence()
    def measure_together(self, measurements: Sequence[Measurement], progress: Progress | None = None) -> list[Any]:
        """The results of measurements of one metric, network, image, target and settings.

        Those that are not in the cache are measured in common batches; each is then cached by itself.
        """
        with self.cache.in_memory(is_private(*(measurement.subject for measurement in measurements))):
            return self._measure_together(measurements, progress)

    def _measure_together(self, measurements: Sequence[Measurement], progress: Progress | None) -> list[Any]:
        by_key = {measurement.key: measurement for measurement in measurements}
        results = {key: self.lookup(measurement) for key, measurement in by_key.items()}
        missing = [key for key, result in results.items() if result is None]
        if missing:
            seconds = self._if_timed(measurements[0].network, lambda: self.cost_together(measurements))
            with self._turns.turn(progress, seconds, missing):
                results.update({key: self.lookup(by_key[key]) for key in missing})  # another run may have measured them meanwhile
                missing = [key for key, result in results.items() if result is None]
                if missing:
                    results.update(self._measure_now({key: by_key[key] for key in missing}, progress))
        return [results[measurement.key] for measurement in measurements]

    def _measure_now(self, missing: Mapping[str, Measurement], progress: Progress | None) -> dict[str, Any]:
        """The results by key, which are now in the cache."""
        measurements, expected = list(missing.values()), self.cost_together(list(missing.values()))
        first, made = measurements[0], [False]

        def explain(question: Question, inner: Progress | None) -> Attribution:
            made[0] |= question.key not in self.cache
            return self.explain(question, progress=inner)

        begin = self._working_time()
        computed = run_together(measurements, replace(self._options(first.subject, progress), explain=explain))
        if expected.passes and not made[0]:  # else the time includes that of making maps
            self._learn(first.network, first.metric.key, expected.passes, self._working_time() - begin)
        results = dict(zip(missing, computed, strict=True))
        for key, result in results.items():
            self.cache.put(key, result)
            self.runs += 1
        return results

    def lookup(self, measurement: Measurement) -> Any:
        """The result of a measurement if it is in the cache, else None; nothing is computed."""
        return self.cache.get(measurement.key, measurement.result_type)

    @in_one_sentence()
    def cost_together(self, measurements: Sequence[Measurement]) -> Cost:
        """The cost of ``measure_together``: of the measurements that are not in the cache, and of the maps that they need."""
        missing = [measurement for measurement in measurements if measurement.key not in self.cache]
        if not missing:
            return Cost(Passes(), 0.0)
        first, total = missing[0], Cost(Passes(), 0.0)
        maps: list[Attribution] = []
        for subject in (measurement.subject for measurement in missing):
            if isinstance(subject, Question):
                attribution = self.cached(subject)
                maps += [attribution] if attribution else []
                count = first.metric.questions(first.settings, subject) - bool(attribution)
                of_one_map = self.cost(subject)
                total += Cost(of_one_map.passes * count, of_one_map.seconds * count)
        if first.metric.stored and stored_name(first.network, first.metric.stored(first.settings, first.subject)) in self.cache:
            return total
        return total + self._estimate(first.network, first.metric.key, passes_together(missing, maps))

    @in_one_sentence()
    def get_or_compute(self, name: str, parts: Sequence[Any], compute: Callable[[], T], progress: Progress | None = None,
                       kind: type = object, seconds: float = 0.0) -> T:
        """The result of any other computation, from the cache or computed with the device to itself.

        parts: everything that decides the result (networks, questions, tensors, settings), see ``keys.key_of``. compute: may call
        ``explain``. progress: called while the computation waits for the device, so that an abandoned one can stop waiting. kind: the
        type of the result; a cached value of another type counts as missing. A part that is private (see ``keys.is_private``) keeps
        the result off the disk. seconds: what it is estimated to take, where that is known, for the place in the line.
        """
        with self.cache.in_memory(is_private(*parts)):
            return self._get_or_compute(key_of(name, *parts), compute, progress, kind, lambda: seconds)

    def compute(self, compute: Callable[[], T], progress: Progress | None = None, seconds: float = 0.0) -> T:
        """What ``compute`` returns, computed with the device to itself and not cached. See ``get_or_compute`` for the arguments."""
        with self._turns.turn(progress, seconds), in_one_sentence():
            return compute()

    def lookup_computed(self, name: str, parts: Sequence[Any], kind: type = object) -> Any:
        """The result of ``get_or_compute`` if it is in the cache, else None; nothing is computed."""
        return self.cache.get(key_of(name, *parts), kind)

    def forget(self, owner: Owner) -> None:
        """Remove what was computed for somebody who has gone (see ``MapCache.in_memory``), and all intermediate results, because
        they do not tell whose they are."""
        self.cache.forget(owner)
        self._memos.clear()

    @property
    def kept_bytes(self) -> int:
        """The bytes that the engine keeps in memory: results and intermediate results, each within a bound."""
        return self.cache.sizes()[0] + self._memos.total

    def waiting(self) -> Wait | None:
        """Where the run of this thread stands in the line for the device, for a progress callback; None where it does not wait."""
        return self._turns.waiting()

    def sharing(self, seconds: float) -> Sharing | None:
        """The long runs that take turns with the run of this thread, for a progress callback; None where it has the device to itself.

        seconds: what the run still needs of the device.
        """
        return self._turns.sharing(seconds)

    def _get_or_compute(self, key: str, compute: Callable[[], T], progress: Progress | None, kind: type,
                        seconds: Callable[[], float]) -> T:
        value = self.cache.get(key, kind)
        if value is not None:
            return value
        with self._turns.turn(progress, seconds(), [key]):
            value = self.cache.get(key, kind)  # another session may have computed it while this one waited
            if value is None:
                value = compute()
                self.cache.put(key, value)
                self.runs += 1
        return value

    def _if_timed(self, network: Classifier, cost: Callable[[], Cost]) -> float:
        """The estimated seconds of a run, for its place in the line; 0, for unknown, where the passes would first have to be timed."""
        return cost().seconds if network.identity in self._timed else 0.0

    def _working_time(self) -> float:
        """A clock that stands still while the run of this thread waits for the device."""
        return time.perf_counter() - self._turns.waited

    def _options(self, subject: Any, progress: Progress | None) -> RunOptions:
        options = RunOptions(progress, fits=SharedFits(self.cache.unrecorded, self._turns),
                             explain=lambda question, inner: self.explain(question, progress=inner))
        if isinstance(subject, Question):
            return replace(options, memo=self._memos.of((subject.network.identity, subject.image_digest)))
        return options

    def _estimate(self, network: Classifier, key: str, passes: Passes) -> Cost:
        """The cost of a run of the method or metric ``key``: its passes times their measured time, corrected by its last run."""
        return Cost(passes, self._seconds(network, passes) * self._pace.get((network.identity, key), 1.0))

    def _learn(self, network: Classifier, key: str, passes: Passes, seconds: float) -> None:
        """Keep the ratio of a run's measured time to the time of its passes."""
        estimated = self._seconds(network, passes)
        if estimated:
            self._pace[network.identity, key] = min(max(seconds / estimated, _FASTEST), _SLOWEST)

    def _seconds(self, network: Classifier, passes: Passes) -> float:
        if not passes:
            return 0.0
        of_one = network.pass_seconds()
        self._timed.add(network.identity)
        return passes.forward * of_one.forward + passes.backward * of_one.backward


def _question(question: Question | Classifier, *arguments: Any, **keywords: Any) -> Question:
    return question if isinstance(question, Question) else ask(question, *arguments, **keywords)
