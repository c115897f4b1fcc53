"""torchvision's ImageNet classifiers, with the weights that torchvision publishes for them.

Where several are published, IMAGENET1K_V1 is taken, which the attribution papers used. Nothing is downloaded except by
``published_weights``, and a file that torch has downloaded before is taken from its cache.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from explainers.errors import ExplainerError
from explainers.networks import imagenet
from explainers.networks.checkpoint_files import shown
from explainers.networks.checkpoints import read_weights
from explainers.networks.preprocessing import Preprocessing

DownloadProgress = Callable[[int, int], Any]

# The networks that the app offers: title and file of the published weights. A test compares the files with torchvision's table.
OFFERED: dict[str, tuple[str, str]] = {
    "squeezenet1_0": ("SqueezeNet 1.0", "squeezenet1_0-b66bff10.pth"),
    "mobilenet_v2": ("MobileNetV2", "mobilenet_v2-b0353104.pth"),
    "mobilenet_v3_large": ("MobileNetV3 Large", "mobilenet_v3_large-8738ca79.pth"),
    "resnet18": ("ResNet-18", "resnet18-f37072fd.pth"),
    "resnet50": ("ResNet-50", "resnet50-0676ba61.pth"),
    "vgg16": ("VGG16", "vgg16-397923af.pth"),
    "vgg19": ("VGG19", "vgg19-dcbb9e9d.pth"),
    "densenet121": ("DenseNet-121", "densenet121-a639ec97.pth"),
    "efficientnet_b0": ("EfficientNet-B0", "efficientnet_b0_rwightman-7f5810bc.pth"),
    "convnext_tiny": ("ConvNeXt Tiny", "convnext_tiny-983f1562.pth"),
    "vit_b_16": ("ViT-B/16", "vit_b_16-c867db91.pth"),
    "swin_t": ("Swin-T", "swin_t-704ceda3.pth"),
}


def is_downloaded(name: str) -> bool:
    """Whether the published weights of a network are in torch's cache. Raises ExplainerError for a name that is not known."""
    file = OFFERED[name][1] if name in OFFERED else published(name).url.rsplit("/", 1)[-1]
    return (_cache() / file).is_file()


def _cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _torchvision() -> Any:
    """torchvision, imported only when it is needed, because its import takes longer than running an embedded network."""
    from explainers.networks.torchvision_guard import torchvision
    return torchvision


def architectures() -> tuple[str, ...]:
    """The names of all image classifiers that torchvision can build."""
    models = _torchvision().models
    return tuple(models.list_models(module=models))


def check(name: str) -> None:
    """Raises ExplainerError for a name that torchvision does not know."""
    if name not in architectures():
        raise ExplainerError(f"torchvision has no classifier {shown(name)}; names are written like 'resnet50' or 'vgg16', and timm's "
                             "like 'timm/resnet50d'.")


def build(name: str, classes: int = 1000) -> nn.Module:
    """An untrained network. Raises ExplainerError for a name that torchvision does not know.

    The two networks with auxiliary heads change the normalisation of their input if they have ImageNet's classes, because the
    weights that torchvision publishes for them, and checkpoints made from these, need it.
    """
    check(name)
    extra = {"init_weights": False, "transform_input": classes == 1000} if name in {"googlenet", "inception_v3"} else {}
    return _torchvision().models.get_model(name, weights=None, num_classes=classes, **extra)


def head(name: str) -> str | None:
    """None: the layer that gives the logits is the last one of each network."""
    return None


def notes(name: str) -> tuple[str, ...]:
    """No lines: nothing about these networks needs to be said."""
    return ()


def published(name: str, weights: str = "IMAGENET1K_V1") -> Any:
    """torchvision's entry for published weights (url, transforms, meta). Raises ExplainerError for an unknown name of weights."""
    check(name)
    entries = {entry.name: entry for entry in _torchvision().models.get_model_weights(name)}
    if weights not in entries:
        raise ExplainerError(f"torchvision publishes {', '.join(entries)} for {name}, not {weights!r}.")
    return entries[weights]


def preprocessing(name: str) -> Preprocessing:
    """The same as torchvision's transforms for this architecture."""
    preset = published(name).transforms()
    return Preprocessing(preset.resize_size[0], preset.crop_size[0], tuple(preset.mean), tuple(preset.std),
                         preset.interpolation.value)


def categories(name: str, classes: int) -> tuple[str, ...]:
    """ImageNet's names where there are 1000 classes, else numbers."""
    return imagenet.categories() if classes == 1000 else imagenet.numbered(classes)


def published_weights(name: str, weights: str, progress: DownloadProgress | None) -> dict[str, Tensor]:
    """The published weights, from torch's cache or downloaded into it. Raises ExplainerError without a network."""
    url = published(name, weights).url
    path = _cache() / url.rsplit("/", 1)[-1]
    if not path.is_file():
        _download(url, path, name, progress)
    return read_weights(path)


def _download(url: str, path: Path, name: str, progress: DownloadProgress | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file, urllib.request.urlopen(url, timeout=30) as response:
            total, done = int(response.headers.get("Content-Length") or 0), 0
            while block := response.read(2**18):
                file.write(block)
                digest.update(block)
                done += len(block)
                if progress is not None:
                    progress(done, total)
        expected = re.search(r"-([0-9a-f]{8,})\.", path.name)
        if expected and not digest.hexdigest().startswith(expected[1]):
            raise ExplainerError(f"The downloaded weights of {name} are damaged (their checksum is wrong); try again.")
        os.replace(partial, path)
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise ExplainerError(
            f"The weights of {name} are not on this machine and could not be downloaded ({reason}): "
            "connect to the network and try again, or give a checkpoint file.") from error
    finally:
        Path(partial).unlink(missing_ok=True)
