"""Small networks with everything that is hard for a method: a reused in-place ReLU, a residual sum, batch norm, biases, a max-pool."""

from __future__ import annotations

import torch
from torch import nn

from explainers.networks.classifier import Classifier
from explainers.networks.preprocessing import Preprocessing

APP_NETWORK = "scenes_vgg"  # on which tests open the app unless they say otherwise: small, and its scenes have a known truth


class Residual(nn.Module):
    """A block that, like torchvision's, calls one in-place ReLU twice."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.conv2(out)
        out += x
        return self.relu(out)


def seeded(build, seed: int = 0) -> nn.Module:
    """A module with weights from one seed, its batch norms away from the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = build()
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.normal_(part.running_mean, std=0.2)
                nn.init.uniform_(part.running_var, 0.5, 2.0)
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.normal_(part.bias, std=0.2)
    return module


def classifier(module: nn.Module, side: int = 32, classes: int = 5, channels: int = 3, name: str = "toy") -> Classifier:
    """A classifier around a module; pixels are normalised with mean 1/2 and deviation 1/4."""
    return Classifier(module, name=name, title="Toy", categories=[f"class {i}" for i in range(classes)],
                      preprocessing=Preprocessing(side, side, (0.5,) * channels, (0.25,) * channels))


def residual_module() -> nn.Module:
    return seeded(lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(inplace=True), Residual(8), nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5)))


class LinearProbability(nn.Module):
    """Class 0's softmax probability is exactly 1/2 + <w, x>."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(8)) * 0.002)

    def forward(self, x):
        q = (0.5 + (x * self.weight).sum((1, 2, 3))).clamp(1e-4, 1 - 1e-4)
        return torch.stack((q.log(), (1 - q).log()), 1)


class SeesPatch(nn.Module):
    """Class 0 is likely when rows 16 to 23, columns 8 to 15 are bright."""

    def forward(self, x):
        seen = x[:, :, 16:24, 8:16].mean((1, 2, 3))
        return torch.stack((4 * seen - 2, torch.zeros_like(seen)), 1)


def drawn_images(count: int, seed: int, side: int = 32, channels: int = 3) -> torch.Tensor:
    """(count, channels, side, side) from a standard normal distribution, as if normalised."""
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(seed))


def normal(*size: int, seed: int = 0) -> torch.Tensor:
    """Numbers from a standard normal distribution, in double precision."""
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
