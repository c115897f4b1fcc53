"""Insertion and deletion's time over the floor of its passes.

    python -m tests.benchmarks.curves_over_floor squeezenet1_0 --weights FILE --measures rise i_gos@28

The floor and ``--cpu`` are as in ``time_over_floor``; the maps are noise.
"""

from __future__ import annotations

import torch

import explainers as ex
from explainers.metrics import insertion_deletion
from tests.benchmarks.command_line import add_summary, parse_measure
from tests.benchmarks.summaries import keep
from tests.benchmarks.time_over_floor import BATCHES, best_seconds, clock_of, floor_parser, images


def main() -> None:
    parser = floor_parser(__doc__, methods=False)
    parser.add_argument("--maps", type=int, default=1)
    parser.add_argument("--steps", type=int, default=64, help="points of each curve")
    parser.add_argument("--measures", nargs="+", default=["rise", "i_gos@28"], help="protocol[@resolution][/magnitude]")
    add_summary(parser)
    arguments = parser.parse_args()
    clock = clock_of(arguments)
    network = ex.load_model(arguments.network, weights=arguments.weights)
    x = images(network, 1)
    maps = [torch.randn(network.input_size) for _ in range(arguments.maps)]
    batches = {size: images(network, size) for size in BATCHES}

    def pass_seconds(size: int) -> float:
        return best_seconds(lambda: network.predict(batches[size]), clock) / size

    each = {size: pass_seconds(size) for size in BATCHES}
    size = min(each, key=each.get)
    print(f"{network.title} on {network.device}: {1e3 * each[size]:.2f} ms an image at batch {size}")
    ratios = []
    for spec in arguments.measures:
        protocol, resolution, order_by = parse_measure(spec)
        cells = resolution**2 if resolution else maps[0].numel()
        settings = {"protocol": protocol, "resolution": resolution, "step": max(1, cells // arguments.steps), "order_by": order_by}
        passes = insertion_deletion.passes(network, maps, **settings).forward
        before = pass_seconds(size)
        seconds = best_seconds(lambda settings=settings: insertion_deletion.measure(network, x, maps, target=1, **settings), clock)
        ratios.append(seconds / (passes * (before + pass_seconds(size)) / 2))
        print(f"{spec:20s} {passes:6g} F {seconds:8.2f} s, {passes / seconds:8.1f} a second, {ratios[-1]:5.2f} of the floor",
              flush=True)
    keep(arguments.summary, {"what": f"insertion_deletion, {arguments.steps} steps a curve, {network.name}"},
         result=f"{min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
