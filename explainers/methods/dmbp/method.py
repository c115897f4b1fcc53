r"""Disentangled masked backpropagation (DMBP): the logit split into a positive and a negative part by masks on the ReLUs.

At one image a ReLU network is affine: every ReLU gate is open or shut, every max-pool has chosen its input. DMBP gives each
unit of each ReLU call a mask value sigma in (0, 1) (Ruiz, Agudo, Moreno-Noguer 2021, equations 8 and 9). y+ is the logit when
every ReLU output is multiplied by sigma, y- when it is multiplied by 1 - sigma, and the nuisance term y~ = y - y+ - y- is the
rest. RMSProp on the logits of sigma makes y+ large, y- small and y~ zero (equation 10):

    L(sigma) = y- - y+ + |y~| = max(y - 2 y+, 2 y- - y)

The map is the gradient of y+ plus that of y-, times the image (equation 7). It sums to y+ + y- without what biases and saturated
ReLU6 units add. Three things about this split, each with its remedy by name:

Biases. The objective counts what biases add to y+ and y- (equation 14), the map does not show it, and L bounds neither part, so
masks that let biases cancel each other lower L without end. ``variant="image_only"`` splits what the image adds to the logit, its
gradient times the image, with the same objective; the map then sums to y+ + y-.

Freezing. L pulls y+ up until y+ + y- exceeds y, and from then on y- alone. y- is a product of the factors 1 - sigma along a path,
and starts small. On SqueezeNet 1.0 and one photograph (y = 22.9) its median gradient is 1.3e-9, while RMSProp still divides by 2.1e-6,
the size of y+'s gradients: from step 12 on a mask's logit moves by 6e-6 a step instead of 0.06, and y- stays at -0.001. So the
map is that of an early stop, and its positive part alone. That part resembles guided backpropagation times input (on another
photograph with a rank correlation of 0.69) and keeps 0.64 of its ranks when the last layer is drawn anew, where the paper's table 3
has 0. ``optimiser="per_branch"`` keeps a running mean for each of the two, and the negative part moves. The map is worse for it: both
parts then grow to some fourteen times the logit in 200 steps, and over 30 photographs the insertion AUC falls from .693 to .214, which
is that of a random map.

No bound. ``stop="at_logit"`` ends the descent when y+ reaches y. ``iterations=0`` is the initialisation of appendix B.1 alone.

Where the paper is silent: the bias of the output passes no mask and would count in both parts, so y, y+ and y- are meant
without it. A saturated ReLU6 is the constant 6 times its mask, like a bias. ReLUs after a residual sum are masked like all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from explainers.context import Context
from explainers.contract import AuxiliaryOutput, Citation, Method, RawMap
from explainers.methods.dmbp.descent import Descent, branches, descend
from explainers.methods.dmbp.masked import LinearPart, MaskedNetwork, first_relu
from explainers.methods.dmbp.shares import NAMES, empty_warning, hidden_warning, logit_warning, shares
from explainers.networks.classifier import Classifier
from explainers.parameters import choice, integer, real
from explainers.passes import Passes
from explainers.requirements import GRAPH, PIECEWISE_LINEAR, RELU
from explainers.target import Target

_PREVIEWS = 4  # quarters of a run, with a map after each but the last; a map takes two passes, an iteration about five
_PREVIEW_EVERY = 10  # the fewest iterations between two maps
_RECORDING = 6  # iterations that take as long as recording the network and the first masks, for the progress
_MASKING = 1.0  # passes, forward and backward, that take as long as updating the masks once and applying them
_SIGNS = ("positive", "negative")
_PARTS = ("y+", "y\u2212")


@dataclass(frozen=True)
class Params:
    """The optimisation and its objective."""

    iterations: int = integer(200, low=0, high=2000, label="Iterations", help=(
        "Steps of RMSProp. Each costs about three passes. 0: the initial masks alone, which are set by the signs of the gradients."))
    variant: str = choice("dmbp", "dmbp", "dmbp_plus", "dmbp_plus_minus", "image_only", label="Objective", help=(
        "dmbp: raise the positive part, lower the negative part, and make their sum equal the logit. dmbp_plus_minus: the same "
        "without the last condition. dmbp_plus: raise the positive part only. image_only: as dmbp, for what the image adds to the "
        "logit, without biases and saturated ReLU6; a step costs two more passes."))
    learning_rate: float = real(0.01, low=0.001, high=0.5, step=0.001, label="Learning rate", help=(
        "The step of RMSProp. Under a constant gradient, the logit of a mask value changes by about this much in each iteration."))
    optimiser: str = choice("shared", "shared", "per_branch", label="RMSProp state", help=(
        "shared: one running mean of squared gradients, as in the paper. It can hold the positive part's large gradients when the "
        "negative part's turn comes, which then stands still. per_branch: a running mean for each part. Both then grow without end, "
        "and the map shows the evidence worse."))
    stop: str = choice("never", "never", "at_logit", label="Stop early", help=(
        "never: all iterations, as in the paper. at_logit: when the positive part reaches the logit, because nothing in the objective "
        "keeps it from growing on. With a logit below zero that is mostly before the first step."))

    @property
    def rows(self) -> int:
        """How many masked networks are run: 1 for y+ alone, else 2."""
        return 1 if self.variant == "dmbp_plus" else 2

    @property
    def images(self) -> int:
        """How many images go through them: the image, and for ``image_only`` an image of zeros."""
        return 2 if self.variant == "image_only" else 1

    @property
    def previewed(self) -> range:
        """The iterations after which the map so far is reported."""
        every = max(_PREVIEW_EVERY, self.iterations // _PREVIEWS)
        return range(every, self.iterations, every)


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    context.progress(0, _RECORDING + params.iterations + 1)
    masked = MaskedNetwork(network, x, target, context.generator(), image_only=params.images == 2)

    def parts() -> list[LinearPart]:
        return [masked.part(row) for row in range(params.rows)]

    def report(done: int) -> None:
        context.progress(_RECORDING + done, _RECORDING + params.iterations + 1,
                         _map_of(parts()) if done in params.previewed else None)

    context.progress(_RECORDING, _RECORDING + params.iterations + 1)
    descent = descend(masked, params, report)
    final = parts()
    return RawMap(_map_of(final), _extras(masked, descent, final, params), flags=_flags(masked, descent, final, params))


def _map_of(parts: list[LinearPart]) -> Tensor:
    """Equation 7, (C, H, W)."""
    return sum(part.mapping for part in parts) * parts[0].x


def _extras(masked: MaskedNetwork, descent: Descent, final: list[LinearPart], params: Params) -> dict[str, Any]:
    extras: dict[str, Any] = {"y": masked.logit, "output_bias": masked.output_bias, "masks": masked.count,
                              "parts_logit": list(shares(masked.logit, masked.whole))}
    if descent.vanishing is not None:
        extras["vanishing_gradients"] = 100 * descent.vanishing
    for row, (sign, part) in enumerate(zip(_SIGNS, final, strict=False)):
        extras |= {sign: part.map.cpu(), f"{sign}_mapping": part.mapping.cpu(), f"y_{sign}": [values[row] for values in descent.trace]}
        if params.images == 1:  # with image_only the trace has the image's part alone, so what the biases add is not known
            extras[f"parts_{sign}"] = list(shares(descent.trace[-1][row], part))
    return extras


def _flags(masked: MaskedNetwork, descent: Descent, final: list[LinearPart], params: Params) -> tuple[str, ...]:
    traces = {name: [values[row] for values in descent.trace] for row, name in enumerate(_PARTS[:params.rows])}
    pulled = {row for outputs in descent.trace[:-1] for row in branches(masked.y, params.variant, outputs)}
    in_turn = params.variant in {"dmbp", "image_only"} and len(pulled) == 2
    freezes = in_turn and params.optimiser == "shared" and params.stop == "never"
    empty = empty_warning(masked.y, traces, "the RMSProp state 'per branch' lets it move" if freezes else "")
    if params.images == 2:
        return (*logit_warning(shares(masked.logit, masked.whole)), *empty)
    ends = {name: shares(values[-1], part) for (name, values), part in zip(traces.items(), final, strict=True)}
    return (*hidden_warning(masked.y, ends), *empty)


def _passes(params: Params, behind_stem: float = 1.0) -> Passes:
    """The record, three rows for initial masks, the parts of the logit, the outputs and 1 or 2 backward passes per step, and maps.

    The steps leave out the stem: ``behind_stem`` is the fraction of a pass that they run.
    """
    backwards, maps = 2 if params.variant == "dmbp_plus_minus" else 1, 1 + len(params.previewed)
    zeros = (params.images - 1) * (1 - behind_stem)  # the image of zeros goes through the stem once
    return Passes(4 + zeros + behind_stem * params.images * params.rows * (params.iterations + 1),
                  4 + behind_stem * params.iterations * backwards + params.rows * maps)


def _part_of(name: str, whole: str) -> AuxiliaryOutput:
    return AuxiliaryOutput(name, f"{whole} by origin", "parts", (
        f"What the image, the biases (with the shifts of batch norms) and saturated ReLU6 units add to {whole}. The map shows the "
        "image's part alone."), unit="logit", parts=NAMES)


METHOD = Method(
    title="DMBP", family="optimisation", version=2, attribute=attribute, params=Params, passes=_passes,
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
           "Nothing bounds the parts: compare y+ and y\u2212 with the logit. Pixels of the mean colour get 0. The objective counts "
           "what biases add, and the map does not show it. Once y+ and y\u2212 exceed the logit, the paper's optimiser may stand "
           "still with an empty negative part. The map is then that of an early stop, resembles guided backpropagation, and follows "
           "the weights of the last layer less than the paper reports.",
    auxiliary_outputs=(
        AuxiliaryOutput("positive", "Positive part", "map", "The gradient of y+ times the image, the first term of the map."),
        AuxiliaryOutput("negative", "Negative part", "map", "The gradient of y\u2212 times the image, the second term."),
        AuxiliaryOutput("positive_mapping", "Positive linear mapping", "weights", "The gradient of y+ with respect to the image: the "
                        "colours, edges and textures that raise it."),
        AuxiliaryOutput("negative_mapping", "Negative linear mapping", "weights", "The gradient of y\u2212 by the image."),
        AuxiliaryOutput("y", "Logit without the output's bias", "number", "The value that y+ and y\u2212 should sum to. With "
                        "the objective image_only they should sum to the image's part of it."),
        AuxiliaryOutput("vanishing_gradients", "Vanished gradients", "number", "The fraction of mask values whose gradient was below "
                        "RMSProp's epsilon of 1e-8 in the last step: it hardly moved them.", unit="%"),
        _part_of("parts_logit", "Logit"), _part_of("parts_positive", _PARTS[0]), _part_of("parts_negative", _PARTS[1]),
        AuxiliaryOutput("y_positive", "y+", "trace", "The positive part of the logit, before each step and after the last.",
                        unit="logit"),
        AuxiliaryOutput("y_negative", "y\u2212", "trace", "The negative part of the logit, before each step and after the last.",
                        unit="logit"),
    ),
)
