"""Two animals, two classes: do the maps move from the dog to the cat? One figure, and the shares of both.

    python -m tests.benchmarks.dog_and_cat --image dog_and_cat.png --weights squeezenet1_0.safetensors --reference PHOTOGRAPHS

The picture is the class-sensitivity one of the papers, 224 x 224: a bull mastiff (243) over a tiger cat (282). For each method and
class it prints which part of the positive attribution lies on the dog, and which on the cat, by boxes drawn by eye; a map without
any preference has the shares of a flat map, that is, of the boxes' areas. ``moves`` is by how many percentage points the dog's part
of what lies on either falls from the dog's class to the cat's. Maps are kept in ``--cache``, so a run that was broken off goes on
where it stopped. InputIBA takes most of the time: ``--skip input_iba`` leaves it out, ``--set input_iba.epochs=5`` makes it quicker.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import explainers as ex
from components.colour import NEAR_ZERO, Display, backdrop, blended, prepare
from explainers.data.reference import ReferenceSet, from_pictures

Box = tuple[int, int, int, int]  # left, top, right, bottom

CLASSES = {243: "bull mastiff", 282: "tiger cat"}
METHODS = ("dmbp", "i_gos", "attribution_mask", "iba", "input_iba", "mip_in")
DOG: tuple[Box, ...] = ((76, 11, 170, 118), (84, 118, 138, 148))
CAT: tuple[Box, ...] = ((138, 118, 180, 148), (32, 148, 206, 224))
SIDE = 224
INCHES, GAP, HEAD, EDGE = 1.55, 0.06, 0.3, 0.3  # of a panel, between panels, above them, at the left
INK = {"dog": "#0f766e", "cat": "#c2710c"}


def inside(boxes: Sequence[Box]) -> np.ndarray:
    """(224, 224) of bools."""
    found = np.zeros((SIDE, SIDE), bool)
    for left, top, right, bottom in boxes:
        found[top:bottom, left:right] = True
    return found


def neutral(heatmap: np.ndarray) -> float:
    """What says nothing: 0; in a map that never comes near it, as the attribution mask's grey, what is below the median."""
    low, middle, high = np.percentile(heatmap, (0.5, 50, 99.5))
    return float(middle) if low > NEAR_ZERO * high else 0.0


def shares(heatmap: np.ndarray) -> tuple[float, float]:
    """The parts of the positive attribution on the dog and on the cat, in percent."""
    positive = np.maximum(heatmap - neutral(heatmap), 0).astype(np.float64)
    total = positive.sum() or 1.0
    return tuple(100 * float(positive[inside(boxes)].sum() / total) for boxes in (DOG, CAT))


def explained(network: ex.Classifier, x: Any, given: argparse.Namespace, reference: ReferenceSet | None) -> dict[str, list]:
    """For each method the maps of both classes, computed or found."""
    engine = ex.Engine(cache=ex.MapCache(given.cache))
    found: dict[str, list[ex.Attribution]] = {}
    for key in given.methods:
        settings = {name: value for method, name, value in given.set if method == key}
        for target in CLASSES:
            runs = engine.runs
            one = engine.explain(network, x, key, target=target, seed=given.seed, reference=reference, **settings)
            found.setdefault(key, []).append(one)
            known = "" if engine.runs > runs else " (kept)"
            print(f"{key:20s} {CLASSES[target]:14s} {one.seconds:8.1f} s{known}", flush=True)
    return found


def short_title(key: str) -> str:
    """The name in brackets, where the title has one."""
    return ex.methods()[key].title.split(" (")[-1].rstrip(")")


def report(found: dict[str, list[ex.Attribution]]) -> None:
    """The table: shares on both animals for both classes."""
    print(f"\n{'% of the positive attribution':30s} {'for ' + CLASSES[243]:>20s} {'for ' + CLASSES[282]:>20s} {'moves':>8s}")
    print(f"{'':30s} {'on dog':>10s}{'on cat':>10s} {'on dog':>10s}{'on cat':>10s}")
    dog, cat = (100 * inside(boxes).mean() for boxes in (DOG, CAT))
    print(f"{'a flat map':30s} {dog:10.1f}{cat:10.1f} {dog:10.1f}{cat:10.1f} {0:8.1f}")
    for key, pair in found.items():
        (dog, cat), (dog_later, cat_later) = (shares(one.heatmap()) for one in pair)
        moves = 100 * (dog / max(dog + cat, 1e-9) - dog_later / max(dog_later + cat_later, 1e-9))
        print(f"{short_title(key):30s} {dog:10.1f}{cat:10.1f} {dog_later:10.1f}{cat_later:10.1f} {moves:8.1f}")


def draw(seen: Any, found: dict[str, list[ex.Attribution]], path: Path) -> None:
    """The figure: a row a class, the picture with the boxes first."""
    columns, rows = 1 + len(found), len(CLASSES)
    width, height = EDGE + columns * (INCHES + GAP), HEAD + rows * (INCHES + GAP)
    made = Figure(figsize=(width, height), dpi=300)
    under = np.asarray(backdrop(seen, "Grey"))
    for row, (target, name) in enumerate(CLASSES.items()):
        bottom = height - HEAD - row * (INCHES + GAP) - INCHES
        middle = (bottom + INCHES / 2) / height
        made.text(0.12 / width, middle, f"{name} ({target})", rotation=90, va="center", ha="center", fontsize=8)
        maps = prepare([(pair[row].heatmap(), pair[row].signed) for pair in found.values()], Display())
        titles = ["Input", *map(short_title, found)]
        for column, title in enumerate(titles):
            left = EDGE + column * (INCHES + GAP)
            axis = made.add_axes((left / width, bottom / height, INCHES / width, INCHES / height))
            axis.imshow(np.asarray(seen) if column == 0 else blended(maps[column - 1], under), interpolation="nearest")
            axis.set_axis_off()
            if column == 0:
                _outline(axis)
            if row == 0:
                made.text(left / width, (bottom + INCHES + 0.07) / height, title, fontsize=8)
    made.savefig(path)


def _outline(axis: Any) -> None:
    for name, boxes in (("dog", DOG), ("cat", CAT)):
        for left, top, right, bottom in boxes:
            axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, linewidth=0.7, edgecolor=INK[name]))


def setting(text: str) -> tuple[str, str, Any]:
    """``method.parameter=value``, the value as Python writes it, or a word."""
    name, value = text.split("=", 1)
    method, parameter = name.split(".", 1)
    try:
        return method, parameter, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return method, parameter, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--network", default="squeezenet1_0")
    parser.add_argument("--weights", help="a checkpoint of the network; torchvision's own unless told")
    parser.add_argument("--reference", help="a folder of pictures for IBA, InputIBA and MIP-IN; copies of the picture unless told")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(ex.methods()))
    parser.add_argument("--skip", nargs="+", default=[])
    parser.add_argument("--set", nargs="+", default=[], type=setting, metavar="METHOD.PARAMETER=VALUE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", help="a folder in which maps are kept between runs")
    parser.add_argument("--out", type=Path, help="where the figure goes")
    given = parser.parse_args()
    given.methods = [key for key in given.methods if key not in given.skip]
    network = ex.load_model(given.network, weights=given.weights)
    picture = ex.load_image(given.image)
    x = network.preprocess(picture, "stretch")
    likely = network.predict(x)[0]
    print(f"{network.title} on {network.device}: " + ", ".join(f"{name} {100 * likely[c]:.1f} %" for c, name in CLASSES.items()))
    reference = from_pictures(network, given.reference) if given.reference else None
    found = explained(network, x, given, reference)
    report(found)
    if given.out:
        draw(network.preprocessing.seen(picture, "stretch"), found, given.out)


if __name__ == "__main__":
    main()
