"""One question to one method: a network, an image, a target and settings. An immutable value that can be run.

    question = ask(net, x, "rise", target=3, masks=1000)
    question.run().heatmap()
    replace(question, target=7).run()            # dataclasses.replace asks another question

Its key is made of digests of everything that decides the map. It serves as cache key and as the name of a download.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from explainers import ensembles
from explainers.attribution import Attribution, health, unmoved
from explainers.context import Context, RunOptions
from explainers.contract import AuxiliaryOutput, Method, RawMap
from explainers.data.reference import ReferenceSet
from explainers.data.reference import default as default_reference
from explainers.ensembles import Ensemble, attribute
from explainers.errors import UnsupportedError
from explainers.keys import array_digest, key_of
from explainers.memory import in_one_sentence
from explainers.methods import method as find_method
from explainers.networks.classifier import Classifier
from explainers.passes import Passes
from explainers.target import PlainTarget, Target


@dataclass(frozen=True)
class Request:
    """Everything that decides a map, as digests and plain values: the content of a cache key, a link or a job for a worker process.

    ``network`` and ``image`` are sha256 digests, ``reference_id`` is the identity of the reference set, or empty.
    ``precision`` is always "float32" so far.
    """

    network: str
    image: str
    target: Target
    method: str
    version: int
    params: tuple[tuple[str, Any], ...]
    seed: int
    device: str
    reference_id: str = ""
    precision: str = "float32"

    @property
    def key(self) -> str:
        """A sha256 hex digest: equal requests, and only they, share it."""
        return key_of(self)


@dataclass(frozen=True, eq=False)
class Question:
    """A request for one map, ready to be run. Two questions are equal if they have the same key.

    x: one image (1, C, H, W), preprocessed. target: None becomes the network's top-1 class. settings: an instance of the method's
    settings dataclass. reference: the images that a method fits its statistics on; None for the network's own set or, where it
    has none, copies of the image. ensemble: which maps of the method are combined; by default its one map. private: the image is
    somebody's own, so an engine keeps what it computes from it in memory and off the disk; it does not change the map, and so is no
    part of the key. Raises ExplainerError for an image, a target or settings that do not fit.
    """

    network: Classifier
    x: Tensor
    method: Method
    target: Target
    settings: Any
    seed: int = 0
    reference: ReferenceSet | None = None
    ensemble: Ensemble = field(default_factory=Ensemble)
    private: bool = False

    def __post_init__(self) -> None:
        x = one_image(self.network, self.x).clone()  # so that a caller who changes the image later does not change the question
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "target", self.network.target(x, self.target))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Question) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    @cached_property
    def request(self) -> Request:
        """The question as digests and plain values."""
        reference_id = self.reference_set.identity if self.reference_set else ""
        return Request(self.network.fingerprint, self.image_digest, self.target, self.method.key, self.method.version,
                       tuple(sorted(self.params.items())), self.seed, self.network.device.type, reference_id)

    @property
    def params(self) -> dict[str, Any]:
        """The method's settings by name, and those of the ensemble where there is one."""
        return {**dataclasses.asdict(self.settings), **self.ensemble.settings}

    @property
    def stays_in_memory(self) -> bool:
        """Whether results about this question must not be written to disk: its image is private, or the reference images given for
        it are and its method fits statistics on them."""
        return self.private or (self.reference is not None and self.reference.private and self.method.fits_statistics)

    @cached_property
    def image_digest(self) -> str:
        """sha256 of the preprocessed image."""
        return array_digest(self.x)

    @cached_property
    def key(self) -> str:
        """A sha256 hex digest of everything that decides the map."""
        return self.request.key

    @property
    def identity(self) -> str:
        """The key, under the name by which ``keys.key_of`` takes it into the keys of measurements."""
        return self.key

    @cached_property
    @in_one_sentence("the reference pictures")
    def reference_set(self) -> ReferenceSet | None:
        """The images that the method fits its statistics on; None where the method, or these settings of it, fit none."""
        if not self.method.fits_statistics:
            return None
        reference = self.reference or default_reference(self.network, self.x)
        if self.method.fit and not self.lacks and not self.method.fit(self.settings, self.network, self.target, reference)[0]:
            return None
        return reference

    @property
    def passes(self) -> Passes:
        """The passes of the map, without those of statistics that are fitted once on the reference set."""
        return self.method.cost(self.settings, self.network) * self.ensemble.members

    @property
    def time_passes(self) -> Passes:
        """The passes that take as long as the map, for estimates of time."""
        return self.method.time_cost(self.settings, self.network) * self.ensemble.members

    @property
    def auxiliary_outputs(self) -> tuple[AuxiliaryOutput, ...]:
        """What is kept beside the map: the method's own, or how much the members of an ensemble differ."""
        return self.method.auxiliary_outputs if self.ensemble.members == 1 else ensembles.AUXILIARY_OUTPUTS

    @property
    def lacks(self) -> str | None:
        """Why the method cannot explain this network, in one sentence; None if it can."""
        return self.method.lacks(self.network)

    def run(self, options: RunOptions | None = None) -> Attribution:
        """Compute the map. Raises UnsupportedError, another ExplainerError, and Cancelled."""
        with in_one_sentence(self.network.title):
            return self._run(options)

    def _run(self, options: RunOptions | None) -> Attribution:
        if self.lacks:
            raise UnsupportedError(self.lacks)
        network = self.network.metered()
        context = Context(network, self.seed, options, self.reference_set)
        begin = time.perf_counter()
        context.progress(0, 1)
        raw = attribute(self.ensemble, partial(self._one_map, network), self.x, context)
        native = raw.native.detach().to("cpu", torch.float32, copy=True, memory_format=torch.contiguous_format)
        seconds = time.perf_counter() - begin
        context.progress(1, 1)
        note = self.reference_set.note if self.reference_set else ""
        traces = {output.title: raw.extras[output.name] for output in self.auxiliary_outputs
                  if output.kind == "trace" and output.follows and output.name in raw.extras}
        return Attribution(
            native=native, method=self.method.key, target=self.target, params=self.params, seed=self.seed,
            network=network.name, input_size=network.input_size, signed=self.method.signed and raw.signed,
            reduction=raw.reduction, upsample=self.method.upsample, passes=network.counted() + context.reused, seconds=seconds,
            flags=(*(health(native) or unmoved(traces)), *raw.flags, *((note,) if note else ())), extras=raw.extras)

    def _one_map(self, network: Classifier, x: Tensor, context: Context) -> RawMap:
        """The method's map of an image: the question's own, or a changed copy of it in an ensemble."""
        return self.method.attribute(network, x, self.target, self.settings, context)


@in_one_sentence("this question")
def ask(network: Classifier, x: Tensor, method: str, *, target: Target | PlainTarget | None = None, seed: int = 0,
        reference: ReferenceSet | None = None, private: bool = False, **params: Any) -> Question:
    """The question for a method by its key, and settings of it and of an ensemble by name. private: see ``Question``. Raises
    ExplainerError."""
    declaration, target = find_method(method), network.target(one_image(network, x), target)
    own, ensemble = ensembles.split(declaration.title, params)
    return Question(network, x, declaration, target, declaration.settings(**own), seed, reference, ensemble, private)


def one_image(network: Classifier, x: Tensor) -> Tensor:
    """``x`` as float32 on the network's device. Raises UnsupportedError unless it is one image (1, C, H, W) with finite values."""
    if x.ndim != 4 or x.shape[0] != 1:
        raise UnsupportedError(f"One image at a time: x must have shape (1, C, H, W), not {tuple(x.shape)}.")
    if not (torch.isfinite(x.sum()) or torch.isfinite(x).all()):  # a finite sum has finite terms, and takes a tenth of the time
        raise UnsupportedError("The image has values that are not finite; preprocess it again.")
    return x.detach().to(network.device, torch.float32)
