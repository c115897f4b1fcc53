"""Class sensitivity's and the sanity checks' time over the floor of their passes.

    python -m tests.benchmarks.checks_over_floor squeezenet1_0 --weights FILE --methods gradient integrated_gradients

The floor, ``--cpu`` and the best batch sizes are as in ``time_over_floor``. Class sensitivity makes the maps of three classes and
compares each pair; the cascade makes the maps of the intact network and of eight others with re-initialised weights, and compares
with the first. The floor is that of the maps and of the predictions, so the ratio holds what a method spends over its own floor, the
drawing of weights and the comparing.
"""

from __future__ import annotations

import explainers as ex
from tests.benchmarks.command_line import add_summary, question
from tests.benchmarks.summaries import keep
from tests.benchmarks.time_over_floor import best_batches, best_seconds, clock_of, floor_parser, images, least_seconds, pass_seconds

CHECKS = {"class_sensitivity": {"classes": (1, 2, 3)}, "sanity_checks": {}}


def main() -> None:
    parser = floor_parser(__doc__)
    add_summary(parser)
    arguments = parser.parse_args()
    clock = clock_of(arguments)
    network = ex.load_model(arguments.network, weights=arguments.weights)
    batches = best_batches(network, clock)
    print(f"{'check':20s} {'method':30s} {'maps':>4s} {'seconds':>8s} {'floor':>8s} {'ratio':>6s}")
    for check, settings in CHECKS.items():
        for spec in arguments.methods:
            measurement = ex.judge(check, question(network, images(network, 1), spec, 1), **settings)
            maps = measurement.metric.questions(measurement.settings, measurement.subject)
            passes = measurement.subject.passes * maps + measurement.passes()
            before = pass_seconds(network, batches, clock)
            seconds = best_seconds(lambda measurement=measurement: ex.Engine().measure(measurement), clock)
            floor = least_seconds(passes, before, pass_seconds(network, batches, clock))
            print(f"{check:20s} {spec:30s} {maps:4d} {seconds:8.3f} {floor:8.3f} {seconds / floor:6.2f}", flush=True)
            keep(arguments.summary, {"what": f"{check}, {spec}, {network.name}"}, result=f"{seconds / floor:.2f}")


if __name__ == "__main__":
    main()
