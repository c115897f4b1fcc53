"""Fit what MIP-IN, IBA and InputIBA need on a folder of pictures, and write it into a small file that can be shipped.

    python -m explainers.data.statistics FOLDER --network efficientnet_lite0

IBA and InputIBA take each element's mean and deviation at the layer of ``auto``. MIP-IN takes, for each picture, the logits and the
inputs of the layers that it inverts: the top features, and of some pictures the last map. Less would not do. Its fit of a class needs
the products of that class's logit with every cell of the map; for 1000 classes and 62720 cells these are 63 million numbers of a rank
as high as the number of pictures, so the sparse maps themselves are the smallest form. The pictures are not in the file.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from explainers.context import Context
from explainers.data import shipped_statistics
from explainers.data.reference import ReferenceSet, from_pictures
from explainers.methods import feature_statistics, iba
from explainers.methods.mip_in.layers import layers_of
from explainers.methods.mip_in.method import record
from explainers.networks.classifier import Classifier
from explainers.networks.embedded import WEIGHTS
from explainers.networks.loading import load_model
from explainers.target import Target


class _Recorder(Context):
    """A run that collects the statistics which it computes, by key."""

    def __init__(self, network: Classifier, reference: ReferenceSet):
        super().__init__(network, reference=reference)
        self.statistics: dict[tuple[Any, ...], Mapping[str, Any]] = {}

    def fit(self, key: tuple[Any, ...], compute: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        self.statistics[key] = compute()
        return self.statistics[key]


def fit(network: Classifier, reference: ReferenceSet) -> dict[tuple[Any, ...], Mapping[str, Any]]:
    """The statistics of the reference set by key, for the default layers of IBA, InputIBA and MIP-IN."""
    recorder = _Recorder(network, reference)
    feature_statistics.statistics(network, iba.bottleneck_layer(network, "auto"), reference.size, recorder)
    target = Target.of(0)  # the statistics serve every class
    record(network, layers_of(network, "auto", target), target, reference.size, recorder)
    return recorder.statistics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, help="pictures like those that the network was trained on, a few hundred")
    parser.add_argument("--network", default="efficientnet_lite0")
    parser.add_argument("--out", type=Path, help="the file; by default the one that the app ships for this network")
    arguments = parser.parse_args()
    network = load_model(arguments.network, device="cpu")
    reference = from_pictures(network, arguments.folder)
    file = arguments.out or WEIGHTS / f"{network.name}_statistics.zip"
    shipped_statistics.write(file, fit(network, reference), {
        "network": network.name, "pictures": reference.size, "reference_set": reference.identity,
        "command": f"python -m explainers.data.statistics FOLDER --network {network.name}"})
    print(f"{file.name}: {file.stat().st_size / 1e6:.2f} MB, sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
