"""Class sensitivity's and the sanity checks' time over the floor of passes: ``python -m tests.benchmarks.checks_over_floor NETWORK``.

The floor, ``--cpu`` and the best batch sizes are as in ``time_over_floor``. Class sensitivity makes the maps of three classes anew and
compares each pair; the cascade makes the maps of the intact network and of eight others that it draws, and compares with the first.
So the ratio holds what a method spends over its own floor, the drawing of weights and the comparing.
"""

from __future__ import annotations

import argparse
import time

import explainers as ex
from explainers.metrics import class_sensitivity, sanity_checks
from explainers.networks.classifier import Classifier
from tests.benchmarks.time_over_floor import best_batches, best_seconds, images, least_seconds, pass_seconds

CLASSES = (1, 2, 3)


def sensitivity(network: Classifier, method: str) -> float:
    """Compare the maps of three classes; gives the number of maps made."""
    engine, x = ex.Engine(), images(network, 1)
    class_sensitivity.measure([engine.explain(network, x, method, target=target) for target in CLASSES])
    return len(CLASSES)


def cascade(network: Classifier, method: str) -> float:
    """Draw the weights of eight stages, one after the other; gives the number of maps made."""
    engine = ex.Engine()
    found = sanity_checks.measure(network, images(network, 1), lambda net, x, target: engine.explain(net, x, method, target=target),
                                  target=CLASSES[0])
    return 1 + len(found.steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network")
    parser.add_argument("--weights")
    parser.add_argument("--methods", nargs="+", default=["gradient", "integrated_gradients", "smoothgrad"])
    parser.add_argument("--cpu", action="store_true")
    given = parser.parse_args()
    clock = time.process_time if given.cpu else time.perf_counter
    network = ex.load_model(given.network, weights=given.weights)
    batches = best_batches(network, clock)
    print(f"{'check':12s} {'method':22s} {'maps':>4s} {'seconds':>8s} {'floor':>8s} {'ratio':>6s}")
    for check in (sensitivity, cascade):
        for key in given.methods:
            method = ex.methods()[key]
            maps = check(network, key)
            before = pass_seconds(network, batches, clock)
            seconds = best_seconds(lambda check=check, key=key: check(network, key), clock)
            each = method.cost(method.settings(), network)
            floor = maps * least_seconds(each, before, pass_seconds(network, batches, clock))
            print(f"{check.__name__:12s} {key:22s} {maps:4d} {seconds:8.3f} {floor:8.3f} {seconds / floor:6.2f}", flush=True)


if __name__ == "__main__":
    main()
