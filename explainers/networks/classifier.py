"""A classifier: a frozen network with everything that is needed to use it.

Nothing here changes the network: weights do not require gradients, no hooks are registered, and a walk of the graph stores
nothing in it. So any number of threads can share one classifier.
"""

from __future__ import annotations

import copy
import hashlib
import threading
import time
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from explainers.errors import ExplainerError
from explainers.memory import in_one_sentence
from explainers.networks.feature_maps import FeatureLayers, feature_layers
from explainers.networks.graph import PLAIN, Graph, Link, Rule, Shape
from explainers.networks.outputs import recognise
from explainers.networks.preprocessing import Preprocessing
from explainers.passes import Passes
from explainers.target import PlainTarget, Target

_TIMING_SECONDS = 0.1
_TIMING_BYTES = 64 * 2**20  # of activations in the batch that is timed: larger batches for smaller networks, as methods use them
_MOST_TIMING_BYTES = 512 * 2**20  # above this, one image is timed instead of two


class Meter:
    """Counts the images that one explanation sends through the network, and the gradients that it sends back."""

    def __init__(self) -> None:
        self.passes = Passes()

    def forward(self, images: float) -> None:
        self.passes += Passes(forward=images)

    def backward(self, images: float) -> None:
        self.passes += Passes(backward=images)


class Classifier:
    """A network with its name, class names, preprocessing, fingerprint and canonical graph.

    ``graph`` is None for a network that cannot be traced; ``untraceable`` then says why, and the methods that need only logits
    and gradients still work. ``training_data`` is "scenes" or "digits" for a network trained on these procedural images, "cifar10"
    or "photographs" for one trained on CIFAR-10 or ImageNet, else "". ``notes``: a line on each thing that was recognised at load.
    ``statistics``: the file of reference statistics that comes with the network, fitted with these weights.
    """

    def __init__(self, module: nn.Module, *, name: str, title: str, categories: Iterable[str],
                 preprocessing: Preprocessing, device: torch.device | str = "cpu", training_data: str = "",
                 notes: Iterable[str] = (), statistics: Path | None = None):
        self.name, self.title, self.training_data = name, title, training_data
        self.statistics = statistics
        self.categories = tuple(categories)
        if not self.categories:
            raise ExplainerError(f"{title} has no classes, and a classifier has at least one.")
        self.preprocessing = preprocessing
        self.device = torch.device(device)
        self.meter: Meter | None = None
        self._measuring = threading.Lock()
        module = module.eval()
        self.fingerprint = _fingerprint(module, preprocessing)
        recognised = recognise(module, (self.channels, *self.input_size), len(self.categories), title)
        self.graph: Graph | None = recognised.graph
        self.untraceable = recognised.untraceable
        self.module: nn.Module = recognised.module.to(self.device)
        self.notes: tuple[str, ...] = (*notes, *recognised.notes, *self._untraceable_note(), *self._one_class_note())

    def _untraceable_note(self) -> tuple[str, ...]:
        if self.graph is not None:
            return ()
        return ("The layers of this network cannot be followed, so the methods that walk them are off; those that need only logits "
                "and gradients work.",)

    def _one_class_note(self) -> tuple[str, ...]:
        if len(self.categories) > 1:
            return ()
        return ("This network has one class, whose probability is always 1. Maps explain its logit; what is measured by probabilities "
                "says nothing.",)

    @property
    def walkable(self) -> Graph:
        """The graph. Raises ExplainerError for a network that cannot be traced."""
        if self.graph is None:
            raise ExplainerError(f"{self.title} has no graph to walk: {self.untraceable}.")
        return self.graph

    @cached_property
    def weights(self) -> int:
        """How many trainable numbers the network has."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    @property
    def channels(self) -> int:
        return len(self.preprocessing.mean)

    @property
    def input_size(self) -> tuple[int, int]:
        return self.preprocessing.crop, self.preprocessing.crop

    def preprocess(self, image: Image.Image, fit: str = "crop") -> Tensor:
        """(1, C, H, W) float32, normalised, on the network's device. ``fit``: "crop", "whole" or "stretch", see ``Preprocessing``."""
        with in_one_sentence(self.title):
            return self.preprocessing.tensor(image, fit).to(self.device)

    def seen(self, image: Image.Image, fit: str = "crop") -> Image.Image:
        """The RGB picture that the network sees, at its input size."""
        with in_one_sentence(self.title):
            return self.preprocessing.seen(image, fit).convert("RGB")

    def crop_box(self, size: tuple[int, int], fit: str = "crop") -> tuple[float, float, float, float]:
        """The rectangle of a picture of ``size`` (width, height) that the input covers: left, top, right, bottom in its pixels."""
        return self.preprocessing.crop_box(size, fit)

    def logits(self, x: Tensor, rules: Mapping[str, Rule] = PLAIN) -> Tensor:
        """The logits (N, K) of a batch (N, C, H, W). ``rules`` replace the computation of some kinds of layers (see ``graph``)."""
        return self.walk(x, rules)

    def walk(self, x: Tensor, rules: Mapping[str, Rule] = PLAIN, *, start: str | None = None, stop: str | None = None) -> Tensor:
        """Run the network, or the part of it from node ``start`` to node ``stop``.

        The meter counts each image as this part's ``cost_fraction`` of a pass, forward, and backward when a gradient is computed.
        """
        self._check(x, start)
        if x.dim() == 4 and self.device.type == "cpu" and not (start and start in self.features.layouts):
            x = x.contiguous(memory_format=torch.channels_last)  # makes convolutions on the CPU up to twice as fast
        if self.graph is None and not (rules or start or stop):
            out = self.module(x)
        else:
            out = self.walkable.run(x, rules, start=start, stop=stop)
        if self.meter is not None:
            meter, fraction = self.meter, self.cost_fraction(start, stop)
            meter.forward(fraction * x.shape[0])
            if out.requires_grad:
                out.register_hook(lambda gradient: meter.backward(fraction * gradient.shape[0]))
        return out

    def cost_fraction(self, start: str | None = None, stop: str | None = None) -> float:
        """The fraction of a whole pass's multiplications that lies between two nodes: 1 for the whole network.

        In a network without convolutions and dense layers it is 1 for every part.
        """
        if (start, stop) not in self._fractions:  # estimates of cost ask for every layer
            self._fractions[start, stop] = self._cost_fraction(start, stop)
        return self._fractions[start, stop]

    @cached_property
    def _fractions(self) -> dict[tuple[str | None, str | None], float]:
        return {}

    def _cost_fraction(self, start: str | None, stop: str | None) -> float:
        total = sum(shape.macs for shape in self.shapes.values()) if start or stop else 0
        if not total:
            return 1
        within = self.walkable.between(start, stop)
        return sum(self.shapes[name].macs for name in within if name in self.shapes) / total

    def _check(self, x: Tensor, start: str | None) -> None:
        expected = (self.channels, *self.input_size)
        if start is None and tuple(x.shape[1:]) != expected:
            raise ExplainerError(
                f"{self.title} takes images of shape (N, {', '.join(map(str, expected))}), not {tuple(x.shape)}: "
                "make them with its preprocess().")

    def predict(self, x: Tensor) -> Tensor:
        """The softmax probabilities (N, K) of a batch."""
        with in_one_sentence(self.title), torch.inference_mode():
            return self.logits(x).softmax(-1)

    def gradient(self, x: Tensor, target: Target | PlainTarget, rules: Mapping[str, Rule] = PLAIN) -> Tensor:
        """The gradients (N, C, H, W) of each image's target logit with respect to the image; ``rules`` as for ``logits``."""
        x = x.detach().requires_grad_(True)
        with torch.enable_grad():
            total = Target.of(target).score(self.logits(x, rules)).sum()
            return torch.autograd.grad(total, x)[0]

    def target(self, x: Tensor, target: Target | PlainTarget | None) -> Target:
        """The target as a checked ``Target``; None becomes the top-1 class of ``x``. Raises ExplainerError."""
        if target is None:
            return Target.of(int(self.predict(x[:1])[0].argmax()))
        checked = Target.of(target)
        if len(checked.classes) not in (1, 2):
            raise ExplainerError(f"A target is one class or a pair of classes, not {len(checked.classes)}.")
        for index in checked.classes:
            if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(self.categories):
                raise ExplainerError(f"{self.title} has classes 0 to {len(self.categories) - 1}; {index!r} is none of them.")
        if checked.first == checked.contrast:
            raise ExplainerError("A contrast needs two different classes.")
        return checked

    @property
    def identity(self) -> str:
        """All that decides the network's results: its fingerprint, and the kind of device that computes them."""
        return f"{self.fingerprint} {self.device.type}"

    def metered(self) -> Classifier:
        """A view of this classifier with a new pass counter; it shares the weights and the measured shapes and features."""
        self.measure()
        view = copy.copy(self)
        view.meter = Meter()
        return view

    def counted(self) -> Passes:
        """The passes that a metered view has counted; none for a classifier without a counter."""
        return self.meter.passes if self.meter else Passes()

    def measure(self) -> None:
        """Measure shapes, feature layers and memory now, so that the views share them."""
        with in_one_sentence(self.title):
            _ = self.shapes, self.features, self.activation_bytes

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """The shapes of the graph's nodes for one image."""
        if self.graph is None:
            return {}
        with in_one_sentence(self.title):  # also a question's key may be the first to need them
            return self.graph.measure(torch.zeros(1, self.channels, *self.input_size, device=self.device))

    @cached_property
    def features(self) -> FeatureLayers:
        """The layers that hold a map, and the default one."""
        if self.graph is None:
            return FeatureLayers({}, None)
        return feature_layers(self.graph, self.shapes)

    @cached_property
    def attends(self) -> bool:
        """Whether the network has attention of any kind, by the functions that its graph calls."""
        nodes = self.graph.nodes if self.graph is not None else {}
        return any(self.walkable.kinds[name] == "attention" or "attention" in getattr(node.target, "__name__", "")
                   or (self.walkable.kinds[name] == "softmax" and len(self.shapes[name].size) == 3) for name, node in nodes.items())

    @cached_property
    def invertible(self) -> tuple[Link, ...]:
        """The invertible chain of layers below the logits, down to the lowest feature map or the image; empty if there is none."""
        chain = list(self.graph.chain()) if self.graph is not None else []
        elementwise = {"identity", "relu", "relu6", "batch_norm"}
        while chain and (chain[-1].kind in elementwise or not self.is_map(chain[-1].source)):
            chain.pop()
        return tuple(chain)

    def is_map(self, name: str) -> bool:
        """Whether a node's value is a map (C, h, w) of more than one cell."""
        size = self.shapes[name].size
        return len(size) == 3 and size[1] * size[2] > 1

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the feature layers, from the image to the head."""
        return tuple(self.features.sizes)

    def feature_layer(self, name: str) -> str:
        """The node for a ``layer`` parameter. Raises ExplainerError for a name that is no feature layer."""
        if name == "auto" and self.features.default:
            return self.features.default
        if name not in self.features.sizes:
            raise ExplainerError(f"{self.title} has no feature layer {name!r}; it has {', '.join(self.layers) or 'none'}.")
        return name

    def take_map(self, value: Tensor, name: str) -> Tensor:
        """The map (N, C, h, w) in the value of feature layer ``name``: the value itself, unless it holds tokens or channels last."""
        return self.features.layout(name).take(value)

    def put_map(self, value: Tensor, name: str, maps: Tensor) -> Tensor:
        """The value of feature layer ``name`` with its map replaced by ``maps`` (N, C, h, w), to ``walk`` on from there.

        value: of 1 or N images; tokens in it that stand for no place, such as the class token, are kept.
        """
        return self.features.layout(name).put(value, maps)

    @cached_property
    def activation_bytes(self) -> int:
        """The bytes of all activations of one image in float32, an estimate of the memory that an image takes."""
        numbers = sum(torch.Size(shape.size).numel() for shape in self.shapes.values())
        return 4 * max(numbers, 20 * self.channels * self.input_size[0] * self.input_size[1])

    def below_the_chain(self) -> str:
        """The node at which the invertible chain below the logits ends, in quotes."""
        chain = self.graph.chain() if self.graph is not None else ()
        return repr(chain[-1].source if chain else self.graph.output if self.graph is not None else "the whole network")

    def pass_seconds(self) -> Passes:
        """Measured seconds of a forward pass and of a backward pass, each for one image in a batch of 2 to 16.

        Of a network whose activations take much memory, such as one with inputs of 1024 pixels, a single image is timed.
        """
        with self._measuring, in_one_sentence(self.title):
            return self._pass_seconds

    @cached_property
    def _pass_seconds(self) -> Passes:
        """The shortest of up to 5 measurements, because one made while the machine is busy can be ten times too long."""
        least = 2 if 2 * self.activation_bytes <= _MOST_TIMING_BYTES else 1
        batch = max(least, min(16, _TIMING_BYTES // self.activation_bytes))
        x = torch.zeros(batch, self.channels, *self.input_size, device=self.device)
        self._timed_pass(x)  # the first pass of a batch size prepares memory and kernels, which can take as long as the pass
        begin, tries = time.perf_counter(), [self._timed_pass(x)]
        while len(tries) < 5 and time.perf_counter() - begin < _TIMING_SECONDS:
            tries.append(self._timed_pass(x))
        forward, both = (min(times) for times in zip(*tries, strict=True))
        return Passes(forward / batch, max(both - forward, 0.0) / batch)

    def _timed_pass(self, x: Tensor) -> tuple[float, float]:
        x = x.clone().requires_grad_(True)
        self._wait()
        begin = time.perf_counter()
        with torch.enable_grad():
            total = self.logits(x)[:, 0].sum()
            self._wait()
            middle = time.perf_counter()
            torch.autograd.grad(total, x)
        self._wait()
        return middle - begin, time.perf_counter() - begin

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()


def _fingerprint(module: nn.Module, preprocessing: Preprocessing) -> str:
    """sha256 of everything that decides the logits: the layers, their settings, the weights and the preprocessing."""
    digest = hashlib.sha256(f"{module}\n{preprocessing}".encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
