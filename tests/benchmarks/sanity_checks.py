"""How much of each method's map is left when weights are drawn anew, over photographs that the network gets right.

    python -m tests.benchmarks.sanity_checks --photographs DIR --network squeezenet1_0 --weights FILE --images 20 \\
        --methods gradient guided_backprop deconvnet grad_cam dmbp sobel --mode last_layer --results results.jsonl

``--mode last_layer`` draws the last layer from a normal distribution, as the DMBP paper does; ``cascading`` draws as layers start,
from the last one down. Every line printed is over the photographs on which all methods have been measured: mean ± standard error of
Spearman's rank correlation of the signed maps and of their magnitudes, of SSIM and of the HOG correlation, with the map of the intact
network; maps that are the same everywhere are counted, not averaged. Each photograph has a draw of its own. The class is the label.
What a method fits is fitted to these photographs, and anew with the drawn weights. ``--results`` keeps what was measured; a run that
is broken off goes on.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

from torch import Tensor

import explainers as ex
from explainers.contract import Target
from explainers.data.reference import from_pictures
from explainers.metrics import map_distances, sanity_checks
from explainers.networks.randomised import WAYS
from tests.benchmarks.command_line import parse_method
from tests.benchmarks.photographs import Ledger, Photograph, recognised

HOW = {"last_layer": "normal", "cascading": "reinitialise", "independent": "reinitialise"}
MEASURES = ("rank", "rank_absolute", "ssim", "hog")


def measure_one(engine: ex.Engine, network: ex.Classifier, photograph: Photograph, seed: int, given: argparse.Namespace,
                ledger: Ledger, reference: Any) -> None:
    """All methods on one photograph; what the ledger has is left alone."""
    for spec in given.methods:
        keys = {"network": network.name, "mode": given.mode, "how": given.how, "stages": given.stages, "photograph": photograph.name,
                "method": spec, "seed": seed}
        if ledger.has(**keys):
            continue
        name, settings = parse_method(spec, None, network.input_size[0])

        def explain(net: ex.Classifier, x: Tensor, target: Target, name: str = name, settings: Any = settings) -> ex.Attribution:
            return engine.explain(net, x, name, target=target, reference=reference, **settings)

        begin = time.perf_counter()
        found = sanity_checks.measure(
            network, photograph.x, explain, target=photograph.label, mode=given.mode, how=given.how, stages=given.stages, seed=seed)
        steps = [{"stage": step.title, **{key: _plain(getattr(step.distances, key)) for key in MEASURES},
                  "probability": step.predictions.probability, "logit_rank": _plain(step.predictions.rank)} for step in found.steps]
        ledger.add(**keys, steps=steps, seconds=round(time.perf_counter() - begin, 2))


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


def summary(ledger: Ledger, network: ex.Classifier, given: argparse.Namespace) -> None:
    """A line a method and stage, over the photographs that all methods share."""
    keys = {"network": network.name, "mode": given.mode, "how": given.how, "stages": given.stages}
    rows = {method: ledger.values("steps", method=method, **keys) for method in given.methods}
    shared = sorted(set.intersection(*(set(row) for row in rows.values())))
    print(f"{network.title}, {given.mode}, drawn {given.how}, {len(shared)} photographs", flush=True)
    if not shared:
        return
    print(f"{'method':28s} {'stage':40s} " + " ".join(f"{name:>17s}" for name in (*MEASURES, "logit_rank")) + "  flat")
    for method, row in rows.items():
        for place, first in enumerate(row[shared[0]]):
            steps = [row[photograph][place] for photograph in shared]
            found = {name: map_distances.average([math.nan if step[name] is None else step[name] for step in steps])
                     for name in (*MEASURES, "logit_rank")}
            cells = " ".join(f"{one.mean:8.3f} ± {one.error:6.3f}" for one in found.values())
            print(f"{method:28s} {first['stage']:40s} {cells}  {found['rank'].undefined}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path, required=True, help="a folder of NNN_name.jpg, NNN the class")
    parser.add_argument("--network", default="squeezenet1_0")
    parser.add_argument("--weights", help="a checkpoint for that architecture")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--methods", nargs="+", required=True, help="keys, or key:parameter=value,...; separated by blanks or commas")
    parser.add_argument("--mode", choices=sanity_checks.MODES, default="last_layer")
    parser.add_argument("--how", choices=WAYS, help="by default normal for the last layer, else as new")
    parser.add_argument("--stages", type=int, default=8)
    parser.add_argument("--device")
    parser.add_argument("--results", type=Path, help="a file of JSON lines")
    parser.add_argument("--cache", type=Path, help="a folder for the maps")
    given = parser.parse_args()
    given.how = given.how or HOW[given.mode]
    if len(given.methods) == 1 and ":" not in given.methods[0]:
        given.methods = given.methods[0].split(",")
    network = ex.load_model(given.network, weights=given.weights, device=given.device)
    fitted = any("reference" in ex.methods()[method.partition(":")[0]].needs for method in given.methods)
    reference = from_pictures(network, given.photographs) if fitted else None
    engine, ledger = ex.Engine(ex.MapCache(given.cache)), Ledger(given.results)
    for number, photograph in enumerate(recognised(network, given.photographs, given.images, given.skip)):
        measure_one(engine, network, photograph, number, given, ledger, reference)
        print(f"{number + 1} of {given.images}: {photograph.name}", flush=True)
    summary(ledger, network, given)


if __name__ == "__main__":
    main()
