"""How much of each method's map is left when weights are re-initialised, over photographs that the network gets right.

    python -m tests.benchmarks.sanity_checks --photographs DIR --network squeezenet1_0 --weights FILE --images 20 \\
        --methods gradient guided_backprop deconvnet grad_cam dmbp sobel --mode last_layer --results results.jsonl

``--mode last_layer`` draws the last layer from a normal distribution, as the DMBP paper does; ``cascading`` draws as layers start,
from the last one down. Every line printed is over the photographs on which all methods have been measured: mean ± standard error of
Spearman's rank correlation of the signed maps and of their magnitudes, of SSIM and of the HOG correlation, with the map of the intact
network; maps that are the same everywhere are counted, not averaged. Each photograph has a draw of its own. The class is the label.
What a method fits is fitted to the pictures of ``--reference`` or else to these photographs, and again with the drawn weights.
"""

from __future__ import annotations

import argparse
import math
import time

import explainers as ex
from explainers.data.reference import ReferenceSet
from explainers.metrics import sanity_checks
from explainers.metrics.map_distances import average
from explainers.networks.randomised import WAYS
from tests.benchmarks.command_line import photograph_parser, question, reference_set, spelled_out
from tests.benchmarks.photographs import Ledger, Photograph, recognised
from tests.benchmarks.summaries import cell, keep

HOW = {"last_layer": "normal", "cascading": "reinitialise", "independent": "reinitialise"}
MEASURES = ("rank", "rank_absolute", "ssim", "hog")


def measure_one(engine: ex.Engine, network: ex.Classifier, photograph: Photograph, seed: int, arguments: argparse.Namespace,
                ledger: Ledger, reference: ReferenceSet | None) -> None:
    """All methods on one photograph; what the ledger has is left alone."""
    settings = {"mode": arguments.mode, "how": arguments.how, "stages": arguments.stages}
    for method in arguments.methods:
        keys = {"network": network.name, **settings, "photograph": photograph.name, "method": method, "seed": seed}
        if ledger.has(**keys):
            continue
        begin = time.perf_counter()
        asked = question(network, photograph.x, method, photograph.label, reference)
        check = engine.measure(ex.judge("sanity_checks", asked, draw_seed=seed, **settings))
        steps = [{"stage": step.title, **{key: _plain(getattr(step.distances, key)) for key in MEASURES},
                  "probability": step.predictions.probability, "logit_rank": _plain(step.predictions.rank)} for step in check.steps]
        ledger.add(**keys, steps=steps, seconds=round(time.perf_counter() - begin, 2))


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


def report(ledger: Ledger, network: ex.Classifier, arguments: argparse.Namespace) -> None:
    """A line a method and stage, over the photographs that all methods share."""
    keys = {"network": network.name, "mode": arguments.mode, "how": arguments.how, "stages": arguments.stages}
    rows = {method: ledger.values("steps", method=method, **keys) for method in arguments.methods}
    common = sorted(set.intersection(*(set(row) for row in rows.values())))
    print(f"{network.title}, {arguments.mode}, drawn {arguments.how}, {len(common)} photographs", flush=True)
    if not common:
        return
    print(f"{'method':28s} {'stage':40s} " + " ".join(f"{name:>17s}" for name in (*MEASURES, "logit_rank")) + "  flat")
    for method, row in rows.items():
        for place, first in enumerate(row[common[0]]):
            values = {name: [row[photograph][place][name] for photograph in common] for name in (*MEASURES, "logit_rank")}
            averages = {name: average([math.nan if value is None else value for value in column]) for name, column in values.items()}
            cells = " ".join(f"{one.mean:8.3f} ± {one.error:6.3f}" for one in averages.values())
            print(f"{method:28s} {first['stage']:40s} {cells}  {averages['rank'].undefined}")
            keep(arguments.summary, {**keys, "stage": first["stage"], "method": method},
                 **{name: cell(column) for name, column in values.items()})


def main() -> None:
    parser = photograph_parser(__doc__)
    parser.add_argument("--mode", choices=sanity_checks.MODES, default="last_layer")
    parser.add_argument("--how", choices=WAYS, help="by default normal for the last layer, else as layers start")
    parser.add_argument("--stages", type=int, default=8)
    parser.add_argument("--device")
    arguments = parser.parse_args()
    arguments.how = arguments.how or HOW[arguments.mode]
    network = ex.load_model(arguments.network, weights=arguments.weights, device=arguments.device)
    arguments.methods = spelled_out(arguments.methods, network)
    reference = reference_set(network, arguments.methods, arguments.reference or arguments.photographs)
    engine, ledger = ex.Engine(ex.MapCache(arguments.cache)), Ledger(arguments.results)
    for number, photograph in enumerate(recognised(network, arguments.photographs, arguments.images, arguments.skip)):
        measure_one(engine, network, photograph, number, arguments, ledger, reference)
        print(f"{number + 1} of {arguments.images}: {photograph.name}", flush=True)
    report(ledger, network, arguments)


if __name__ == "__main__":
    main()
