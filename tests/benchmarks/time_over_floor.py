"""Each method's time over the floor of its passes.

    python -m tests.benchmarks.time_over_floor squeezenet1_0 --weights FILE --methods cheap occlusion rise:masks=500 \\
        dmbp:iterations=40 i_gos:iterations=4 iba:images=50 mip_in:images=50

The floor is the number of passes times the time of one pass at the best batch size. Passes are timed just before and just after each
method, and their mean is taken: other work on the machine then slows both alike. Beside it stands the same work done by Captum,
where Captum has the method. ``singly`` is the ratio to the same passes made one image at a time, the least that is open to a method
whose every pass waits for the one before. ``--cpu`` counts the process's own seconds on the processor instead of those on the clock,
for a machine that is busy with something else; run it with OMP_NUM_THREADS=1. What a method fits once on a reference set is done
before. Where a map takes minutes, name fewer steps, as above; the methods' ``cheap`` settings, made for tests, are so few steps that
what is done once a map would hide what a step costs.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable, Mapping
from typing import TypeVar

import captum.attr as ca
import torch

import explainers as ex
from explainers.data.reference import default
from explainers.networks.classifier import Classifier
from tests.benchmarks.command_line import add_summary, parser_of, question, spelled_out
from tests.benchmarks.summaries import keep

Key = TypeVar("Key")
BATCHES = (1, 2, 4, 8, 16, 32)
REPEATS = 9  # of a map and of a pass, of which the shortest counts
LONG = 5.0  # seconds from which one try is enough
Clock = Callable[[], float]


def floor_parser(description: str, methods: bool = True) -> argparse.ArgumentParser:
    """The arguments of every benchmark that compares with the floor."""
    parser = parser_of(description)
    parser.add_argument("network")
    parser.add_argument("--weights")
    parser.add_argument("--cpu", action="store_true", help="count the processor's seconds")
    if methods:
        parser.add_argument("--methods", nargs="+", default=["cheap"], help="names, name:parameter=value,..., cheap, medium, costly")
    return parser


def clock_of(arguments: argparse.Namespace) -> Clock:
    """What reads the time."""
    return time.process_time if arguments.cpu else time.perf_counter


def best_seconds(work: Callable[[], object], clock: Clock, repeats: int = REPEATS) -> float:
    times: list[float] = []
    while len(times) < repeats and sum(times) < LONG:
        begin = clock()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(clock() - begin)
    return min(times)


def least_in_turns(works: Mapping[Key, Callable[[], object]], clock: Clock, budget: float) -> dict[Key, float]:
    """The least seconds of each work. They take turns, so that what else the machine does slows all of them alike.

    budget: the seconds in which turns begin; at least three are made.
    """
    best = dict.fromkeys(works, math.inf)
    begin, turns = time.perf_counter(), 0
    while turns < 3 or time.perf_counter() - begin < budget:
        for key, work in works.items():
            before = clock()
            work()
            best[key] = min(best[key], clock() - before)
        turns += 1
    return best


def images(network: Classifier, count: int) -> torch.Tensor:
    return torch.randn(count, network.channels, *network.input_size, device=network.device)


def best_batches(network: Classifier, clock: Clock) -> tuple[int, int]:
    """The batch size at which an image goes forward, and forward and back, in the least time."""
    forward, both = {}, {}
    for size in BATCHES:
        x = images(network, size)
        forward[size] = best_seconds(lambda x=x: network.predict(x), clock, 3) / size
        both[size] = best_seconds(lambda x=x: network.gradient(x, 0), clock, 3) / size
        print(f"batch {size:3d}: forward {1e3 * forward[size]:6.1f} ms, forward and backward {1e3 * both[size]:6.1f} ms an image")
    return min(forward, key=forward.get), min(both, key=both.get)


def pass_seconds(network: Classifier, batches: tuple[int, int], clock: Clock) -> tuple[float, float]:
    """Seconds of one image forward alone, and forward with backward, at the best batch sizes, now."""
    alone, both = (images(network, size) for size in batches)
    return (best_seconds(lambda: network.predict(alone), clock) / batches[0],
            best_seconds(lambda: network.gradient(both, 0), clock) / batches[1])


def least_seconds(passes: ex.Passes, before: tuple[float, float], after: tuple[float, float]) -> float:
    """Seconds of that many passes, each taking the mean of what it took before and after."""
    forward, both = (sum(pair) / 2 for pair in zip(before, after, strict=True))
    return passes.backward * both + max(0, passes.forward - passes.backward) * forward


def captum_seconds(network: Classifier, x: torch.Tensor, key: str, clock: Clock) -> float | None:
    module = network.module
    side = x.shape[-1] // 16
    theirs: dict[str, Callable[[], object]] = {
        "gradient": lambda: ca.Saliency(module).attribute(x, target=0),
        "gradient_x_input": lambda: ca.InputXGradient(module).attribute(x, target=0),
        "integrated_gradients": lambda: ca.IntegratedGradients(module).attribute(x, target=0, n_steps=50),
        "occlusion": lambda: ca.Occlusion(module).attribute(
            x, target=0, sliding_window_shapes=(3, side, side), strides=(3, side, side)),
    }
    return best_seconds(theirs[key], clock, 1) if key in theirs else None


def main() -> None:
    parser = floor_parser(__doc__)
    add_summary(parser)
    arguments = parser.parse_args()
    clock = clock_of(arguments)
    warnings.filterwarnings("ignore")
    network = ex.load_model(arguments.network, weights=arguments.weights)
    x, engine = images(network, 1), ex.Engine()
    reference = default(network, x)
    print(f"{network.title} on {network.device}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    batches = best_batches(network, clock)
    print(f"{'method':26s} {'passes':>14s} {'seconds':>8s} {'floor':>8s} {'ratio':>6s} {'singly':>6s} {'Captum':>6s}")

    def one_map(spec: str, image: torch.Tensor) -> None:
        """A map of an image that the engine has not seen, so that only what was fitted is in its cache."""
        engine.explain(question(network, image, spec, 0, reference))

    for spec in spelled_out(arguments.methods, network):
        asked = question(network, x, spec, 0, reference)
        if asked.method.fits_statistics:
            one_map(spec, images(network, 1))
        unseen = [images(network, 1) for _ in range(REPEATS)]  # drawn before, because no map needs the time that drawing takes
        before = [pass_seconds(network, sizes, clock) for sizes in (batches, (1, 1))]
        seconds = best_seconds(lambda spec=spec, unseen=unseen: one_map(spec, unseen.pop()), clock)
        after = [pass_seconds(network, sizes, clock) for sizes in (batches, (1, 1))]
        passes = asked.passes
        least, singly = (least_seconds(passes, *timed) for timed in zip(before, after, strict=True))
        captum = captum_seconds(network, x, asked.method.key, clock)
        ratios = {"over the floor": least and seconds / least, "over single passes": singly and seconds / singly,
                  "Captum / ours": captum and captum / seconds}
        text = [f"{value:6.2f}" if value else f"{'-':>6s}" for value in ratios.values()]
        print(f"{spec:26s} {passes.forward:6.4g}F {passes.backward:6.4g}B {seconds:8.3f} {least:8.3f} {' '.join(text)}", flush=True)
        keep(arguments.summary, {"network": network.name, "method": spec}, passes=f"{passes.forward:.4g} F + {passes.backward:.4g} B",
             **{name: round(value, 2) for name, value in ratios.items() if value})


if __name__ == "__main__":
    main()
