"""timm's classifiers, with the weights that are published for them or with a person's own. timm is imported only when it is needed."""

from __future__ import annotations

import importlib.util
import urllib.request
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from explainers.errors import ExplainerError
from explainers.memory import ran_out
from explainers.networks import imagenet
from explainers.networks.checkpoint_files import shown
from explainers.networks.preprocessing import Preprocessing

PREFIX = "timm/"  # a name with this beginning means timm's network; timm and torchvision both have a resnet50
_FITS = {"squash": "stretch", "border": "whole"}  # timm's words for fitting a picture that is not cropped


def is_timm(name: str) -> bool:
    """Whether a network's name is one of timm's: ``timm/resnet50d``, or with a tag ``timm/resnet50d.ra2_in1k``."""
    return name.startswith(PREFIX)


def is_installed() -> bool:
    """Whether timm can be imported."""
    return importlib.util.find_spec("timm") is not None


def _timm() -> Any:
    if not is_installed():
        raise ExplainerError("Networks of timm need the package timm: run pip install timm.")
    from explainers.networks import torchvision_guard  # noqa: F401  timm imports torchvision, which must come through this file
    import timm  # isort: skip
    return timm


@cache
def architectures() -> tuple[str, ...]:
    """The names of timm's networks that classify pictures of three colours, as ``load_model`` takes them."""
    timm = _timm()
    return tuple(PREFIX + name for name in timm.list_models() if _is_classifier(timm.models.get_pretrained_cfg(name)))


def _is_classifier(config: Any) -> bool:
    square = config is not None and config.input_size[0] == 3 and config.input_size[1] == config.input_size[2]
    return square and config.classifier is not None


def _config(name: str) -> Any:
    """timm's settings of a network. Raises ExplainerError for a name that timm does not know."""
    timm = _timm()
    known = name.removeprefix(PREFIX)
    if not timm.models.is_model(timm.models.split_model_name_tag(known)[0]):
        raise ExplainerError(f"timm has no classifier {shown(known)}; names are written like 'timm/resnet50d'.")
    try:
        config = timm.models.get_pretrained_cfg(known)
    except RuntimeError as error:  # the name behind the dot is that of no published weights
        raise ExplainerError(f"timm has no weights {shown(known)}; leave out what is behind the dot.") from error
    if not _is_classifier(config):
        raise ExplainerError(f"{name} of timm does not classify square pictures of three colours; choose another.")
    return config


def build(name: str, classes: int | None = None) -> nn.Module:
    """An untrained network with ``classes`` outputs; 1000 by default. Raises ExplainerError for a name that timm does not know."""
    config = _config(name)
    return _timm().create_model(name.removeprefix(PREFIX), pretrained=False, num_classes=classes or config.num_classes or 1000)


def classes(module: Any) -> int:
    """How many classes a network of timm's has."""
    return int(module.num_classes)


def head(name: str) -> str:
    """The name of the layer that gives the logits."""
    classifier = _config(name).classifier
    return classifier if isinstance(classifier, str) else classifier[0]


def preprocessing(name: str) -> Preprocessing:
    """As timm evaluates the network: a centre crop of ``crop_pct`` of the resized picture."""
    config = _config(name)
    side = config.input_size[1]
    base = Preprocessing(max(side, int(side / config.crop_pct)), side, tuple(config.mean), tuple(config.std))
    return replace(base, interpolation="bicubic" if config.interpolation == "bicubic" else "bilinear")


def notes(name: str) -> tuple[str, ...]:
    """A line where timm fits pictures in another way than by a crop."""
    fit = _FITS.get(_config(name).crop_mode)
    return (f'timm evaluates this network on pictures that are fitted by "{fit}", not by "crop".',) if fit else ()


def categories(name: str, classes: int) -> tuple[str, ...]:
    """The names of the classes: ImageNet's for 1000 of them, timm's where the published weights have as many, else numbers."""
    if classes == 1000:
        return imagenet.categories()
    config = _config(name)
    from timm.data import ImageNetInfo, infer_imagenet_subset
    subset = infer_imagenet_subset(config.to_dict()) if classes == config.num_classes else None
    if subset is not None:
        info = ImageNetInfo(subset)
        if info.num_classes() == classes:
            return tuple(info.index_to_description(index).split(",")[0] for index in range(classes))
    return imagenet.numbered(classes)


def is_published(name: str) -> bool:
    """Whether weights with a classifier's head are published."""
    config = _config(name)
    return bool(config.num_classes and (config.hf_hub_id or config.url))


def is_downloaded(name: str) -> bool:
    """Whether the published weights are in Hugging Face's or torch's cache."""
    config = _config(name)
    if config.hf_hub_id:
        from huggingface_hub import try_to_load_from_cache
        files = ("model.safetensors", "pytorch_model.bin")
        if any(isinstance(try_to_load_from_cache(config.hf_hub_id, file), str) for file in files):
            return True
    return bool(config.url) and (Path(torch.hub.get_dir()) / "checkpoints" / config.url.rsplit("/", 1)[-1]).is_file()


def published(name: str) -> nn.Module:
    """The network with its published weights, which are downloaded unless they are here. Raises ExplainerError without a network."""
    if not is_published(name):
        raise ExplainerError(f"timm publishes no weights of {name} that classify; give a checkpoint file.")
    try:
        if not is_downloaded(name):
            _reach(name)
        return _timm().create_model(name.removeprefix(PREFIX), pretrained=True)
    except Exception as error:  # the download and the reading of the file fail in many ways
        if ran_out(error):
            raise
        reason = (str(getattr(error, "reason", error)).strip().splitlines() or [""])[0][:160]
        raise ExplainerError(
            f"The weights of {name} are not on this machine and could not be downloaded ({reason}): "
            "connect to the network and try again, or give a checkpoint file.") from error


def _reach(name: str) -> None:
    """Raises URLError where Hugging Face's server cannot be reached; its own client would try again for a minute."""
    repository = _config(name).hf_hub_id
    if repository:
        from huggingface_hub.constants import ENDPOINT
        urllib.request.urlopen(f"{ENDPOINT}/{repository}/resolve/main/config.json", timeout=15).close()
