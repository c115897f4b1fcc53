"""Insertion and deletion AUC of many methods over photographs that the network gets right, and the paired differences.

    python -m tests.benchmarks.faithfulness --photographs DIR --network squeezenet1_0 --weights FILE --images 30 \\
        --measures i_gos@28 i_gos@13 --methods i_gos:resolution={r} integrated_gradients grad_cam rise:masks=1000 random \\
        --against i_gos:resolution={r} --results results.jsonl

A measure is a protocol, ``protocol@resolution``, and either with ``/magnitude`` after it, which orders maps by their magnitudes;
``{r}`` in a method's settings is that resolution (``input`` where it is the image's). Every line printed is over the photographs
that all chosen methods have been measured on: mean ± standard error, and of the differences to ``--against``, photograph by
photograph. ``--results`` keeps what was measured; a run that is broken off goes on. ``--skip`` leaves out the first photographs,
so that settings can be chosen on others than those reported. ``--points`` makes each curve of about so many points instead of
the protocol's 170 to 260.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import explainers as ex
from explainers.data.reference import from_pictures
from explainers.metrics import insertion_deletion
from tests.benchmarks.command_line import parse_measure, parse_method
from tests.benchmarks.photographs import Ledger, Photograph, mean_and_error, recognised


def step_of(points: int | None, side: int) -> int | None:
    """The cells to change at once, so that a curve has about this many points; None for the protocol's own step."""
    return None if points is None else math.ceil(side * side / points)


def measure_one(engine: ex.Engine, network: ex.Classifier, photograph: Photograph, given: argparse.Namespace, ledger: Ledger,
                reference: Any) -> None:
    """All chosen methods by all chosen measures on one photograph; what the ledger has is left alone."""
    for spec in given.measures:
        protocol, resolution, order_by = parse_measure(spec)
        keys = {"network": network.name, "photograph": photograph.name, "measure": spec}
        missing = [method for method in given.methods if not ledger.has(method=method, **keys)]
        if not missing:
            continue
        maps = []
        for method in missing:
            name, settings = parse_method(method, resolution, network.input_size[0])
            maps.append(engine.explain(network, photograph.x, name, target=photograph.label, reference=reference, **settings))
        step = step_of(given.points, resolution or network.input_size[0])
        found = insertion_deletion.measure(network, photograph.x, maps, target=photograph.label, protocol=protocol,
                                           resolution=resolution, step=step, order_by=order_by)
        for method, one, attribution in zip(missing, found, maps, strict=True):
            ledger.add(method=method, insertion=one.insertion_auc, deletion=one.deletion_auc, seconds=attribution.seconds, **keys)


def report(network: ex.Classifier, given: argparse.Namespace, ledger: Ledger) -> None:
    """One table a measure."""
    for spec in given.measures:
        columns = {method: {field: ledger.values(field, network=network.name, measure=spec, method=method)
                            for field in ("insertion", "deletion", "seconds")} for method in given.methods}
        common = sorted(set.intersection(*(set(column["insertion"]) for column in columns.values())))
        print(f"\n{network.name}, {spec}, {len(common)} photographs")
        if not common:
            continue
        against = columns.get(given.against)
        print(f"{'method':40s} {'insertion AUC':>15s} {'deletion AUC':>15s} {'seconds':>8s}"
              + (f"   {given.against} minus method: {'insertion':>15s} {'deletion':>15s}" if against else ""))
        for method, column in columns.items():
            line = f"{method:40s}"
            for field in ("insertion", "deletion"):
                line += f" {mean_and_error([column[field][name] for name in common]):>15s}"
            line += f" {sum(column['seconds'][name] for name in common) / len(common):8.1f}"
            if against and method != given.against:
                line += " " * (len(given.against) + 17)
                for field in ("insertion", "deletion"):
                    line += f" {mean_and_error([against[field][name] - column[field][name] for name in common]):>15s}"
            print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--network", default="squeezenet1_0")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--measures", nargs="+", default=["i_gos@28"])
    parser.add_argument("--points", type=int)
    parser.add_argument("--methods", nargs="+", required=True)
    parser.add_argument("--against", default="")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--cache", type=Path, help="a folder for the maps")
    given = parser.parse_args()
    network = ex.load_model(given.network, weights=given.weights) if given.weights else ex.load_model(given.network)
    needing = [m for m in given.methods if "reference" in ex.methods()[m.partition(":")[0]].needs]
    reference = from_pictures(network, given.photographs) if needing else None
    engine, ledger = ex.Engine(ex.MapCache(given.cache)), Ledger(given.results)
    for number, photograph in enumerate(recognised(network, given.photographs, given.images, given.skip), start=1):
        measure_one(engine, network, photograph, given, ledger, reference)
        print(f"{number} {photograph.name}", flush=True)
    report(network, given, ledger)


if __name__ == "__main__":
    main()
