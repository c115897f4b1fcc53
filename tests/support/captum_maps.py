"""Captum's maps of a network, made the way its documentation says: a copy with no ReLU in place and none used twice."""

from __future__ import annotations

import copy

import captum.attr as ca
import torch
from torch import Tensor, nn

import explainers as ex
from explainers.networks.classifier import Classifier


class _FreshReLU(nn.Module):
    """A ReLU whose every call is a module of its own, as Captum's hooks need."""

    def __init__(self):
        super().__init__()
        self.calls = nn.ModuleList(nn.ReLU() for _ in range(8))
        self.turn = 0

    def forward(self, x):
        self.turn = (self.turn + 1) % len(self.calls)
        return self.calls[self.turn](x)


def prepared(module: nn.Module) -> nn.Module:
    """A copy that Captum can hook, with its batches laid out in memory as ours are: another layout rounds otherwise."""
    module = copy.deepcopy(module).eval()
    module.register_forward_pre_hook(lambda _, batch: (batch[0].contiguous(memory_format=torch.channels_last),))
    for part in list(module.modules()):
        for name, child in list(part.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(part, name, _FreshReLU())
    return module


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference over the largest magnitude; Deconvnet's map of SqueezeNet's class 282 is rightly all zero."""
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30))


def compare(network: Classifier, module: nn.Module, layer: nn.Module, x: Tensor, target: int) -> dict[str, float]:
    """Relative error (largest difference over largest magnitude) of each method that Captum has, on one image.

    ``layer`` is the module, in ``module``, whose output is the network's default feature layer.
    """
    side = x.shape[-1] // 16
    window = {"sliding_window_shapes": (3, side, side), "strides": (3, side, side), "perturbations_per_eval": 16}
    theirs = {
        "gradient": ca.Saliency(module).attribute(x, target=target, abs=False),
        "gradient_x_input": ca.InputXGradient(module).attribute(x, target=target),
        "integrated_gradients": ca.IntegratedGradients(module).attribute(x, target=target, n_steps=50, internal_batch_size=8),
        "guided_backprop": ca.GuidedBackprop(module).attribute(x, target=target),
        "deconvnet": ca.Deconvolution(module).attribute(x, target=target),
        "grad_cam": ca.LayerGradCam(module, layer).attribute(x, target=target, relu_attributions=True),
        "guided_grad_cam": ca.GuidedGradCam(module, layer).attribute(x, target=target),
        "occlusion": ca.Occlusion(module).attribute(x, target=target, **window)[:, :1],
    }
    ours = {key: ex.explain(network, x, key, target=target).native[None] for key in theirs}
    return {key: relative_error(ours[key], theirs[key].detach()) for key in theirs}


def table(errors: dict[str, float]) -> str:
    return "\n".join(f"{key:24s} {error:.1e}" for key, error in errors.items())


def without_noise(network: Classifier, module: nn.Module, x: Tensor, target: int) -> float:
    """SmoothGrad against Captum's NoiseTunnel with the same noise in the same order."""
    samples, level = 3, 0.15
    from explainers.context import Context
    context = Context(network, seed=0)
    sigma = level * (x.max() - x.min())
    noise = torch.cat([torch.randn(x.shape, generator=context.generator(i)) for i in range(samples)])
    copies = x + sigma * noise  # in this order and in one batch, as ours: a rounding can flip a ReLU's gate
    theirs = ca.Saliency(module).attribute(copies, target=target, abs=False).mean(0, keepdim=True)
    ours = ex.explain(network, x, "smoothgrad", target=target, samples=samples, noise=level).native[None]
    return relative_error(ours, theirs)
