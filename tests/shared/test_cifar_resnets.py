"""A person's own module, as README shows it: the CIFAR-10 ResNets of He et al. (section 4.2) with their weights, on test images."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import explainers as ex
from explainers.networks.checkpoints import read_weights

pytestmark = pytest.mark.shared

IMAGES = 300
# Percent of the test images. The published 91.8 and 93.6 are of the original images; these are JPEG files of less than 1 kB.
AT_LEAST = {20: 76, 56: 80}


class Block(nn.Module):
    """Two 3x3 convolutions; the shortcut takes every second pixel and pads the new channels with zeros (option A)."""

    def __init__(self, channels_in: int, channels: int):
        super().__init__()
        self.stride, self.padded = channels // channels_in, (channels - channels_in) // 2
        self.conv1 = nn.Conv2d(channels_in, channels, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.padded:
            x = F.pad(x[:, :, ::self.stride, ::self.stride], (0, 0, 0, 0, self.padded, self.padded))
        return F.relu(out + x)


class ResNet(nn.Module):
    """6 n + 2 layers for images of 32x32."""

    def __init__(self, n: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(Block(16, 16) for _ in range(n)))
        self.layer2 = nn.Sequential(Block(16, 32), *(Block(32, 32) for _ in range(n - 1)))
        self.layer3 = nn.Sequential(Block(32, 64), *(Block(64, 64) for _ in range(n - 1)))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(maps.mean((2, 3)))


@pytest.mark.parametrize("depth", [20, 56])
def test_its_predictions_are_right_and_every_method_can_explain_it(depth, shared_data):
    stored = np.load(shared_data / "cifar10" / "test.npz")
    module = ResNet((depth - 2) // 6)
    module.load_state_dict(read_weights(shared_data / "weights" / f"resnet{depth}-cifar10.safetensors"))
    network = ex.classifier(module, categories=stored["classes"], input_size=32, title=f"CIFAR-10 ResNet-{depth}", device="cpu")
    encoded, offsets = stored["images"], stored["offsets"]
    images = torch.cat([network.preprocess(Image.open(BytesIO(encoded[offsets[i]:offsets[i + 1]].tobytes()))) for i in range(IMAGES)])
    right = network.predict(images).argmax(1).numpy() == stored["labels"][:IMAGES]
    assert 100 * right.mean() >= AT_LEAST[depth]
    assert network.notes == () and len(network.graph.named("relu")) == depth - 1
    assert network.graph.nonlinear_layers() == ()
