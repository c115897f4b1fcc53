"""The list of available networks, and loading one: embedded, torchvision's, or a person's own checkpoint."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from explainers.errors import ExplainerError
from explainers.networks import torchvision_models
from explainers.networks.checkpoints import ModelCard, fit, num_classes, read_card, read_weights
from explainers.networks.classifier import Classifier
from explainers.networks.device import choose
from explainers.networks.embedded import EMBEDDED, load_weights
from explainers.networks.preprocessing import Preprocessing
from explainers.networks.torchvision_models import OFFERED, DownloadProgress

_SUFFIXES = (".safetensors", ".pth", ".pt")


@dataclass(frozen=True)
class ModelEntry:
    """One network that can be loaded by ``name``. ``ready``: its weights are on this machine."""

    name: str
    title: str
    family: str  # "embedded", "torchvision" or "yours"
    ready: bool
    note: str = ""


def models() -> list[ModelEntry]:
    """Every network that can be loaded by name, the embedded ones first. Loads and downloads nothing."""
    embedded = [ModelEntry(name, network.title, "embedded", True) for name, network in EMBEDDED.items()]
    public = [ModelEntry(name, title, "torchvision", torchvision_models.is_downloaded(name), "ImageNet, 1000 classes")
              for name, (title, _) in OFFERED.items()]
    return embedded + public + [_own_entry(path) for path in _own_files()]


def own_folder() -> Path | None:
    """The folder of a person's own checkpoints, from the environment variable EXPLORER_MODELS; None if it is not set."""
    folder = os.environ.get("EXPLORER_MODELS")
    return Path(folder) if folder else None


def _own_files() -> list[Path]:
    folder = own_folder()
    return sorted(p for p in folder.iterdir() if p.suffix in _SUFFIXES) if folder and folder.is_dir() else []


def _own_entry(path: Path) -> ModelEntry:
    try:
        return ModelEntry(path.stem, read_card(path.with_suffix(".json")).title or path.stem, "yours", True)
    except ExplainerError as error:
        return ModelEntry(path.stem, path.stem, "yours", False, str(error))


def load_model(name: str, weights: str | Path | bytes | None = None, device: str | torch.device | None = None,
               progress: DownloadProgress | None = None) -> Classifier:
    """A classifier by name: an embedded network, a checkpoint in the folder EXPLORER_MODELS, or any torchvision architecture.

    weights: a checkpoint file (or its bytes) for a torchvision architecture, or the name of weights that torchvision
    publishes (``IMAGENET1K_V1`` by default). device: "cuda", "mps" or "cpu"; by default the first that is available.
    progress: ``progress(done, total)`` in bytes of a download. Raises ExplainerError.
    """
    where = choose(device)
    if name in EMBEDDED and weights is None:
        return _embedded(name, where)
    own = {path.stem: path for path in _own_files()}
    if name in own and weights is None:
        return _from_card(read_weights(own[name]), read_card(own[name].with_suffix(".json")), where, name)
    if weights is None or isinstance(weights, str) and weights.startswith("IMAGENET"):
        module = torchvision_models.build(name)
        chosen = weights or "IMAGENET1K_V1"
        return _torchvision(name, module, torchvision_models.published_weights(name, chosen, progress), where)
    return _checkpoint(name, read_weights(weights), where)


def load_uploaded_model(filename: str, data: bytes, architecture: str, card: dict[str, Any] | None = None,
                        device: str | torch.device | None = None) -> Classifier:
    """A classifier from an uploaded checkpoint. card: the fields of a ``ModelCard``, if there is one."""
    fields = {"title": Path(filename).stem or architecture, **(card or {}), "architecture": architecture}
    weights = read_weights(data, filename)
    if card:
        return _from_card(weights, read_card(fields), choose(device), Path(filename).stem)
    return _checkpoint(architecture, weights, choose(device), title=str(fields["title"]))


def _embedded(name: str, device: torch.device) -> Classifier:
    network = EMBEDDED[name]
    module = network.build()
    try:
        fit(module, load_weights(name), name)
    except FileNotFoundError as error:
        raise ExplainerError(f"The weights of {name} are missing from assets/networks; restore that folder.") from error
    side = network.input_size
    return Classifier(module, name=name, title=network.title, categories=network.categories, device=device,
                      preprocessing=Preprocessing(side, side, network.mean, network.std), training_data=network.training_data)


def _torchvision(name: str, module: nn.Module, weights: dict[str, Tensor], device: torch.device, title: str = "") -> Classifier:
    fit(module, weights, name)
    title = title or OFFERED.get(name, (name,))[0]
    return Classifier(module, name=name, title=title, categories=torchvision_models.imagenet_categories(name),
                      preprocessing=torchvision_models.preprocessing(name), device=device)


def _checkpoint(name: str, weights: dict[str, Tensor], device: torch.device, title: str = "") -> Classifier:
    """A checkpoint without a card. Its classes have ImageNet's names if there are 1000 of them, else numbers."""
    module = torchvision_models.build(name)
    classes = num_classes(weights, module)
    if classes == 1000:
        return _torchvision(name, module, weights, device, title)
    module = torchvision_models.build(name, classes)
    fit(module, weights, name)
    return Classifier(module, name=name, title=title or name, categories=_numbered(classes), device=device,
                      preprocessing=torchvision_models.preprocessing(name))


def _from_card(weights: dict[str, Tensor], card: ModelCard, device: torch.device, name: str) -> Classifier:
    if card.architecture in EMBEDDED:
        raise ExplainerError(f"A card's architecture is one of torchvision's; {card.architecture} is an embedded network.")
    classes = card.num_classes or num_classes(weights, torchvision_models.build(card.architecture))
    module = torchvision_models.build(card.architecture, classes)
    fit(module, weights, card.architecture)
    names = card.categories or (torchvision_models.imagenet_categories(card.architecture) if classes == 1000 else _numbered(classes))
    return Classifier(module, name=name, title=card.title, categories=names, device=device,
                      preprocessing=Preprocessing(card.resize_size, card.input_size, card.mean, card.std))


def _numbered(classes: int) -> tuple[str, ...]:
    return tuple(f"class {index}" for index in range(classes))
