"""What a method is given beside the network and the image: randomness, batches, progress, and what others computed."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from explainers.contract import Cancelled, ExplainerError, Passes
from explainers.data.reference import ReferenceSet
from explainers.networks.classifier import Classifier

T = TypeVar("T")
Progress = Callable[[int, int, Tensor | None], Any]
"""``progress(done, total, preview)``; returning False, or raising, stops the run."""

_CPU_BATCH_BYTES = 2400 * 2**20
_MOST_IMAGES = 256


class Fits(Protocol):
    """Where fitted statistics are kept: by a hex name, as named tensors and numbers."""

    def recall(self, key: str) -> Mapping[str, Any] | None: ...

    def keep(self, key: str, fields: Mapping[str, Any]) -> None: ...


class Context:
    """One run's surroundings. Made anew for every explanation, so nothing leaks from one to the next."""

    def __init__(self, network: Classifier, seed: int = 0, progress: Progress | None = None,
                 shared: dict[Any, Any] | None = None, reference: ReferenceSet | None = None, fits: Fits | None = None):
        self.network = network
        self.seed = seed
        self.reference = reference
        self._fits = fits
        self.reused = Passes()
        self._progress = progress
        self._shared = {} if shared is None else shared
        self._at_once = [fitting_batch(network)]  # a cell, so that a run and its parts learn from one another

    def generator(self, index: int = 0) -> torch.Generator:
        """A fresh generator on the CPU for the ``index``-th random thing of this run.

        Noise drawn with one index per item does not depend on how the items are cut into batches, or on the device.
        """
        return seeded(self.seed, index)

    @property
    def batch_size(self) -> int:
        """How many images go through the network at once."""
        return self._at_once[0]

    @batch_size.setter
    def batch_size(self, images: int) -> None:
        self._at_once[0] = images

    def part(self, start: int, stop: int, of: int, preview: Callable[[], Tensor] | None = None) -> Context:
        """The surroundings of one stretch of this run, from ``start`` to ``stop`` of ``of``: its progress counts on from there.

        It shares nothing with other methods, because what runs within it may see another image. ``preview`` is shown in place
        of what it would show itself.
        """
        def onward(done: int, total: int, shown: Tensor | None) -> None:
            self.progress(start * total + done * (stop - start), of * total, preview() if preview else shown)

        inner = copy.copy(self)
        inner._progress, inner._shared = onward, {}
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

    def share(self, key: tuple[Any, ...], compute: Callable[[], T]) -> T:
        """The result of ``compute``, or what another method of the same image and network computed under this key.

        What was reused still counts as this method's own passes: its cost is what it costs alone.
        """
        if key in self._shared:
            result, passes = self._shared[key]
            self.reused += passes
            return result
        before = self._counted()
        result = compute()
        self._shared[key] = (result, self._counted() - before)
        return result

    def _counted(self) -> Passes:
        return self.network.meter.passes if self.network.meter else Passes()

    def fit(self, key: tuple[Any, ...], compute: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """Statistics of the reference set, computed once per (weights, ``key``, set) and kept on disk by an engine.

        ``compute`` returns tensors, numbers and lists of them by name. Its passes are paid once for all maps, so they are not
        among those of the map that happens to come first.
        """
        identity = self.reference.identity if self.reference else ""
        name = hashlib.sha256(repr((self.network.fingerprint, key, identity)).encode()).hexdigest()
        known = self._fits.recall(name) if self._fits else None
        if known is None:
            before = self._counted()
            known = compute()
            if self.network.meter:
                self.network.meter.passes = before
            if self._fits:
                self._fits.keep(name, known)
        return known


def seeded(seed: int, index: int = 0) -> torch.Generator:
    """The generator that any run with this seed has for its ``index``-th random thing."""
    mixed = (seed * 0x9E3779B97F4A7C15 + index * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) % 2**63
    return torch.Generator().manual_seed(mixed)


def report(progress: Progress | None, done: int, total: int, preview: Tensor | None = None) -> None:
    """Call the callback. Raises Cancelled when it returns False."""
    if progress is not None and progress(done, total, preview) is False:
        raise Cancelled(f"stopped after {done} of {total}")


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
