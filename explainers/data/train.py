"""Train one of the embedded networks, or write the sample pictures: ``python -m explainers.data.train NAME``.

Everything is drawn from seeds: the training images (but CIFAR-10's, which are read from a folder that ``--cifar10`` names), the
initial weights, the order and the augmentation. A record is written beside the weights: how they were made, and their accuracy on
images that were not used in training, measured with the weights that are read back from the file.

Two changes speed up training on a CPU and are undone in the result. Max-pooling commutes with increasing functions, so each pool
is moved before the normalisation and ReLU that precede it. Pooled networks without norms are trained with batch norm, whose running
statistics are folded into the weights and biases at the end.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from explainers.data import pools
from explainers.networks.embedded import EMBEDDED, WEIGHTS, EmbeddedNetwork, NIBBatchNorm2d, load_weights
from explainers.networks.weight_files import packed

TRAIN_SEED, HELD_OUT_SEED = 1, 2
HELD_OUT_DRAWS = 2000
CIFAR_TEST = 10_000  # all of its test pictures


@dataclass(frozen=True)
class Recipe:
    """How one network is trained; ``draws`` is the number of training images, ``rate`` the highest learning rate."""

    draws: int
    epochs: int
    batch: int
    rate: float
    decay: float
    smoothing: float = 0.05  # label smoothing: this fraction of the target is spread over all classes


RECIPES = {
    "scenes_vgg": Recipe(20480, 8, 64, 3e-3, 0.05),
    "scenes_resnet": Recipe(20480, 8, 64, 4e-3, 0.05),
    "scenes_nib_vgg": Recipe(20480, 6, 64, 3e-3, 0.05),
    "scenes_vit": Recipe(20480, 20, 64, 1e-3, 0.05),
    "digits_mlp": Recipe(120000, 8, 128, 1e-3, 0.3, smoothing=0.0),
    "digits_cnn": Recipe(60000, 4, 128, 1e-3, 0.02),
}
CIFAR_RECIPE = Recipe(50000, 5, 128, 8e-3, 0.02, smoothing=0.0)


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    if arguments.name == "samples":
        from explainers.data.samples import write_samples

        write_samples(WEIGHTS.parent / "samples")
        return
    record = train(arguments)
    path = arguments.out / f"{arguments.name}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


def train(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one network, write its weights, and return its record."""
    network = EMBEDDED[arguments.name]
    recipe = CIFAR_RECIPE if network.training_data == "cifar10" else RECIPES[network.name]
    torch.manual_seed(arguments.seed)  # initialisation and dropout use the global generator
    draws, labels = pools.training_draws(network, recipe.draws, TRAIN_SEED, arguments.pool, arguments.cifar10)
    module = network.build()
    twin = training_twin(module)
    started = time.perf_counter()
    _fit(twin, network, recipe, draws, labels, arguments.seed)
    seconds = time.perf_counter() - started
    fold_batch_norms(module, twin)
    arguments.out.mkdir(parents=True, exist_ok=True)
    save_file(packed(module.state_dict()), arguments.out / f"{network.name}.safetensors")

    module.load_state_dict(load_weights(network.name, arguments.out))
    record = {
        "name": network.name,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": f"python -m explainers.data.train {network.name} --seed {arguments.seed}",
        "seed": arguments.seed,
        "parameters": sum(p.numel() for p in module.parameters()),
        "epochs": recipe.epochs,
        "training_draws": recipe.draws,
        "training_seconds": round(seconds),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if network.training_data == "cifar10":
        record["command"] += " --cifar10 FOLDER"
    return record | _accuracies(module, network, arguments)


def _accuracies(module: nn.Module, network: EmbeddedNetwork, arguments: argparse.Namespace) -> dict[str, Any]:
    """The part of the record about images that were not used in training."""
    if network.training_data == "cifar10":
        held_out = pools.held_out(network, CIFAR_TEST, HELD_OUT_SEED, arguments.cifar10)
        return {"cifar10_test_accuracy": accuracy(module, network, *held_out)}
    held_out = pools.held_out(network, HELD_OUT_DRAWS, HELD_OUT_SEED)
    record = {
        "training_draws_seed": TRAIN_SEED,
        "held_out_accuracy": accuracy(module, network, *held_out),
        "held_out_draws": HELD_OUT_DRAWS,
        "held_out_seed": HELD_OUT_SEED,
    }
    if arguments.mnist is not None:
        with np.load(arguments.mnist) as file:
            images, classes = torch.from_numpy(file["images"])[:, None], torch.from_numpy(file["labels"]).long()
        record["mnist_test_accuracy"] = accuracy(module, network, images, classes)
    return record


def normalise(images: Tensor, network: EmbeddedNetwork) -> Tensor:
    """uint8 images (B, C, H, W) to the network's input: float32, (x / 255 - mean) / std."""
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (network.mean, network.std))
    return (images.float() / 255 - mean) / std


@torch.inference_mode()
def accuracy(module: nn.Module, network: EmbeddedNetwork, images: Tensor, labels: Tensor) -> float:
    """The fraction of the uint8 images (N, C, H, W) whose highest logit is that of their label."""
    module.eval()
    right = 0
    for start in range(0, len(images), 128):
        predicted = module(normalise(images[start : start + 128], network)).argmax(1)
        right += int((predicted == labels[start : start + 128]).sum())
    return right / len(images)


def training_twin(module: nn.Module) -> nn.Module:
    """A network with the same parameters that trains faster: pools come first, and batch norms are added where there are no norms.

    An nn.Sequential of convolutions is rebuilt from the same layers; the ``stem`` of a residual network is changed in place.
    """
    stem = getattr(module, "stem", None)
    if isinstance(stem, nn.Sequential):
        module.stem = _pools_first(stem)
        return module
    if not isinstance(module, nn.Sequential) or not any(isinstance(m, nn.MaxPool2d) for m in module):
        return module
    normalised = any(isinstance(m, (nn.BatchNorm2d, NIBBatchNorm2d)) for m in module)
    layers: list[nn.Module] = []
    for layer in module:
        layers.append(layer)
        if isinstance(layer, nn.Conv2d) and not normalised:
            layers.append(nn.BatchNorm2d(layer.out_channels))
    return _pools_first(nn.Sequential(*layers))


def _pools_first(layers: nn.Sequential) -> nn.Sequential:
    """Layers in the order conv, norm, ReLU, pool are put into the order conv, pool, norm, ReLU."""
    order: list[nn.Module] = []
    for layer in layers:
        position = len(order)
        if isinstance(layer, nn.MaxPool2d):
            while not isinstance(order[position - 1], nn.Conv2d):
                position -= 1
        order.insert(position, layer)
    return nn.Sequential(*order)


@torch.no_grad()
def fold_batch_norms(module: nn.Module, twin: nn.Module) -> None:
    """Undo ``training_twin`` after training: batch norms that it added are folded into the weights and biases of the convolutions."""
    if twin is module:
        stem = getattr(module, "stem", None)
        if isinstance(stem, nn.Sequential):
            module.stem = _pools_last(stem)
        return
    own = set(module.children())
    convolution: nn.Conv2d | None = None
    for layer in twin.children():
        if isinstance(layer, nn.Conv2d):
            convolution = layer
        elif isinstance(layer, nn.BatchNorm2d) and layer not in own and convolution is not None:
            assert convolution.bias is not None and layer.running_mean is not None and layer.running_var is not None
            scale = layer.weight * torch.rsqrt(layer.running_var + layer.eps)
            convolution.weight *= scale[:, None, None, None]
            convolution.bias.copy_((convolution.bias - layer.running_mean) * scale + layer.bias)


def _pools_last(layers: nn.Sequential) -> nn.Sequential:
    return nn.Sequential(*sorted(layers, key=lambda layer: isinstance(layer, nn.MaxPool2d)))  # sorting is stable


def _fit(module: nn.Module, network: EmbeddedNetwork, recipe: Recipe, draws: np.ndarray, labels: Tensor, seed: int) -> None:
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's annotations leave out memory_format
    steps = recipe.epochs * (recipe.draws // recipe.batch)
    optimiser = torch.optim.AdamW(module.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=steps, pct_start=0.2)
    augment = {"scenes": _vary_scenes, "cifar10": _crop_and_mirror}.get(network.training_data, _vary_nothing)
    scales = [m.weight for m in module.modules() if isinstance(m, (nn.BatchNorm2d, NIBBatchNorm2d))]
    module.train()
    started, loss_sum, right, seen = time.perf_counter(), 0.0, 0, 0
    for step, (images, classes) in enumerate(_batches(draws, labels, recipe, augment, seed), 1):
        logits = module(normalise(images, network).contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits, classes, label_smoothing=recipe.smoothing)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            for scale in scales:
                scale.clamp_(min=0.01)  # with a negative scale, a norm would not commute with the pool
        loss_sum, seen = loss_sum + loss.item(), seen + len(classes)
        right += int((logits.argmax(1) == classes).sum())
        if step % 40 == 0:
            took = time.perf_counter() - started
            print(f"{step}/{steps}  loss {loss_sum / 40:.3f}  accuracy {right / seen:.3f}  {took:.0f} s", flush=True)
            loss_sum, right, seen = 0.0, 0, 0


Vary = Callable[[Tensor, torch.Generator], Tensor]


def _batches(draws: np.ndarray, labels: Tensor, recipe: Recipe, vary: Vary, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """uint8 images (B, C, H, W) and their labels, all of them once in each epoch, in a new order."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(recipe.epochs):
        order = torch.randperm(recipe.draws, generator=generator)
        for start in range(0, recipe.draws - recipe.batch + 1, recipe.batch):
            chosen = order[start : start + recipe.batch]
            yield vary(torch.from_numpy(draws[chosen.numpy()]), generator), labels[chosen]


def _vary_nothing(images: Tensor, generator: torch.Generator) -> Tensor:
    return images


def _vary_scenes(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror images, permute colour channels, and shift by up to 6 pixels, none of which changes the class."""
    mirrored = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    images = torch.where(mirrored, images.flip(3), images)
    swapped = images[:, torch.randperm(3, generator=generator)]
    mixed = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    images = torch.where(mixed, swapped, images)
    down, right = torch.randint(-6, 7, (2,), generator=generator).tolist()
    return torch.roll(images, (down, right), (2, 3))


def _crop_and_mirror(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture is mirrored with probability one half and shifted by up to 4 pixels, with black where it was moved away from."""
    count, _, height, width = images.shape
    padded = F.pad(images, (4, 4, 4, 4)).permute(0, 2, 3, 1)
    down, right = torch.randint(0, 9, (2, count, 1), generator=generator)
    rows, columns = down + torch.arange(height), right + torch.arange(width)
    mirrored = torch.rand(count, 1, generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    return padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m explainers.data.train", description=__doc__)
    parser.add_argument("name", choices=(*EMBEDDED, "samples"), help="the network to train, or the sample pictures")
    parser.add_argument("--seed", type=int, default=0, help="for initial weights, order and augmentation")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where weights and record go")
    parser.add_argument("--mnist", type=Path, help="an .npz of MNIST's test images and labels, for digit networks")
    parser.add_argument("--cifar10", type=Path, help="a folder with CIFAR-10's train.npz and test.npz, for the networks of CIFAR-10")
    parser.add_argument("--pool", type=Path, help="a folder to keep training scenes or decoded pictures in, for the next training")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    return parser.parse_args()


if __name__ == "__main__":
    main()
