r"""Disentangled masked backpropagation (DMBP): what speaks for the class and what speaks against it, taken apart.

At one image a ReLU network is affine: every gate is open or shut, every max-pool has picked its input. DMBP gives each
unit of each ReLU call a share sigma in (0, 1) and splits the network in two: y+ is the logit when every ReLU's output is
multiplied by sigma, y- when it is multiplied by 1 - sigma. What crosses over from one part to the other is the nuisance
y~ = y - y+ - y-. The shares are learnt, by RMSProp on their logits, so that y+ becomes large, y- small and y~ nothing:

    L(sigma) = y- - y+ + |y~| = max(y - 2 y+, 2 y- - y)

The map is the gradients of both parts times the image. It sums to y+ + y- without what the biases contribute to them. That
is most where units cancel: nothing keeps y+ and -y- near y, and on MobileNetV2 they grow to ten thousand times the logit.

The paper multiplies sigma into the backward pass, which must then be differentiated again. The masked network is affine,
so it may as well be run forward, gates and switches frozen, with sigma in one row of a batch and 1 - sigma in the other:
the outputs are y+ and y-, biases and batch norms included, and an ordinary pass back gives, with s = logit(sigma),

    dL/ds = -2 sigma (1 - sigma) g u.

u is what arrives at the ReLU and g the gradient of y+ with respect to what leaves it, or of y- where y~ < 0: only the
larger branch of the maximum needs a gradient. A ReLU that is shut, or without an open way to the logit, never has one;
only the others, a third or so, are stored and updated.

Where the paper is silent: the output's bias passes no mask and would count in both parts, so y, y+ and y- are meant
without it. A saturated ReLU6 is the constant 6 in front of its mask, like any bias. A ReLU behind a sum is masked as any.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from explainers.context import Context
from explainers.contract import Extra, Method, Passes, RawMap, Reference, Target, choice, integer, real
from explainers.networks.classifier import Classifier
from explainers.networks.graph import Call, Rule, pool_at, pool_with_switches

CAP = 6.0  # of ReLU6
DECAY, EPSILON = 0.99, 1e-8  # of RMSProp, as in torch.optim
SURE = 2.0  # where both first gradients agree, sigma starts at sigmoid(2) or sigmoid(-2)
_PREVIEW_EVERY = 25


@dataclass(frozen=True)
class Params:
    """The descent, and what is asked of the two parts."""

    iterations: int = integer(200, low=1, high=2000, label="Iterations", help="Steps of RMSProp. Each costs about three passes.")
    variant: str = choice("dmbp", "dmbp", "dmbp_plus", "dmbp_plus_minus", label="Objective", help=(
        "dmbp: enlarge the positive part, lower the negative part, and leave nothing over. dmbp_plus_minus: the same, whatever "
        "is left over. dmbp_plus: the positive part alone."))
    learning_rate: float = real(0.01, low=0.001, high=0.5, step=0.001, label="Learning rate", help=(
        "The step of RMSProp. A mask that is always pushed the same way moves by about this much in each iteration."))

    @property
    def rows(self) -> int:
        return 1 if self.variant == "dmbp_plus" else 2


@dataclass(eq=False)
class Unit:
    """The ReLUs of one call, which number ``units``. They are counted as they lie in memory, so that none is moved to be counted."""

    output: Tensor  # (1, ...) of the ordinary pass: a gate is open where it is positive
    arrived: Tensor  # (rows, units): what the last masked walk brought
    is_open: Tensor = field(init=False)  # (units,)
    capped: Tensor | None = None  # (units,) where a ReLU6 gave its constant; None for nowhere
    live: Tensor = field(init=False)  # the open gates with a way to the logit
    span: slice = field(init=False)  # where they lie among all live ones
    mask: Tensor = field(init=False)  # (2, units): sigma and 1 - sigma; 0 where nothing lives, and at capped ones
    capped_live: Tensor = field(init=False)  # the capped ones among the live
    capped_span: slice = field(init=False)  # where they lie among all live ones
    caps: Tensor = field(init=False)  # (2, capped): 6 sigma and 6 (1 - sigma)

    def __post_init__(self) -> None:
        self._channels_last = self.output.dim() == 4 and self.output.is_contiguous(memory_format=torch.channels_last)
        self.is_open, self.arrived = self.flat(self.output)[0] > 0, self.flat(self.arrived)

    def flat(self, batch: Tensor) -> Tensor:
        """(N, ...) to (N, units)."""
        return (batch.movedim(1, -1) if self._channels_last else batch).reshape(len(batch), -1)

    def shaped(self, flat: Tensor) -> Tensor:
        """(N, units) to (N, ...)."""
        if not self._channels_last:
            return flat.view(len(flat), *self.output.shape[1:])
        _, channels, height, width = self.output.shape
        return flat.view(len(flat), height, width, channels).movedim(-1, 1)

    def masked(self, z: Tensor, rows: int) -> Tensor:
        self.arrived = self.flat(z)
        return self.masked_again(rows)

    def masked_again(self, rows: int) -> Tensor:
        """What leaves under the present masks, from what arrived last."""
        passed = self.arrived * self.mask[:rows]
        if self.capped is not None:
            passed.index_copy_(1, self.capped_live, self.caps[:rows])
        return self.shaped(passed)

    def weighted(self, gradient: Tensor, row: int) -> Tensor:
        """A gradient (1, ...) on its way down through the mask."""
        return self.shaped(self.flat(gradient) * self.mask[row])


class _Way:
    """What happens at each ReLU on the next way back. It must not hold the recorded pass, which holds it: no collector sees that."""

    meet: Callable[[Unit, Tensor], Tensor]


class _Relu(torch.autograd.Function):
    """A ReLU whose output is given, and whose gradient is up to the way."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, output: Tensor, unit: Unit, way: _Way) -> Tensor:
        ctx.unit, ctx.way = unit, way
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.way.meet(ctx.unit, gradient), None, None, None


def first_relu(network: Classifier) -> str | None:
    """The first ReLU, if all depends on it: what lies before it, no mask can change."""
    relus = (name for name, kind in network.graph.kinds.items() if kind in {"relu", "relu6"}) if network.graph else iter(())
    first = next(relus, None)
    return first if first and network.graph.commands(first) else None


def _one_after_another(sizes: list[int]) -> list[slice]:
    return [slice(end - size, end) for end, size in zip(accumulate(sizes), sizes, strict=True)]


class Masked:
    """The network as it is at one image, with two complementary masks at every ReLU call.

    The ordinary pass is recorded once. The masked network is linear in what arrives, so this one record is the way back
    for both rows and every iteration, with the present masks multiplied in. It is cut behind the first ReLU: only maps go
    back through the stem before it. A ReLU is live if it can have a gradient; ``start`` holds the first logits of the live.
    """

    def __init__(self, network: Classifier, x: Tensor, target: Target, generator: torch.Generator):
        self.network, self.target = network, target
        self.units: dict[str, Unit] = {}
        self._switches: dict[str, Tensor] = {}
        self._way, self._first = _Way(), first_relu(network)
        with torch.enable_grad():
            self._x = self._bottom = self._stem = x.clone().requires_grad_(True)
            if self._first:
                self._stem = self._walk(self._x, self._record, self._switch, stop=self._first)
                self._bottom = self._stem.detach().requires_grad_(True)
            self._score = network.score(self._walk(self._bottom, self._record, self._switch, start=self._first), target)
            self.start = self._initialise(x, generator)
        self.y = self._score.item() - self.output_bias

    def _walk(self, x: Tensor, relu: Rule, max_pool: Rule, start: str | None = None, stop: str | None = None) -> Tensor:
        return self.network.walk(x, {"relu": relu, "relu6": relu, "max_pool": max_pool}, start=start, stop=stop)

    def _record(self, call: Call, z: Tensor) -> Tensor:
        output = call.plain(z.detach())
        unit = self.units[call.name] = Unit(output, z.detach())
        if call.kind == "relu6" and (output >= CAP).any():
            unit.capped = unit.flat(output)[0] >= CAP
        return _Relu.apply(z, output, unit, self._way)

    def _switch(self, call: Call, z: Tensor, *rest: Any) -> Tensor:
        pooled, self._switches[call.name] = pool_with_switches(call, z, *rest)
        return pooled

    def _switched(self, call: Call, z: Tensor, *rest: Any) -> Tensor:
        return pool_at(self._switches[call.name], z)

    def _initialise(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Appendix B.1: one way back with both gradients side by side, each sigma set when they arrive at its ReLU.

        A third row, with a random positive factor at every ReLU, finds those that have a way to the logit: no two ways
        cancel in it. All activations are zero meanwhile, so the walk gives what passes no mask: the output's bias.
        """
        met: list[tuple[Unit, Tensor]] = []

        def set_out(unit: Unit, gradient: Tensor) -> Tensor:
            plus, minus, probe = flat = unit.flat(gradient)
            logit = SURE * (((plus > 0) & (minus > 0)).float() - ((plus < 0) & (minus < 0)).float())
            factors = torch.empty(probe.shape).uniform_(0.5, 1.5, generator=generator).to(probe.device)
            slopes = unit.is_open if unit.capped is None else unit.is_open & ~unit.capped
            unit.live, unit.capped_live = (
                (unit.is_open & (probe != 0) & kind).nonzero().flatten() for kind in (slopes, ~slopes))
            met.append((unit, logit))
            return unit.shaped(flat * torch.stack([logit.sigmoid(), (-logit).sigmoid(), factors]) * slopes)

        self._way.meet = set_out
        three = x.expand(3, -1, -1, -1).clone().requires_grad_(True)
        logits = self._walk(three, lambda call, z: _Relu.apply(z, torch.zeros_like(z), self.units[call.name], self._way),
                            self._switched)
        scores = self.network.score(logits, self.target)
        torch.autograd.grad(scores.sum(), three)
        self.output_bias = scores[0].item()
        self._lay_out([unit for unit, _ in met])
        return torch.cat([logits[u.live] for u, logits in met] + [logits[u.capped_live] for u, logits in met])

    def _lay_out(self, units: list[Unit]) -> None:
        """The live ones in a row, capped ones at its end."""
        spans = _one_after_another([len(u.live) for u in units] + [len(u.capped_live) for u in units])
        places = _one_after_another([u.output.numel() for u in units])
        self.count, self._uncapped = spans[-1].stop, spans[len(units) - 1].stop
        self._masks = torch.zeros(2, places[-1].stop, device=self._x.device)
        self._caps = torch.zeros(2, self.count - self._uncapped, device=self._x.device)
        for unit, place, span, capped_span in zip(units, places, spans, spans[len(units):], strict=False):
            unit.span, unit.capped_span = span, capped_span
            unit.mask = self._masks[:, place]
            unit.caps = self._caps[:, capped_span.start - self._uncapped:capped_span.stop - self._uncapped]
        self._positions = torch.cat([u.live + place.start for u, place in zip(units, places, strict=True)])

    def set(self, sigma: Tensor) -> None:
        """Sigma of the live ones, in their order."""
        for mask, cap, share in zip(self._masks, self._caps, (sigma, 1 - sigma), strict=True):
            mask.index_copy_(0, self._positions, share[:self._uncapped])
            torch.mul(share[self._uncapped:], CAP, out=cap)

    def outputs(self, rows: int = 2) -> list[float]:
        """[y+, y-], or [y+] for one row."""
        with torch.no_grad():
            first = self.units[self._first] if self._first else None
            begin = first.masked_again(rows) if first else self._x.expand(rows, -1, -1, -1)
            logits = self._walk(begin, lambda call, z: self.units[call.name].masked(z, rows), self._switched, start=self._first)
            both = self.network.score(logits, self.target)
        return (both - self.output_bias).tolist()

    def pull(self, row: int) -> Tensor:
        """g u of each live one, at the last walk: the derivative of y+ (row 0) by sigma, or of y- (row 1) by 1 - sigma."""
        gradients, arrivals = torch.full((2, self.count), CAP, device=self._x.device)

        def collect(unit: Unit, gradient: Tensor) -> Tensor:
            flat, arrived = unit.flat(gradient)[0], unit.arrived[min(row, len(unit.arrived) - 1)]
            torch.index_select(flat, 0, unit.live, out=gradients[unit.span])
            torch.index_select(arrived, 0, unit.live, out=arrivals[unit.span])
            if unit.capped is not None:
                gradients[unit.capped_span] = flat[unit.capped_live]
            return unit.weighted(gradient, row)

        self._way.meet = collect
        reached = torch.autograd.grad(self._score, self._bottom, retain_graph=True)[0]
        if self._first:
            collect(self.units[self._first], reached)
        return gradients.mul_(arrivals)

    def mapping(self, row: int) -> Tensor:
        """(C, H, W): the gradient of y+ (row 0) or y- (row 1) with respect to the image."""
        self._way.meet = lambda unit, gradient: unit.weighted(gradient, row)
        reached = torch.autograd.grad(self._score, self._bottom, retain_graph=True)[0]
        return (torch.autograd.grad(self._stem, self._x, reached, retain_graph=True)[0] if self._first else reached)[0]


def losing_gradient(masked: Masked, variant: str, outputs: list[float]) -> Tensor:
    """dL / d(sigma), of one row or of both. On the edge y~ = 0 the gradient of the positive branch is one of those allowed."""
    if variant == "dmbp_plus":
        return masked.pull(0).neg_()
    if variant == "dmbp_plus_minus":
        return masked.pull(0).add_(masked.pull(1)).neg_()
    return masked.pull(0 if masked.y >= sum(outputs) else 1).mul_(-2)


def descend(masked: Masked, params: Params, report: Callable[[int], None]) -> tuple[list[list[float]], float]:
    """Learn the masks. Gives [y+, y-] before each step and after the last, and the share of gradients too small to count."""
    logits, squares = masked.start.clone(), torch.zeros_like(masked.start)
    sigma = logits.sigmoid()
    masked.set(sigma)
    trace = [masked.outputs(params.rows)]
    for done in range(1, params.iterations + 1):
        gradient = losing_gradient(masked, params.variant, trace[-1])
        gradient.mul_(sigma).addcmul_(gradient, sigma, value=-1)  # sigma (1 - sigma)
        squares.mul_(DECAY).addcmul_(gradient, gradient, value=1 - DECAY)
        logits.addcdiv_(gradient, squares.sqrt().add_(EPSILON), value=-params.learning_rate)
        torch.sigmoid(logits, out=sigma)
        masked.set(sigma)
        report(done)
        trace.append(masked.outputs(params.rows))
    return trace, float((gradient.abs() < EPSILON).float().mean()) if len(gradient) else 1.0


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    masked = Masked(network, x, target, context.generator())

    def parts() -> list[Tensor]:
        return [masked.mapping(row) for row in range(params.rows)]

    def report(done: int) -> None:
        context.progress(done, params.iterations + 1, None if done % _PREVIEW_EVERY else sum(parts()) * x[0])

    trace, vanishing = descend(masked, params, report)
    mappings = parts()
    extras = {"y": masked.y, "output_bias": masked.output_bias, "masks": masked.count, "vanishing_gradients": vanishing}
    for row, (sign, mapping) in enumerate(zip(("positive", "negative"), mappings, strict=False)):
        extras |= {sign: (mapping * x[0]).cpu(), f"{sign}_mapping": mapping.cpu(), f"y_{sign}": [both[row] for both in trace]}
    return RawMap(sum(mappings) * x[0], extras)


def _passes(params: Params, behind_stem: float = 1.0) -> Passes:
    """The record, three rows to set out, then for each step both outputs and the way back of the part that it enlarges."""
    ways_back, maps = 2 if params.variant == "dmbp_plus_minus" else 1, 1 + params.iterations // _PREVIEW_EVERY
    return Passes(4 + behind_stem * params.rows * (params.iterations + 1),
                  3 + behind_stem * params.iterations * ways_back + params.rows * maps)


METHOD = Method(
    title="DMBP", family="optimisation", attribute=attribute, params=Params, passes=_passes,
    needs=("graph", "relu", "piecewise_linear"),
    passes_on=lambda params, network: _passes(params, network.share(first_relu(network))),
    reference=Reference("Ruiz, Agudo, Moreno-Noguer", "Generating attribution maps with disentangled masked backpropagation",
                        "ICCV 2021", "sections 3.2-3.4, appendix B"),
    idea="Learn at every ReLU how much of its output speaks for the class and how much against it, so that the logit falls into a "
         "positive and a negative part with nothing left over; the map adds what each pixel gives to the two.",
    equation=r"A = (\nabla_x y^+ + \nabla_x y^-) \odot x, \quad \min_{\sigma}\; y^-(\sigma) - y^+(\sigma) + "
             r"\big| y - y^+(\sigma) - y^-(\sigma) \big|",
    limits="One number, millions of masks: the split is one of many, and what is reached depends on the size of the logit. Nothing "
           "bounds the parts: compare y+ and y- with the logit. Pixels of the mean colour get nothing, and biases are not shown.",
    shows=(
        Extra("positive", "Positive part", "map", "The gradient of y+ times the image: the positive part's share of the map."),
        Extra("negative", "Negative part", "map", "The gradient of y\u2212 times the image: the negative part's share of the map."),
        Extra("y", "Logit without the output's bias", "number", "What both parts should add up to."),
        Extra("y_positive", "y+", "trace", "The logit's positive part, before each step and after the last.", unit="logit"),
        Extra("y_negative", "y\u2212", "trace", "The logit's negative part, before each step and after the last.", unit="logit"),
    ),
)
