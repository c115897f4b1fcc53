"""Each method's time over the floor of its passes: ``python -m tests.benchmarks.time_over_floor NETWORK [--weights FILE]``.

The floor is the number of passes times the time of one pass at the best batch size. Passes are timed just before and just after each
method, and their mean is taken: other work on the machine then slows both alike. Beside it stands the same work done by Captum,
where Captum has the method. ``singly`` is the ratio to the same passes made one image at a time, the least that is open to a method
whose every pass waits for the one before. ``--cpu`` counts the process's own seconds on the processor instead of those on the clock,
for a machine that is busy with something else; run it with OMP_NUM_THREADS=1. What a method fits once on a reference set is done
before.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import captum.attr as ca
import torch

import explainers as ex
from explainers.data.reference import ReferenceSet, default
from explainers.networks.classifier import Classifier

BATCHES = (1, 2, 4, 8, 16, 32)
SETTINGS = {  # fewer steps of the same kind, where a map takes minutes
    "rise": {"masks": 500}, "dmbp": {"iterations": 40}, "i_gos": {"iterations": 4}, "input_iba": {"epochs": 2, "steps": 6},
    "iba": {"images": 50}, "mip_in": {"images": 50}}
LONG = 5.0  # seconds from which one try is enough
Clock = Callable[[], float]


def best_seconds(work: Callable[[], object], clock: Clock, repeats: int = 3) -> float:
    times: list[float] = []
    while len(times) < repeats and sum(times) < LONG:
        begin = clock()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(clock() - begin)
    return min(times)


def images(network: Classifier, count: int) -> torch.Tensor:
    return torch.randn(count, network.channels, *network.input_size, device=network.device)


def best_batches(network: Classifier, clock: Clock) -> tuple[int, int]:
    """The batch size at which an image goes forward, and forward and back, in the least time."""
    forward, both = {}, {}
    for size in BATCHES:
        x = images(network, size)
        forward[size] = best_seconds(lambda x=x: network.predict(x), clock) / size
        both[size] = best_seconds(lambda x=x: network.gradient(x, 0), clock) / size
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


def one_map(engine: ex.Engine, network: Classifier, key: str, reference: ReferenceSet, settings: dict[str, object]) -> None:
    """A map of an image that the engine has not seen, so that only what was fitted is known."""
    engine.explain(network, images(network, 1), key, target=0, reference=reference, **settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network")
    parser.add_argument("--weights")
    parser.add_argument("--methods", nargs="*")
    parser.add_argument("--cpu", action="store_true")
    given = parser.parse_args()
    clock = time.process_time if given.cpu else time.perf_counter
    warnings.filterwarnings("ignore")
    network = ex.load_model(given.network, weights=given.weights)
    x, engine = images(network, 1), ex.Engine()
    reference = default(network, x)
    print(f"{network.title} on {network.device}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    batches = best_batches(network, clock)
    print(f"{'method':26s} {'passes':>14s} {'seconds':>8s} {'floor':>8s} {'ratio':>6s} {'singly':>6s} {'Captum':>8s}")
    for key, method in ex.methods().items():
        if network.lacks(method) or given.methods and key not in given.methods:
            continue
        settings = SETTINGS.get(key, {})
        passes = method.cost(method.settings(**settings), network)
        if "reference" in method.needs:
            one_map(engine, network, key, reference, settings)
        before = [pass_seconds(network, sizes, clock) for sizes in (batches, (1, 1))]
        seconds = best_seconds(lambda key=key, settings=settings: one_map(engine, network, key, reference, settings), clock)
        after = [pass_seconds(network, sizes, clock) for sizes in (batches, (1, 1))]
        least, singly = (least_seconds(passes, *timed) for timed in zip(before, after, strict=True))
        ratio = f"{seconds / least:6.2f} {seconds / singly:6.2f}" if least else f"{'-':>6s} {'-':>6s}"
        theirs = captum_seconds(network, x, key, clock)
        print(f"{key:26s} {passes.forward:6g}F {passes.backward:6g}B {seconds:8.3f} {least:8.3f} {ratio} "
              + (f"{theirs:8.3f}" if theirs else f"{'-':>8s}"))


if __name__ == "__main__":
    main()
