"""Twelve small networks, one for each kind of architecture that people explain, with 3 x 32 x 32 images and 5 classes.

Their weights are random. torchvision and timm build the ones that follow a published design, with few and narrow layers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import nn

from explainers.contract import Method
from explainers.networks.classifier import Classifier
from explainers.networks.torchvision_guard import torchvision

from .networks import classifier, residual_module, seeded

CLASSES = 5


def plain() -> nn.Module:
    """Like VGG: convolutions, ReLUs, max-pooling, a dense head with a hidden layer."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(inplace=True),
        nn.MaxPool2d(2), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(12 * 16, 24), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(24, CLASSES))


def batch_normed() -> nn.Module:
    """Convolutions with batch norm in one chain."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(12 * 16, CLASSES))


def mobile() -> nn.Module:
    """Inverted residuals with ReLU6, as MobileNetV2, whose last 1280 channels are 24 here."""
    from torchvision.ops.misc import Conv2dNormActivation

    network = torchvision.models.MobileNetV2(CLASSES, inverted_residual_setting=[[1, 8, 1, 1], [4, 12, 2, 2]])
    channels = network.features[-1][0].in_channels
    network.features[-1] = Conv2dNormActivation(channels, 24, kernel_size=1, activation_layer=nn.ReLU6)
    network.classifier = nn.Sequential(nn.Dropout(), nn.Linear(24, CLASSES))
    with torch.no_grad():
        network.classifier[1].weight[0].abs_()  # every feature speaks for the first class; else Grad-CAM's map may be 0 everywhere
    return network


def squeeze_excite() -> nn.Module:
    """Inverted residuals with squeeze-and-excitation and SiLU, as EfficientNet."""
    from torchvision.models.efficientnet import EfficientNet, MBConvConfig

    blocks = [MBConvConfig(1, 3, 1, 8, 8, 1), MBConvConfig(4, 3, 2, 8, 12, 2)]
    return EfficientNet(blocks, dropout=0.2, num_classes=CLASSES, last_channel=32)


def dense() -> nn.Module:
    """Dense blocks, whose layers are concatenated, as DenseNet."""
    return torchvision.models.DenseNet(growth_rate=4, block_config=(2, 2), num_init_features=8, num_classes=CLASSES)


def convnext() -> nn.Module:
    """Large depthwise convolutions with layer norm and GELU, as ConvNeXt."""
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    return ConvNeXt([CNBlockConfig(12, 20, 1), CNBlockConfig(20, None, 1)], num_classes=CLASSES)


def vit() -> nn.Module:
    """torchvision's vision transformer: a class token, ``nn.MultiheadAttention``."""
    network = torchvision.models.VisionTransformer(32, 4, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=CLASSES)
    nn.init.normal_(network.heads.head.weight)  # torchvision begins with zeros, so that all logits are equal
    return network


def deit() -> nn.Module:
    """timm's distilled DeiT: two tokens that are read, a fused attention function."""
    import timm

    return timm.create_model("deit_tiny_distilled_patch16_224", img_size=32, patch_size=4, depth=2, embed_dim=16, num_heads=2,
                             num_classes=CLASSES, weight_init="")


def swin() -> nn.Module:
    """torchvision's Swin transformer: attention in shifted windows, channels last, no class token."""
    return torchvision.models.SwinTransformer([2, 2], 16, [2, 2], [2, 2], [4, 4], num_classes=CLASSES)


class Untraceable(nn.Module):
    """A network that decides by the values of the image what to compute, which no trace can follow."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 256, CLASSES))

    def forward(self, x):
        return self.body(x) if x.abs().sum() >= 0 else self.body(-x)


def one_layer() -> nn.Module:
    """One dense layer on the pixels."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, CLASSES))


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "plain (VGG)": plain, "residual (ResNet)": residual_module, "batch-normed chain": batch_normed, "ReLU6 (MobileNetV2)": mobile,
    "squeeze-excite (EfficientNet)": squeeze_excite, "dense (DenseNet)": dense, "ConvNeXt": convnext, "ViT (torchvision)": vit,
    "DeiT (timm, distilled)": deit, "Swin (torchvision)": swin, "untraceable": Untraceable, "one dense layer": one_layer,
}


@cache
def architecture(name: str) -> Classifier:
    """The classifier of this name; built once."""
    return classifier(seeded(ARCHITECTURES[name], 4), name=name, classes=CLASSES)


@cache
def tiny_transformer() -> Classifier:
    """torchvision's vision transformer of three blocks with 8 x 8 patches; what methods on attention are tested on."""
    return architecture("ViT (torchvision)")


def open_softmax(values: torch.Tensor) -> torch.Tensor:
    """A softmax over the last dimension, written out."""
    powers = (values - values.amax(-1, keepdim=True)).exp()
    return powers / powers.sum(-1, keepdim=True)


@cache
def _residual() -> Classifier:
    return classifier(residual_module())


def suited(method: Method) -> Classifier:
    """The network that a method is tested on: a residual one, or a transformer for methods that need attention."""
    return _residual() if method.lacks(_residual()) is None else tiny_transformer()
