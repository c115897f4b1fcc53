"""The list of available networks, and loading one: embedded, torchvision's, timm's, or a person's own checkpoint or module."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from explainers.errors import ExplainerError
from explainers.memory import in_one_sentence
from explainers.networks import efficientnet_lite0, own_checkpoints, own_modules, rehearsal, timm_models, torchvision_models
from explainers.networks.checkpoint_files import readable
from explainers.networks.checkpoints import read_weights
from explainers.networks.classifier import Classifier
from explainers.networks.device import choose
from explainers.networks.embedded import EMBEDDED, load_weights
from explainers.networks.fitting import fit, num_classes
from explainers.networks.model_cards import ModelCard, read_card
from explainers.networks.preprocessing import Preprocessing
from explainers.networks.torchvision_models import OFFERED, DownloadProgress

_TRAINED_ON = {
    "photographs": "Trained on photographs (ImageNet, 1000 classes).",
    "scenes": "A small network trained on drawn scenes of one object each (16 classes).",
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
    own = _own_entries()
    return [lite0, *embedded, *public, *own, *_own_functions({entry.name for entry in own})]


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


def _listed() -> set[str]:
    """The names of the networks that are always in the list, which a person's own files do not take."""
    return {efficientnet_lite0.NAME, *EMBEDDED, *OFFERED}


def _own_entries() -> list[ModelEntry]:
    try:
        return [_own_entry(name, path) for name, path in own_checkpoints.files(_listed()).items()]
    except ExplainerError as error:
        return [ModelEntry(own_checkpoints.VARIABLE, "Your folder of checkpoints", "yours", False, str(error))]


def _own_entry(name: str, path: Path) -> ModelEntry:
    file = readable(path.name)
    try:
        card = own_checkpoints.card_of(path)
    except ExplainerError as error:
        return ModelEntry(name, name, "yours", False, str(error))
    note = f"Your checkpoint {file}, a {card.architecture}."
    if name != (stem := readable(path.stem)):
        note += f" It is called {name}, because there is another network {stem}."
    return ModelEntry(name, card.title or name, "yours", True, note)


def _own_functions(taken: Collection[str]) -> list[ModelEntry]:
    """The networks of a person's Python files. taken: the names of the person's checkpoints, which come first."""
    entries = []
    for network in own_modules.networks().values():
        fault = network.fault
        if network.name in taken:
            fault = f"A checkpoint in {own_checkpoints.VARIABLE} is called {network.name}, too; rename it, or the function."
        name = f"{network.name} of {network.file}" if network.name in taken else network.name
        entries.append(ModelEntry(name, network.title, "yours", not fault, fault or f"From {network.file}."))
    return entries


@in_one_sentence("this network")
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
    own = own_checkpoints.files(_listed())
    if name in own:
        card = own_checkpoints.card_of(own[name])
        return _from_card(read_weights(own[name]), card, device, name)
    functions = own_modules.networks()
    return own_modules.load(functions[name]) if name in functions else None


@in_one_sentence("this network")
def load_uploaded_model(filename: str, data: bytes, architecture: str, card: dict[str, Any] | None = None,
                        device: str | torch.device | None = None) -> Classifier:
    """A classifier from an uploaded checkpoint. card: the fields of a ``ModelCard``, if there is one."""
    title = readable(Path(filename).stem or architecture)
    fields = read_card({"title": title, **card, "architecture": architecture}) if card else None
    weights = read_weights(data, filename)
    if fields:
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
    if classes is None:
        any_classes = rehearsal.without_memory(lambda: library.build(architecture))
        classes = num_classes(weights, any_classes, library.head(architecture))
    usual = library.preprocessing(architecture)
    preprocessing = preprocessing or usual
    rehearsed = rehearsal.without_memory(lambda: library.build(architecture, classes))
    fit(rehearsed, rehearsal.shapes(weights), architecture)
    rehearsal.check_size(rehearsed, preprocessing.crop, usual.crop, title)
    module = library.build(architecture, classes)
    fit(module, weights, architecture)
    names = categories or library.categories(architecture, classes)
    network = Classifier(module, name=name, title=title, categories=names, device=device, preprocessing=preprocessing,
                         notes=library.notes(architecture),
                         training_data="photographs" if names == library.categories(architecture, 1000) else "")
    rehearsal.check_logits(network)
    return network


def _published_by_timm(name: str, device: torch.device) -> Classifier:
    module = timm_models.published(name)
    classes = timm_models.classes(module)
    return Classifier(module, name=name, title=name, categories=timm_models.categories(name, classes), device=device,
                      preprocessing=timm_models.preprocessing(name), notes=timm_models.notes(name), training_data="photographs")
