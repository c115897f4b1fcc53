"""Whether the time that a run is said to take is the time that it takes.

    python -m tests.benchmarks.time_left squeezenet efficientnet_lite0 --drafts
    python -m tests.benchmarks.time_left efficientnet_lite0 --methods rise:masks=500 dmbp:iterations=40 input_iba

For each method, with an engine that knows nothing yet: the seconds estimated before the run, the real ones, and their ratio; then
what was still said to be left one second after the start and after a quarter, half and three quarters of the run, over what was
really left. A ratio of 1 is exact; those beyond a factor of 1.5 are marked with ``*``. ``--drafts`` adds each method's draft.
``--cpu`` counts the process's own seconds on the processor, for a machine that is busy with something else; run it with
OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import torch

import explainers as ex
from components.compute.time_left import TimeLeft
from tests.benchmarks.command_line import parser_of, question, spelled_out

METHODS = ("integrated_gradients", "smoothgrad", "rise", "occlusion", "i_gos", "dmbp", "iba", "mip_in", "input_iba")
MOMENTS = (0.25, 0.5, 0.75)  # fractions of the real time
FACTOR = 1.5


class Record:
    """A progress callback that keeps, at each report, the time since the start and the seconds then said to be left."""

    def __init__(self, estimate: float, clock: Callable[[], float]) -> None:
        self._clock, self._begin = clock, clock()
        self._left = TimeLeft([estimate], clock)
        self.reports = [(0.0, estimate)]

    def __call__(self, done: int, total: int, preview: object) -> None:
        self._left.running(0, done / total)
        self.reports.append((self._clock() - self._begin, self._left.seconds))

    def ratio(self, moment: float, end: float) -> float:
        """What the last report before ``moment`` said, less the time since then, over what was really left."""
        at, left = max(entry for entry in self.reports if entry[0] <= moment)
        return max(left - (moment - at), 0.0) / (end - moment)


def measured(asked: ex.Question, clock: Callable[[], float]) -> tuple[float, float, list[float]]:
    """Estimated seconds, real seconds, and the ratios of said to real after a second and at the ``MOMENTS`` of the run."""
    engine = ex.Engine()
    estimate = engine.cost(asked).seconds
    record = Record(estimate, clock)
    begin = clock()
    engine.explain(asked, progress=record)
    real = clock() - begin
    moments = [min(1.0, real / 2), *(real * part for part in MOMENTS)]
    return estimate, real, [record.ratio(moment, real) for moment in moments]


def in_words(ratio: float) -> str:
    """A ratio, with a star where it is off by more than the factor."""
    return f"{ratio:6.2f}{' ' if 1 / FACTOR <= ratio <= FACTOR else '*'}"


def with_drafts(specs: list[str]) -> list[str]:
    """The methods, and for each its draft's settings."""
    drafts = {spec: ex.methods()[spec.partition(":")[0]].draft for spec in specs}
    return [*specs, *(f"{spec.partition(':')[0]}:" + ",".join(f"{name}={value}" for name, value in draft.items())
                      for spec, draft in drafts.items() if draft)]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help="names, or name:parameter=value,...")
    parser.add_argument("--drafts", action="store_true", help="also each method's draft")
    parser.add_argument("--cpu", action="store_true", help="count the processor's seconds")
    arguments: argparse.Namespace = parser.parse_args()
    clock = time.process_time if arguments.cpu else time.perf_counter
    warnings.filterwarnings("ignore")
    for name in arguments.networks:
        network = ex.load_model(name)
        x = torch.randn(1, network.channels, *network.input_size, generator=torch.Generator().manual_seed(0))
        print(f"{network.title} on {network.device}, torch {torch.__version__}, {torch.get_num_threads()} threads")
        print(f"{'method':44s} {'said':>8s} {'real':>8s} {'ratio':>7s}   left: {'1 s':>6s} " + " ".join(
            f"{100 * part:5.0f} %" for part in MOMENTS))
        specs = spelled_out(arguments.methods, network)
        for spec in with_drafts(specs) if arguments.drafts else specs:
            estimate, real, ratios = measured(question(network, x.to(network.device), spec, 0), clock)
            print(f"{spec:44s} {estimate:8.2f} {real:8.2f} {in_words(estimate / real)}        "
                  f"{' '.join(in_words(ratio) for ratio in ratios)}", flush=True)


if __name__ == "__main__":
    main()
