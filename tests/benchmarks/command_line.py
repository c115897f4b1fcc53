"""What the benchmarks' command lines have in common: the network, the photographs, and how methods and measures are named."""

from __future__ import annotations

import argparse
import ast
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

import explainers as ex
from explainers.data.reference import ReferenceSet, from_pictures
from tests.benchmarks.photographs import SCENES, Ledger, recognised

PRICES = {"cheap": 100, "medium": 1000, "costly": math.inf}  # forward and backward passes of one map, at most


def parser_of(description: str) -> argparse.ArgumentParser:
    """A parser that keeps the lines of a module's description."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def photograph_parser(description: str) -> argparse.ArgumentParser:
    """The arguments of every benchmark over photographs."""
    parser = parser_of(description)
    parser.add_argument("--photographs", type=Path, required=True, help=(
        "a folder of NNN_name.jpg, NNN the class; or the word scenes, for scenes that are drawn"))
    parser.add_argument("--network", default="squeezenet1_0")
    parser.add_argument("--weights", type=Path, help="a checkpoint of the network; without one, its published weights")
    parser.add_argument("--images", type=int, default=20, help="how many of the photographs that the network gets right")
    parser.add_argument("--skip", type=int, default=0, help="leave out the first ones, on which settings may have been chosen")
    parser.add_argument("--methods", nargs="+", required=True,
                        help="names, name:parameter=value,..., or all methods of a price: cheap, medium, costly")
    parser.add_argument("--reference", type=Path, help="a folder of pictures that methods fit on; without one, the photographs")
    parser.add_argument("--results", type=Path, help="a file of JSON lines, the results by photograph; an interrupted run goes on")
    parser.add_argument("--cache", type=Path, help="a folder for the maps")
    add_summary(parser)
    return parser


def add_summary(parser: argparse.ArgumentParser) -> None:
    """The option that keeps a run's means for RESULTS.md."""
    parser.add_argument("--summary", type=Path, help="a file of tests/benchmarks/results, whose rows this run's means replace")


def parse_method(spec: str, resolution: int | None, side: int) -> tuple[str, dict[str, Any]]:
    """``name:parameter=value,...`` into the method's key and its settings.

    ``{r}`` among them is the ``resolution``, and ``input`` where that is the ``side`` of the network's input.
    """
    name, _, settings = spec.partition(":")
    r = "" if resolution is None else "input" if resolution == side else str(resolution)
    values = {}
    for pair in filter(None, settings.replace("{r}", repr(r)).split(",")):
        key, _, value = pair.partition("=")
        try:
            values[key] = ast.literal_eval(value)
        except ValueError:
            values[key] = value
    return name, values


def parse_measure(spec: str) -> tuple[str, int | None, str]:
    """``protocol[@resolution][/magnitude]`` into the protocol, its resolution, and what the maps are ordered by."""
    protocol_at, _, order_by = spec.partition("/")
    protocol, _, resolution = protocol_at.partition("@")
    return protocol, int(resolution) if resolution else None, order_by or "value"


def question(network: ex.Classifier, x: Tensor, spec: str, target: int, reference: ReferenceSet | None = None,
             resolution: int | None = None) -> ex.Question:
    """The question for a method that is named as ``parse_method`` says."""
    key, settings = parse_method(spec, resolution, network.input_size[0])
    return ex.ask(network, x, key, target=target, reference=reference, **settings)


def spelled_out(specs: Sequence[str], network: ex.Classifier) -> list[str]:
    """Methods by name, each price replaced by its methods; those that cannot explain the network are left out and named."""
    methods, prices = ex.methods(), list(PRICES)
    chosen = []
    for spec in specs:
        named = [key for key, method in methods.items() if not method.is_control and _price(method, network) == spec]
        chosen += named if spec in prices else [spec]
    reasons = {spec: methods[spec.partition(":")[0]].lacks(network) for spec in chosen}
    for spec, reason in reasons.items():
        if reason:
            print(f"{spec} is left out: {reason}")
    return [spec for spec, reason in reasons.items() if not reason]


def _price(method: ex.Method, network: ex.Classifier) -> str:
    passes = method.passes(method.settings()) if method.lacks(network) else method.cost(method.settings(), network)
    return next(price for price, most in PRICES.items() if passes.forward + passes.backward <= most)


def reference_set(network: ex.Classifier, specs: Sequence[str], folder: Path) -> ReferenceSet | None:
    """The pictures of a folder, where one of the methods fits statistics on such a set; None for SCENES, the network's own set."""
    fits = any(ex.methods()[spec.partition(":")[0]].fits_statistics for spec in specs)
    return from_pictures(network, folder) if fits and folder != SCENES else None


def over_photographs(arguments: argparse.Namespace, measure_one: Callable[..., None], report: Callable[..., None]) -> None:
    """Measure each photograph that the network gets right, then report; the arguments are those of ``photograph_parser``.

    ``measure_one(engine, network, photograph, arguments, ledger, reference)`` adds to the ledger what it lacks, and
    ``report(network, arguments, ledger)`` prints it.
    """
    network = ex.load_model(arguments.network, weights=arguments.weights)
    arguments.methods = spelled_out(arguments.methods, network)
    reference = reference_set(network, arguments.methods, arguments.reference or arguments.photographs)
    engine, ledger = ex.Engine(ex.MapCache(arguments.cache)), Ledger(arguments.results)
    for number, photograph in enumerate(recognised(network, arguments.photographs, arguments.images, arguments.skip), start=1):
        measure_one(engine, network, photograph, arguments, ledger, reference)
        print(f"{number} {photograph.name}", flush=True)
    report(network, arguments, ledger)
