"""How far a method's maps for different classes are apart, over photographs that the network gets right.

    python -m tests.benchmarks.class_sensitivity --photographs DIR --weights FILE --network squeezenet1_0 --images 20 \\
        --methods cheap rise:masks=1000 --results results.jsonl

For each method the maps of the most probable class are compared with those of the second (``second``: often a kin of the first) and
of one fixed class that has nothing to do with the photographs (``far``, ``--far``). Every line is over all photographs: mean ±
standard error of each measure; ``empty`` counts those of which a map is the same everywhere, which no mean takes in. The rank
correlation and SSIM are 1 for equal maps, the distances 0. An image's maps for all classes and methods share what they can (one
backward pass a class serves the whole gradient family).
"""

from __future__ import annotations

import argparse
import dataclasses
import time

import explainers as ex
from explainers.data.reference import ReferenceSet
from explainers.metrics import class_sensitivity
from explainers.metrics.map_distances import MEASURES, average
from tests.benchmarks.command_line import photograph_parser, question, reference_set, spelled_out
from tests.benchmarks.photographs import Ledger, Photograph, recognised
from tests.benchmarks.summaries import cell, in_words, keep

PAIRS = ("second", "far")


def measure_one(engine: ex.Engine, network: ex.Classifier, photograph: Photograph, arguments: argparse.Namespace, ledger: Ledger,
                reference: ReferenceSet | None) -> None:
    """Every method that the ledger lacks, on one photograph."""
    others = {pair: arguments.far if pair == "far" else photograph.ranked[1] for pair in arguments.pairs}
    keys = {"network": network.name, "photograph": photograph.name, "far": arguments.far}
    for method in arguments.methods:
        if all(ledger.has(method=method, pair=pair, **keys) for pair in arguments.pairs):
            continue
        begin = time.perf_counter()
        asked = question(network, photograph.x, method, photograph.label, reference)
        classes = tuple(dict.fromkeys((photograph.label, *others.values())))
        result = engine.measure(ex.judge("class_sensitivity", asked, classes=classes))
        seconds = time.perf_counter() - begin
        for pair, other in others.items():
            distances = dataclasses.asdict(result.between(photograph.label, other))
            ledger.add(method=method, pair=pair, other=other, seconds=seconds, **distances, **keys)


def report(network: ex.Classifier, arguments: argparse.Namespace, ledger: Ledger) -> None:
    """One table a pair of classes."""
    far = arguments.far
    for pair in arguments.pairs:
        title = "the second class" if pair == "second" else f"class {far}, {network.categories[far]}"
        print(f"\n{network.name}: the maps of the first class and of {title}")
        print(f"{'method':34s} {'images':>6s} {'empty':>5s}" + "".join(f" {name:>16s}" for name in MEASURES) + "  verdict")
        for method in arguments.methods:
            of = {"network": network.name, "pair": pair, "far": far, "method": method}
            rows = [row for row in ledger.rows if of.items() <= row.items()]
            if not rows:
                continue
            averages = {name: average([row[name] for row in rows]) for name in MEASURES}
            level = class_sensitivity.verdict(averages["rank"].mean, averages["l2_unit"].mean).level
            print(f"{method:34s} {len(rows):6d} {averages['l2_unit'].undefined:5d}"
                  + "".join(f" {in_words(averages[name]):>16s}" for name in MEASURES) + f"  {level}")
            keep(arguments.summary, of, **{name: cell([row[name] for row in rows]) for name in MEASURES})


def main() -> None:
    parser = photograph_parser(__doc__)
    parser.add_argument("--far", type=int, default=589, help="the fixed class (589: hand blower)")
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS), help="far alone saves a map of every method")
    arguments = parser.parse_args()
    network = ex.load_model(arguments.network, weights=arguments.weights)
    arguments.methods = spelled_out(arguments.methods, network)
    reference = reference_set(network, arguments.methods, arguments.reference or arguments.photographs)
    engine, ledger = ex.Engine(ex.MapCache(arguments.cache)), Ledger(arguments.results)
    for number, photograph in enumerate(recognised(network, arguments.photographs, arguments.images, arguments.skip), start=1):
        if arguments.far in photograph.ranked[:2]:
            print(f"{number} {photograph.name} is left out: class {arguments.far} is among its first two")
            continue
        measure_one(engine, network, photograph, arguments, ledger, reference)
        print(f"{number} {photograph.name}", flush=True)
    report(network, arguments, ledger)


if __name__ == "__main__":
    main()
