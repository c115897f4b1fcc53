"""What a method or a metric is given beside the network and its subject: randomness, batches, progress, and what is known already."""

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
from explainers.networks.classifier import Classifier
from explainers.passes import Passes
from explainers.progress import Progress, report

T = TypeVar("T")

_CPU_BATCH_BYTES = 2400 * 2**20
_MOST_IMAGES = 256


class FitStore(Protocol):
    """Where fitted statistics are kept: named tensors and numbers, by a hexadecimal key."""

    def get(self, key: str) -> Any: ...

    def put(self, key: str, value: Any) -> None: ...


class Memo(dict[tuple[Any, ...], tuple[Any, Passes]]):
    """Intermediate results by key, each with its passes. ``hits`` counts how often one was used again."""

    hits = 0


@dataclass(frozen=True)
class RunOptions:
    """How a question or a measurement is run; none of it changes the result.

    progress: the callback. memo: what methods of the same network and image have computed and may reuse. fits: where fitted
    statistics are kept. explain: how a metric gets the maps that it needs, ``explain(question, progress)``; None makes each
    map anew.
    """

    progress: Progress | None = None
    memo: Memo = field(default_factory=Memo)
    fits: FitStore | None = None
    explain: Callable[[Any, Progress | None], Attribution] | None = None


class Context:
    """The surroundings of one run. Made anew for every run, so nothing leaks from one to the next."""

    def __init__(self, network: Classifier, seed: int = 0, options: RunOptions | None = None,
                 reference: ReferenceSet | None = None):
        options = options or RunOptions()
        self.network = network
        self.seed = seed
        self.reference = reference
        self.reused = Passes()
        self._explain = options.explain
        self._fits = options.fits
        self._progress = options.progress
        self._memo = options.memo
        self._batch_size = [fitting_batch(network)]  # a list, so that a run and its parts share the one value

    def generator(self, index: int = 0) -> torch.Generator:
        """A fresh generator on the CPU for the ``index``-th random thing of this run.

        Noise drawn with one index per item does not depend on how the items are cut into batches, or on the device.
        """
        return seeded(self.seed, index)

    @property
    def batch_size(self) -> int:
        """How many images go through the network at once."""
        return self._batch_size[0]

    @batch_size.setter
    def batch_size(self, images: int) -> None:
        self._batch_size[0] = images

    def part(self, start: int, stop: int, of: int, preview: Callable[[], Tensor] | None = None) -> Context:
        """The surroundings of one stretch of this run, from ``start`` to ``stop`` of ``of``: its progress counts on from there.

        It shares nothing with other methods, because what runs within it may see another image. ``preview`` is shown in place
        of what it would show itself.
        """
        def onward(done: int, total: int, shown: Tensor | None) -> None:
            self.progress(start * total + done * (stop - start), of * total, preview() if preview else shown)

        inner = copy.copy(self)
        inner._progress, inner._memo = onward, Memo()
        return inner

    def progress(self, done: int, total: int, preview: Tensor | None = None) -> None:
        """Tell how far the run is, with the (h, w) or (C, h, w) map so far. Raises Cancelled when asked to stop."""
        report(self._progress, done, total, preview)

    def batches(self, total: int, work: Callable[[int, int], T],
                preview: Callable[[], Tensor] | None = None) -> Iterator[tuple[int, int, T]]:
        """Cut ``range(total)`` into batches that fit: yields ``(start, stop, work(start, stop))`` and reports progress.

        A batch that does not fit into memory is tried again at half the size, so ``work`` must keep nothing by itself:
        add its result up in the loop. Raises ExplainerError when not even one image fits.
        """
        start = 0
        while start < total:
            stop = min(start + self.batch_size, total)
            try:
                result = work(start, stop)
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
                result = None
                if stop - start == 1:
                    raise ExplainerError(
                        f"{self.network.title} does not fit into the memory of {self.network.device} even for one image: "
                        "choose a smaller network or another device.") from error
            if result is None:  # outside the except block, where the failed batch's tensors are gone
                self.batch_size = max(1, (stop - start) // 2)
                if self.network.device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            yield start, stop, result
            start = stop
            self.progress(start, total, preview() if preview else None)

    def memoize(self, key: tuple[Any, ...], compute: Callable[[], T]) -> T:
        """The result of ``compute``, or what another method of the same image and network computed under this key.

        What was reused still counts as this method's own passes: its cost is what it costs alone.
        """
        if key in self._memo:
            result, passes = self._memo[key]
            self.reused += passes
            self._memo.hits += 1
            return result
        before = self.network.counted()
        result = compute()
        self._memo[key] = (result, self.network.counted() - before)
        return result

    def explain(self, question: Any) -> Attribution:
        """The map that answers a question: known already, or made now. For metrics; its passes count as the map's own."""
        progress = self._progress and self.progress
        if self._explain is None:
            return question.run(RunOptions(progress=progress))
        return self._explain(question, progress)

    def fit(self, key: tuple[Any, ...], compute: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """Statistics of the reference set, computed once for each network, ``key`` and set, and kept on disk by an engine.

        ``compute`` returns tensors, numbers and lists of them by name. Its passes are paid once for all maps, so they are not
        among those of the map that happens to come first.
        """
        before = self.network.counted()
        fitted = self.stored((*key, self.reference), compute)
        if self.network.meter:
            self.network.meter.passes = before
        return fitted

    def stored(self, key: tuple[Any, ...], compute: Callable[[], T]) -> T:
        """The result of ``compute`` for this network and ``key`` (see ``keys.key_of``), from the store where it is known already."""
        return self._get_or_compute(stored_name(self.network, key), compute)

    def get_or_compute(self, name: str, parts: Sequence[Any], compute: Callable[[], T]) -> T:
        """The result of ``compute``, from the store where it is known already, under the key that ``Engine.get_or_compute`` uses."""
        return self._get_or_compute(key_of(name, *parts), compute)

    def _get_or_compute(self, key: str, compute: Callable[[], T]) -> T:
        value = self._fits.get(key) if self._fits else None
        if value is None:
            value = compute()
            if self._fits:
                self._fits.put(key, value)
        return value


def stored_name(network: Classifier, key: tuple[Any, ...]) -> str:
    """The key under which ``Context.stored`` keeps what belongs to a network."""
    return key_of("stored", network.fingerprint, *key)


def seeded(seed: int, index: int = 0) -> torch.Generator:
    """The generator that any run with this seed has for its ``index``-th random thing."""
    mixed = (seed * 0x9E3779B97F4A7C15 + index * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**63
    return torch.Generator().manual_seed(mixed)


def fitting_batch(network: Classifier) -> int:
    """How many images go through the network at once: what fits into memory, and no more than is quick."""
    per_image = 3 * network.activation_bytes  # forward, backward, and room for the library's workspaces
    if network.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(network.device)
        budget = free // 2
    else:
        budget = _CPU_BATCH_BYTES
    return int(max(1, min(_MOST_IMAGES, budget // per_image)))


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
