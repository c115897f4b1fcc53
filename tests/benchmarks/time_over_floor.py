"""Each method's time over the floor of its passes: ``python -m tests.benchmarks.time_over_floor NETWORK [--weights FILE]``.

The floor is the number of passes times the time of one pass at the best batch size. Passes are timed just before and just after
each method, and their mean is taken: other work on the machine then slows both alike. Beside it stands the same work done by Captum,
where Captum has the method.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import captum.attr as ca
import torch

import explainers as ex
from explainers.networks.classifier import Classifier

BATCHES = (1, 2, 4, 8, 16, 32)
SETTINGS = {"rise": {"masks": 500}}  # the time is in proportion to the masks


def best_seconds(work: Callable[[], object], repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return min(times)


def images(network: Classifier, count: int) -> torch.Tensor:
    return torch.randn(count, network.channels, *network.input_size, device=network.device)


def best_batches(network: Classifier) -> tuple[int, int]:
    """The batch size at which an image goes forward, and forward and back, in the least time."""
    forward, both = {}, {}
    for size in BATCHES:
        x = images(network, size)
        forward[size] = best_seconds(lambda x=x: network.predict(x)) / size
        both[size] = best_seconds(lambda x=x: network.gradient(x, 0)) / size
        print(f"batch {size:3d}: forward {1e3 * forward[size]:6.1f} ms, forward and backward {1e3 * both[size]:6.1f} ms an image")
    return min(forward, key=forward.get), min(both, key=both.get)


def pass_seconds(network: Classifier, batches: tuple[int, int]) -> tuple[float, float]:
    """Seconds of one image forward alone, and forward with backward, at the best batch sizes, now."""
    alone, both = (images(network, size) for size in batches)
    return (best_seconds(lambda: network.predict(alone)) / batches[0],
            best_seconds(lambda: network.gradient(both, 0)) / batches[1])


def captum_seconds(network: Classifier, x: torch.Tensor, key: str) -> float | None:
    module = network.module
    side = x.shape[-1] // 16
    theirs: dict[str, Callable[[], object]] = {
        "gradient": lambda: ca.Saliency(module).attribute(x, target=0),
        "gradient_x_input": lambda: ca.InputXGradient(module).attribute(x, target=0),
        "integrated_gradients": lambda: ca.IntegratedGradients(module).attribute(x, target=0, n_steps=50),
        "occlusion": lambda: ca.Occlusion(module).attribute(
            x, target=0, sliding_window_shapes=(3, side, side), strides=(3, side, side)),
    }
    return best_seconds(theirs[key], 1) if key in theirs else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network")
    parser.add_argument("--weights")
    parser.add_argument("--methods", nargs="*")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    network = ex.load_model(given.network, weights=given.weights)
    x = torch.randn(1, network.channels, *network.input_size, device=network.device)
    print(f"{network.title} on {network.device}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    batches = best_batches(network)
    print(f"{'method':26s} {'passes':>14s} {'seconds':>8s} {'floor':>8s} {'ratio':>6s} {'Captum':>8s}")
    for key, method in ex.methods().items():
        if network.lacks(method) or given.methods and key not in given.methods:
            continue
        settings = SETTINGS.get(key, {})
        passes = method.cost(method.settings(**settings), network)
        before = pass_seconds(network, batches)
        seconds = best_seconds(lambda key=key, settings=settings: ex.explain(network, x, key, target=0, **settings))
        forward, both = (sum(pair) / 2 for pair in zip(before, pass_seconds(network, batches), strict=True))
        least = passes.backward * both + max(0, passes.forward - passes.backward) * forward
        ratio = f"{seconds / least:6.2f}" if least else f"{'-':>6s}"
        theirs = captum_seconds(network, x, key)
        print(f"{key:26s} {passes.forward:6g}F {passes.backward:6g}B {seconds:8.3f} {least:8.3f} {ratio} "
              + (f"{theirs:8.3f}" if theirs else f"{'-':>8s}"))


if __name__ == "__main__":
    main()
