r"""LPR, learned propagation rules (Yang, Qiu, Song, Tao, Wang 2020), as an approximation that is largely our own.

The authors published no program, and this was written from the paper's abstract and from what the DMBP paper says of it (its section
2 and 4.1), not from the full text. These give the idea: the backward pass of each ReLU gets a rule that is learned for each image and
for each of its units; the map that the backward pass makes becomes a mask of the image; the masked image goes through the network
again, and its output, compared with that of the whole image, says how to change the rules, which takes second derivatives.

All else is ours. The rule of a unit is a multiplier m in [0, 1] of the gradient that reaches its ReLU, besides the ReLU's own slope;
all of them start at 1, where the map is the plain gradient of the logit. With G(m), (C, H, W), the gradient under the rules, the mask
M(m), (1, H, W), is the sum of |G| over the channels, divided by its 99th percentile and cut off at 1. Adam minimises

    max(0, log p_c(x) - log p_c(M x))  +  area mean M,

and each m is clamped to [0, 1] after each step. So the class must stay as probable as it is in the whole image, but no more, and the
mask should be small. What it hides has the mean colour, which is 0 in the normalised image. For a contrast (a, b) the probability is
that of class a in the two-class problem "a or b". The map is the final mask.

The image's own forward pass is recorded once. Each step then counts four passes: back through the record for G, forward and back for
the masked image, and the double backward pass. That carries the loss's gradient by G through all layers from the image to the
logit, by each layer's own weights, and so counts as one pass back, which is also about what it takes. With PyTorch's own
derivatives of convolutions with many groups and of batch norms it takes about 15 times as long on EfficientNet-Lite0. The record holds
both with simpler ones, which are equally exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

from explainers.context import Context
from explainers.contract import AuxiliaryOutput, Citation, Method, RawMap
from explainers.methods.bottleneck import cross_entropy
from explainers.networks.classifier import Classifier
from explainers.networks.graph import Call
from explainers.parameters import integer, real
from explainers.passes import Passes
from explainers.requirements import GRAPH, RELU
from explainers.target import Target

PERCENTILE = 0.99  # of the absolute map, at and above which the mask is 1
NOT_KEPT = "the masked image keeps less than half of the class's probability"


@dataclass(frozen=True)
class Params:
    """The optimisation, and what the mask's area costs. All defaults are ours."""

    iterations: int = integer(60, low=1, high=1000, step=10, label="Iterations", help=(
        "Steps of the optimiser. Each costs four passes that wait for each other."))
    rate: float = real(0.1, low=0.01, high=1.0, step=0.01, label="Learning rate", help=(
        "Step size of Adam on the multipliers, which lie between 0 and 1."))
    area: float = real(5.0, low=0.0, high=100.0, step=0.5, label="Area weight", help=(
        "Weight of the mask's mean. A higher one shows less of the image."))


def passes(params: Params) -> Passes:
    """Forward: the record, each masked image, and the final one. Backward: three for each step, and one for the final map."""
    return Passes(forward=2 + params.iterations, backward=1 + 3 * params.iterations)


def overhead(params: Params, network: Classifier) -> Passes:
    """Adam, and the products with the multipliers: about a pass for each step on EfficientNet-Lite0, less on SqueezeNet."""
    return Passes(forward=params.iterations)


class _Convolution(torch.autograd.Function):
    """A convolution of images (N, C, H, W), whose double backward pass computes no derivatives by the weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, call: Call) -> Tensor:
        ctx.layer, ctx.size = call.module, x.shape
        return call.plain(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _TransposedConvolution.apply(gradient, ctx.layer, ctx.size), None


class _TransposedConvolution(torch.autograd.Function):
    """The backward pass of a convolution, (N, D, h, w) to (N, C, H, W). It is linear, and its own backward pass is the convolution
    without its bias."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, layer: nn.Conv2d, size: torch.Size) -> Tensor:
        ctx.layer = layer
        return conv2d_input(size, layer.weight, gradient, layer.stride, layer.padding, layer.dilation, layer.groups)

    @staticmethod
    def backward(ctx: Any, direction: Tensor) -> tuple[Tensor, None, None]:
        layer = ctx.layer
        return F.conv2d(direction, layer.weight, None, layer.stride, layer.padding, layer.dilation, layer.groups), None, None


def _convolution(call: Call, x: Tensor) -> Tensor:
    layer = call.module
    ours = isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros" and isinstance(layer.padding, tuple) and x.dim() == 4
    return _Convolution.apply(x, call) if ours else call.plain(x)


def _batch_norm(call: Call, x: Tensor) -> Tensor:
    """The layer's output, with its constant slope as the only derivative."""
    layer = call.module
    if not isinstance(layer, nn.modules.batchnorm._BatchNorm) or layer.running_var is None:
        return call.plain(x)
    slope = (layer.running_var + layer.eps).rsqrt()
    if layer.weight is not None:
        slope = slope * layer.weight
    return call.plain(x.detach()) + (x - x.detach()) * slope.view(-1, *[1] * (x.dim() - 2))


class LearnedRules:
    """The recorded forward pass of an image (1, C, H, W), with a multiplier for each unit of each ReLU call on the way back.

    multipliers: by the name of the ReLU's node, of its output's shape (1, ...), 1 at first. logits: (1, K).
    """

    def __init__(self, network: Classifier, x: Tensor, target: Target):
        self._network, self._x = network, x.detach().clone().requires_grad_(True)
        self.multipliers: dict[str, Tensor] = {}
        multipliers = self.multipliers  # the record must not hold this object, which holds the record: that cycle is never freed

        def relu(call: Call, s: Tensor) -> Tensor:
            output = call.plain(s)
            name = call.name
            multipliers[name] = torch.ones_like(output.detach()).requires_grad_(True)
            output.register_hook(lambda gradient: gradient * multipliers[name])
            return output

        with torch.enable_grad():
            self.logits = network.logits(self._x, {"relu": relu, "relu6": relu, "conv": _convolution, "batch_norm": _batch_norm})
            self._score = target.score(self.logits)

    def gradient(self) -> Tensor:
        """(C, H, W): the gradient of the logit under the multipliers, which can be differentiated by them.

        The gradient that arrives at it is carried through the whole network once more, and counted as a pass back.
        """
        with torch.enable_grad():
            gradient = torch.autograd.grad(self._score.sum(), self._x, create_graph=True)[0][0]
        if self._network.meter is not None and gradient.requires_grad:
            meter = self._network.meter
            gradient.register_hook(lambda _: meter.backward(1))
        return gradient

    def derivatives(self, values: Tensor, direction: Tensor) -> list[Tensor]:
        """The derivatives by each ReLU's multipliers of the sum of ``direction`` times ``values``, computed from ``gradient``."""
        return list(torch.autograd.grad(values, list(self.multipliers.values()), direction, materialize_grads=True))


def mask_of(gradient: Tensor) -> Tensor:
    """(1, H, W) in [0, 1]: the absolute gradient (C, H, W), summed over the channels, as a fraction of its 99th percentile."""
    magnitude = gradient.abs().sum(0, keepdim=True)
    magnitude = magnitude / magnitude.detach().amax().clamp(min=1e-30)  # so that the smallest number below has a meaning
    return (magnitude / torch.quantile(magnitude, PERCENTILE).clamp(min=1e-6)).clamp(max=1)


@dataclass(frozen=True)
class Iterate:
    """The mask (1, H, W) of one step, the gradient (C, H, W) that it was made from, the loss, and the class's probability under it."""

    mask: Tensor
    gradient: Tensor
    loss: float
    probability: float


class Objective:
    """What is minimised over the multipliers for one image (1, C, H, W)."""

    def __init__(self, network: Classifier, x: Tensor, target: Target, params: Params):
        self.network, self.x, self.target, self.area = network, x, target, params.area
        self.rules = LearnedRules(network, x, target)
        self.whole = cross_entropy(self.rules.logits.detach(), target)

    def loss(self, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of a mask (1, H, W), and the class's probability in the image under it, (1,) each."""
        entropy = cross_entropy(self.network.logits(self.x * mask), self.target)
        return F.relu(entropy - self.whole) + self.area * mask.mean(), torch.exp(-entropy.detach())

    def step(self) -> tuple[Iterate, list[Tensor]]:
        """The present iterate, and the loss's derivatives by all multipliers.

        The derivative by the mask is computed first, so that the masked image's record is freed before the double backward pass.
        """
        with torch.enable_grad():
            gradient = self.rules.gradient()
            mask = mask_of(gradient)
            shown = mask.detach().requires_grad_(True)
            loss, probability = self.loss(shown)
            direction = torch.autograd.grad(loss.sum(), shown)[0]
            derivatives = self.rules.derivatives(mask, direction)
        return Iterate(shown.detach(), gradient.detach(), float(loss.detach()), float(probability)), derivatives

    def last(self) -> Iterate:
        """The present iterate alone."""
        gradient = self.rules.gradient().detach()
        mask = mask_of(gradient)
        with torch.no_grad():
            loss, probability = self.loss(mask)
        return Iterate(mask, gradient, float(loss), float(probability))


class Descent:
    """Adam on the multipliers, clamped to [0, 1] after each step."""

    def __init__(self, multipliers: list[Tensor], rate: float):
        self.multipliers = multipliers
        self.adam = torch.optim.Adam(multipliers, lr=rate, fused=True)  # there are millions of them, and fused it takes half the time

    def move(self, derivatives: list[Tensor]) -> None:
        """One step. A fused Adam pairs numbers by their place in memory, so each derivative takes its multiplier's layout."""
        for multiplier, derivative in zip(self.multipliers, derivatives, strict=True):
            multiplier.grad = torch.empty_like(multiplier).copy_(derivative)
        self.adam.step()
        with torch.no_grad():
            for multiplier in self.multipliers:
                multiplier.clamp_(0, 1)


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    end = params.iterations + 2
    [(_, _, objective)] = context.part(0, 1, end).batches(1, lambda a, b: Objective(network, x, target, params))
    descent = Descent(list(objective.rules.multipliers.values()), params.rate)
    masks: list[Tensor] = []  # the latest one, for the previews
    losses, probabilities, areas = [], [], []

    def note(iterate: Iterate) -> None:
        masks[:] = [iterate.mask]
        losses.append(iterate.loss)
        probabilities.append(iterate.probability)
        areas.append(float(iterate.mask.mean()))

    for step in range(1, params.iterations + 1):
        part = context.part(step, step + 1, end)
        for _, _, (iterate, derivatives) in part.batches(1, lambda a, b: objective.step(), lambda: masks[0]):
            descent.move(derivatives)
            note(iterate)
    for _, _, last in context.part(end - 1, end, end).batches(1, lambda a, b: objective.last(), lambda: masks[0]):
        note(last)
    whole = float(torch.exp(-objective.whole))
    extras = {"shown": last.mask[0].cpu(), "gradient": last.gradient.cpu(), "loss": losses, "probability": probabilities,
              "area": areas, "whole_probability": whole,
              "multipliers": [float(multiplier.detach().mean()) for multiplier in descent.multipliers]}
    return RawMap(last.mask, extras=extras, flags=(NOT_KEPT,) if last.probability < whole / 2 else ())


def _masked_input(x: Tensor, extras: Mapping[str, Any]) -> Tensor:
    """The image (1, C, H, W) under the mask, for display."""
    return x * extras["shown"].to(x.device)


METHOD = Method(
    title="LPR (approximation)", short="LPR", family="optimisation", attribute=attribute, passes=passes, params=Params, signed=False,
    overhead=overhead, previews=True, needs=(GRAPH, RELU), cheap={"iterations": 6}, draft={"iterations": 12},
    citation=Citation("Yang, Qiu, Song, Tao, Wang", "Learning propagation rules for attribution map generation", "ECCV 2020",
                      "of which this is an approximation"),
    idea="Learn for each unit how much of the gradient its ReLU hands back, so that the image, masked by the resulting map, keeps its "
         "class. The idea is the paper's; the loss, the mask, the optimiser and the number of steps are our own.",
    equation=r"A = M(m^*), \quad m^* = \arg\min_{0 \le m \le 1}\; \max\Big(0, \log \frac{p_c(x)}{p_c(M(m)\, x)}\Big) "
             r"+ \lambda \operatorname{mean} M(m), \quad M(m) = \min\Big(1, \frac{|G(m)|}{q_{99}(|G(m)|)}\Big)",
    limits="It was written from the paper's abstract, so its numbers must not be taken for the paper's. There is a multiplier for "
           "each of millions of units, so the mask can keep the class by fine patterns that fool the network and show nothing of the "
           "object. It often shows a part of the object only, where that is enough. Hidden pixels have the mean colour. The map has "
           "no sign.",
    auxiliary_outputs=(
        AuxiliaryOutput("shown", "Masked input", "pictures", make=_masked_input, help=(
            "The image times the final mask: what it hides has the mean colour.")),
        AuxiliaryOutput("gradient", "Gradient under the rules", "map", (
            "The signed gradient of the logit under the final multipliers. Its magnitude is the mask.")),
        AuxiliaryOutput("loss", "Loss", "trace", unit="loss", help=(
            "How much log-probability is lost under the mask, plus the weighted area, before each step and at the end.")),
        AuxiliaryOutput("probability", "Probability under the mask", "trace", unit="probability", help=(
            "The class's probability in the masked image, before each step and at the end.")),
        AuxiliaryOutput("area", "Area of the mask", "trace", unit="fraction of the image", help=(
            "The mean of the mask, before each step and at the end.")),
        AuxiliaryOutput("multipliers", "Mean multiplier", "trace", unit="multiplier", along="ReLU", follows=False, help=(
            "The mean of the final multipliers of each ReLU, in the order in which they run. All of them were 1 at first.")),
        AuxiliaryOutput("whole_probability", "Probability of the whole image", "number", (
            "The class's probability with nothing hidden.")),
    ),
)
