"""Train one of the embedded networks, or write the sample pictures: ``python -m explainers.data.train NAME``.

Everything is drawn from seeds: the pool of training draws, the initial weights, the order and the augmentation. Next
to the weights lies a record of how they were made, with the accuracy on draws that training never saw, measured on
the weights as they come back from the file.

Two rewritings make training bearable on a CPU, and leave no trace in the result. Max-pooling commutes with any rising
function, so each pool is moved before the normalisation and ReLU that precede it. And the VGG with biases trains
with batch norm, whose running statistics are folded into weights and biases at the end.
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

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from explainers.data import pools
from explainers.networks.embedded import EMBEDDED, SCALE, WEIGHTS, EmbeddedNetwork, NIBBatchNorm2d, load_weights

TRAIN_SEED, HELD_OUT_SEED = 1, 2
HELD_OUT_DRAWS = 2000
_INT8_FROM = 500_000  # a matrix of this many weights is stored in 8 bits


@dataclass(frozen=True)
class Recipe:
    """How one network is trained."""

    draws: int
    epochs: int
    batch: int
    rate: float
    decay: float


RECIPES = {
    "scenes_vgg": Recipe(20480, 8, 64, 3e-3, 0.05),
    "scenes_resnet": Recipe(20480, 8, 64, 4e-3, 0.05),
    "scenes_nib_vgg": Recipe(20480, 6, 64, 3e-3, 0.05),
    "digits_mlp": Recipe(60000, 14, 128, 1e-3, 0.02),
    "digits_cnn": Recipe(60000, 4, 128, 1e-3, 0.02),
}


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


def train(arguments: argparse.Namespace) -> dict:
    """Train one network, write its weights, and return its record."""
    network, recipe = EMBEDDED[arguments.name], RECIPES[arguments.name]
    torch.manual_seed(arguments.seed)  # a script of its own: modules and dropout know no other generator
    draws, labels = pools.training_draws(network, recipe.draws, TRAIN_SEED, arguments.pool)
    module = network.build()
    twin = training_twin(module)
    started = time.perf_counter()
    _fit(twin, network, recipe, draws, labels, arguments.seed)
    seconds = time.perf_counter() - started
    fold_batch_norms(module, twin)
    arguments.out.mkdir(parents=True, exist_ok=True)
    save_file(packed(module.state_dict()), arguments.out / f"{network.name}.safetensors")

    module.load_state_dict(load_weights(network.name, arguments.out))
    held_out = pools.held_out(network, HELD_OUT_DRAWS, HELD_OUT_SEED)
    record = {
        "name": network.name,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": f"python -m explainers.data.train {network.name} --seed {arguments.seed}",
        "seed": arguments.seed,
        "parameters": sum(p.numel() for p in module.parameters()),
        "epochs": recipe.epochs,
        "training_draws": recipe.draws,
        "training_draws_seed": TRAIN_SEED,
        "training_seconds": round(seconds),
        "held_out_accuracy": accuracy(module, network, *held_out),
        "held_out_draws": HELD_OUT_DRAWS,
        "held_out_seed": HELD_OUT_SEED,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if arguments.mnist is not None:
        with np.load(arguments.mnist) as file:
            images, classes = torch.from_numpy(file["images"])[:, None], torch.from_numpy(file["labels"]).long()
        record["mnist_test_accuracy"] = accuracy(module, network, images, classes)
    return record


def normalise(images: Tensor, network: EmbeddedNetwork) -> Tensor:
    """uint8 (B, C, H, W) to what the network takes: float32, (x / 255 - mean) / std."""
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (network.mean, network.std))
    return (images.float() / 255 - mean) / std


@torch.inference_mode()
def accuracy(module: nn.Module, network: EmbeddedNetwork, images: Tensor, labels: Tensor) -> float:
    """Share of the uint8 images (N, C, H, W) whose highest logit is their label."""
    module.eval()
    right = 0
    for start in range(0, len(images), 128):
        guess = module(normalise(images[start : start + 128], network)).argmax(1)
        right += int((guess == labels[start : start + 128]).sum())
    return right / len(images)


def training_twin(module: nn.Module) -> nn.Module:
    """The same parameters in an order that trains faster: pools first, and batch norm where there is no norm at all.

    Only a plain nn.Sequential of convolutions is rewritten, and the `stem` of a residual network, in place.
    """
    if isinstance(getattr(module, "stem", None), nn.Sequential):
        module.stem = _pools_first(module.stem)
        return module
    if not isinstance(module, nn.Sequential) or not any(isinstance(m, nn.MaxPool2d) for m in module):
        return module
    normalised = any(isinstance(m, NIBBatchNorm2d) for m in module)
    layers: list[nn.Module] = []
    for layer in module:
        layers.append(layer)
        if isinstance(layer, nn.Conv2d) and not normalised:
            layers.append(nn.BatchNorm2d(layer.out_channels))
    return _pools_first(nn.Sequential(*layers))


def _pools_first(layers: nn.Sequential) -> nn.Sequential:
    """conv, norm, ReLU, pool -> conv, pool, norm, ReLU."""
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
    """Bring a trained twin back: its batch norms go into the convolutions' weights and biases."""
    if twin is module:
        if hasattr(module, "stem"):
            module.stem = _pools_last(module.stem)
        return
    convolution: nn.Conv2d | None = None
    for layer in twin:
        if isinstance(layer, nn.Conv2d):
            convolution = layer
        elif isinstance(layer, nn.BatchNorm2d) and convolution is not None:
            scale = layer.weight * torch.rsqrt(layer.running_var + layer.eps)
            convolution.weight *= scale[:, None, None, None]
            convolution.bias.copy_((convolution.bias - layer.running_mean) * scale + layer.bias)


def _pools_last(layers: nn.Sequential) -> nn.Sequential:
    return nn.Sequential(*sorted(layers, key=lambda layer: isinstance(layer, nn.MaxPool2d)))  # sorting is stable


def _fit(module: nn.Module, network: EmbeddedNetwork, recipe: Recipe, draws, labels: Tensor, seed: int) -> None:
    module.to(memory_format=torch.channels_last)
    steps = recipe.epochs * (recipe.draws // recipe.batch)
    optimiser = torch.optim.AdamW(module.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=steps, pct_start=0.2)
    augment = _vary_scenes if network.training_data == "scenes" else _vary_nothing
    scales = [m.weight for m in module.modules() if isinstance(m, (nn.BatchNorm2d, NIBBatchNorm2d))]
    module.train()
    started, loss_sum, right, seen = time.perf_counter(), 0.0, 0, 0
    for step, (images, classes) in enumerate(_batches(draws, labels, recipe, augment, seed), 1):
        logits = module(normalise(images, network).contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits, classes, label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            for scale in scales:
                scale.clamp_(min=0.01)  # a falling function would not commute with the pool
        loss_sum, seen = loss_sum + loss.item(), seen + len(classes)
        right += int((logits.argmax(1) == classes).sum())
        if step % 40 == 0:
            took = time.perf_counter() - started
            print(f"{step}/{steps}  loss {loss_sum / 40:.3f}  accuracy {right / seen:.3f}  {took:.0f} s", flush=True)
            loss_sum, right, seen = 0.0, 0, 0


Vary = Callable[[Tensor, torch.Generator], Tensor]


def _batches(draws, labels: Tensor, recipe: Recipe, vary: Vary, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """uint8 (B, C, H, W) and labels, every draw once an epoch in a new order."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(recipe.epochs):
        order = torch.randperm(recipe.draws, generator=generator)
        for start in range(0, recipe.draws - recipe.batch + 1, recipe.batch):
            chosen = order[start : start + recipe.batch]
            yield vary(torch.from_numpy(draws[chosen.numpy()]), generator), labels[chosen]


def _vary_nothing(images: Tensor, generator: torch.Generator) -> Tensor:
    return images


def _vary_scenes(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror, exchange colour channels, and shift by up to 6 pixels: nothing that changes what the object is."""
    mirrored = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    images = torch.where(mirrored, images.flip(3), images)
    swapped = images[:, torch.randperm(3, generator=generator)]
    mixed = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    images = torch.where(mixed, swapped, images)
    down, right = torch.randint(-6, 7, (2,), generator=generator).tolist()
    return torch.roll(images, (down, right), (2, 3))


def packed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict made small: float16, large matrices int8 with one scale a row; load_weights is the way back."""
    small: dict[str, Tensor] = {}
    for key, value in weights.items():
        if key.endswith("num_batches_tracked"):
            continue
        if value.dim() == 2 and value.numel() >= _INT8_FROM:
            scale = value.abs().amax(1).clamp(min=1e-12) / 127
            small[key] = (value / scale[:, None]).round().to(torch.int8)
            small[key + SCALE] = scale
        else:
            small[key] = value.half().contiguous()
    return small


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m explainers.data.train", description=__doc__)
    parser.add_argument("name", choices=(*EMBEDDED, "samples"), help="the network to train, or the sample pictures")
    parser.add_argument("--seed", type=int, default=0, help="for initial weights, order and augmentation")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="where weights and record go")
    parser.add_argument("--mnist", type=Path, help="an .npz of MNIST's test images and labels, for digit networks")
    parser.add_argument("--pool", type=Path, help="a folder to keep the training scenes in, for the next training")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    return parser.parse_args()


if __name__ == "__main__":
    main()
