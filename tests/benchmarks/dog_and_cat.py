"""Two animals, two classes: do the maps move from the dog to the cat? A table of the attribution on either, and a figure.

    python -m tests.benchmarks.dog_and_cat --image dog_and_cat.png --weights squeezenet1_0.safetensors --reference PHOTOGRAPHS \\
        --methods dmbp i_gos iba input_iba:epochs=4,steps=20,samples=64 mip_in attribution_mask

The picture is the class-sensitivity one of the papers, 224 x 224: a bull mastiff (243) over a tiger cat (282). For each method and
class it prints which part of the positive attribution lies on the dog, and which on the cat, by boxes drawn by eye; a map without
any preference has the parts of a flat map, that is, of the boxes' areas. ``moves`` is by how many percentage points the dog's part
of what lies on either falls from the dog's class to the cat's. Maps are kept in ``--cache``, so that an interrupted run goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import explainers as ex
from components.drawing.colour import NEAR_ZERO, Display, backdrop, blended, prepare
from tests.benchmarks.command_line import add_summary, parser_of, question, reference_set
from tests.benchmarks.summaries import keep

Box = tuple[int, int, int, int]  # left, top, right, bottom

CLASSES = {243: "bull mastiff", 282: "tiger cat"}
DOG: tuple[Box, ...] = ((76, 11, 170, 118), (84, 118, 138, 148))
CAT: tuple[Box, ...] = ((138, 118, 180, 148), (32, 148, 206, 224))
SIDE = 224
INCHES, GAP, HEAD, EDGE = 1.55, 0.06, 0.3, 0.3  # of a panel, between panels, above them, at the left
INK = {"dog": "#0f766e", "cat": "#c2710c"}


def inside(boxes: Sequence[Box]) -> np.ndarray:
    """(224, 224) of bools."""
    region = np.zeros((SIDE, SIDE), bool)
    for left, top, right, bottom in boxes:
        region[top:bottom, left:right] = True
    return region


def zero_level(heatmap: np.ndarray) -> float:
    """The value of a pixel without evidence: 0, or the median of a map that never comes near 0 (the attribution mask's is grey)."""
    low, middle, high = np.percentile(heatmap, (0.5, 50, 99.5))
    return float(middle) if low > NEAR_ZERO * high else 0.0


def parts(heatmap: np.ndarray) -> tuple[float, float]:
    """The parts of the positive attribution on the dog and on the cat, in percent."""
    positive = np.maximum(heatmap - zero_level(heatmap), 0).astype(np.float64)
    total = positive.sum() or 1.0
    dog, cat = (100 * float(positive[inside(boxes)].sum() / total) for boxes in (DOG, CAT))
    return dog, cat


def explain(engine: ex.Engine, questions: Mapping[str, Sequence[ex.Question]]) -> dict[str, list[ex.Attribution]]:
    """For each method the maps of both classes."""
    maps: dict[str, list[ex.Attribution]] = {}
    for spec, pair in questions.items():
        for asked in pair:
            maps.setdefault(spec, []).append(engine.explain(asked))
            print(f"{spec:40s} {CLASSES[asked.target.first]:14s} {maps[spec][-1].seconds:8.1f} s", flush=True)
    return maps


def short_title(spec: str) -> str:
    """The name in brackets, where the method's title has one."""
    return ex.methods()[spec.partition(":")[0]].title.split(" (")[-1].rstrip(")")


def report(maps: Mapping[str, Sequence[ex.Attribution]], network: ex.Classifier, summary: Path | None) -> None:
    """The table: the parts on both animals for both classes."""
    flat = [100 * float(inside(boxes).mean()) for boxes in (DOG, CAT)]
    rows = {"a flat map": [flat, flat], **{spec: [parts(one.heatmap()) for one in pair] for spec, pair in maps.items()}}
    print(f"\n{'% of the positive attribution':40s} {'for ' + CLASSES[243]:>20s} {'for ' + CLASSES[282]:>20s} {'moves':>8s}")
    print(f"{'':40s} {'on dog':>10s}{'on cat':>10s} {'on dog':>10s}{'on cat':>10s}")
    for spec, ((dog, cat), (dog_later, cat_later)) in rows.items():
        moves = 100 * (dog / max(dog + cat, 1e-9) - dog_later / max(dog_later + cat_later, 1e-9))
        print(f"{spec:40s} {dog:10.1f}{cat:10.1f} {dog_later:10.1f}{cat_later:10.1f} {moves:8.1f}")
        for target, (on_dog, on_cat) in zip(CLASSES, rows[spec], strict=True):
            keep(summary, {"network": network.name, "target": target, "method": spec}, dog=round(on_dog, 1), cat=round(on_cat, 1))


def draw(seen: Any, maps: Mapping[str, Sequence[ex.Attribution]], path: Path) -> None:
    """The figure: a row a class, the picture with the boxes first."""
    columns, rows = 1 + len(maps), len(CLASSES)
    width, height = EDGE + columns * (INCHES + GAP), HEAD + rows * (INCHES + GAP)
    figure = Figure(figsize=(width, height), dpi=300)
    under = np.asarray(backdrop(seen, "Grey"))
    for row, (target, name) in enumerate(CLASSES.items()):
        bottom = height - HEAD - row * (INCHES + GAP) - INCHES
        middle = (bottom + INCHES / 2) / height
        figure.text(0.12 / width, middle, f"{name} ({target})", rotation=90, va="center", ha="center", fontsize=8)
        panels = prepare([(pair[row].heatmap(), pair[row].signed) for pair in maps.values()], Display())
        titles = ["Input", *map(short_title, maps)]
        for column, title in enumerate(titles):
            left = EDGE + column * (INCHES + GAP)
            axis = figure.add_axes((left / width, bottom / height, INCHES / width, INCHES / height))
            axis.imshow(np.asarray(seen) if column == 0 else blended(panels[column - 1], under), interpolation="nearest")
            axis.set_axis_off()
            if column == 0:
                _outline(axis)
            if row == 0:
                figure.text(left / width, (bottom + INCHES + 0.07) / height, title, fontsize=8)
    figure.savefig(path)


def _outline(axis: Any) -> None:
    for name, boxes in (("dog", DOG), ("cat", CAT)):
        for left, top, right, bottom in boxes:
            axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, linewidth=0.7, edgecolor=INK[name]))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--network", default="squeezenet1_0")
    parser.add_argument("--weights", type=Path, help="a checkpoint of the network; without one, its published weights")
    parser.add_argument("--reference", type=Path, required=True, help="a folder of pictures for IBA, InputIBA and MIP-IN")
    parser.add_argument("--methods", nargs="+", required=True, help="names, or name:parameter=value,...")
    parser.add_argument("--cache", type=Path, help="a folder in which maps are kept between runs")
    parser.add_argument("--out", type=Path, help="where the figure goes")
    add_summary(parser)
    arguments = parser.parse_args()
    network = ex.load_model(arguments.network, weights=arguments.weights)
    picture = ex.load_image(arguments.image)
    x = network.preprocess(picture, "stretch")
    probabilities = network.predict(x)[0]
    print(f"{network.title} on {network.device}: "
          + ", ".join(f"{name} {100 * probabilities[index]:.1f} %" for index, name in CLASSES.items()))
    reference = reference_set(network, arguments.methods, arguments.reference)
    questions = {spec: [question(network, x, spec, target, reference) for target in CLASSES] for spec in arguments.methods}
    maps = explain(ex.Engine(ex.MapCache(arguments.cache)), questions)
    report(maps, network, arguments.summary)
    if arguments.out:
        draw(network.preprocessing.seen(picture, "stretch"), maps, arguments.out)


if __name__ == "__main__":
    main()
