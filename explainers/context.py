"""What a run of a method or a metric uses besides its network and subject: randomness, batches, progress, stored results."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from explainers.attribution import Attribution
from explainers.data.reference import ReferenceSet
from explainers.errors import ExplainerError
from explainers.keys import key_of
from explainers.memory import OutOfMemory, free_bytes, give_back, ran_out
from explainers.networks.classifier import Classifier
from explainers.passes import Passes
from explainers.progress import Progress, report

T = TypeVar("T")

_CPU_BATCH_BYTES = 2400 * 2**20
_MOST_IMAGES = 256


class FitStore(Protocol):
    """Where fitted statistics are kept: named tensors and numbers, by a hexadecimal key. A value of another ``kind`` is none."""

    def get(self, key: str, kind: type = object) -> Any: ...

    def put(self, key: str, value: Any) -> None: ...

    def __contains__(self, key: object) -> bool: ...


class Memo:
    """Intermediate results by key, each with its passes. ``hits`` counts how often one was reused."""

    def __init__(self) -> None:
        self.hits = 0
        self._entries: dict[tuple[Any, ...], tuple[Any, Passes]] = {}

    def find(self, key: tuple[Any, ...]) -> tuple[Any, Passes] | None:
        """The result with its passes, or None. There is no second look that could fail after another thread removed the result."""
        return self._entries.get(key)

    def keep(self, key: tuple[Any, ...], entry: tuple[Any, Passes]) -> None:
        """Keep a result with its passes for later runs of the same network and image."""
        self._entries[key] = entry


@dataclass(frozen=True)
class RunOptions:
    """How a question or a measurement is run; no option changes the result.

    progress: the callback. memo: intermediate results that methods of the same network and image share. fits: where fitted
    statistics are kept. explain: how a metric gets the maps that it needs, ``explain(question, progress)``; None computes each
    map anew.
    """

    progress: Progress | None = None
    memo: Memo = field(default_factory=Memo)
    fits: FitStore | None = None
    explain: Callable[[Any, Progress | None], Attribution] | None = None


class Context:
    """The state of one run. Every run gets a new one, so that runs cannot affect each other."""

    def __init__(self, network: Classifier, seed: int = 0, options: RunOptions | None = None,
                 reference: ReferenceSet | None = None):
        options = options or RunOptions()
        self.network = network
        self.seed = seed
        self._reference = reference
        self.reused = Passes()
        self._explain = options.explain
        self._fits = options.fits
        self._progress = options.progress
        self._memo = options.memo
        self._batch_size = [fitting_batch(network)]  # a list, so that a run and its parts share the one value

    def generator(self, index: int = 0) -> torch.Generator:
        """A new CPU generator for the ``index``-th random draw of this run.

        Noise drawn with one index for each item depends neither on the batch size nor on the device.
        """
        return seeded(self.seed, index)

    @property
    def reference(self) -> ReferenceSet:
        """The images to fit statistics on. Raises ExplainerError where there are none."""
        if self._reference is None:
            raise ExplainerError("A reference set is needed: give a folder or a list of pictures.")
        return self._reference

    @property
    def batch_size(self) -> int:
        """How many images go through the network at once."""
        return self._batch_size[0]

    @batch_size.setter
    def batch_size(self, images: int) -> None:
        self._batch_size[0] = images

    def part(self, start: int, stop: int, of: int, preview: Callable[[], Tensor | None] | None = None) -> Context:
        """A context for steps ``start`` to ``stop`` of the ``of`` steps of this run; it reports progress as this part of the run.

        It has an empty memo, because what runs in it may explain another image. ``preview`` replaces the previews reported to it.
        """
        def report_part(done: int, total: int, own_preview: Tensor | None) -> None:
            self.progress(start * total + done * (stop - start), of * total, preview() if preview else own_preview)

        inner = copy.copy(self)
        inner._progress, inner._memo = report_part if self._progress else None, Memo()
        return inner

    def progress(self, done: int, total: int, preview: Tensor | None = None) -> None:
        """Report progress, with the map (h, w) or (C, h, w) so far. Raises Cancelled when the callback asks to stop."""
        report(self._progress, done, total, preview)

    def batches(self, total: int, work: Callable[[int, int], T],
                preview: Callable[[], Tensor] | None = None) -> Iterator[tuple[int, int, T]]:
        """Cut ``range(total)`` into batches: yields ``(start, stop, work(start, stop))`` and reports progress.

        A batch that does not fit into memory is run again at half the size. ``work`` must therefore only return its result, and
        the loop must accumulate it. Raises ExplainerError when not even one image fits.
        """
        start = 0
        while start < total:
            stop = min(start + self.batch_size, total)
            try:
                result = work(start, stop)
            except Exception as error:
                if not ran_out(error):
                    raise
                result = None
                if stop - start == 1:
                    raise ExplainerError(
                        f"{self.network.title} does not fit into the memory of {self.network.device} even for one image: "
                        "choose a smaller network or another device.") from error
            if result is None:  # outside the except block, where the failed batch's tensors are gone
                self.batch_size = max(1, (stop - start) // 2)
                give_back(ends=False)
                continue
            yield start, stop, result
            start = stop
            self.progress(start, total, preview() if preview and self._progress else None)

    def memoize(self, key: tuple[Any, ...], compute: Callable[[], T]) -> T:
        """The result of ``compute``, or what another method of the same image and network computed under this key.

        The passes of a reused result count as this method's own, so that its cost does not depend on what ran before.
        """
        kept = self._memo.find(key)
        if kept is not None:
            result, passes = kept
            self.reused += passes
            self._memo.hits += 1
            return result
        before = self.network.counted()
        result = compute()
        self._memo.keep(key, (result, self.network.counted() - before))
        return result

    def explain(self, question: Any) -> Attribution:
        """The map of a question, for metrics: from the engine's cache, or computed now. Its passes are not counted for the metric."""
        progress = self._progress and self.progress
        if self._explain is None:
            return question.run(RunOptions(progress=progress))
        return self._explain(question, progress)

    def fit(self, key: tuple[Any, ...], compute: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """Statistics of the reference set, computed once for each network, ``key`` and set, and kept in the engine's cache.

        ``compute`` returns tensors, numbers and lists of them by name. Its passes serve all later maps, so they are not counted
        for the map that needs them first. A set whose statistics are shipped gives them at once.
        """
        shipped = self._reference.statistics if self._reference else None
        ready = shipped.get(key) if shipped else None
        if ready is not None:
            return ready
        before = self.network.counted()
        fitted = self.stored((*key, self._reference), compute, dict)
        if self.network.meter:
            self.network.meter.passes = before
        return fitted

    def is_fitted(self, key: tuple[Any, ...]) -> bool:
        """Whether ``fit`` has the statistics of this key already, so that it takes no time."""
        return is_fitted(self.network, self.reference, key, self._fits)

    def stored(self, key: tuple[Any, ...], compute: Callable[[], T], kind: type = object) -> T:
        """The result of ``compute`` for this network and ``key`` (see ``keys.key_of``), or the stored one where there is one of
        this kind."""
        return self._get_or_compute(stored_name(self.network, key), compute, kind)

    def get_or_compute(self, name: str, parts: Sequence[Any], compute: Callable[[], T], kind: type = object) -> T:
        """The result of ``compute``, or the one of this kind that is stored under the key that ``Engine.get_or_compute`` uses."""
        return self._get_or_compute(key_of(name, *parts), compute, kind)

    def _get_or_compute(self, key: str, compute: Callable[[], T], kind: type) -> T:
        value = self._fits.get(key, kind) if self._fits else None
        if value is None:
            value = compute()
            if self._fits:
                self._fits.put(key, value)
        return value


def stored_name(network: Classifier, key: tuple[Any, ...]) -> str:
    """The key under which ``Context.stored`` keeps what belongs to a network."""
    return key_of("stored", network.fingerprint, *key)


def is_fitted(network: Classifier, reference: ReferenceSet, key: tuple[Any, ...], fits: FitStore | None) -> bool:
    """Whether statistics of a reference set are shipped with it or stored in ``fits``."""
    shipped = reference.statistics is not None and key in reference.statistics
    return shipped or (fits is not None and stored_name(network, (*key, reference)) in fits)


def seeded(seed: int, index: int = 0) -> torch.Generator:
    """The generator that every run with this seed uses for its ``index``-th random draw."""
    mixed = (seed * 0x9E3779B97F4A7C15 + index * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**63
    return torch.Generator().manual_seed(mixed)


def fitting_batch(network: Classifier) -> int:
    """How many images go through the network at once: as many as fit into memory, at most 256.

    A forward and a backward pass of a batch take about the bytes of its activations, most methods no more, and a few up to three times
    as much. On the CPU the number is the same on every machine, unless little memory is free. Raises OutOfMemory where not even a
    gradient of one image fits: the system would then end the whole process instead of refusing the memory.
    """
    per_image = 3 * network.activation_bytes
    if network.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(network.device)
        budget = free // 2
    else:
        budget = min(_CPU_BATCH_BYTES, _free_on_cpu(network))
    return int(max(1, min(_MOST_IMAGES, budget // per_image)))


def _free_on_cpu(network: Classifier) -> int:
    free = free_bytes()
    if free is None:
        return _CPU_BATCH_BYTES
    needed = network.activation_bytes
    if free < needed:
        raise OutOfMemory(f"{network.title} needs about {needed / 2**30:.1f} GB for one image, and only {free / 2**30:.1f} GB of "
                          "memory are free: close other programs, or choose a smaller network or input size.")
    return free
