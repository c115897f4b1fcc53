"""DMBP's tables 1 and 2: its variants and the methods that it is compared with, and what its two parts are made of.

    python -m tests.benchmarks.dmbp --photographs DIR --network squeezenet1_0 --weights FILE --images 30 --skip 10 --results p.jsonl
    python -m tests.benchmarks.dmbp --network scenes_vgg --images 10 --results s.jsonl

With ``--photographs`` the insertion metric (IM) and deletion are measured on labelled photographs that the network gets right;
without, on fresh scenes of two objects, each asked about in turn, with cIM for the other one. All is in the protocol ``dmbp``: pixel
by pixel, one image row's worth at a time, ordered by signed values. The other methods are times input, as in the paper. A map is
made once, and the curves of all maps of a picture are measured together; what ``--results`` has is left alone.

A first table has IM, deletion and cIM, a second one y, its image's part, y+ and y- at the end, the percentage of either that is not in
the map (biases and saturated ReLU6), that of mask values whose gradient vanished, and the steps. Every line is over the pictures that
all methods have been measured on: mean ± standard error. Table 3, the maps after the last layer was drawn anew, is measured by
``tests.benchmarks.sanity_checks`` with the same ``--cache``.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

import explainers as ex
from explainers.methods.dmbp import Shares
from tests.benchmarks.command_line import add_summary, parser_of, question
from tests.benchmarks.faithfulness import step_of
from tests.benchmarks.photographs import Ledger, recognised, recognised_scenes
from tests.benchmarks.summaries import cell, keep, mean_and_error

VARIANTS = ("dmbp", "dmbp:variant=dmbp_plus_minus", "dmbp:variant=dmbp_plus", "dmbp:optimiser=per_branch", "dmbp:stop=at_logit",
            "dmbp:variant=image_only", "dmbp:variant=image_only,optimiser=per_branch", "dmbp:iterations=0")
COMPARED = ("gradient_x_input", "smoothgrad:times_input=True", "guided_backprop:times_input=True", "deconvnet:times_input=True",
            "guided_grad_cam:times_input=True", "grad_cam", "random")
CURVES = ("insertion", "deletion", "cim")
INSIDE = ("y", "y_image", "y_positive", "y_negative", "hidden_positive", "hidden_negative", "vanishing", "steps")


@dataclass(frozen=True)
class Picture:
    """A picture, the class that is asked about, and the other classes in it."""

    name: str
    x: Tensor
    label: int
    others: tuple[int, ...] = ()


def photographs(network: ex.Classifier, arguments: argparse.Namespace) -> Iterator[Picture]:
    """Photographs of one class each."""
    for photograph in recognised(network, arguments.photographs, arguments.images, arguments.skip):
        yield Picture(photograph.name, photograph.x, photograph.label)


def scene_pictures(network: ex.Classifier, arguments: argparse.Namespace) -> Iterator[Picture]:
    """Scenes of two objects, each of which is asked about."""
    for number, scene in enumerate(itertools.islice(recognised_scenes(network, 2, arguments.seed), arguments.images)):
        x = network.preprocess(Image.fromarray(scene.image))
        for label, other in (scene.labels, scene.labels[::-1]):
            yield Picture(f"{arguments.seed}.{number}.{label}", x, label, (other,))


def inside(attribution: ex.Attribution) -> dict[str, Any]:
    """What DMBP says of its two parts beside a map; nothing for another method, and without what the settings leave out."""
    extras = attribution.extras
    values: dict[str, Any] = {"y": extras.get("y"), "vanishing": extras.get("vanishing_gradients")}
    if logit := extras.get("parts_logit"):
        values["y_image"] = logit[0]
    for sign in ("positive", "negative"):
        if trace := extras.get(f"y_{sign}"):
            values |= {f"y_{sign}": trace[-1], "steps": len(trace) - 1}
        if parts := extras.get(f"parts_{sign}"):
            values |= {f"parts_{sign}": parts, f"hidden_{sign}": 100 * Shares(*parts).hidden}
    return {name: value for name, value in values.items() if value is not None}


def measure_one(engine: ex.Engine, network: ex.Classifier, picture: Picture, arguments: argparse.Namespace, ledger: Ledger) -> None:
    """All methods on one picture; what the ledger has is left alone."""
    keys = {"network": network.name, "photograph": picture.name, "points": arguments.points}
    missing = [method for method in arguments.methods if not ledger.has(method=method, **keys)]
    questions = [question(network, picture.x, method, picture.label) for method in missing]
    attributions = [engine.explain(asked) for asked in questions]
    step = step_of(arguments.points, network.input_size[0])
    curves = engine.measure_together([
        ex.judge("insertion_deletion", asked, protocol="dmbp", labels=picture.others, step=step) for asked in questions
    ]) if questions else []
    for method, attribution, result in zip(missing, attributions, curves, strict=True):
        ledger.add(**keys, method=method, insertion=result.insertion_auc, deletion=result.deletion_auc, cim=result.cim,
                   seconds=round(attribution.seconds, 2), flags=list(attribution.flags), **inside(attribution))


def report(network: ex.Classifier, arguments: argparse.Namespace, ledger: Ledger) -> None:
    """Both tables, over the pictures that all methods have been measured on."""
    rows = {method: {row["photograph"]: row for row in ledger.rows if row["network"] == network.name and row["method"] == method
                     and row["points"] == arguments.points} for method in arguments.methods}
    common = sorted(set.intersection(*(set(own) for own in rows.values())))
    print(f"\n{network.title}, protocol dmbp, {len(common)} maps a method")
    if not common:
        return
    chosen = {method: [own[name] for name in common] for method, own in rows.items()}
    _table(chosen, (*CURVES, "seconds"))
    _table({method: own for method, own in chosen.items() if method.partition(":")[0] == "dmbp"}, INSIDE)
    for method, own in chosen.items():
        fields = {name: cell(values) for name in (*CURVES, *INSIDE) if (values := _column(own, name))}
        keep(arguments.summary, {"network": network.name, "method": method}, **fields)


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [row[name] for row in rows if row.get(name) is not None]


def _table(chosen: Mapping[str, Sequence[Mapping[str, Any]]], fields: Sequence[str]) -> None:
    print(f"\n{'method':44s}" + "".join(f" {name:>18s}" for name in fields))
    for method, rows in chosen.items():
        print(f"{method:44s}" + "".join(f" {mean_and_error(_column(rows, name)):>18s}" for name in fields))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--photographs", type=Path, help="a folder of NNN_name.jpg, NNN the class; without one, scenes of two objects")
    parser.add_argument("--network", default="scenes_vgg")
    parser.add_argument("--weights", type=Path, help="a checkpoint of the network; without one, its published weights")
    parser.add_argument("--images", type=int, default=10, help="how many photographs that the network gets right, or scenes")
    parser.add_argument("--skip", type=int, default=0, help="leave out the first photographs, on which settings may have been chosen")
    parser.add_argument("--seed", type=int, default=7, help="of the scenes")
    parser.add_argument("--methods", nargs="+", default=[*VARIANTS, *COMPARED], help="names, or name:parameter=value,...")
    parser.add_argument("--points", type=int, help="the steps of a curve, about; by default the protocol's, one an image row")
    parser.add_argument("--results", type=Path, help="a file of JSON lines, the results by picture; an interrupted run goes on")
    parser.add_argument("--cache", type=Path, help="a folder for the maps")
    add_summary(parser)
    arguments = parser.parse_args()
    network = ex.load_model(arguments.network, weights=arguments.weights)
    engine, ledger = ex.Engine(ex.MapCache(arguments.cache)), Ledger(arguments.results)
    pictures = photographs(network, arguments) if arguments.photographs else scene_pictures(network, arguments)
    for number, picture in enumerate(pictures, start=1):
        measure_one(engine, network, picture, arguments, ledger)
        print(f"{number}: {picture.name}", flush=True)
    report(network, arguments, ledger)


if __name__ == "__main__":
    main()
