"""Explaining and measuring with a memory: results are cached, and one run at a time has the device.

``explain`` computes and forgets; an ``Engine`` remembers.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from explainers.attribution import Attribution
from explainers.cache import MapCache
from explainers.context import Memo, RunOptions, stored_name
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
_REMEMBERED_IMAGES = 8  # of which intermediate results are memoized
_FASTEST, _SLOWEST = 0.2, 20.0  # bounds of what is learned from one run, so that a stalled machine does not spoil all estimates


@dataclass(frozen=True)
class Cost:
    """What a run is going to take: passes, and estimated seconds."""

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
    """Explains and measures with a memory, one run at a time on the device.

    Methods of the same image and network use each other's intermediate results (one backward pass serves the whole gradient
    family). Where a method takes a ``Question``, it takes the arguments of ``explain`` as well.
    """

    def __init__(self, cache: MapCache | None = None):
        self.cache = cache or MapCache(None)
        self.runs = 0
        self._turn = threading.RLock()  # reentrant, because a measurement may need maps
        self._memos: OrderedDict[Any, Memo] = OrderedDict()
        self._pace: dict[tuple[str, str], float] = {}  # seconds of the last run over those estimated from its passes

    def explain(self, question: Question | Classifier, *asked: Any, progress: Progress | None = None, **more: Any) -> Attribution:
        """The map that answers the question. One that was computed before comes from the cache, bit for bit."""
        question = _question(question, *asked, **more)

        def compute() -> Attribution:
            options = self._options(question, progress)
            hits, begin = options.memo.hits, time.perf_counter()
            attribution = question.run(options)
            if options.memo.hits == hits and not question.method.fits_statistics:  # else it took less, or more, than its passes say
                self._learn(question.network, question.method.key, question.passes, time.perf_counter() - begin)
            return attribution

        return self._get_or_compute(question.key, compute, progress)

    def cached(self, question: Question | Classifier, *asked: Any, **more: Any) -> Attribution | None:
        """The map if it is in the cache; nothing is computed but, without a target, the prediction."""
        return self.cache.get(_question(question, *asked, **more).key)

    def request(self, question: Question | Classifier, *asked: Any, **more: Any) -> Request:
        """The question as digests and plain values; its ``key`` is the cache key."""
        return _question(question, *asked, **more).request

    def cost(self, question: Question | Classifier, *asked: Any, **more: Any) -> Cost:
        """The passes of a map and its estimated seconds; ``cost(network, "rise", masks=100)`` needs no image.

        The first call for a network measures its passes; later estimates learn from how long the method really took.
        """
        if isinstance(question, Question):
            return self._estimate(question.network, question.method.key, question.passes)
        method = find_method(*asked)
        return self._estimate(question, method.key, method.cost(method.settings(**more), question))

    def measure(self, measurement: Measurement, progress: Progress | None = None) -> Any:
        """The result of one measurement, from the cache if it was measured before."""
        return self.measure_together([measurement], progress)[0]

    def measure_together(self, measurements: Sequence[Measurement], progress: Progress | None = None) -> list[Any]:
        """The results of measurements of one metric, network, image, target and settings.

        Those that are not in the cache are measured in common batches; each is then cached by itself.
        """
        with self._device_turn(progress) if any(one.key not in self.cache for one in measurements) else nullcontext():
            results = {one.key: self.lookup(one) for one in measurements}
            missing = list({one.key: one for one in measurements if results[one.key] is None}.values())
            if missing:
                fresh = self._measure_now(missing, progress)
                for one, result in zip(missing, fresh, strict=True):
                    self.cache.put(one.key, result)
                    results[one.key] = result
                    self.runs += 1
        return [results[one.key] for one in measurements]

    def _measure_now(self, missing: Sequence[Measurement], progress: Progress | None) -> list[Any]:
        expected, runs = self.cost_together(missing), self.runs
        begin = time.perf_counter()
        results = run_together(missing, self._options(missing[0].subject, progress))
        if self.runs == runs and expected.passes:  # no map had to be made meanwhile
            self._learn(missing[0].network, missing[0].metric.key, expected.passes, time.perf_counter() - begin)
        return results

    def lookup(self, measurement: Measurement) -> Any:
        """The result of a measurement if it is in the cache, else None; nothing is computed."""
        return self.cache.get(measurement.key)

    def cost_together(self, measurements: Sequence[Measurement]) -> Cost:
        """What ``measure_together`` is going to take for those that are not in the cache, maps that are missing included."""
        missing = [one for one in measurements if one.key not in self.cache]
        if not missing:
            return Cost(Passes(), 0.0)
        first, total = missing[0], Cost(Passes(), 0.0)
        maps: list[Attribution] = []
        for one in missing:
            if isinstance(one.subject, Question):
                attribution = self.cached(one.subject)
                count = one.metric.questions(one.settings, one.subject)
                maps += [attribution] if attribution else []
                each = self.cost(one.subject)
                total += Cost(each.passes * (count - bool(attribution)), each.seconds * (count - bool(attribution)))
        if first.metric.stored and stored_name(first.network, first.metric.stored(first.settings, first.subject)) in self.cache:
            return total
        return total + self._estimate(first.network, first.metric.key, passes_together(missing, maps))

    def get_or_compute(self, name: str, parts: Sequence[Any], compute: Callable[[], T], progress: Progress | None = None) -> T:
        """The result of any other computation, from the cache or computed with the device to itself.

        parts: everything that decides the result (networks, questions, tensors, settings), see ``keys.key_of``. compute: may call
        ``explain``. progress: what ``compute`` reports to; here it lets an abandoned run leave the queue.
        """
        return self._get_or_compute(key_of(name, *parts), compute, progress)

    def lookup_computed(self, name: str, parts: Sequence[Any]) -> Any:
        """What ``get_or_compute`` would return if it is in the cache, else None; nothing is computed."""
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
        return RunOptions(progress, memo, self.cache, lambda question, inner: self.explain(question, progress=inner))

    def _memo(self, question: Question) -> Memo:
        """What methods of this network and image have computed and may reuse; the last few images are remembered."""
        place = (question.network.identity, question.image_digest)
        memo = self._memos.setdefault(place, Memo())
        self._memos.move_to_end(place)
        while len(self._memos) > _REMEMBERED_IMAGES:
            self._memos.popitem(last=False)
        return memo

    def _estimate(self, network: Classifier, what: str, passes: Passes) -> Cost:
        """Seconds by the measured time of a pass, corrected by how the last run of this kind compared with that."""
        return Cost(passes, _seconds(network, passes) * self._pace.get((network.identity, what), 1.0))

    def _learn(self, network: Classifier, what: str, passes: Passes, seconds: float) -> None:
        """Remember how long a run took over the time of its passes."""
        estimated = _seconds(network, passes)
        if estimated:
            self._pace[network.identity, what] = min(max(seconds / estimated, _FASTEST), _SLOWEST)

    @contextmanager
    def _device_turn(self, progress: Progress | None) -> Iterator[None]:
        """Wait for the device politely: a run that was abandoned meanwhile leaves the queue within a tick."""
        while not self._turn.acquire(timeout=_TICK_SECONDS):
            report(progress, 0, 1)
        try:
            yield
        finally:
            self._turn.release()


def _question(question: Question | Classifier, *asked: Any, **more: Any) -> Question:
    return question if isinstance(question, Question) else ask(question, *asked, **more)


def _seconds(network: Classifier, passes: Passes) -> float:
    if not passes:
        return 0.0
    each = network.pass_seconds()
    return passes.forward * each.forward + passes.backward * each.backward
