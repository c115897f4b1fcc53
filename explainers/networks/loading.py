"""The list of available networks, and loading one: embedded, torchvision's, timm's, or a person's own checkpoint or module."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from explainers.errors import ExplainerError
from explainers.networks import efficientnet_lite0, own_modules, timm_models, torchvision_models
from explainers.networks.checkpoints import ModelCard, fit, num_classes, read_card, read_weights
from explainers.networks.classifier import Classifier
from explainers.networks.device import choose
from explainers.networks.embedded import EMBEDDED, load_weights
from explainers.networks.preprocessing import Preprocessing
from explainers.networks.torchvision_models import OFFERED, DownloadProgress

_SUFFIXES = (".safetensors", ".pth", ".pt")
_TRAINED_ON = {
    "photographs": "Trained on photographs (ImageNet, 1000 classes).",
    "scenes": "A small network trained on procedural scenes of two outlined shapes (8 classes).",
    "digits": "A small network trained on drawn digits (10 classes).",
    "cifar10": "A small network trained on CIFAR-10: photographs of animals and vehicles, 32 pixels a side (10 classes).",
}


@dataclass(frozen=True)
class ModelEntry:
    """One network that can be loaded by ``name``. ``ready``: its weights are on this machine.

    note: one line for people: what it was trained on, or why it cannot be loaded. training_data: as of ``Classifier``.
    """

    name: str
    title: str
    family: str  # "embedded", "torchvision", "timm" or "yours"
    ready: bool
    note: str = ""
    training_data: str = ""


def models() -> list[ModelEntry]:
    """The networks to choose from, the default first, then the small ones. Loads and downloads nothing."""
    lite0 = _entry(efficientnet_lite0.NAME, efficientnet_lite0.TITLE, "embedded", "photographs",
                   efficientnet_lite0.weights_file() is not None)
    embedded = [_entry(name, network.title, "embedded", network.training_data) for name, network in EMBEDDED.items()]
    public = [_entry(name, title, "torchvision", "photographs", torchvision_models.is_downloaded(name))
              for name, (title, _) in OFFERED.items()]
    functions = [ModelEntry(network.name, network.title, "yours", not network.fault, network.fault or f"From {network.file}.")
                 for network in own_modules.networks().values()]
    return [lite0, *embedded, *public, *(_own_entry(path) for path in _own_files()), *functions]


def _entry(name: str, title: str, family: str, training_data: str, ready: bool = True) -> ModelEntry:
    return ModelEntry(name, title, family, ready, _TRAINED_ON[training_data], training_data)


def architectures() -> tuple[str, ...]:
    """The names of all architectures that take a checkpoint: torchvision's, and timm's where it is installed, which is imported."""
    return torchvision_models.architectures() + (timm_models.architectures() if timm_models.is_installed() else ())


def public_entry(name: str) -> ModelEntry:
    """The entry of one of torchvision's or timm's architectures, which need not be in ``models()``. Raises ExplainerError."""
    if timm_models.is_timm(name):
        if not timm_models.is_published(name):
            return ModelEntry(name, name, "timm", False, f"timm publishes no weights of {name} that classify; use a checkpoint.")
        return _entry(name, name, "timm", "photographs", timm_models.is_downloaded(name))
    return _entry(name, name, "torchvision", "photographs", torchvision_models.is_downloaded(name))


def own_folder() -> Path | None:
    """The folder of a person's own checkpoints, from the environment variable EXPLORER_MODELS; None if it is not set."""
    folder = os.environ.get("EXPLORER_MODELS")
    return Path(folder) if folder else None


def _own_files() -> list[Path]:
    folder = own_folder()
    return sorted(p for p in folder.iterdir() if p.suffix in _SUFFIXES) if folder and folder.is_dir() else []


def _own_entry(path: Path) -> ModelEntry:
    try:
        card = read_card(path.with_suffix(".json"))
        return ModelEntry(path.stem, card.title or path.stem, "yours", True, f"Your checkpoint {path.name}, a {card.architecture}.")
    except ExplainerError as error:
        return ModelEntry(path.stem, path.stem, "yours", False, str(error))


def load_model(name: str, weights: str | Path | bytes | None = None, device: str | torch.device | None = None,
               progress: DownloadProgress | None = None) -> Classifier:
    """A classifier by name: an embedded network, one of your own, or any of torchvision's or timm's architectures.

    Your own are checkpoints in the folder EXPLORER_MODELS and the networks of the files in EXPLORER_NETWORKS (see ``own_modules``).
    timm's are written like ``timm/resnet50d``. weights: a checkpoint file (or its bytes) for an architecture, or the name of weights
    that torchvision publishes (``IMAGENET1K_V1`` by default). Published weights are downloaded unless they are here.
    device: "cuda", "mps" or "cpu"; by default the first that is available; your own functions choose theirs. progress:
    ``progress(done, total)`` in bytes of a download. Raises ExplainerError.
    """
    where = choose(device)
    if weights is None and (own := _own(name, where)) is not None:
        return own
    if weights is None or isinstance(weights, str) and weights.startswith("IMAGENET"):
        if timm_models.is_timm(name):
            return _published_by_timm(name, where)
        torchvision_models.check(name)
        published = torchvision_models.published_weights(name, weights or "IMAGENET1K_V1", progress)
        return _assembled(name, published, where, name=name, title=OFFERED.get(name, (name,))[0])
    return _assembled(name, read_weights(weights), where, name=name, title=OFFERED.get(name, (name,))[0])


def _own(name: str, device: torch.device) -> Classifier | None:
    """The network of this name that needs no download; None if there is none."""
    if name == efficientnet_lite0.NAME:
        return efficientnet_lite0.load(device)
    if name in EMBEDDED:
        return _embedded(name, device)
    own = {path.stem: path for path in _own_files()}
    if name in own:
        return _from_card(read_weights(own[name]), read_card(own[name].with_suffix(".json")), device, name)
    functions = own_modules.networks()
    return own_modules.load(functions[name]) if name in functions else None


def load_uploaded_model(filename: str, data: bytes, architecture: str, card: dict[str, Any] | None = None,
                        device: str | torch.device | None = None) -> Classifier:
    """A classifier from an uploaded checkpoint. card: the fields of a ``ModelCard``, if there is one."""
    title = Path(filename).stem or architecture
    weights = read_weights(data, filename)
    if card:
        fields = read_card({"title": title, **card, "architecture": architecture})
        return _from_card(weights, fields, choose(device), title)
    return _assembled(architecture, weights, choose(device), name=architecture, title=title)


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


def _from_card(weights: dict[str, Tensor], card: ModelCard, device: torch.device, name: str) -> Classifier:
    if card.architecture in EMBEDDED:
        raise ExplainerError(f"A card's architecture is one of torchvision's or timm's; {card.architecture} is an embedded network.")
    return _assembled(card.architecture, weights, device, name=name, title=card.title, classes=card.num_classes,
                      categories=card.categories, preprocessing=_card_preprocessing(card))


def _card_preprocessing(card: ModelCard) -> Preprocessing:
    """What the card states; for timm's architectures, what it does not state is as timm has it."""
    if not timm_models.is_timm(card.architecture):
        return Preprocessing(card.resize_size, card.input_size, card.mean, card.std)
    usual = timm_models.preprocessing(card.architecture)
    crop = card.input_size if "input_size" in card.stated else usual.crop
    resize = card.resize_size if "resize_size" in card.stated else crop * usual.resize // usual.crop
    mean, std = (getattr(card, field) if field in card.stated else getattr(usual, field) for field in ("mean", "std"))
    return Preprocessing(resize, crop, mean, std, usual.interpolation)


def _assembled(architecture: str, weights: dict[str, Tensor], device: torch.device, *, name: str, title: str,
               classes: int | None = None, categories: tuple[str, ...] = (),
               preprocessing: Preprocessing | None = None) -> Classifier:
    """A classifier of torchvision's or timm's with these weights. What is not given is taken from the weights and the library.

    Without categories the classes have ImageNet's names where there are 1000 of them, else numbers.
    """
    library = timm_models if timm_models.is_timm(architecture) else torchvision_models
    classes = classes or num_classes(weights, library.build(architecture), library.head(architecture))
    module = library.build(architecture, classes)
    fit(module, weights, architecture)
    names = categories or library.categories(architecture, classes)
    return Classifier(module, name=name, title=title, categories=names, device=device,
                      preprocessing=preprocessing or library.preprocessing(architecture), notes=library.notes(architecture),
                      training_data="photographs" if names == library.categories(architecture, 1000) else "")


def _published_by_timm(name: str, device: torch.device) -> Classifier:
    module = timm_models.published(name)
    classes = timm_models.classes(module)
    return Classifier(module, name=name, title=name, categories=timm_models.categories(name, classes), device=device,
                      preprocessing=timm_models.preprocessing(name), notes=timm_models.notes(name), training_data="photographs")
