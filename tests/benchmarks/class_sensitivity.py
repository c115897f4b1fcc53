"""How far a method's maps for different classes are apart, over photographs that the network gets right.

    python -m tests.benchmarks.class_sensitivity --photographs DIR --weights FILE --network squeezenet1_0 --images 20 \\
        --methods cheap rise:masks=1000 --results results.jsonl

For each method the maps of the most probable class are compared with those of the second (``second``: often a kin of the first) and
of one fixed class that has nothing to do with the photographs (``far``, ``--far``). Every line is over all photographs: mean ±
standard error of each measure; ``empty`` counts those of which a map is the same everywhere, which no mean takes in. The rank
correlation and SSIM are 1 for equal maps, the distances 0. ``cheap``, ``medium`` and ``costly`` stand for the methods of a price,
at most some 100, some 700, and several thousand passes a map. An image's maps for all classes and methods are made in one go and
share what they can (one backward pass a class serves the whole gradient family). ``--results`` keeps what was measured; a run that
is broken off goes on. ``--set`` changes a setting of a method wherever it stands: ``--set integrated_gradients.steps=20``.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import explainers as ex
from explainers.data.reference import from_pictures
from explainers.metrics import class_sensitivity
from explainers.metrics.map_distances import MEASURES, Average, average
from tests.benchmarks.command_line import parse_method
from tests.benchmarks.photographs import Ledger, Photograph, recognised

PRICES = {
    "cheap": ("gradient", "gradient_x_input", "gradient_x_sign", "positive_gradient_x_input", "guided_backprop", "deconvnet",
              "grad_cam", "guided_grad_cam", "integrated_gradients", "smoothgrad", "attribution_mask"),
    "medium": ("dmbp", "iba", "occlusion", "i_gos", "mip_in"),
    "costly": ("rise", "input_iba"),
}
PAIRS = ("second", "far")


def spelled_out(methods: list[str], changes: list[str], network: ex.Classifier) -> list[str]:
    """Methods with their settings, as ``name:parameter=value,...``, prices replaced; those that cannot are left out and named."""
    named = [name for one in methods for name in PRICES.get(one, (one,))]
    found = []
    for spec in named:
        key = spec.partition(":")[0]
        reason = network.lacks(ex.methods()[key])
        if reason:
            print(f"{key} is left out: {reason}")
            continue
        own = [change.partition(".")[2] for change in changes if change.startswith(f"{key}.")]
        found.append(spec + ("," if ":" in spec else ":") * bool(own) + ",".join(own))
    return found


def measure_one(engine: ex.Engine, network: ex.Classifier, photograph: Photograph, methods: list[str], given: argparse.Namespace,
                ledger: Ledger, reference: Any) -> None:
    """Every method that the ledger lacks, on one photograph."""
    others = {pair: given.far if pair == "far" else photograph.ranked[1] for pair in given.pairs}
    keys = {"network": network.name, "photograph": photograph.name, "far": given.far}
    missing = [method for method in methods if not all(ledger.has(method=method, pair=pair, **keys) for pair in given.pairs)]
    for method in missing:
        name, settings = parse_method(method, None, network.input_size[0])
        maps = {target: engine.explain(network, photograph.x, name, target=target, reference=reference, **settings)
                for target in dict.fromkeys((photograph.label, *others.values()))}
        found = class_sensitivity.measure(list(maps.values()))
        for pair, other in others.items():
            ledger.add(method=method, pair=pair, other=other, seconds=sum(one.seconds for one in maps.values()),
                       **dataclasses.asdict(found.between(photograph.label, other)), **keys)


def in_words(one: Average) -> str:
    if not one.count:
        return "-"
    return f"{one.mean:.3f} ± {one.error:.3f}" if one.count > 1 else f"{one.mean:.3f}"


def report(network: ex.Classifier, methods: list[str], pairs: list[str], far: int, ledger: Ledger) -> None:
    """One table a pair of classes."""
    for pair in pairs:
        title = "the second class" if pair == "second" else f"class {far}, {network.categories[far]}"
        print(f"\n{network.name}: the maps of the first class and of {title}")
        print(f"{'method':34s} {'images':>6s} {'empty':>5s}" + "".join(f" {name:>16s}" for name in MEASURES) + "  verdict")
        for method in methods:
            rows = [row for row in ledger.rows if {"network": network.name, "far": far, "method": method, "pair": pair}.items()
                    <= row.items()]
            if not rows:
                continue
            found = {name: average([row[name] for row in rows]) for name in MEASURES}
            level = class_sensitivity.verdict(found["rank"].mean, found["l2_unit"].mean).level
            print(f"{method:34s} {len(rows):6d} {found['l2_unit'].undefined:5d}"
                  + "".join(f" {in_words(found[name]):>16s}" for name in MEASURES) + f"  {level}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True, help="NNN_name.jpg, NNN the class")
    parser.add_argument("--network", default="squeezenet1_0")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--methods", nargs="+", default=["cheap"], help="names, name:parameter=value, or cheap, medium, costly")
    parser.add_argument("--set", nargs="*", default=[], metavar="METHOD.PARAMETER=VALUE")
    parser.add_argument("--far", type=int, default=589, help="the fixed class (589: hand blower)")
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS), help="far alone saves a map of every method")
    parser.add_argument("--results", type=Path, help="a file of JSON lines that is added to")
    parser.add_argument("--cache", type=Path, help="a folder for the maps")
    given = parser.parse_args()
    network = ex.load_model(given.network, weights=given.weights) if given.weights else ex.load_model(given.network)
    methods = spelled_out(given.methods, given.set, network)
    fitted = any("reference" in ex.methods()[method.partition(":")[0]].needs for method in methods)
    reference = from_pictures(network, given.photographs) if fitted else None
    engine, ledger = ex.Engine(ex.MapCache(given.cache)), Ledger(given.results)
    for number, photograph in enumerate(recognised(network, given.photographs, given.images, given.skip), start=1):
        if given.far in photograph.ranked[:2]:
            print(f"{number} {photograph.name} is left out: class {given.far} is among its first two")
            continue
        measure_one(engine, network, photograph, methods, given, ledger, reference)
        print(f"{number} {photograph.name}", flush=True)
    report(network, methods, given.pairs, given.far, ledger)


if __name__ == "__main__":
    main()
