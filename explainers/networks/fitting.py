"""Putting weights into the network that they belong to. What does not fit is compared before memory is taken."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from explainers.memory import ran_out
from explainers.networks.checkpoint_files import MAX_CATEGORIES, CheckpointError, plain_word, shown


def fit(module: nn.Module, weights: Mapping[str, Tensor], architecture: str) -> None:
    """Load ``weights`` into ``module``, whose tensors must have the same names and shapes.

    Raises CheckpointError that names the first missing, the first unexpected and the first wrongly shaped tensor. The module may
    then be partly loaded and must not be used.
    """
    weights = _torchvision_names(weights, architecture)
    own = module.state_dict()
    shapes = {key for key, tensor in weights.items() if key in own and tensor.shape != own[key].shape}
    fitting = {key: tensor for key, tensor in weights.items() if key not in shapes}
    try:
        # Some modules translate old names while they load. A network without memory takes the weights' shapes in place of its own.
        outcome = module.load_state_dict(fitting, strict=False, assign=any(tensor.is_meta for tensor in own.values()))
    except RuntimeError as error:  # a wrong shape under a name that was translated
        if ran_out(error):
            raise
        raise CheckpointError(f"The weights do not fit {plain_word(architecture)}; check the model's card.") from error
    missing = [key for key in outcome.missing_keys if key not in shapes]
    faults = _fault(missing, lambda key: "is missing") + _fault(outcome.unexpected_keys, lambda key: "is unexpected")
    faults += _fault([key for key in weights if key in shapes],
                     lambda key: f"is {shown(tuple(weights[key].shape))} instead of {tuple(own[key].shape)}")
    if faults:
        raise CheckpointError(f"The weights do not fit {plain_word(architecture)}: {', '.join(faults)}; check the architecture and "
                              "the number of classes in the model's card.")


def num_classes(weights: Mapping[str, Tensor], module: nn.Module, head: str | None = None) -> int:
    """The number of classes of the checkpoint's head, so that the network can be built to match.

    module: the architecture with a head of any width. head: the name of the layer that gives the logits; by default the last linear
    or convolutional one. Raises CheckpointError if the checkpoint has no such layer, or one of no classes.
    """
    layers = [name for name, layer in module.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    if not layers:
        raise CheckpointError("This network has no linear or convolutional layer, so its classes cannot be counted.")
    weight = f"{head or layers[-1]}.weight"
    if weight not in weights or weights[weight].ndim < 2:
        raise CheckpointError(
            f"The weights have no head {shown(weight)}, so they belong to another architecture; check the model's card.")
    classes = weights[weight].shape[0]
    if not 1 <= classes <= MAX_CATEGORIES:
        raise CheckpointError(f"The head {shown(weight)} of the weights has {classes} classes, and a network has 1 to "
                              f"{MAX_CATEGORIES}; check the checkpoint.")
    return classes


def _torchvision_names(weights: Mapping[str, Tensor], architecture: str) -> dict[str, Tensor]:
    """The names of the network: torchvision's DenseNet files have ``norm.1`` for ``norm1``, and torchvision renames them itself."""
    if not architecture.startswith("densenet"):
        return dict(weights)
    old = re.compile(r"(.*denselayer\d+\.(?:norm|conv))\.([12]\.\w+)")
    return {old.sub(r"\1\2", key): tensor for key, tensor in weights.items()}


def _fault(keys: list[str], words: Callable[[str], str]) -> list[str]:
    """One clause about the first of the faulty tensors, for a message; none if there are no faulty ones."""
    more = f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
    return [f"{shown(key)} {words(key)}{more}" for key in keys[:1]]
