"""The top-1 accuracy of the embedded networks: ``python -m tests.benchmarks.accuracies [--mnist FILE]``.

Scenes and digits are drawn afresh with a seed that no training and no record has used.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

import explainers as ex
from explainers.data import digits, scenes
from explainers.networks.embedded import EMBEDDED
from tests.benchmarks.command_line import add_summary, parser_of
from tests.benchmarks.summaries import keep

SEED = 20261120


def accuracy(network: ex.Classifier, pixels: Tensor, labels: Tensor) -> float:
    """Fraction of uint8 images (N, C, H, W) whose top-1 class is the label."""
    parts = [network.preprocessing.normalise(part.float() / 255) for part in pixels.split(200)]
    predicted = torch.cat([network.predict(part.to(network.device)).argmax(1).cpu() for part in parts])
    return float((predicted == labels).float().mean())


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--mnist", help="t10k.npz with images (N, 28, 28) and labels")
    add_summary(parser)
    arguments = parser.parse_args()
    drawn = {"scenes": scenes.draw_batch(arguments.draws, SEED), "digits": digits.draw_batch(arguments.draws, SEED)}
    mnist = np.load(arguments.mnist) if arguments.mnist else None
    for name in EMBEDDED:
        network = ex.load_model(name)
        percent = {"fresh": round(100 * accuracy(network, *drawn[network.training_data]), 1)}
        line = f"{name:16s} {percent['fresh']:5.1f} % of {arguments.draws} fresh {network.training_data}"
        if mnist is not None and network.training_data == "digits":
            images, labels = torch.from_numpy(mnist["images"])[:, None], torch.from_numpy(mnist["labels"]).long()
            percent["mnist"] = round(100 * accuracy(network, images, labels), 1)
            line += f", {percent['mnist']:5.1f} % of MNIST's test set"
        print(line, flush=True)
        keep(arguments.summary, {"network": name}, **percent)


if __name__ == "__main__":
    main()
