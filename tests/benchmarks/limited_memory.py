"""What happens to a run where the system refuses memory.

    python -m tests.benchmarks.limited_memory --headroom 60 120 250 500 1000

Each run is a process of its own that may take that many MB beyond what the loaded network takes (``RLIMIT_AS``, Linux). A run ends
well where it gives its map ("map"), gives it after it halved its batch ("halved"), or says what to do in one sentence ("sentence");
everything else is named by its exception, or by the signal that killed it.
"""

from __future__ import annotations

import argparse
import os
import resource
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

import explainers as ex
from explainers.context import Context
from tests.benchmarks.command_line import add_summary, parser_of, question
from tests.benchmarks.summaries import keep

METHODS = ("gradient", "integrated_gradients:steps=20", "rise:masks=40", "grad_cam", "deep_lift", "i_gos:iterations=1",
           "dmbp:iterations=2", "mip_in:images=10", "kernel_shap:samples=40", "xrai:steps=5")
METRICS = ("insertion_deletion", "sensitivity_n", "class_sensitivity", "sanity_checks")
GOOD = ("map", "halved", "sentence")


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--network", default="efficientnet_lite0")
    parser.add_argument("--headroom", type=int, nargs="+", default=[60, 120, 250, 500, 1000], help="MB, one run for each")
    parser.add_argument("--methods", nargs="*", default=METHODS, help="names, name:parameter=value,...")
    parser.add_argument("--metrics", nargs="*", default=METRICS)
    add_summary(parser)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    network = ex.load_model(arguments.network, device="cpu")
    x = network.preprocess(ex.samples()[0].load())
    counts: Counter[str] = Counter()
    print(f"{'':32s}" + "".join(f"{size:>26d}" for size in arguments.headroom))
    for name, work in works(arguments, network, x).items():
        ends = [in_a_child(work, megabytes) for megabytes in arguments.headroom]
        print(f"{name:32s}" + "".join(f"{end[:24]:>26s}" for end in ends), flush=True)
        counts.update(end if end in GOOD else "other" for end in ends)
        keep(arguments.summary, {"what": name}, **{f"{size} MB": end for size, end in zip(arguments.headroom, ends, strict=True)})
    print(", ".join(f"{count} {end}" for end, count in counts.most_common()))


def works(arguments: argparse.Namespace, network: ex.Classifier, x: torch.Tensor) -> dict[str, Callable[[], object]]:
    """What is run, by name: a map of each method, and a measurement of a gradient's map by each metric."""
    def measured(metric: str) -> object:
        subject = ex.ask(network, x, "gradient", target=281)
        return ex.Engine().measure(ex.judge(metric, subject, **ex.metrics()[metric].cheap))

    maps = {spec: lambda spec=spec: ex.Engine().explain(question(network, x, spec, 281)) for spec in arguments.methods}
    return {**maps, **{metric: lambda metric=metric: measured(metric) for metric in arguments.metrics}}


def in_a_child(work: Callable[[], object], megabytes: int) -> str:
    """How ``work`` ends in a process that may take this many MB more than this one."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        limit = virtual_bytes() + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        end = end_of(work)
        os.write(writer, end.encode()[:2000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        end = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return end or f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else end or f"exit {os.WEXITSTATUS(status)}"


def end_of(work: Callable[[], object]) -> str:
    """"map", "halved", "sentence", or the exception and its first words."""
    sizes: list[int] = []
    setter = Context.batch_size.fset

    def noted(context: Context, images: int) -> None:
        sizes.append(images)
        setter(context, images)

    Context.batch_size = Context.batch_size.setter(noted)
    try:
        work()
    except ex.ExplainerError as error:
        print(f"    {error}", flush=True)
        return "sentence"
    except BaseException as error:
        print(f"    {type(error).__name__}: {str(error)[:300]!r}", flush=True)
        return f"{type(error).__name__}: {error}"
    return "halved" if sizes else "map"


def virtual_bytes() -> int:
    """The address space of this process."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
