"""Masked input accuracy on fresh scenes: ``python -m tests.benchmarks.masked_input_accuracy [--images 200] [--iterations 10]``.

Prints a line of percentages for each network and base method, from no mask (the plain accuracy) on. Both networks read nearly
every clean scene, which leaves nothing to rise to: ``--noise`` makes the scenes harder, one level after the other.
"""

from __future__ import annotations

import argparse

import explainers as ex
from explainers.data.labelled import scenes_set
from explainers.methods.attribution_mask import ONE_PASS_BASES
from explainers.metrics.masked_input_accuracy import measure

NETWORKS = ("scenes_nib_vgg", "scenes_vgg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--noise", type=float, nargs="*", default=[0.0], help="deviations of Gaussian noise on pixels in [0, 1]")
    given = parser.parse_args()
    labelled = scenes_set(given.images, given.seed)
    for noise in given.noise:
        print(f"\n{labelled.title}, noise {noise:g}: masked input accuracy in % after 0 to {given.iterations} masks")
        for name in NETWORKS:
            network = ex.load_model(name)
            images = labelled.inputs(network, noise, given.seed)
            for base in ONE_PASS_BASES:
                found = measure(network, images, labelled.labels, base, given.iterations)
                print(f"{name:15s} {base:26s}", " ".join(f"{100 * share:5.1f}" for share in found.accuracy), flush=True)


if __name__ == "__main__":
    main()
