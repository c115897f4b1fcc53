"""Guided backpropagation, Deconvnet, Grad-CAM: closed forms on networks small enough to write down."""

from __future__ import annotations

import torch
from support.networks import classifier, seeded
from torch import nn
from torch.nn import functional as F

import explainers as ex


def one_hidden_layer():
    return seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 12), nn.ReLU(), nn.Linear(12, 5)), 7)


def test_guided_backprop_and_deconvnet_of_one_hidden_layer():
    module = one_hidden_layer()
    network, x = classifier(module, side=4), torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    first, second = module[1], module[3]
    open_gates = (F.linear(x.flatten(1), first.weight, first.bias) > 0).float()[0]
    positive = second.weight[2].clamp(min=0)
    guided = ((positive * open_gates) @ first.weight).view(3, 4, 4)
    deconvnet = (positive @ first.weight).view(3, 4, 4)
    assert torch.allclose(ex.explain(network, x, "guided_backprop", target=2).native, guided, atol=1e-6)
    assert torch.allclose(ex.explain(network, x, "deconvnet", target=2).native, deconvnet, atol=1e-6)
    assert not torch.allclose(guided, deconvnet)


def test_relu6_passes_nothing_above_six():
    class Steep(nn.Module):
        def forward(self, x):
            return F.relu6(x.flatten(1))[:, :2]

    network = classifier(Steep(), side=8, channels=1, classes=2)
    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 0, 0], x[0, 0, 0, 1] = 7.0, 3.0
    assert ex.explain(network, x, "guided_backprop", target=0).native[0, 0, 0] == 0
    assert ex.explain(network, x, "guided_backprop", target=1).native[0, 0, 1] == 1


def test_each_call_of_a_reused_relu_has_its_own_gate(toy, image):
    """With hooks on a shared ReLU module the second call's gate would be used for both; the twin has two modules."""
    from support.networks import residual_module
    module = residual_module().eval()

    class Guided(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.clamp(min=0)

        @staticmethod
        def backward(ctx, g):
            return g * (g > 0) * (ctx.saved_tensors[0] > 0)

    x = image.clone().requires_grad_(True)
    block = module[2]
    h = Guided.apply(module[0](x))
    inner = block.conv2(Guided.apply(block.bn1(block.conv1(h)))) + h
    out = module[8](module[7](module[6](Guided.apply(module[4](module[3](Guided.apply(inner)))))))
    expected = torch.autograd.grad(out[0, 1], x)[0][0]
    assert torch.allclose(ex.explain(toy, image, "guided_backprop", target=1).native, expected, atol=1e-6)


def test_grad_cam_before_a_mean_and_a_dense_layer_is_the_class_activation_map(toy, image):
    """Zhou et al. 2016: the dense layer's weights, over the number of cells."""
    features = toy.walk(image, stop=toy.features.default)[0]
    dense = toy.module.get_parameter("8.weight")[3]
    expected = (dense[:, None, None] * features).sum(0) / features[0].numel()
    found = ex.explain(toy, image, "grad_cam", target=3, relu=False)
    assert found.signed and torch.allclose(found.native[0], expected, atol=1e-6)
    rectified = ex.explain(toy, image, "grad_cam", target=3)
    assert not rectified.signed and torch.allclose(rectified.native[0], expected.clamp(min=0), atol=1e-6)


def test_guided_grad_cam_is_the_product(toy, image):
    cam = ex.explain(toy, image, "grad_cam", target=3).native
    guided = ex.explain(toy, image, "guided_backprop", target=3).native
    found = ex.explain(toy, image, "guided_grad_cam", target=3).native
    assert torch.allclose(found, guided * cam.repeat_interleave(4, 1).repeat_interleave(4, 2), atol=1e-6)


def test_times_input_multiplies_the_map_by_the_image(toy, image):
    for method in ("guided_grad_cam", "guided_backprop", "deconvnet"):
        plain, product = (ex.explain(toy, image, method, target=3, times_input=times).native for times in (False, True))
        assert torch.allclose(product, plain * image[0], atol=1e-6) and not torch.allclose(product, plain, atol=1e-6)
