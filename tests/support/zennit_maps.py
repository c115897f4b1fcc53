"""zennit's relevance maps: its rules on a network's module, with batch norms merged into the layers before them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# isort: off
import explainers.networks.torchvision_guard  # noqa: F401  first, because zennit imports torchvision, which may need it
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import (
    EpsilonAlpha2Beta1,
    EpsilonPlus,
    EpsilonPlusFlat,
    ExcitationBackprop,
    LayerMapComposite,
    SpecialFirstLayerMapComposite,
    layer_map_base,
)
from zennit.layer import Sum
from zennit.rules import Epsilon, WSquare, ZBox, ZPlus
from zennit.types import Linear
# isort: on

NO_BIAS = ["bias"]


class ExactMerge(SequentialMergeBatchNorm):
    """zennit's merge leaves a batch norm behind that divides by sqrt(1 + eps), scaling each layer by 0.999995. This does not."""

    def register(self, linears, batch_norm):
        super().register(linears, batch_norm)
        self.eps, batch_norm.eps = batch_norm.eps, 0.0

    def remove(self):
        super().remove()
        self.batch_norm.eps = self.eps


def merge():
    return {"canonizers": [ExactMerge()]}


def sums():
    """The rules of sums and averages. zennit keeps their denominators from 0 by 1e-6, where nothing here is divided by them."""
    return layer_map_base(stabilizer=1e-12)


def lrp(rule: str, epsilon: float = 1e-6):
    """zennit's composite for a rule of ``lrp_epsilon``."""
    if rule == "epsilon":
        return LayerMapComposite([*sums(), (Linear, Epsilon(epsilon))], **merge())
    composite = {"epsilon_plus": EpsilonPlus, "epsilon_plus_flat": EpsilonPlusFlat, "alpha2_beta1": EpsilonAlpha2Beta1}[rule]
    return composite(epsilon=epsilon, layer_map=sums(), **merge())


def lrp_as_it_comes():
    """The epsilon rule with zennit's own merge and its own rules of sums and averages."""
    return LayerMapComposite([*layer_map_base(), (Linear, Epsilon(1e-6))], canonizers=[SequentialMergeBatchNorm()])


def deep_taylor(first: str, low: Tensor | None = None, high: Tensor | None = None):
    """z+ without biases in all layers, and in the first the given rule. low, high: (1, C, 1, 1)."""
    z_plus = ZPlus(zero_params=NO_BIAS)
    rule = {"z_plus": z_plus, "w_squared": WSquare(zero_params=NO_BIAS)}.get(first) or ZBox(low, high, zero_params=NO_BIAS)
    return SpecialFirstLayerMapComposite([*sums(), (Linear, z_plus)], [(Linear, rule)], **merge())


def excitation():
    return ExcitationBackprop(layer_map=sums(), zero_params=NO_BIAS, **merge())


def relevance(module: nn.Module, x: Tensor, target: int, composite, start: str = "logit", at: nn.Module | None = None) -> Tensor:
    """The relevance of ``x``, or of the output of the layer ``at``. start: the logit, its positive part "relu", or 1, "one"."""
    kept = []
    handle = at.register_forward_hook(lambda layer, args, output: kept.append(output)) if at is not None else None
    x = x.detach().clone().requires_grad_(True)
    with composite.context(module) as modified:
        logits = modified(x)
        top = torch.zeros_like(logits)
        value = logits[0, target].detach()
        top[0, target] = {"logit": value, "relu": value.clamp(min=0), "one": torch.ones_like(value)}[start]
        gradient = torch.autograd.grad(logits, kept[0] if kept else x, top)[0]
    if handle is not None:
        handle.remove()
    return gradient.detach()


class SummingBlock(nn.Module):
    """A residual block of the scenes network whose sum is a layer, as zennit needs, with the ReLU that it calls twice as two."""

    def __init__(self, block):
        super().__init__()
        self.conv1, self.bn1, self.relu1 = block.conv1, block.bn1, nn.ReLU()
        self.conv2, self.bn2 = block.conv2, block.bn2
        self.downsample = block.downsample
        self.sum, self.relu2 = Sum(), nn.ReLU()

    def forward(self, x):
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu2(self.sum(torch.stack([out, shortcut], dim=-1)))
