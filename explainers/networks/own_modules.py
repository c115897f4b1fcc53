"""A person's own torch modules as classifiers, and Python files whose functions return them.

A file is named by the owner of the machine, in the environment variable EXPLORER_NETWORKS (several are separated as in PATH) or by
``streamlit run app.py -- --networks my_nets.py``; no other file is ever run. Its networks are the functions in its dict
``NETWORKS``, by name; without such a dict, all its public functions that need no arguments. Each is called when it is chosen. A file
that fails, or that runs on without an end, is a network that cannot be loaded, and the others stand.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from explainers.errors import ExplainerError
from explainers.keys import key_of
from explainers.memory import in_one_sentence, ran_out
from explainers.networks.checkpoint_files import MAX_SIDE, readable
from explainers.networks.classifier import Classifier
from explainers.networks.device import choose
from explainers.networks.imagenet import numbered
from explainers.networks.outputs import count_outputs
from explainers.networks.patience import Patient, StillRunning
from explainers.networks.preprocessing import FILTERS, IMAGENET_MEAN, IMAGENET_STD, Preprocessing

VARIABLE = "EXPLORER_NETWORKS"
READ_SECONDS = 20.0  # for running a file; a page waits that long for it once


@in_one_sentence("this network")
def classifier(module: nn.Module, *, categories: Iterable[str] | None = None, input_size: int = 224, resize: int | None = None,
               mean: Iterable[float] = IMAGENET_MEAN, std: Iterable[float] = IMAGENET_STD, interpolation: str = "bilinear",
               name: str = "", title: str = "", training_data: str = "", device: str | torch.device | None = None) -> Classifier:
    """A classifier made of your own module, which takes images (N, C, input_size, input_size) and returns logits (N, K).

    categories: the K names of the classes; numbers by default. resize: the shorter side before the centre crop of ``input_size``, by
    default as large. mean, std: of pixels from 0 to 1, one number for each of the C channels (1 or 3). training_data: "scenes",
    "digits", "cifar10" or "photographs" where the network was trained on such pictures. Raises ExplainerError.
    """
    if not isinstance(module, nn.Module):
        raise ExplainerError(f"A classifier is made of a torch.nn.Module, not of a {type(module).__name__}.")
    title = title or name or type(module).__name__
    preprocessing = _preprocessing(input_size, resize, tuple(mean), tuple(std), interpolation)
    if isinstance(categories, (str, bytes)):
        raise ExplainerError("categories must be a list of names, not a single text.")
    where, training = choose(device), module.training
    try:
        module.eval().to(where)
        size = (len(preprocessing.mean), input_size, input_size)
        names = tuple(categories) if categories is not None else numbered(count_outputs(module, size, title))
        network = Classifier(module, name=name or re.sub(r"\W+", "_", title).lower(), title=title, categories=names,
                             preprocessing=preprocessing, device=where, training_data=training_data)
        network.fingerprint = _fingerprint(network)
        return network
    except (RuntimeError, TypeError, AttributeError) as error:  # a module that cannot be copied or moved
        if ran_out(error):
            raise
        raise ExplainerError(f"{title} cannot be used ({_reason(error)}).") from error
    finally:
        module.train(training)


def _fingerprint(network: Classifier) -> str:
    """The network's fingerprint with its code and all buffers: modules of the same layers and weights may compute different things."""
    code = network.graph.module.code if network.graph is not None else _sources(network.module)
    return key_of(network.fingerprint, code, dict(network.module.named_buffers()))


def _sources(module: nn.Module) -> list[str]:
    """The source code of a module's classes, without torch's own; of a class that was typed into an interpreter there is none."""
    sources = set()
    for kind in {type(part) for part in module.modules()}:
        if not kind.__module__.startswith("torch."):
            with suppress(OSError, TypeError):
                sources.add(inspect.getsource(kind))
    return sorted(sources)


def _preprocessing(side: int, resize: int | None, mean: tuple[float, ...], std: tuple[float, ...],
                   interpolation: str) -> Preprocessing:
    if isinstance(side, bool) or not isinstance(side, int) or not 1 <= side <= MAX_SIDE:
        raise ExplainerError(f"input_size must be the side of a square in pixels, from 1 to {MAX_SIDE}, not {side!r}.")
    resize = side if resize is None else resize
    if isinstance(resize, bool) or not isinstance(resize, int) or resize < side:
        raise ExplainerError(f"resize must be a whole number of at least the input size {side}, not {resize!r}.")
    if len(mean) != len(std) or len(mean) not in {1, 3} or not all(value > 0 for value in std):
        raise ExplainerError(f"mean and std must have one number for each channel (1 or 3), and std above 0, not {mean} and {std}.")
    if interpolation not in FILTERS:
        raise ExplainerError(f"interpolation must be one of {', '.join(FILTERS)}, not {interpolation!r}.")
    return Preprocessing(resize, side, tuple(map(float, mean)), tuple(map(float, std)), interpolation)


# Files


@dataclass(frozen=True)
class OwnNetwork:
    """A network of a person's file. ``build`` returns its classifier; None where the file cannot be read, and ``fault`` says why.

    changed: when the file was last changed, in nanoseconds since 1970.
    """

    name: str
    title: str
    file: str
    build: Callable[[], Any] | None
    fault: str = ""
    changed: int = 0


_lock = threading.Lock()  # of ``_files``; no file runs while it is held
_files: dict[str, tuple[int, Patient[list[OwnNetwork]]]] = {}  # by path: when the file was last changed, and its networks


def networks() -> dict[str, OwnNetwork]:
    """The networks of all files in EXPLORER_NETWORKS, by name: the file's name without ``.py``, a dot, and the function's."""
    paths = [Path(part) for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part.strip()]
    return {network.name: network for path in reversed(paths) for network in _networks_of(path)}


def changed(name: str) -> int:
    """When the file of the network with this name was last changed; 0 where no file has such a network."""
    network = networks().get(name)
    return network.changed if network else 0


def load(network: OwnNetwork) -> Classifier:
    """Call a network's function, which also chooses the device. Raises ExplainerError where it fails or returns something else."""
    if network.build is None:
        raise ExplainerError(network.fault)
    try:
        result = network.build()
    except (Exception, SystemExit) as error:  # a person's function may fail in any way, and the app must go on
        raise ExplainerError(f"{network.name} of {network.file} failed ({_reason(error)}).") from error
    if not isinstance(result, Classifier):
        kind = readable(type(result).__name__)
        raise ExplainerError(f"{network.name} of {network.file} returned a {kind}; it must return ex.classifier(...).")
    result.name = network.name
    return result


def _networks_of(path: Path) -> list[OwnNetwork]:
    """The file's networks. It is run when it is first needed, and again when it has changed; none while it asks for itself."""
    try:
        path = path.expanduser().resolve()
        key, changed = str(path), path.stat().st_mtime_ns
    except (OSError, RuntimeError, ValueError):  # RuntimeError: a home that is none, or links that lead to themselves
        return [_faulty(path, f"was not found, though {VARIABLE} or --networks names it.")]
    with _lock:
        if key not in _files or _files[key][0] != changed:
            _files[key] = changed, Patient(lambda: _read(path, changed), READ_SECONDS)
        reading = _files[key][1]
    if reading.is_caller:
        return []
    try:
        return reading.result()
    except StillRunning:
        return [_faulty(path, f"is still running after {READ_SECONDS:.0f} seconds; its networks are here when it has ended.")]


def _read(path: Path, changed: int) -> list[OwnNetwork]:
    try:
        networks = [OwnNetwork(f"{readable(path.stem)}.{readable(name)}", _title(name, function), readable(path.name), function,
                               changed=changed)
                    for name, function in _functions(_run(path)).items()]
    except BaseException as error:  # a person's file may fail in any way, and this thread runs nothing else
        return [_faulty(path, f"could not be read ({_reason(error)}).")]
    return networks or [_faulty(path, "has no function that returns a network.")]


def _run(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"explorer_networks_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError("it is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickles look their module up
    spec.loader.exec_module(module)
    return module


def _functions(module: ModuleType) -> Mapping[str, Callable[[], Any]]:
    declared = getattr(module, "NETWORKS", None)
    if isinstance(declared, Mapping):
        return {str(name): function for name, function in declared.items()}
    return {name: value for name, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_") and not _required(value)}


def _required(function: Callable[..., Any]) -> bool:
    """Whether a function needs an argument."""
    variable = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    return any(parameter.default is parameter.empty and parameter.kind not in variable
               for parameter in inspect.signature(function).parameters.values())


def _title(name: str, function: Callable[..., Any]) -> str:
    """The first line of the function's docstring, else its name."""
    lines = (inspect.getdoc(function) or "").splitlines()
    return readable(lines[0].rstrip(".")) if lines and lines[0] else readable(name)


def _faulty(path: Path, fault: str) -> OwnNetwork:
    """What stands for a file without networks, under the file's whole name, which no network has."""
    name = readable(path.name)
    return OwnNetwork(name, name, name, None, f"{name} {fault}")


def _reason(error: BaseException) -> str:
    """An exception's type and the first line of its message, where it has one: a person's exception may fail to give it."""
    try:
        lines = str(error).strip().splitlines()
    except Exception:
        lines = []
    return f"{type(error).__name__}: {readable(lines[0], 200)}" if lines else type(error).__name__
