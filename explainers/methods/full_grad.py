r"""FullGrad: the logit split without a rest into what the pixels contribute and what every bias contributes, and a map of both.

A piecewise linear network is f(x) = x . df/dx + sum_l b_l . df/db_l for the gradients at x (Srinivas, Fleuret 2019, proposition
1). The sum goes over the biases of all layers: those of convolutions and dense layers, and of a batch norm beta - gamma mean /
sqrt(variance + eps). A ReLU6 that is saturated contributes its constant 6, the paper's implicit bias of an activation that is no
ReLU (also there). ``extras["parts"]`` holds these sums, which add up to the logit.

The map is the authors': the magnitudes |x df/dx| and |b df/db| of every convolution and batch norm, each scaled to [0, 1] over
all of its channels and places, upsampled bilinearly with the corners aligned, summed over the channels and added up (section 4).
Biases of dense layers have no place, so the map leaves them out, and those of ReLU6, which the authors' networks have not.
Without ``scaled`` the magnitudes are added as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from explainers.context import Context
from explainers.contract import AuxiliaryOutput, Citation, Method, RawMap
from explainers.methods.gradients import one_pass
from explainers.methods.relevance import scale_and_shift
from explainers.networks.classifier import Classifier
from explainers.networks.graph import Call, Rule
from explainers.parameters import switch
from explainers.requirements import GRAPH, PIECEWISE_LINEAR
from explainers.target import Target

MAPPED = {"conv", "batch_norm", "affine"}  # the kinds of layers whose biases have a place in the map


@dataclass(frozen=True)
class Params:
    """How the layers are added."""

    scaled: bool = switch(True, label="Scale each layer", help=(
        "Scale each layer's magnitudes to 0..1 before they are added, as the authors do, so that all layers count alike. Off: "
        "add them as they are, so that layers with large biases dominate."))


@dataclass
class Biases:
    """What a walk adds by biases: the values that have one, the biases, in shapes that expand to these, and the layers' kinds."""

    outputs: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)

    def add(self, call: Call, output: Tensor, bias: Tensor | None) -> Tensor:
        if bias is not None:
            self.outputs.append(output)
            self.values.append(bias)
            self.kinds.append(call.kind)
        return output

    def rules(self) -> Mapping[str, Rule]:
        """The rules of a walk that notes all biases here."""
        def weighted(call: Call, x: Tensor) -> Tensor:
            output: Tensor = call.plain(x)
            return self.add(call, output, _columns(getattr(call.module, "bias", None), output))

        def norm(call: Call, x: Tensor) -> Tensor:
            assert call.module is not None
            output: Tensor = call.plain(x)
            return self.add(call, output, _columns(scale_and_shift(call.module)[1], output))

        def affine(call: Call, x: Tensor, *weights: Tensor) -> Tensor:
            output: Tensor = call.plain(x, *weights)
            return self.add(call, output, call.plain(torch.zeros_like(x), *weights))

        def relu6(call: Call, x: Tensor) -> Tensor:
            output: Tensor = call.plain(x)
            return self.add(call, output, output.detach() * (x.detach() > output.detach()))  # where it is saturated

        return {"conv": weighted, "linear": weighted, "batch_norm": norm, "affine": affine, "relu6": relu6}


def _columns(bias: Tensor | None, output: Tensor) -> Tensor | None:
    """A bias (C,) in the shape that adds it to ``output``: (C, 1, 1) for maps."""
    return bias if bias is None else bias.view(-1, *(1,) * (output.dim() - 2))


def attribute(network: Classifier, x: Tensor, target: Target, params: Params, context: Context) -> RawMap:
    x = x.detach().requires_grad_(True)
    biases = Biases()
    with torch.enable_grad():
        score = target.score(network.logits(x, biases.rules())).sum()
        gradient, *slopes = torch.autograd.grad(score, [x, *biases.outputs], allow_unused=True)
    pixels = (gradient * x.detach())[0]
    terms = [torch.zeros_like(output) if slope is None else slope * bias
             for slope, bias, output in zip(slopes, biases.values, biases.outputs, strict=True)]
    by_kind = [float(sum((term.sum(dtype=torch.float64) for term, kind in zip(terms, biases.kinds, strict=True) if kind in kinds),
                         torch.zeros(()))) for kinds in (MAPPED, {"linear"}, {"relu6"})]
    maps = [term[0] for term, kind in zip(terms, biases.kinds, strict=True) if kind in MAPPED and term.dim() == 4]
    from_pixels = _magnitude(pixels, params.scaled, x)
    from_biases = sum((_magnitude(part, params.scaled, x) for part in maps), torch.zeros_like(from_pixels))
    return RawMap(from_pixels + from_biases, {
        "parts": [float(pixels.sum(dtype=torch.float64)), *by_kind], "pixels": from_pixels.cpu(), "biases": from_biases.cpu()})


def _magnitude(part: Tensor, scaled: bool, x: Tensor) -> Tensor:
    """(1, H, W) from contributions (C, h, w): their magnitudes, scaled to 0..1 or not, upsampled and summed over the channels."""
    magnitude = part.detach().abs()
    if scaled:
        magnitude = magnitude - magnitude.min()
        magnitude = magnitude / magnitude.max().clamp(min=torch.finfo(magnitude.dtype).tiny)
    if magnitude.shape[-2:] != x.shape[-2:]:  # the channels' sum is upsampled, which is the same and takes less time
        return F.interpolate(magnitude.sum(0)[None, None], size=x.shape[-2:], mode="bilinear", align_corners=True)[0]
    return magnitude.sum(0, keepdim=True)


METHOD = Method(
    title="FullGrad", family="gradient", attribute=attribute, params=Params, passes=one_pass, signed=False,
    needs=(GRAPH, PIECEWISE_LINEAR),
    citation=Citation("Srinivas, Fleuret", "Full-gradient representation for neural network visualization", "NeurIPS 2019",
                      "sections 3 and 4"),
    idea="The logit is exactly what the pixels contribute by their gradients and what all biases contribute by theirs. The map "
         "adds the magnitudes of both, layer by layer.",
    equation=r"f_c(x) = x^\top \nabla_x f_c + \sum_l b_l^\top \nabla_{b_l} f_c, \qquad "
             r"A = \psi(x \odot \nabla_x f_c) + \sum_l \sum_k \psi(b_{lk}\, \nabla_{b_{lk}} f_c)",
    limits="The map adds magnitudes, so it does not say what speaks for the class and what against it, and it does not sum to "
           "the logit; the parts do. Scaling each layer to 0..1 makes a layer of hardly any effect count like the others. Biases "
           "of dense layers are not in the map.",
    auxiliary_outputs=(
        AuxiliaryOutput("parts", "What the logit is made of", "parts", (
            "Input times gradient, and biases times gradient. Together they are the logit."), unit="logit",
            parts=("Pixels", "Biases of convolutions and batch norm", "Biases of dense layers", "Saturated ReLU6")),
        AuxiliaryOutput("pixels", "Of the pixels", "strength", "The part of the map that comes from the pixels."),
        AuxiliaryOutput("biases", "Of the biases", "strength", (
            "The part of the map that comes from the biases of convolutions and batch norms.")),
    ),
)
