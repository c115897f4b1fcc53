"""From a request to an attribution: the cache, a turn on the device, progress, stop.

``explain`` computes; an ``Engine`` remembers as well. A ``Request`` says everything that decides a map, so it is the
cache key, the name of a download and the content of a link.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from explainers.caching import MapCache
from explainers.context import Context, Progress, report
from explainers.contract import Attribution, Method, Passes, RawMap, Target, UnsupportedError, health
from explainers.data.reference import ReferenceSet
from explainers.data.reference import default as default_reference
from explainers.methods import method as find_method
from explainers.networks.classifier import Classifier

_TICK_SECONDS = 0.1
_SHARED_SCENES = 8


@dataclass(frozen=True)
class Request:
    """Everything that decides a map. ``network`` and ``image`` are sha256 digests, ``reference`` the identity of the set.

    ``precision`` is "float32", which is all there is so far.
    """

    network: str
    image: str
    target: Target
    method: str
    version: int
    params: tuple[tuple[str, Any], ...]
    seed: int
    device: str
    reference: str = ""
    precision: str = "float32"

    @property
    def key(self) -> str:
        """A sha256 hex digest: equal requests, and only they, share it."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Cost:
    """What a run is going to cost: passes, and seconds estimated from this network's measured pass time."""

    passes: Passes
    seconds: float


def explain(network: Classifier, x: Tensor, method: str, *, target: Target | None = None, seed: int = 0,
            progress: Progress | None = None, reference: ReferenceSet | None = None, **params: Any) -> Attribution:
    """Explain one image with one method.

    x: (1, C, H, W), preprocessed. target: a class index, ``(a, b)`` for logit a - logit b, or None for the top-1 class.
    progress: ``progress(done, total, preview)``, which returns False, or raises, to stop. reference: the images that a
    method fits its statistics on, where it needs any (``data.reference.default`` unless told). params: the method's own.
    Raises ExplainerError (an unknown method, target or parameter, a network that the method cannot explain) and Cancelled.
    """
    chosen, x = find_method(method), _one_image(network, x)
    return _compute(network, x, chosen, network.target(x, target), chosen.settings(**params), seed,
                    Surroundings(progress, _reference(network, x, chosen, reference)))


@dataclass(frozen=True)
class Surroundings:
    """What a run is given by who runs it: the callback, the reference set, and what was computed before."""

    progress: Progress | None
    reference: ReferenceSet | None
    shared: dict[Any, Any] = field(default_factory=dict)
    fits: MapCache | None = None


def _reference(network: Classifier, x: Tensor, method: Method, given: ReferenceSet | None) -> ReferenceSet | None:
    if "reference" not in method.needs:
        return None
    return given or default_reference(network, x)


def _one_image(network: Classifier, x: Tensor) -> Tensor:
    if x.ndim != 4 or x.shape[0] != 1:
        raise UnsupportedError(f"One image at a time: x must have shape (1, C, H, W), not {tuple(x.shape)}.")
    if not torch.isfinite(x).all():
        raise UnsupportedError("The image has values that are not finite; preprocess it again.")
    return x.detach().to(network.device, torch.float32)


def _compute(network: Classifier, x: Tensor, method: Method, target: Target, settings: Any, seed: int,
             given: Surroundings) -> Attribution:
    reason = network.lacks(method)
    if reason:
        raise UnsupportedError(reason)
    view = network.metered()
    context = Context(view, seed, given.progress, given.shared, given.reference, given.fits)
    begin = time.perf_counter()
    context.progress(0, 1)
    found: RawMap = method.attribute(view, x, target, settings, context)
    native = found.native.detach().to("cpu", torch.float32).contiguous().clone()
    seconds = time.perf_counter() - begin
    context.progress(1, 1)
    return Attribution(
        native=native, method=method.key, target=target, params=dataclasses.asdict(settings), seed=seed,
        network=network.name, input_size=network.input_size, signed=method.signed and found.signed,
        reduction=found.reduction, upsample=method.upsample, passes=view.meter.passes + context.reused, seconds=seconds,
        flags=health(native) + ((given.reference.note,) if given.reference and given.reference.note else ()),
        extras=found.extras)


class Engine:
    """Explains with a memory: maps are cached, and one run at a time has the device.

    Methods of the same image and network share what they can (one backward pass serves the whole gradient family).
    """

    def __init__(self, cache: MapCache | None = None):
        self.cache = cache or MapCache(None)
        self.runs = 0
        self._turn = threading.RLock()  # a measurement may need maps
        self._shared: OrderedDict[Any, dict[Any, Any]] = OrderedDict()

    def explain(self, network: Classifier, x: Tensor, method: str, *, target: Target | None = None, seed: int = 0,
                progress: Progress | None = None, reference: ReferenceSet | None = None, **params: Any) -> Attribution:
        """As ``explainers.explain``, but a map that was computed before comes from the cache, bit for bit."""
        x = _one_image(network, x)
        chosen = find_method(method)
        settings = chosen.settings(**params)
        target = network.target(x, target)
        reference = _reference(network, x, chosen, reference)
        request = _request(network, x, chosen, target, settings, seed, reference)
        known = self.cache.get(request.key)
        if known is not None:
            return known
        with self._device_turn(progress):
            known = self.cache.get(request.key)  # another session may have computed it while this one waited
            if known is not None:
                return known
            given = Surroundings(progress, reference, self._shared_by(network, request.image), self.cache)
            found = _compute(network, x, chosen, target, settings, seed, given)
            self.cache.put(request.key, found)
            self.runs += 1
        return found

    def cached(self, network: Classifier, x: Tensor, method: str, *, target: Target | None = None, seed: int = 0,
               reference: ReferenceSet | None = None, **params: Any) -> Attribution | None:
        """The map if it is in the cache; nothing is computed but, without a target, the prediction."""
        return self.cache.get(self.request(network, x, method, target=target, seed=seed, reference=reference, **params).key)

    def request(self, network: Classifier, x: Tensor, method: str, *, target: Target | None = None, seed: int = 0,
                reference: ReferenceSet | None = None, **params: Any) -> Request:
        """What ``explain`` would be asked, as one value; nothing is computed but, without a target, the prediction."""
        x = _one_image(network, x)
        chosen = find_method(method)
        return _request(network, x, chosen, network.target(x, target), chosen.settings(**params), seed,
                        _reference(network, x, chosen, reference))

    def measured(self, name: str, facts: tuple[Any, ...], compute: Callable[[], Mapping[str, Any]],
                 progress: Progress | None = None) -> Mapping[str, Any]:
        """What a metric found: from the cache, or computed with the device to itself.

        name, facts: the metric and everything that decides its result (fingerprints, digests, the keys of the maps, settings),
        told apart by their ``repr``. compute: returns tensors, numbers, strings, and lists, tuples and dicts of them, by name;
        it may call ``explain``. progress: what ``compute`` reports to; here it lets a run that was abandoned leave the queue.
        """
        key = _measurement_key(name, facts)
        known = self.cache.recall(key)
        if known is not None:
            return known
        with self._device_turn(progress):
            known = self.cache.recall(key)
            if known is None:
                known = compute()
                self.cache.keep(key, known)
                self.runs += 1
        return known

    def known(self, name: str, facts: tuple[Any, ...]) -> Mapping[str, Any] | None:
        """What ``measured`` would return if it is in the cache; nothing is computed."""
        return self.cache.recall(_measurement_key(name, facts))

    def cost(self, network: Classifier, method: str, **params: Any) -> Cost:
        """The passes of a run and its estimated seconds. The first call for a network measures its passes."""
        chosen = find_method(method)
        passes = chosen.cost(chosen.settings(**params), network)
        if not passes.forward and not passes.backward:
            return Cost(passes, 0.0)
        each = network.pass_seconds()
        return Cost(passes, passes.forward * each.forward + passes.backward * each.backward)

    def _shared_by(self, network: Classifier, image: str) -> dict[Any, Any]:
        """What methods of this network and image have computed and may reuse; the last few images are remembered."""
        place = (network.fingerprint, network.device.type, image)
        shared = self._shared.setdefault(place, {})
        self._shared.move_to_end(place)
        while len(self._shared) > _SHARED_SCENES:
            self._shared.popitem(last=False)
        return shared

    @contextmanager
    def _device_turn(self, progress: Progress | None) -> Iterator[None]:
        """Wait for the device politely: a run that was abandoned meanwhile leaves the queue within a tick."""
        while not self._turn.acquire(timeout=_TICK_SECONDS):
            report(progress, 0, 1)
        try:
            yield
        finally:
            self._turn.release()


def _request(network: Classifier, x: Tensor, method: Method, target: Target, settings: Any, seed: int,
             reference: ReferenceSet | None) -> Request:
    return Request(network.fingerprint, image_digest(x), target, method.key, method.version,
                   tuple(sorted(dataclasses.asdict(settings).items())), seed, network.device.type,
                   reference.identity if reference else "")


def _measurement_key(name: str, facts: tuple[Any, ...]) -> str:
    return hashlib.sha256(repr((name, facts)).encode()).hexdigest()


def image_digest(x: Tensor) -> str:
    """sha256 of a preprocessed image: its shape and its float32 bytes."""
    data = x.detach().to("cpu", torch.float32).contiguous()
    return hashlib.sha256(str(tuple(data.shape)).encode() + data.numpy().tobytes()).hexdigest()
