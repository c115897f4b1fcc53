"""The small classifiers that come with the package: four for scenes, two for digits, seven for CIFAR-10.

They are ordinary torch modules, each with a structure that some attribution methods need or have difficulty with: a VGG with
biases and a dense head, a residual network that calls one ReLU module twice in a block (as torchvision's do), a bias-free VGG with
no-implicit-bias (NIB) normalisation for which f(a x) = a f(x) for a > 0, a vision transformer with a class token, and the MLP and
CNN of the MIP-IN paper. For CIFAR-10 there are bias-free VGGs of three depths, the middle one also with biases (the ablation of the
Attribution Mask paper), and the MIP-IN paper's CNN. Their weights are in ``assets/networks``, in the compact form of ``weight_files``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from explainers.data import cifar10
from explainers.data.scenes import CLASSES
from explainers.networks.weight_files import unpacked

WEIGHTS = Path(__file__).resolve().parents[2] / "assets" / "networks"


@dataclass(frozen=True)
class EmbeddedNetwork:
    """The declaration of one network. Pixels from 0 to 1 are normalised as (x - mean) / std for each channel."""

    name: str
    title: str
    build: Callable[[], nn.Module]
    channels: int
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    categories: tuple[str, ...]
    training_data: str  # the images that it was trained on: "scenes", "digits" or "cifar10"


class NIBBatchNorm2d(nn.Module):
    """Batch normalisation without implicit bias: it divides by the standard deviation and does not subtract the mean.

    In training y = gamma x / sqrt(Var_batch(x) + eps), with the variance about the batch mean; evaluation uses the running
    (unbiased) variance. Without mean and beta the layer only scales, so a bias-free network stays homogeneous.
    """

    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            variance = x.var((0, 2, 3), unbiased=False)
            count = x.numel() / x.shape[1]
            self.running_var.lerp_(variance.detach() * (count / (count - 1)), self.momentum)
        else:
            variance = self.running_var
        return x * (self.weight * torch.rsqrt(variance + self.eps))[:, None, None]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; one ``relu`` module is called twice."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.relu = nn.ReLU()
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != channels_out:
            shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(out + shortcut)


class ScenesResNet(nn.Module):
    """A residual network for 128x128 scenes: a stem with pooling to 32x32, then three blocks to an 8x8 map."""

    def __init__(self, classes: int = len(CLASSES)) -> None:
        super().__init__()
        stem = (nn.Conv2d(3, 16, 5, 2, 2, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2))
        self.stem = nn.Sequential(*stem)
        self.layer1 = ResidualBlock(16, 32, 2)
        self.layer2 = ResidualBlock(32, 64, 1)
        self.layer3 = ResidualBlock(64, 128, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # (B, 16, 32, 32)
        x = self.layer3(self.layer2(self.layer1(x)))  # (B, 128, 8, 8)
        return self.fc(torch.flatten(self.avgpool(x), 1))


def _vgg(biased: bool, normalised: bool, hidden: int = 128) -> nn.Module:
    """Convolutions with pooling from 128 to 4 pixels a side, and a dense head. The last map before a pool is 8x8."""
    widths = (16, None, 32, None, 64, 64, None, 96, None)  # None: max-pooling
    layers: list[nn.Module] = []
    channels = 3
    for width in widths:
        if width is None:
            layers.append(nn.MaxPool2d(2))
            continue
        # The first convolution has stride 2, because at stride 1 its pool alone would cost as much as all later layers.
        kernel, stride = (5, 2) if channels == 3 else (3, 1)
        layers.append(nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=biased))
        if normalised:
            layers.append(NIBBatchNorm2d(width))
        layers.append(nn.ReLU())
        channels = width
    head = (nn.Flatten(), nn.Linear(channels * 4 * 4, hidden, bias=biased), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(hidden, len(CLASSES), bias=biased))
    return nn.Sequential(*layers, *head)


def _scenes_vgg() -> nn.Module:
    return _vgg(biased=True, normalised=False)


def _scenes_nib_vgg() -> nn.Module:
    return _vgg(biased=False, normalised=True)


def _scenes_vit() -> nn.Module:
    """torchvision's vision transformer for 128x128 scenes: 64 patches of 16x16 pixels and a class token, four blocks of four heads."""
    from explainers.networks.torchvision_guard import torchvision

    return torchvision.models.VisionTransformer(128, 16, 4, 4, 96, 192, num_classes=len(CLASSES))


def _digits_mlp() -> nn.Module:
    """MLP-M of the MIP-IN paper: 784-512-512-10."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 512), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(512, 10),
    )  # fmt: skip


def _digits_cnn() -> nn.Module:
    """CNN-M of the MIP-IN paper: two unpadded convolutions, one pool, two dense layers."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5), nn.ReLU(),  # (B, 16, 24, 24)
        nn.Conv2d(16, 64, 3), nn.ReLU(),  # (B, 64, 22, 22)
        nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.3),
        nn.Linear(64 * 11 * 11, 512), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(512, 10),
    )  # fmt: skip


def _cifar_vgg(widths: tuple[int | None, ...], hidden: int, layer_bias: bool = False, norm_bias: bool = False) -> nn.Module:
    """A small VGG for 32x32 pictures in the style of the Attribution Mask paper's table 1; None among the widths is max-pooling.

    The paper's networks have no bias anywhere (NIB). Its ablation (table 5) adds ``layer_bias``, the biases of all convolutions and
    dense layers (LB), and ``norm_bias``, ordinary batch norm with mean and beta (BNB). The paper's channels (64 to 512) and dense
    layers (two of 4096) are much wider, and it has dropout, which these networks are too small to need.
    """
    layers: list[nn.Module] = []
    channels, side = 3, cifar10.SIDE
    for width in widths:
        if width is None:
            layers.append(nn.MaxPool2d(2))
            side //= 2
            continue
        norm = nn.BatchNorm2d(width) if norm_bias else NIBBatchNorm2d(width)
        layers += [nn.Conv2d(channels, width, 3, 1, 1, bias=layer_bias), norm, nn.ReLU()]
        channels = width
    head = (nn.Flatten(), nn.Linear(channels * side * side, hidden, bias=layer_bias), nn.ReLU(),
            nn.Linear(hidden, len(cifar10.CLASSES), bias=layer_bias))
    return nn.Sequential(*layers, *head)


_FOUR = (16, 16, None, 32, 32, None)  # the widths of 4, 6 and 8 convolutions; a pool follows each pair, as in the paper's VGG13
_SIX = (*_FOUR, 48, 48, None)
_EIGHT = (*_SIX, 48, 48, None)


def _cifar_cnn() -> nn.Module:
    """CNN-C of the MIP-IN paper: three unpadded convolutions, two pools, two dense layers."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(),  # (B, 32, 30, 30)
        nn.Conv2d(32, 64, 3), nn.ReLU(),  # (B, 64, 28, 28)
        nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3), nn.ReLU(),  # (B, 64, 12, 12)
        nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.2),
        nn.Linear(64 * 6 * 6, 512), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(512, 10),
    )  # fmt: skip


def _scenes(name: str, title: str, build: Callable[[], nn.Module]) -> EmbeddedNetwork:
    return EmbeddedNetwork(name, title, build, 3, 128, (0.45, 0.45, 0.45), (0.25, 0.25, 0.25), CLASSES, "scenes")


def _digits(name: str, title: str, build: Callable[[], nn.Module]) -> EmbeddedNetwork:
    # The MIP-IN paper scales MNIST to 0..1 and does not normalise it.
    return EmbeddedNetwork(name, title, build, 1, 28, (0.0,), (1.0,), tuple("0123456789"), "digits")


def _cifar(name: str, title: str, build: Callable[[], nn.Module]) -> EmbeddedNetwork:
    mean, std = (0.507, 0.487, 0.441), (0.267, 0.256, 0.276)  # those of the Attribution Mask paper's code
    return EmbeddedNetwork(name, title, build, 3, cifar10.SIDE, mean, std, cifar10.CLASSES, "cifar10")


_DRAWN: dict[str, EmbeddedNetwork] = {
    network.name: network for network in (
        _scenes("scenes_vgg", "Scenes: VGG with biases", _scenes_vgg),
        _scenes("scenes_resnet", "Scenes: residual network", ScenesResNet),
        _scenes("scenes_nib_vgg", "Scenes: VGG without biases (NIB)", _scenes_nib_vgg),
        _scenes("scenes_vit", "Scenes: vision transformer", _scenes_vit),
        _digits("digits_mlp", "Digits: MLP-M of MIP-IN", _digits_mlp),
        _digits("digits_cnn", "Digits: CNN-M of MIP-IN", _digits_cnn),
    )
}
CIFAR: dict[str, EmbeddedNetwork] = {
    network.name: network for network in (
        _cifar("cifar_nib_vgg4", "CIFAR-10: NIB VGG, 4 convolutions", lambda: _cifar_vgg(_FOUR, 32)),
        _cifar("cifar_nib_vgg6", "CIFAR-10: NIB VGG, 6 convolutions", lambda: _cifar_vgg(_SIX, 64)),
        _cifar("cifar_nib_vgg8", "CIFAR-10: NIB VGG, 8 convolutions", lambda: _cifar_vgg(_EIGHT, 64)),
        _cifar("cifar_vgg6_lb", "CIFAR-10: VGG, 6 convolutions, layer biases (LB)", lambda: _cifar_vgg(_SIX, 64, layer_bias=True)),
        _cifar("cifar_vgg6_bnb", "CIFAR-10: VGG, 6 convolutions, batch-norm biases (BNB)",
               lambda: _cifar_vgg(_SIX, 64, norm_bias=True)),
        _cifar("cifar_vgg6_lb_bnb", "CIFAR-10: VGG, 6 convolutions, all biases (LB + BNB)",
               lambda: _cifar_vgg(_SIX, 64, layer_bias=True, norm_bias=True)),
        _cifar("cifar_cnn", "CIFAR-10: CNN-C of MIP-IN", _cifar_cnn),
    )
}

EMBEDDED: dict[str, EmbeddedNetwork] = _DRAWN | CIFAR


def load_weights(name: str, folder: Path = WEIGHTS) -> dict[str, Tensor]:
    """The state dict of an embedded network as float32, from its compact file. Raises KeyError for an unknown name."""
    if name not in EMBEDDED:
        raise KeyError(f"no embedded network is called {name!r}; there are {', '.join(EMBEDDED)}")
    return unpacked(load_file(folder / f"{name}.safetensors"))
