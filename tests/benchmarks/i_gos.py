"""What an attack does to maps (the I-GOS paper's supplement II), over photographs that the network gets right.

    python -m tests.benchmarks.i_gos --photographs DIR --network squeezenet1_0 --weights FILE --images 30 --skip 10 \\
        --methods i_gos:resolution=28 integrated_gradients random --results results.jsonl

Each photograph is attacked by MI-FGSM (``--levels`` of 255, ``--steps``), away from its class. Printed: how often the class is lost,
and for each method, over the photographs whose class was lost, mean ± standard error of: the rank correlation of its map for the
photograph's class with that for the same class (``same``) and for the class that the attack brought in (``new``) in the attacked
photograph; and the insertion and deletion AUC (protocol I-GOS at ``--cells``) of the first and of the last of these maps. ``share`` is
the share of the cells that must be shown until the class is the first choice; 1 where it never is.
"""

from __future__ import annotations

import argparse

import explainers as ex
from explainers.attack import attack
from explainers.data.reference import ReferenceSet
from explainers.metrics import map_distances
from tests.benchmarks.command_line import over_photographs, photograph_parser, question
from tests.benchmarks.photographs import Ledger, Photograph
from tests.benchmarks.summaries import cell, keep, mean_and_error

ATTACKED = "attack"  # the ledger's method for the attack itself
CURVES = ("insertion", "deletion", "share")
FIELDS = ("same", "new", *(f"{field}_{when}" for field in CURVES for when in ("before", "after")))


def measure_one(engine: ex.Engine, network: ex.Classifier, photograph: Photograph, arguments: argparse.Namespace, ledger: Ledger,
                reference: ReferenceSet | None) -> None:
    """The attack of one photograph and, if its class is lost, the methods that the ledger lacks."""
    keys = {"network": network.name, "photograph": photograph.name, "levels": arguments.levels, "steps": arguments.steps}
    missing = [method for method in arguments.methods if not ledger.has(method=method, cells=arguments.cells, **keys)]
    if ledger.has(method=ATTACKED, **keys) and not missing:
        return
    attacked = attack(network, photograph.x, photograph.label, epsilon=arguments.levels / 255, steps=arguments.steps)
    if not ledger.has(method=ATTACKED, **keys):
        ledger.add(method=ATTACKED, lost=int(attacked.is_lost), probability_before=attacked.trace[0],
                   probability_after=attacked.trace[-1], new_class=attacked.first_after,
                   new_probability=float(attacked.after.max()), **keys)
    if not attacked.is_lost:
        return
    views = [(photograph.x, photograph.label), (attacked.x, photograph.label), (attacked.x, attacked.first_after)]
    for method in missing:
        questions = [question(network, x, method, target, reference) for x, target in views]
        before, same, new = (engine.explain(question).heatmap() for question in questions)
        curves = [engine.measure(ex.judge("insertion_deletion", questions[place], protocol="i_gos", resolution=arguments.cells,
                                          most_steps=arguments.points)) for place in (0, 2)]
        values = {"same": map_distances.rank(before, same), "new": map_distances.rank(before, new)}
        for when, result in zip(("before", "after"), curves, strict=True):
            share = 1.0 if result.regained_at is None else result.regained_at
            values |= {f"insertion_{when}": result.insertion_auc, f"deletion_{when}": result.deletion_auc, f"share_{when}": share}
        ledger.add(method=method, cells=arguments.cells, **values, **keys)


def report(network: ex.Classifier, arguments: argparse.Namespace, ledger: Ledger) -> None:
    """How often the class was lost, and a line a method."""
    of = {"network": network.name, "levels": arguments.levels, "steps": arguments.steps}
    rows = [row for row in ledger.rows if {**of, "method": ATTACKED}.items() <= row.items()]
    numbers = {name: [row[name] for row in rows] for name in ("lost", "probability_before", "probability_after", "new_probability")}
    print(f"\n{network.name}, {arguments.levels} of 255 in {arguments.steps} steps: the class is lost in {sum(numbers['lost'])} of "
          f"{len(rows)} photographs; its probability goes from {mean_and_error(numbers['probability_before'])} to "
          f"{mean_and_error(numbers['probability_after'])}, and that of the new first choice is "
          f"{mean_and_error(numbers['new_probability'])}")
    keep(arguments.summary, {**of, "method": ATTACKED}, **{name: cell(values) for name, values in numbers.items()})
    print(f"{'method':28s}" + "".join(f" {field:>17s}" for field in FIELDS))
    for method in arguments.methods:
        about = {**of, "method": method, "cells": arguments.cells}
        values = {field: list(ledger.values(field, **about).values()) for field in FIELDS}
        print(f"{method:28s}" + "".join(f" {mean_and_error(values[field]):>17s}" for field in FIELDS))
        keep(arguments.summary, about, **{field: cell(values[field]) for field in FIELDS})


def main() -> None:
    parser = photograph_parser(__doc__)
    parser.add_argument("--levels", type=int, default=8, help="the largest change of a pixel, of 255")
    parser.add_argument("--steps", type=int, default=10, help="of the attack")
    parser.add_argument("--cells", type=int, default=28, help="cells a side of the curves")
    parser.add_argument("--points", type=int, default=32, help="steps of a curve at most")
    over_photographs(parser.parse_args(), measure_one, report)


if __name__ == "__main__":
    main()
