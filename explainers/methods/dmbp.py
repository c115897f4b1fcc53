r"""Disentangled masked backpropagation (DMBP): the logit split into a positive and a negative part by masks on the ReLUs.

At one image a ReLU network is affine: every ReLU gate is open or shut, every max-pool has chosen its input. DMBP gives each
unit of each ReLU call a mask value sigma in (0, 1) (Ruiz, Agudo, Moreno-Noguer 2021, equations 8 and 9). y+ is the logit when
every ReLU output is multiplied by sigma, y- when it is multiplied by 1 - sigma, and the nuisance term y~ = y - y+ - y- is the
rest. RMSProp on the logits of sigma makes y+ large, y- small and y~ zero (equation 10):

    L(sigma) = y- - y+ + |y~| = max(y - 2 y+, 2 y- - y)

The map is the gradient of y+ plus that of y-, times the image (equation 7). It sums to y+ + y- without the contribution of the
biases. Where units cancel, that contribution dominates: nothing in L keeps y+ and -y- near y, and on MobileNetV2 they grow
to ten thousand times the logit.

The paper multiplies sigma into the backward pass and differentiates that pass again. The masked network is affine, so it can as
well be run forward, with gates and switches frozen, one row of a batch masked with sigma and one with 1 - sigma. The outputs
are y+ and y-, biases and batch norms included, and one ordinary backward pass gives, with s = logit(sigma),

    dL/ds = -2 sigma (1 - sigma) g u,

where u is the input of the ReLU, and g the gradient of y+ by its masked output, or of y- where y~ < 0: only the larger branch of
the maximum has a gradient. A ReLU that is shut or has no open path to the logit never gets one. The others, about a third, are
called live; only their mask values are stored and updated.

Where the paper is silent: the bias of the output passes no mask and would count in both parts, so y, y+ and y- are meant
without it. A saturated ReLU6 is the constant 6 times its mask, like a bias. ReLUs after a residual sum are masked like all others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from explainers.context import Context
from explainers.contract import AuxiliaryOutput, Citation, Method, RawMap
from explainers.networks.classifier import Classifier
from explainers.networks.graph import Call, Rule, pool_at, pool_with_switches
from explainers.parameters import choice, integer, real
from explainers.passes import Passes
from explainers.requirements import GRAPH, PIECEWISE_LINEAR, RELU
from explainers.target import Target

CAP = 6.0  # the upper bound of ReLU6
DECAY, EPSILON = 0.99, 1e-8  # the defaults of torch.optim.RMSprop
INITIAL_LOGIT = 2.0  # where both initial gradients agree in sign, sigma starts at sigmoid(2) or sigmoid(-2)
_PREVIEWS = 4  # quarters of a run, with a map after each but the last; a map takes two passes, an iteration about five
_PREVIEW_EVERY = 10  # the fewest iterations between two maps
_RECORDING = 6  # iterations that take as long as recording the network and the first masks, for the progress
_MASKING = 1.0  # passes, forward and backward, that take as long as updating the masks once and applying them


@dataclass(frozen=True)
class Params:
    """The optimisation and its objective."""

    iterations: int = integer(200, low=1, high=2000, label="Iterations", help="Steps of RMSProp. Each costs about three passes.")
    variant: str = choice("dmbp", "dmbp", "dmbp_plus", "dmbp_plus_minus", label="Objective", help=(
        "dmbp: raise the positive part, lower the negative part, and make their sum equal the logit. dmbp_plus_minus: the same "
        "without the last condition. dmbp_plus: raise the positive part only."))
    learning_rate: float = real(0.01, low=0.001, high=0.5, step=0.001, label="Learning rate", help=(
        "The step of RMSProp. Under a constant gradient, the logit of a mask value changes by about this much in each iteration."))

    @property
    def rows(self) -> int:
        """How many masked networks are run: 1 for y+ alone, else 2."""
        return 1 if self.variant == "dmbp_plus" else 2

    @property
    def previewed(self) -> range:
        """The iterations after which the map so far is reported."""
        every = max(_PREVIEW_EVERY, self.iterations // _PREVIEWS)
        return range(every, self.iterations, every)


@dataclass(eq=False)
class ReluCall:
    """The ReLU units of one call, flattened in the order in which they lie in memory, so that flattening copies nothing."""

    output: Tensor  # (1, ...) of the ordinary forward pass
    inputs: Tensor  # (rows, units): ReLU inputs recorded in the last masked forward pass
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
        self.is_open, self.inputs = self.flat(self.output)[0] > 0, self.flat(self.inputs)

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
        """The masked outputs for new inputs z (N, ...), which are recorded. ``rows``: how many of the masks are used."""
        self.inputs = self.flat(z)
        return self.forward_again(rows)

    def forward_again(self, rows: int) -> Tensor:
        """The masked outputs (rows, ...) for the recorded inputs."""
        outputs = self.inputs * self.mask[:rows]
        if self.capped is not None:
            outputs.index_copy_(1, self.capped_live, self.caps[:rows])
        return self.shaped(outputs)

    def backward(self, gradient: Tensor, row: int) -> Tensor:
        """The gradient (1, ...) by the input, from the gradient by the masked output."""
        return self.shaped(self.flat(gradient) * self.mask[row])


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
        return output.view_as(output)

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
    """

    def __init__(self, network: Classifier, x: Tensor, target: Target, generator: torch.Generator):
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
        self.y = self._score.item() - self.output_bias

    def _walk(self, x: Tensor, relu: Rule, max_pool: Rule, start: str | None = None, stop: str | None = None) -> Tensor:
        return self.network.walk(x, {"relu": relu, "relu6": relu, "max_pool": max_pool}, start=start, stop=stop)

    def _record(self, call: Call, z: Tensor) -> Tensor:
        output = call.plain(z.detach())
        relu = self.relus[call.name] = ReluCall(output, z.detach())
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
        initial: list[tuple[ReluCall, Tensor]] = []

        def initialise(relu: ReluCall, gradient: Tensor) -> Tensor:
            plus, minus, probe = flat = relu.flat(gradient)
            logit = INITIAL_LOGIT * (((plus > 0) & (minus > 0)).float() - ((plus < 0) & (minus < 0)).float())
            factors = torch.empty(probe.shape).uniform_(0.5, 1.5, generator=generator).to(probe.device)
            slopes = relu.is_open if relu.capped is None else relu.is_open & ~relu.capped
            relu.live, relu.capped_live = (
                (relu.is_open & (probe != 0) & kind).nonzero().flatten() for kind in (slopes, ~slopes))
            initial.append((relu, logit))
            return relu.shaped(flat * torch.stack([logit.sigmoid(), (-logit).sigmoid(), factors]) * slopes)

        self._rule.apply = initialise
        three = x.expand(3, -1, -1, -1).clone().requires_grad_(True)
        logits = self._walk(three, lambda call, z: _Relu.apply(z, torch.zeros_like(z), self.relus[call.name], self._rule),
                            self._pool_again)
        scores = self.target.score(logits)
        torch.autograd.grad(scores.sum(), three)
        self.output_bias = scores[0].item()
        self._lay_out([relu for relu, _ in initial])
        return torch.cat([logits[r.live] for r, logits in initial] + [logits[r.capped_live] for r, logits in initial])

    def _lay_out(self, relus: list[ReluCall]) -> None:
        """Number the live units of all calls, the capped ones last, and give each call views of the common mask tensors."""
        spans = _consecutive_slices([len(r.live) for r in relus] + [len(r.capped_live) for r in relus])
        places = _consecutive_slices([r.output.numel() for r in relus])
        self.count, self._uncapped = spans[-1].stop, spans[len(relus) - 1].stop
        self._masks = torch.zeros(2, places[-1].stop, device=self._x.device)
        self._caps = torch.zeros(2, self.count - self._uncapped, device=self._x.device)
        for relu, place, span, capped_span in zip(relus, places, spans, spans[len(relus):], strict=False):
            relu.span, relu.capped_span = span, capped_span
            relu.mask = self._masks[:, place]
            relu.caps = self._caps[:, capped_span.start - self._uncapped:capped_span.stop - self._uncapped]
        self._positions = torch.cat([r.live + place.start for r, place in zip(relus, places, strict=True)])

    def set(self, sigma: Tensor) -> None:
        """Set sigma of the live units, (count,)."""
        for mask, cap, values in zip(self._masks, self._caps, (sigma, 1 - sigma), strict=True):
            mask.index_copy_(0, self._positions, values[:self._uncapped])
            torch.mul(values[self._uncapped:], CAP, out=cap)

    def outputs(self, rows: int = 2) -> list[float]:
        """[y+, y-], or [y+] for one row, by a masked forward pass."""
        with torch.no_grad():
            first = self.relus[self._first] if self._first else None
            begin = first.forward_again(rows) if first else self._x.expand(rows, -1, -1, -1)
            logits = self._walk(begin, lambda call, z: self.relus[call.name].forward(z, rows), self._pool_again, start=self._first)
            scores = self.target.score(logits)
        return (scores - self.output_bias).tolist()

    def mask_gradient(self, row: int) -> Tensor:
        """g u of each live unit at the last masked forward pass: the derivative of y+ by sigma (row 0), or of y- by 1 - sigma."""
        gradients, inputs = torch.full((2, self.count), CAP, device=self._x.device)  # the capped units' input u counts as 6

        def collect(relu: ReluCall, gradient: Tensor) -> Tensor:
            flat, recorded = relu.flat(gradient)[0], relu.inputs[min(row, len(relu.inputs) - 1)]
            torch.index_select(flat, 0, relu.live, out=gradients[relu.span])
            torch.index_select(recorded, 0, relu.live, out=inputs[relu.span])
            if relu.capped is not None:
                gradients[relu.capped_span] = flat[relu.capped_live]
            return relu.backward(gradient, row)

        self._rule.apply = collect
        bottom_gradient = torch.autograd.grad(self._score, self._bottom, retain_graph=True)[0]
        if self._first:
            collect(self.relus[self._first], bottom_gradient)
        return gradients.mul_(inputs)

    def mapping(self, row: int) -> Tensor:
        """(C, H, W): the gradient of y+ (row 0) or y- (row 1) with respect to the image."""
        self._rule.apply = lambda relu, gradient: relu.backward(gradient, row)
        gradient = torch.autograd.grad(self._score, self._bottom, retain_graph=True)[0]
        return (torch.autograd.grad(self._stem, self._x, gradient, retain_graph=True)[0] if self._first else gradient)[0]


def loss_gradient(masked: MaskedNetwork, variant: str, outputs: list[float]) -> Tensor:
    """dL / d(sigma) at ``outputs``, (count,). At y~ = 0 the gradient of the branch y - 2 y+ is taken, which is a subgradient."""
    if variant == "dmbp_plus":
        return masked.mask_gradient(0).neg_()
    if variant == "dmbp_plus_minus":
        return masked.mask_gradient(0).add_(masked.mask_gradient(1)).neg_()
    return masked.mask_gradient(0 if masked.y >= sum(outputs) else 1).mul_(-2)


def descend(masked: MaskedNetwork, params: Params, report: Callable[[int], None]) -> tuple[list[list[float]], float]:
    """Optimise the masks. Returns [y+, y-] before each step and after the last, and the last fraction of gradients < EPSILON."""
    logits, squares = masked.start.clone(), torch.zeros_like(masked.start)
    sigma = logits.sigmoid()
    masked.set(sigma)
    trace = [masked.outputs(params.rows)]
    for done in range(1, params.iterations + 1):
        gradient = loss_gradient(masked, params.variant, trace[-1])
        gradient.mul_(sigma).addcmul_(gradient, sigma, value=-1)  # times sigma (1 - sigma): the gradient by the logits
        squares.mul_(DECAY).addcmul_(gradient, gradient, value=1 - DECAY)
        logits.addcdiv_(gradient, squares.sqrt().add_(EPSILON), value=-params.learning_rate)
        torch.sigmoid(logits, out=sigma)
        masked.set(sigma)
        report(done)
        trace.append(masked.outputs(params.rows))
    return trace, float((gradient.abs() < EPSILON).float().mean()) if len(gradient) else 1.0


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    masked = MaskedNetwork(network, x, target, context.generator())

    def mappings() -> list[Tensor]:
        return [masked.mapping(row) for row in range(params.rows)]

    def report(done: int) -> None:
        context.progress(_RECORDING + done, _RECORDING + params.iterations + 1,
                         sum(mappings()) * x[0] if done in params.previewed else None)

    context.progress(_RECORDING, _RECORDING + params.iterations + 1)
    trace, vanishing = descend(masked, params, report)
    final = mappings()
    extras = {"y": masked.y, "output_bias": masked.output_bias, "masks": masked.count, "vanishing_gradients": vanishing}
    for row, (sign, mapping) in enumerate(zip(("positive", "negative"), final, strict=False)):
        extras |= {sign: (mapping * x[0]).cpu(), f"{sign}_mapping": mapping.cpu(), f"y_{sign}": [outputs[row] for outputs in trace]}
    return RawMap(sum(final) * x[0], extras)


def _passes(params: Params, behind_stem: float = 1.0) -> Passes:
    """The record, three rows for initial masks, both outputs and 1 or 2 backward passes per step, and maps. The steps leave out
    the stem: ``behind_stem`` is the fraction of a pass that they run."""
    backwards, maps = 2 if params.variant == "dmbp_plus_minus" else 1, 1 + len(params.previewed)
    return Passes(4 + behind_stem * params.rows * (params.iterations + 1),
                  3 + behind_stem * params.iterations * backwards + params.rows * maps)


METHOD = Method(
    title="DMBP", family="optimisation", attribute=attribute, params=Params, passes=_passes,
    needs=(GRAPH, RELU, PIECEWISE_LINEAR), previews=True, cheap={"iterations": 30}, draft={"iterations": 30},
    overhead=lambda params, network: Passes(_MASKING * params.iterations, _MASKING * params.iterations),
    passes_on=lambda params, network: _passes(params, network.cost_fraction(first_relu(network))),
    citation=Citation("Ruiz, Agudo, Moreno-Noguer", "Generating attribution maps with disentangled masked backpropagation",
                        "ICCV 2021", "sections 3.2-3.4, appendix B"),
    idea="Learn for every ReLU which fraction of its output speaks for the class and which against it, so that the logit is the "
         "sum of a positive and a negative part. The map adds each pixel's contributions to both.",
    equation=r"A = (\nabla_x y^+ + \nabla_x y^-) \odot x, \quad \min_{\sigma}\; y^-(\sigma) - y^+(\sigma) + "
             r"\big| y - y^+(\sigma) - y^-(\sigma) \big|",
    limits="Millions of mask values are fitted to one logit, so the split is one of many, and it depends on the size of the logit. "
           "Nothing bounds the parts: compare y+ and y- with the logit. Pixels of the mean colour get 0, and the part of the biases "
           "is not shown.",
    auxiliary_outputs=(
        AuxiliaryOutput("positive", "Positive part", "map", "The gradient of y+ times the image, the first term of the map."),
        AuxiliaryOutput("negative", "Negative part", "map", "The gradient of y\u2212 times the image, the second term."),
        AuxiliaryOutput("y", "Logit without the output's bias", "number", "The value that y+ and y\u2212 should sum to."),
        AuxiliaryOutput("y_positive", "y+", "trace", "The positive part of the logit, before each step and after the last.",
                        unit="logit"),
        AuxiliaryOutput("y_negative", "y\u2212", "trace", "The negative part of the logit, before each step and after the last.",
                        unit="logit"),
    ),
)
