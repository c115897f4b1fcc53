"""FullGrad: the parts add up to the logit, closed forms, and a naive twin on the network's own modules."""

from __future__ import annotations

import pytest
import torch
from support.captum_maps import relative_error
from support.networks import classifier, drawn_images, residual_module, seeded
from torch import nn
from torch.nn import functional as F

import explainers as ex


def scene(network):
    return network.preprocess(next(sample for sample in ex.samples() if sample.kind == network.training_data).load())



@pytest.mark.parametrize("target", [0, 2, (3, 1)])
def test_the_parts_add_up_to_the_logit(toy, image, target):
    attribution = ex.explain(toy, image, "full_grad", target=target)
    logit = float(attribution.target.score(toy.logits(image)))
    assert sum(attribution.extras["parts"]) == pytest.approx(logit, rel=1e-4)
    assert abs(sum(attribution.extras["parts"][1:])) > 0.01  # biases matter here


@pytest.mark.parametrize("name", ["scenes_vgg", "scenes_resnet", "efficientnet_lite0"])
def test_the_parts_add_up_on_larger_networks(name):
    """With batch norms, shortcuts, depthwise convolutions and saturated ReLU6."""
    network = ex.load_model(name)
    x = scene(network) if network.training_data in {"scenes"} else drawn_images(1, 3, side=224)
    target = int(network.logits(x)[0].argmax())
    parts = ex.explain(network, x, "full_grad", target=target).extras["parts"]
    logit = float(network.logits(x)[0, target])
    assert sum(parts) == pytest.approx(logit, rel=1e-4)
    assert parts[0] != pytest.approx(logit, rel=0.05)  # the pixels alone would not do
    if name == "efficientnet_lite0":
        assert abs(parts[3]) > 0.01  # nor would they without the saturated ReLU6


def test_without_biases_only_the_pixels_are_left(bias_free, image):
    attribution = ex.explain(bias_free, image, "full_grad", target=1, scaled=False)
    product = ex.explain(bias_free, image, "gradient_x_input", target=1).native
    assert attribution.extras["parts"][1:] == [0, 0, 0]
    assert relative_error(attribution.native, product.abs().sum(0, keepdim=True)) < 1e-6


def test_one_bias_by_hand():
    """f = 2 relu(x1 + x2 - 1) + 3 relu(-x1 - 5) + 4 at (3, 1): the pixels give 2 * 4, the first bias 2 * -1, the second, behind a
    shut ReLU, nothing, and the dense bias 4."""
    conv, dense = nn.Conv2d(2, 2, 1), nn.Linear(2, 2)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[1.0, 1.0], [-1.0, 0.0]]).view(2, 2, 1, 1))
        conv.bias.copy_(torch.tensor([-1.0, -5.0]))
        dense.weight.copy_(torch.tensor([[2.0, 3.0], [0.0, 0.0]]))
        dense.bias.copy_(torch.tensor([4.0, 0.0]))
    network = classifier(nn.Sequential(conv, nn.ReLU(), nn.Flatten(), dense), side=1, classes=2, channels=2)
    attribution = ex.explain(network, torch.tensor([3.0, 1.0]).view(1, 2, 1, 1), "full_grad", target=0, scaled=False)
    assert attribution.extras["parts"] == pytest.approx([8, -2, 4, 0])
    assert attribution.native.item() == pytest.approx(8 + 2)


class FunctionalConvolution(nn.Module):
    """A convolution that is a call with weights, as in networks that standardise their weights."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(4, 3, 3, 3)), nn.Parameter(torch.randn(4))

    def forward(self, x):
        return F.conv2d(x, self.weight, self.bias, stride=2)


def test_a_bias_that_is_no_layers_counts(image):
    network = classifier(seeded(lambda: nn.Sequential(
        FunctionalConvolution(), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 225, 5)), 3))
    parts = ex.explain(network, image, "full_grad", target=4).extras["parts"]
    assert sum(parts) == pytest.approx(float(network.logits(image)[0, 4]), rel=1e-4) and abs(parts[1]) > 0.01


def naive_map(module, x, target):
    """The authors' map, from the modules' outputs, whose gradients autograd keeps."""
    outputs = {}
    handles = [layer.register_forward_hook(lambda layer, args, output: outputs.setdefault(layer, output.clone()))
               for layer in module.modules() if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d))]
    x = x.clone().requires_grad_(True)
    logit = module(x)[0, target]
    for handle in handles:
        handle.remove()
    slopes = torch.autograd.grad(logit, [x, *outputs.values()])
    total = torch.zeros(1, 1, *x.shape[2:])
    for value, slope in zip((x.detach(), *map(bias_of, outputs)), slopes, strict=True):
        if value is not None:
            part = (value * slope).abs()
            part = (part - part.min()) / (part - part.min()).max()
            total = total + F.interpolate(part, size=x.shape[2:], mode="bilinear", align_corners=True).sum(1, keepdim=True)
    return total[0].detach()


def bias_of(layer):
    bias = layer.bias
    if isinstance(layer, nn.BatchNorm2d):
        bias = layer.bias - layer.running_mean * layer.weight / (layer.running_var + layer.eps).sqrt()
    return None if bias is None else bias.detach().view(1, -1, 1, 1)


class Once(nn.Module):
    """The same module with no ReLU in place, so that a layer's output keeps its values and its gradient."""

    def __init__(self, module):
        super().__init__()
        self.module = module
        for layer in module.modules():
            if isinstance(layer, nn.ReLU):
                layer.inplace = False

    def forward(self, x):
        return self.module(x)


def test_the_map_is_the_authors(toy, image):
    module = Once(residual_module().eval())
    theirs = naive_map(module, image, 2)
    assert relative_error(ex.explain(toy, image, "full_grad", target=2).native, theirs) < 1e-4


def test_the_map_is_what_the_pixels_and_the_biases_give(toy, image):
    attribution = ex.explain(toy, image, "full_grad", target=2)
    assert torch.allclose(attribution.native, attribution.extras["pixels"] + attribution.extras["biases"])


def test_a_smooth_network_is_refused(image):
    smooth = classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8), nn.Tanh(), nn.Linear(8, 5)))
    with pytest.raises(ex.UnsupportedError, match="FullGrad needs a piecewise linear network .* Tanh"):
        ex.explain(smooth, image, "full_grad", target=0)
