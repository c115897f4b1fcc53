"""How much of each method's map lies inside the object that it is asked about, over fresh scenes.

    python -m tests.benchmarks.localisation --network scenes_vgg --images 10 --objects 2 --methods integrated_gradients iba input_iba

Each object of each scene is asked about in turn, with the objects' visible masks as the truth; scenes in which the network does not
find all objects are passed over. Every line is over all maps: mean ± standard error. ``chance`` is the fraction of the picture that
the mask covers.
"""

from __future__ import annotations

import itertools

from PIL import Image

import explainers as ex
from tests.benchmarks.command_line import add_summary, parser_of, question
from tests.benchmarks.photographs import SCENES_SEED, recognised_scenes
from tests.benchmarks.summaries import cell, keep, mean_and_error

COLUMNS = ("energy", "bounding_box", "ehr", "pointing")


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--network", default="scenes_vgg")
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--objects", type=int, choices=(1, 2), default=2)
    parser.add_argument("--seed", type=int, default=SCENES_SEED)
    parser.add_argument("--methods", nargs="+", required=True)
    add_summary(parser)
    arguments = parser.parse_args()
    network, engine = ex.load_model(arguments.network), ex.Engine()
    results = {method: [] for method in arguments.methods}
    drawn = itertools.islice(recognised_scenes(network, arguments.objects, arguments.seed), arguments.images)
    for number, scene in enumerate(drawn, start=1):
        x = network.preprocess(Image.fromarray(scene.image))
        for (label, mask), method in itertools.product(zip(scene.labels, scene.masks, strict=True), arguments.methods):
            measurement = ex.judge("localisation", question(network, x, method, label), region=mask)
            results[method].append(engine.measure(measurement))
        print(f"{number} of {arguments.images}", flush=True)
    first = next(iter(results.values()))
    print(f"\n{network.title}, {len(first)} maps; chance {mean_and_error([result.area for result in first])}")
    print(f"{'method':40s}" + "".join(f" {name:>15s}" for name in COLUMNS))
    of = {"network": network.name, "objects": arguments.objects}
    keep(arguments.summary, {**of, "method": "the object's part of the picture"}, energy=cell([result.area for result in first]))
    for method, rows in results.items():
        values = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
        print(f"{method:40s}" + "".join(f" {mean_and_error(values[name]):>15s}" for name in COLUMNS))
        keep(arguments.summary, {**of, "method": method}, **{name: cell(column) for name, column in values.items()})


if __name__ == "__main__":
    main()
