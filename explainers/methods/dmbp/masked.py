"""The network linearised at one image, with a mask at every ReLU: both parts of the logit, and their gradients.

The paper multiplies sigma into the backward pass and differentiates that pass again. The masked network is affine in the image,
so it can as well be run forward, with gates and switches frozen, one row of a batch masked with sigma and one with 1 - sigma. The
outputs are y+ and y-, biases and batch norms included, and one ordinary backward pass gives, with s = logit(sigma),

    dy+/ds = sigma (1 - sigma) g u,

where u is the input of the ReLU, and g the gradient of y+ by its masked output; the same for y-, with the other sign. A ReLU that
is shut or has no open path to the logit never gets a gradient. The others, about a third, are called live; only their mask values
are stored and updated. A saturated ReLU6 is the constant 6 times its mask, like a bias; it is called capped.

What the image alone adds to y+ is x . grad_x y+, because the masked network is affine. It is also the difference of two masked
forward passes, of the image and of an image of zeros, in which biases and caps cancel. With ``image_only`` the outputs are these
differences, and u is the difference of the two ReLU inputs; the masks, and so the gradients g, are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from explainers.networks.classifier import Classifier
from explainers.networks.graph import Call, Rule, pool_at, pool_with_switches
from explainers.target import Target

CAP = 6.0  # the upper bound of ReLU6
INITIAL_LOGIT = 2.0  # where both initial gradients agree in sign, sigma starts at sigmoid(2) or sigmoid(-2)


@dataclass(frozen=True)
class LinearPart:
    """The logit, y+ or y- at the present masks, as an affine function of the image x (C, H, W).

    mapping: (C, H, W), its weights on the pixels. caps: what the capped units add. The biases add the rest.
    """

    mapping: Tensor
    x: Tensor
    caps: float

    @property
    def map(self) -> Tensor:
        """(C, H, W): what each pixel adds."""
        return self.mapping * self.x

    @property
    def image(self) -> float:
        """What the image adds."""
        return float(self.map.cpu().sum(dtype=torch.float64))  # Apple's GPUs have no float64


@dataclass(eq=False)
class ReluCall:
    """The ReLU units of one call, flattened in the order in which they lie in memory, so that flattening copies nothing."""

    output: Tensor  # (1, ...) of the ordinary forward pass
    inputs: Tensor  # (images, rows, units): ReLU inputs recorded in the last masked forward pass
    is_open: Tensor = field(init=False)  # (units,): where the output is positive
    capped: Tensor | None = None  # (units,): where a ReLU6 is saturated; None if nowhere
    live: Tensor = field(init=False)  # indices of live units that are not capped
    span: slice = field(init=False)  # their positions among the live units of all calls
    mask: Tensor = field(init=False)  # (2, units): sigma and 1 - sigma of ``live``, 0 elsewhere
    capped_live: Tensor = field(init=False)  # indices of live units that are capped
    capped_span: slice = field(init=False)  # their positions among the live units of all calls
    caps: Tensor = field(init=False)  # (2, capped): their masked outputs, 6 sigma and 6 (1 - sigma)

    def __post_init__(self) -> None:
        self._channels_last = self.output.dim() == 4 and self.output.is_contiguous(memory_format=torch.channels_last)
        self.is_open, self.inputs = self.flat(self.output)[0] > 0, self.flat(self.inputs)[None]

    def flat(self, batch: Tensor) -> Tensor:
        """(N, ...) to (N, units)."""
        return (batch.movedim(1, -1) if self._channels_last else batch).reshape(len(batch), -1)

    def shaped(self, flat: Tensor) -> Tensor:
        """(N, units) to (N, ...)."""
        if not self._channels_last:
            return flat.view(len(flat), *self.output.shape[1:])
        _, channels, height, width = self.output.shape
        return flat.view(len(flat), height, width, channels).movedim(-1, 1)

    def forward(self, z: Tensor, rows: int) -> Tensor:
        """The masked outputs for new inputs z, which are recorded. ``rows``: how many of the masks are used.

        z: (images x rows, ...), the rows of the image first and then, where there are two images, those of the image of zeros.
        """
        self.inputs = self.flat(z).unflatten(0, (-1, rows))
        return self.forward_again(rows)

    def forward_again(self, rows: int) -> Tensor:
        """The masked outputs (images x rows, ...) for the recorded inputs."""
        outputs = self.inputs * self.mask[:rows]
        if self.capped is not None:
            outputs.index_copy_(2, self.capped_live, self.caps[:rows].expand(len(outputs), -1, -1))
        return self.shaped(outputs.flatten(0, 1))

    def input_of(self, row: int) -> Tensor:
        """(units,): the recorded inputs of one row; with an image of zeros, what the image adds to them."""
        own = self.inputs[:, min(row, self.inputs.shape[1] - 1)]
        return own[0] if len(own) == 1 else own[0] - own[1]

    def backward(self, flat: Tensor, row: int) -> Tensor:
        """The gradient (1, ...) by the input, from the flattened gradient (units,) by the masked output."""
        return self.shaped((flat * self.mask[row])[None])


class _BackwardRule:
    """What the next backward pass does at each ReLU: gradient by the output to gradient by the input.

    It is an object of its own so that the recorded pass does not hold the ``MaskedNetwork``, which holds the record: Python's
    garbage collector does not see such a cycle.
    """

    apply: Callable[[ReluCall, Tensor], Tensor]


class _Relu(torch.autograd.Function):
    """A ReLU with a given output, whose backward pass is up to the rule."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, output: Tensor, relu: ReluCall, rule: _BackwardRule) -> Tensor:
        ctx.relu, ctx.rule = relu, rule
        return output.detach()  # a view of one image would lose its memory format, channels last

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.rule.apply(ctx.relu, gradient), None, None, None


def first_relu(network: Classifier) -> str | None:
    """The node of the first ReLU, if every path to the logits passes it: no mask changes the part before it, the stem."""
    relus = (name for name, kind in network.graph.kinds.items() if kind in {"relu", "relu6"}) if network.graph else iter(())
    first = next(relus, None)
    return first if first and network.graph.commands(first) else None


def _consecutive_slices(sizes: list[int]) -> list[slice]:
    return [slice(end - size, end) for end, size in zip(accumulate(sizes), sizes, strict=True)]


class MaskedNetwork:
    """The network linearised at one image, with the masks sigma and 1 - sigma at every ReLU call.

    The ordinary forward pass is recorded once. The masked network is linear in the ReLU inputs, so this one record serves for
    the backward passes of both rows in all iterations, multiplied by the present masks. The record is cut after the first ReLU,
    because only the final maps need the gradient through the stem. ``start``: initial logits of sigma, one for each live unit.
    ``whole``: the logit, that is, y+ where all of sigma is 1. ``logit`` is its value without the output's bias. ``image_only``: the
    outputs are what the image alone adds to y+ and y-. ``y`` is what they should sum to: ``logit``, or what the image adds to it.
    """

    def __init__(self, network: Classifier, x: Tensor, target: Target, generator: torch.Generator, image_only: bool = False):
        self.network, self.target = network, target
        self.relus: dict[str, ReluCall] = {}
        self._switches: dict[str, Tensor] = {}
        self._rule, self._first = _BackwardRule(), first_relu(network)
        with torch.enable_grad():
            self._x = self._bottom = self._stem = x.clone().requires_grad_(True)
            if self._first:
                self._stem = self._walk(self._x, self._record, self._pool, stop=self._first)
                self._bottom = self._stem.detach().requires_grad_(True)
            self._score = target.score(self._walk(self._bottom, self._record, self._pool, start=self._first))
            self.start = self._initialise(x, generator)
        self.logit = self._score.item() - self.output_bias
        self.set(torch.ones_like(self.start))
        self.whole = self.part(0)
        self.y = self.whole.image if image_only else self.logit
        self._images = torch.cat([x, torch.zeros_like(x)]) if image_only else x
        self._cap = 0.0 if image_only else CAP  # the input u of a capped unit in ``mask_gradient``: 6, of which the image adds 0
        if image_only and self._first:
            first = self.relus[self._first]
            first.inputs = torch.cat([first.inputs, first.flat(self._stem_inputs(self._images[1:]))[None]])

    def _stem_inputs(self, images: Tensor) -> Tensor:
        """The inputs of the first ReLU."""
        inputs: list[Tensor] = []

        def take(call: Call, z: Tensor) -> Tensor:
            inputs.append(z)
            return z

        with torch.no_grad():
            self._walk(images, take, self._pool_again, stop=self._first)
        return inputs[0]

    def _walk(self, x: Tensor, relu: Rule, max_pool: Rule, start: str | None = None, stop: str | None = None) -> Tensor:
        return self.network.walk(x, {"relu": relu, "relu6": relu, "max_pool": max_pool}, start=start, stop=stop)

    def _record(self, call: Call, z: Tensor) -> Tensor:
        output = call.plain(z.detach())
        relu = self.relus[call.name] = ReluCall(output, z.detach() if call.name == self._first else z.new_empty(1, 1))
        if call.kind == "relu6" and (output >= CAP).any():
            relu.capped = relu.flat(output)[0] >= CAP
        return _Relu.apply(z, output, relu, self._rule)

    def _pool(self, call: Call, z: Tensor, *rest: Any) -> Tensor:
        pooled, self._switches[call.name] = pool_with_switches(call, z, *rest)
        return pooled

    def _pool_again(self, call: Call, z: Tensor, *rest: Any) -> Tensor:
        return pool_at(self._switches[call.name], z)

    def _initialise(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Appendix B.1: one backward pass carries both gradients, and each ReLU's sigma is set when they reach it.

        A third row with a random positive factor at every ReLU finds the live units, because with such factors two paths do not
        cancel. All ReLU outputs are 0 in this pass, so its logits are what passes no mask: the output's bias.
        """
        initial: list[tuple[ReluCall, Tensor, Tensor]] = []
        zeros = x.new_zeros(3 * max((relu.output.numel() for relu in self.relus.values()), default=0))  # shared, to save memory

        def initialise(relu: ReluCall, gradient: Tensor) -> Tensor:
            plus, minus, probe = flat = relu.flat(gradient)
            logit = INITIAL_LOGIT * (((plus > 0) & (minus > 0)).float() - ((plus < 0) & (minus < 0)).float())
            factors = torch.empty(probe.shape).uniform_(0.5, 1.5, generator=generator).to(probe.device)
            slopes = relu.is_open if relu.capped is None else relu.is_open & ~relu.capped
            relu.live, relu.capped_live = (
                (relu.is_open & (probe != 0) & kind).nonzero().flatten() for kind in (slopes, ~slopes))
            initial.append((relu, logit[relu.live], logit[relu.capped_live]))
            return relu.shaped(flat * torch.stack([logit.sigmoid(), (-logit).sigmoid(), factors]) * slopes)

        self._rule.apply = initialise
        three = x.expand(3, -1, -1, -1).clone().requires_grad_(True)
        logits = self._walk(three, lambda call, z: _Relu.apply(
            z, zeros.as_strided(z.shape, z.stride()), self.relus[call.name], self._rule), self._pool_again)
        scores = self.target.score(logits)
        torch.autograd.grad(scores.sum(), three)
        self.output_bias = scores[0].item()
        self._lay_out([relu for relu, _, _ in initial])
        return torch.cat([logits for _, logits, _ in initial] + [logits for _, _, logits in initial])

    def _lay_out(self, relus: list[ReluCall]) -> None:
        """Number the live units of all calls, the capped ones last, and give each call its mask, and views of the common caps."""
        spans = _consecutive_slices([len(r.live) for r in relus] + [len(r.capped_live) for r in relus])
        self.count, self._uncapped = spans[-1].stop, spans[len(relus) - 1].stop
        self._caps = torch.zeros(2, self.count - self._uncapped, device=self._x.device)
        for relu, span, capped_span in zip(relus, spans, spans[len(relus):], strict=False):
            relu.span, relu.capped_span = span, capped_span
            relu.mask = torch.zeros(2, relu.output.numel(), device=self._x.device)
            relu.caps = self._caps[:, capped_span.start - self._uncapped:capped_span.stop - self._uncapped]
        self._masked = relus

    def set(self, sigma: Tensor) -> None:
        """Set sigma of the live units, (count,)."""
        for row, values in enumerate((sigma, 1 - sigma)):
            for relu in self._masked:
                relu.mask[row].put_(relu.live, values[relu.span])
            torch.mul(values[self._uncapped:], CAP, out=self._caps[row])

    def outputs(self, rows: int = 2) -> list[float]:
        """[y+, y-], or [y+] for one row, by a masked forward pass; with ``image_only`` what the image adds to them."""
        with torch.no_grad():
            begin = self.relus[self._first].forward_again(rows) if self._first else self._images.repeat_interleave(rows, 0)
            logits = self._walk(begin, lambda call, z: self.relus[call.name].forward(z, rows), self._pool_again, start=self._first)
            scores = self.target.score(logits)
        return (scores - self.output_bias if len(scores) == rows else scores[:rows] - scores[rows:]).tolist()

    def mask_gradient(self, row: int) -> Tensor:
        """g u of each live unit at the last masked forward pass: the derivative of output 0 by sigma, or of output 1 by 1 - sigma."""
        gradients = torch.empty(self.count, device=self._x.device)

        def collect(relu: ReluCall, flat: Tensor) -> None:
            torch.gather(flat * relu.input_of(row), 0, relu.live, out=gradients[relu.span])
            if relu.capped is not None:
                gradients[relu.capped_span] = flat[relu.capped_live] * self._cap

        def collect_and_mask(relu: ReluCall, gradient: Tensor) -> Tensor:
            flat = relu.flat(gradient)[0]
            collect(relu, flat)
            return relu.backward(flat, row)

        self._rule.apply = collect_and_mask
        bottom_gradient = torch.autograd.grad(self._score, self._bottom, retain_graph=True)[0]
        if self._first:
            first = self.relus[self._first]
            collect(first, first.flat(bottom_gradient)[0])
        return gradients

    def part(self, row: int) -> LinearPart:
        """y+ (row 0) or y- (row 1) by what it consists of, from one backward pass."""
        caps: list[Tensor] = []

        def collect(relu: ReluCall, gradient: Tensor) -> Tensor:
            flat = relu.flat(gradient)[0]
            if relu.capped is not None:
                caps.append(flat[relu.capped_live] @ relu.caps[row])
            return relu.backward(flat, row)

        self._rule.apply = collect
        gradient = torch.autograd.grad(self._score, self._bottom, retain_graph=True)[0]
        if self._first:
            gradient = torch.autograd.grad(self._stem, self._x, gradient, retain_graph=True)[0]
        return LinearPart(gradient[0], self._x.detach()[0], float(sum(caps)))
