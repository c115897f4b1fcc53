"""Insertion and deletion's time over the floor of its passes: ``python -m tests.benchmarks.curves_over_floor NETWORK``.

The floor is as in ``time_over_floor``. ``--cpu`` counts the process's own seconds on the processor instead of those on the clock, for
a machine that is busy with something else; run it with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import time

import torch

import explainers as ex
from explainers.metrics import insertion_deletion as metric
from tests.benchmarks.time_over_floor import BATCHES, best_seconds, images

RESOLUTIONS = {"rise": None, "i_gos": 28}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network")
    parser.add_argument("--weights")
    parser.add_argument("--maps", type=int, default=1)
    parser.add_argument("--steps", type=int, default=64, help="points of each curve")
    parser.add_argument("--cpu", action="store_true")
    given = parser.parse_args()
    clock = time.process_time if given.cpu else time.perf_counter
    network = ex.load_model(given.network, weights=given.weights)
    x = images(network, 1)
    maps = [torch.randn(network.input_size) for _ in range(given.maps)]
    batches = {size: images(network, size) for size in BATCHES}

    def a_pass(size: int) -> float:
        return best_seconds(lambda: network.predict(batches[size]), clock) / size

    each = {size: a_pass(size) for size in BATCHES}
    size = min(each, key=each.get)
    print(f"{network.title} on {network.device}: {1e3 * each[size]:.2f} ms an image at batch {size}")
    for protocol, resolution in RESOLUTIONS.items():
        cells = resolution**2 if resolution else maps[0].numel()
        terms = {"protocol": protocol, "resolution": resolution, "step": max(1, cells // given.steps)}
        passes = metric.passes(network, maps, **terms).forward
        before = a_pass(size)
        seconds = best_seconds(lambda terms=terms: metric.measure(network, x, maps, target=1, **terms), clock)
        after = a_pass(size)
        ratio = seconds / (passes * (before + after) / 2)
        print(f"{protocol:10s} {passes:6g} F {seconds:8.2f} s, {passes / seconds:8.1f} a second, {ratio:5.2f} of the floor")


if __name__ == "__main__":
    main()
