"""Insertion and deletion AUC of many methods over photographs that the network gets right, and the paired differences.

    python -m tests.benchmarks.faithfulness --photographs DIR --network squeezenet1_0 --weights FILE --images 30 \\
        --measures i_gos@28 i_gos@13 --methods i_gos:resolution={r} integrated_gradients grad_cam rise:masks=1000 random \\
        --against i_gos:resolution={r} --results results.jsonl

A measure is a protocol, ``protocol@resolution``, and either with ``/magnitude`` after it, which orders maps by their magnitudes;
``{r}`` in a method's settings is that resolution (``input`` where it is the image's). Every line printed is over the photographs
that all chosen methods have been measured on: mean ± standard error, and of the differences to ``--against``, photograph by
photograph. ``--points`` makes each curve of about so many points instead of the protocol's 170 to 260.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence

import explainers as ex
from explainers.data.reference import ReferenceSet
from tests.benchmarks.command_line import over_photographs, parse_measure, photograph_parser, question
from tests.benchmarks.photographs import Ledger, Photograph
from tests.benchmarks.summaries import cell, keep, mean_and_error

FIELDS = ("insertion", "deletion")
Column = Mapping[str, Mapping[str, float]]  # the values of one method by field and photograph


def step_of(points: int | None, side: int) -> int | None:
    """The cells to change at once, so that a curve has about this many points; None for the protocol's own step."""
    return None if points is None else math.ceil(side * side / points)


def measure_one(engine: ex.Engine, network: ex.Classifier, photograph: Photograph, arguments: argparse.Namespace, ledger: Ledger,
                reference: ReferenceSet | None) -> None:
    """All chosen methods by all chosen measures on one photograph; what the ledger has is left alone."""
    for spec in arguments.measures:
        protocol, resolution, order_by = parse_measure(spec)
        keys = {"network": network.name, "photograph": photograph.name, "measure": spec}
        missing = [method for method in arguments.methods if not ledger.has(method=method, **keys)]
        if not missing:
            continue
        step = step_of(arguments.points, resolution or network.input_size[0])
        questions = [question(network, photograph.x, method, photograph.label, reference, resolution) for method in missing]
        attributions = [engine.explain(question) for question in questions]
        curves = engine.measure_together([
            ex.judge("insertion_deletion", one, protocol=protocol, resolution=resolution, step=step, order_by=order_by)
            for one in questions])
        for method, result, attribution in zip(missing, curves, attributions, strict=True):
            ledger.add(method=method, insertion=result.insertion_auc, deletion=result.deletion_auc, seconds=attribution.seconds,
                       **keys)


def report(network: ex.Classifier, arguments: argparse.Namespace, ledger: Ledger) -> None:
    """One table a measure, over the photographs that all methods were measured on."""
    for spec in arguments.measures:
        columns = {method: {field: ledger.values(field, network=network.name, measure=spec, method=method)
                            for field in (*FIELDS, "seconds")} for method in arguments.methods}
        common = sorted(set.intersection(*(set(column["insertion"]) for column in columns.values())))
        print(f"\n{network.name}, {spec}, {len(common)} photographs")
        if common:
            _table(columns, common, arguments, {"network": network.name, "measure": spec})


def _table(columns: Mapping[str, Column], common: Sequence[str], arguments: argparse.Namespace, of: dict[str, str]) -> None:
    against = columns.get(arguments.against)
    print(f"{'method':40s} {'insertion AUC':>15s} {'deletion AUC':>15s} {'seconds':>8s}"
          + (f"   {arguments.against} minus method: {'insertion':>15s} {'deletion':>15s}" if against else ""))
    for method, column in columns.items():
        values = {field: [column[field][name] for name in common] for field in FIELDS}
        line = f"{method:40s}" + "".join(f" {mean_and_error(values[field]):>15s}" for field in FIELDS)
        line += f" {sum(column['seconds'][name] for name in common) / len(common):8.1f}"
        keep(arguments.summary, {**of, "method": method}, **{field: cell(values[field]) for field in FIELDS})
        if against and method != arguments.against:
            differences = {field: [against[field][name] - column[field][name] for name in common] for field in FIELDS}
            line += " " * (len(arguments.against) + 17) + "".join(f" {mean_and_error(differences[field]):>15s}" for field in FIELDS)
            keep(arguments.summary, {**of, "method": arguments.against, "minus": method},
                 **{field: cell(differences[field]) for field in FIELDS})
        print(line)


def main() -> None:
    parser = photograph_parser(__doc__)
    parser.add_argument("--measures", nargs="+", default=["i_gos@28"])
    parser.add_argument("--points", type=int)
    parser.add_argument("--against", default="")
    over_photographs(parser.parse_args(), measure_one, report)


if __name__ == "__main__":
    main()
