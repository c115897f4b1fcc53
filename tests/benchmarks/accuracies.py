"""What the embedded networks score: ``python -m tests.benchmarks.accuracies [--mnist FILE]``.

Scenes and digits are drawn afresh with a seed that no training and no record has used.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch import Tensor

import explainers as ex
from explainers.data import digits, scenes
from explainers.networks.embedded import EMBEDDED

SEED, DRAWS = 20261120, 2000


def accuracy(network: ex.Classifier, pixels: Tensor, labels: Tensor) -> float:
    """Share of uint8 images (N, C, H, W) whose top-1 class is the label."""
    parts = [network.preprocessing.normalise(part.float() / 255) for part in pixels.split(200)]
    found = torch.cat([network.predict(part.to(network.device)).argmax(1).cpu() for part in parts])
    return float((found == labels).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", help="t10k.npz with images (N, 28, 28) and labels")
    given = parser.parse_args()
    fresh = {"scenes": scenes.draw_batch(DRAWS, SEED), "digits": digits.draw_batch(DRAWS, SEED)}
    mnist = np.load(given.mnist) if given.mnist else None
    for name, facts in EMBEDDED.items():
        network = ex.load_model(name)
        line = f"{name:16s} {100 * accuracy(network, *fresh[facts.reference]):5.1f} % of {DRAWS} fresh {facts.reference}"
        if mnist is not None and facts.reference == "digits":
            images = torch.from_numpy(mnist["images"])[:, None]
            line += f", {100 * accuracy(network, images, torch.from_numpy(mnist['labels']).long()):5.1f} % of MNIST's test set"
        print(line)


if __name__ == "__main__":
    main()
