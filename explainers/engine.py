"""Explaining and measuring. ``explain`` has no cache; an ``Engine`` caches results and lets one run at a time use the device."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from explainers import ensembles
from explainers.attribution import Attribution
from explainers.cache import MapCache
from explainers.context import Memo, RunOptions, is_fitted, stored_name
from explainers.contract import Method
from explainers.data.reference import ReferenceSet
from explainers.keys import key_of
from explainers.measurement import Measurement, passes_together, run_together
from explainers.methods import method as find_method
from explainers.networks.classifier import Classifier
from explainers.passes import Passes
from explainers.progress import Progress, report
from explainers.question import Question, Request, ask
from explainers.target import PlainTarget, Target

T = TypeVar("T")

_TICK_SECONDS = 0.1
_REMEMBERED_IMAGES = 8  # the number of images whose intermediate results stay memoized
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
    """Explains and measures with a cache, one run at a time on the device.

    Methods of the same image and network share intermediate results (one backward pass serves all gradient methods). Each method
    of the engine that takes a ``Question`` also takes the arguments of ``explain``.
    """

    def __init__(self, cache: MapCache | None = None):
        self.cache = cache or MapCache(None)
        self.runs = 0
        self._turn = threading.RLock()  # reentrant, because a measurement that holds it may compute maps
        self._memos: OrderedDict[Any, Memo] = OrderedDict()
        self._pace: dict[tuple[str, str], float] = {}  # measured seconds of the last run / seconds estimated from its passes

    def explain(self, question: Question | Classifier, *arguments: Any, progress: Progress | None = None,
                **keywords: Any) -> Attribution:
        """The map of the question. One that was computed before comes from the cache, equal to the bit."""
        question = _question(question, *arguments, **keywords)

        def compute() -> Attribution:
            options, fits = self._options(question, progress), self.must_fit(question)
            hits, begin = options.memo.hits, time.perf_counter()
            attribution = question.run(options)
            if options.memo.hits == hits and not fits:  # else the passes do not tell the time
                self._learn(question.network, question.method.key, question.time_passes, time.perf_counter() - begin)
            return attribution

        return self._get_or_compute(question.key, compute, progress)

    def cached(self, question: Question | Classifier, *arguments: Any, **keywords: Any) -> Attribution | None:
        """The map if it is in the cache, else None. Without a target the network predicts one; nothing else is computed."""
        return self.cache.get(_question(question, *arguments, **keywords).key)

    def request(self, question: Question | Classifier, *arguments: Any, **keywords: Any) -> Request:
        """The question as digests and plain values; its ``key`` is the cache key."""
        return _question(question, *arguments, **keywords).request

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
        return _seconds(question.network, self._fit_passes(question, anew))

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

    def measure_together(self, measurements: Sequence[Measurement], progress: Progress | None = None) -> list[Any]:
        """The results of measurements of one metric, network, image, target and settings.

        Those that are not in the cache are measured in common batches; each is then cached by itself.
        """
        by_key = {measurement.key: measurement for measurement in measurements}
        with self._device_turn(progress) if any(key not in self.cache for key in by_key) else nullcontext():
            results = {key: self.cache.get(key) for key in by_key}
            missing = [key for key, result in results.items() if result is None]
            if missing:
                computed = self._measure_now([by_key[key] for key in missing], progress)
                for key, result in zip(missing, computed, strict=True):
                    self.cache.put(key, result)
                    results[key] = result
                    self.runs += 1
        return [results[measurement.key] for measurement in measurements]

    def _measure_now(self, missing: Sequence[Measurement], progress: Progress | None) -> list[Any]:
        expected, runs = self.cost_together(missing), self.runs
        begin = time.perf_counter()
        results = run_together(missing, self._options(missing[0].subject, progress))
        if self.runs == runs and expected.passes:  # else the time includes that of making maps
            self._learn(missing[0].network, missing[0].metric.key, expected.passes, time.perf_counter() - begin)
        return results

    def lookup(self, measurement: Measurement) -> Any:
        """The result of a measurement if it is in the cache, else None; nothing is computed."""
        return self.cache.get(measurement.key)

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

    def get_or_compute(self, name: str, parts: Sequence[Any], compute: Callable[[], T], progress: Progress | None = None) -> T:
        """The result of any other computation, from the cache or computed with the device to itself.

        parts: everything that decides the result (networks, questions, tensors, settings), see ``keys.key_of``. compute: may call
        ``explain``. progress: called while the computation waits for the device, so that an abandoned one can stop waiting.
        """
        return self._get_or_compute(key_of(name, *parts), compute, progress)

    def lookup_computed(self, name: str, parts: Sequence[Any]) -> Any:
        """The result of ``get_or_compute`` if it is in the cache, else None; nothing is computed."""
        return self.cache.get(key_of(name, *parts))

    def _get_or_compute(self, key: str, compute: Callable[[], T], progress: Progress | None) -> T:
        value = self.cache.get(key)
        if value is not None:
            return value
        with self._device_turn(progress):
            value = self.cache.get(key)  # another session may have computed it while this one waited
            if value is None:
                value = compute()
                self.cache.put(key, value)
                self.runs += 1
        return value

    def _options(self, subject: Any, progress: Progress | None) -> RunOptions:
        memo = self._memo(subject) if isinstance(subject, Question) else Memo()
        return RunOptions(progress, memo, self.cache.unrecorded, lambda question, inner: self.explain(question, progress=inner))

    def _memo(self, question: Question) -> Memo:
        """The intermediate results of this network and image. Those of the last few images are kept."""
        key = (question.network.identity, question.image_digest)
        memo = self._memos.setdefault(key, Memo())
        self._memos.move_to_end(key)
        while len(self._memos) > _REMEMBERED_IMAGES:
            self._memos.popitem(last=False)
        return memo

    def _estimate(self, network: Classifier, key: str, passes: Passes) -> Cost:
        """The cost of a run of the method or metric ``key``: its passes times their measured time, corrected by its last run."""
        return Cost(passes, _seconds(network, passes) * self._pace.get((network.identity, key), 1.0))

    def _learn(self, network: Classifier, key: str, passes: Passes, seconds: float) -> None:
        """Keep the ratio of a run's measured time to the time of its passes."""
        estimated = _seconds(network, passes)
        if estimated:
            self._pace[network.identity, key] = min(max(seconds / estimated, _FASTEST), _SLOWEST)

    @contextmanager
    def _device_turn(self, progress: Progress | None) -> Iterator[None]:
        """Wait for the device; while waiting, call ``progress`` every 0.1 s, so that an abandoned run can stop waiting."""
        while not self._turn.acquire(timeout=_TICK_SECONDS):
            report(progress, 0, 0)
        try:
            yield
        finally:
            self._turn.release()


def _question(question: Question | Classifier, *arguments: Any, **keywords: Any) -> Question:
    return question if isinstance(question, Question) else ask(question, *arguments, **keywords)


def _seconds(network: Classifier, passes: Passes) -> float:
    if not passes:
        return 0.0
    of_one = network.pass_seconds()
    return passes.forward * of_one.forward + passes.backward * of_one.backward
