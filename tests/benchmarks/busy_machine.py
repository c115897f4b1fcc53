"""How long a forward pass takes while other programs use the cores: with threads that spin while they wait, or that sleep.

    python -m tests.benchmarks.busy_machine --busy 0 1 2

For each setting a process of its own, which has loaded the network. The settings take turns, a few passes each, so that what else
runs on the machine slows all alike; a process whose turn it is not is stopped, because one that spins would go on for a while.
``share``: of the time of the quickest setting without a competitor, times the threads that want a core, over the cores; what a
scheduler that is fair to each thread would need at best.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence

from tests.benchmarks.command_line import add_summary, parser_of
from tests.benchmarks.summaries import keep

SETTINGS = {"spinning (OMP_WAIT_POLICY=ACTIVE)": {"OMP_WAIT_POLICY": "ACTIVE"}, "OpenMP's default": {"OMP_WAIT_POLICY": ""},
            "short spins (GOMP_SPINCOUNT=1000)": {"GOMP_SPINCOUNT": "1000"}, "sleeping (as explainers sets it)": {}}
PASSES = """
import os, sys, time, warnings
if os.environ.get("OMP_WAIT_POLICY") == "":
    del os.environ["OMP_WAIT_POLICY"]
    import torch  # before explainers, which would set it
import explainers as ex
import torch
warnings.filterwarnings("ignore")
network = ex.load_model(sys.argv[1], device="cpu")
x = torch.zeros(int(sys.argv[2]), network.channels, *network.input_size)
for _ in range(3):
    network.predict(x)
print(torch.get_num_threads(), flush=True)
for line in sys.stdin:
    for _ in range(int(line)):
        begin = time.perf_counter()
        network.predict(x)
        print(time.perf_counter() - begin, flush=True)
"""
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"  # ends with this process, however that ends


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--network", default="efficientnet_lite0")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2], help="how many processes compete, one after another")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--passes", type=int, default=5, help="in each turn of a setting")
    add_summary(parser)
    arguments = parser.parse_args()
    workers = {name: worker(arguments, extra) for name, extra in SETTINGS.items()}
    try:
        threads = max(int(process.stdout.readline()) for process in workers.values())
        print(f"{os.cpu_count()} cores, {threads} threads, load average {os.getloadavg()[0]:.1f}")
        for process in workers.values():
            process.send_signal(signal.SIGSTOP)
        alone: float | None = None
        for busy in arguments.busy:
            times = with_competitors(arguments, workers, busy)
            alone = alone or min(statistics.median(seconds) for seconds in times.values())
            fair = alone * max(1.0, (threads + busy) / (os.cpu_count() or 1))
            for name, seconds in times.items():
                median = statistics.median(seconds)
                print(f"{busy} busy, {name:36s}: median {1e3 * median:5.0f} ms, worst {1e3 * max(seconds):5.0f} ms, "
                      f"{median / fair:.2f} of its fair share", flush=True)
                keep(arguments.summary, {"what": name, "busy": str(busy)}, seconds=round(median, 4), share=round(median / fair, 2))
    finally:
        for process in workers.values():
            process.kill()


def worker(arguments: argparse.Namespace, extra: Mapping[str, str]) -> subprocess.Popen[str]:
    """A process that has loaded the network, with these settings and no others of their kind."""
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.Popen([sys.executable, "-c", PASSES, arguments.network, str(arguments.batch)], env={**environment, **extra},
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def with_competitors(arguments: argparse.Namespace, workers: Mapping[str, subprocess.Popen[str]],
                     busy: int) -> dict[str, Sequence[float]]:
    """Seconds of each pass by setting, while so many other processes compute."""
    competitors = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
    times: dict[str, list[float]] = {name: [] for name in workers}
    try:
        for _ in range(arguments.rounds):
            for name, process in workers.items():
                process.send_signal(signal.SIGCONT)
                process.stdin.write(f"{arguments.passes}\n")
                process.stdin.flush()
                times[name] += [float(process.stdout.readline()) for _ in range(arguments.passes)]
                process.send_signal(signal.SIGSTOP)
    finally:
        for competitor in competitors:
            competitor.kill()
    return times


if __name__ == "__main__":
    main()
