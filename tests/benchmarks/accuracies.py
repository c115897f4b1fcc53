"""The top-1 accuracy of the embedded networks.

    python -m tests.benchmarks.accuracies [--mnist FILE] [--photographs DIR] [--cifar10 DIR]

Scenes and digits are drawn afresh with a seed that no training and no record has used. Photographs are files ``NNN_name``, NNN being
the ImageNet class. Networks of CIFAR-10 are measured on its 10,000 test pictures, and left out without them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import explainers as ex
from explainers.data import cifar10, digits, scenes
from explainers.networks.embedded import EMBEDDED
from tests.benchmarks.command_line import add_summary, parser_of
from tests.benchmarks.summaries import keep

SEED = 20261120


def accuracy(network: ex.Classifier, pixels: Tensor, labels: Tensor) -> float:
    """Fraction of uint8 images (N, C, H, W) whose top-1 class is the label."""
    parts = [network.preprocessing.normalise(part.float() / 255) for part in pixels.split(200)]
    predicted = torch.cat([network.predict(part.to(network.device)).argmax(1).cpu() for part in parts])
    return float((predicted == labels).float().mean())


def on_photographs(network: ex.Classifier, folder: Path) -> dict[str, float]:
    """How many percent of the folder's photographs have their class as the network's first choice, and among its first five."""
    files = sorted(folder.glob("[0-9][0-9][0-9]_*"))
    inputs = torch.cat([network.preprocess(ex.load_image(file)) for file in files])
    ranked = torch.cat([network.predict(part).argsort(descending=True)[:, :5].cpu() for part in inputs.split(50)])
    right = ranked == torch.tensor([int(file.name[:3]) for file in files])[:, None]
    first, five = (round(100 * float(part.float().mean()), 1) for part in (right[:, 0], right.any(1)))
    return {"photographs": first, "top 5": five, "n": len(files)}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--mnist", help="t10k.npz with images (N, 28, 28) and labels")
    parser.add_argument("--photographs", type=Path, help="folder of photographs NNN_name, NNN being the ImageNet class")
    parser.add_argument("--cifar10", type=Path, help="a folder with CIFAR-10's test.npz")
    add_summary(parser)
    arguments = parser.parse_args()
    drawn = {"scenes": scenes.draw_batch(arguments.draws, SEED), "digits": digits.draw_batch(arguments.draws, SEED)}
    mnist = np.load(arguments.mnist) if arguments.mnist else None
    for name in (name for name, network in EMBEDDED.items() if network.training_data in drawn):
        network = ex.load_model(name)
        percent = {"fresh": round(100 * accuracy(network, *drawn[network.training_data]), 1)}
        line = f"{name:16s} {percent['fresh']:5.1f} % of {arguments.draws} fresh {network.training_data}"
        if mnist is not None and network.training_data == "digits":
            images, labels = torch.from_numpy(mnist["images"])[:, None], torch.from_numpy(mnist["labels"]).long()
            percent["mnist"] = round(100 * accuracy(network, images, labels), 1)
            line += f", {percent['mnist']:5.1f} % of MNIST's test set"
        print(line, flush=True)
        keep(arguments.summary, {"network": name}, **percent)
    if arguments.cifar10:
        pictures, labels = cifar10.read(arguments.cifar10 / "test.npz")
        for name in (name for name, network in EMBEDDED.items() if network.training_data == "cifar10"):
            percent = {"cifar10": round(100 * accuracy(ex.load_model(name), torch.from_numpy(pictures), labels), 1)}
            print(f"{name:18s} {percent['cifar10']:5.1f} % of CIFAR-10's {len(labels)} test pictures", flush=True)
            keep(arguments.summary, {"network": name}, **percent)
    if arguments.photographs:
        percent = on_photographs(ex.load_model("efficientnet_lite0"), arguments.photographs)
        print(f"efficientnet_lite0: {percent['photographs']} % of {percent['n']} photographs, {percent['top 5']} % in the first five")
        keep(arguments.summary, {"network": "efficientnet_lite0"}, **percent)


if __name__ == "__main__":
    main()
