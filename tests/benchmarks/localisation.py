"""How much of each method's map lies inside the object that it is asked about, over fresh scenes.

    python -m tests.benchmarks.localisation --network scenes_vgg --images 10 --objects 2 --methods integrated_gradients iba input_iba

Each object of each scene is asked about in turn, with the objects' visible masks as the truth; scenes in which the network does not
find all objects are passed over. Every line is over all maps: mean ± standard error. ``chance`` is the mask's share of the picture.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator

from PIL import Image

import explainers as ex
from explainers.data import scenes
from explainers.metrics import localisation
from tests.benchmarks.command_line import parse_method
from tests.benchmarks.photographs import mean_and_error

COLUMNS = ("energy", "bounding_box", "ehr", "pointing")


def found_scenes(network: ex.Classifier, objects: int, seed: int) -> Iterator[scenes.Scene]:
    """Scenes whose objects are the network's first choices."""
    for index in itertools.count():
        scene = scenes.draw((seed << 32) + index, network.input_size[0], objects)
        x = network.preprocess(Image.fromarray(scene.image))
        if set(network.predict(x)[0].topk(objects).indices.tolist()) == set(scene.labels):
            yield scene


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="scenes_vgg")
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--objects", type=int, choices=(1, 2), default=2)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--methods", nargs="+", required=True)
    given = parser.parse_args()
    network, engine = ex.load_model(given.network), ex.Engine()
    found = {method: [] for method in given.methods}
    for number, scene in enumerate(itertools.islice(found_scenes(network, given.objects, given.seed), given.images), start=1):
        x = network.preprocess(Image.fromarray(scene.image))
        for (label, mask), method in itertools.product(zip(scene.labels, scene.masks, strict=True), given.methods):
            key, settings = parse_method(method, None, network.input_size[0])
            found[method].append(localisation.measure(engine.explain(network, x, key, target=label, **settings), mask))
        print(f"{number} of {given.images}", flush=True)
    maps = next(iter(found.values()))
    print(f"\n{network.title}, {len(maps)} maps; chance {mean_and_error([one.area for one in maps])}")
    print(f"{'method':40s}" + "".join(f" {name:>15s}" for name in COLUMNS))
    for method, rows in found.items():
        print(f"{method:40s}" + "".join(f" {mean_and_error([getattr(row, name) for row in rows]):>15s}" for name in COLUMNS))


if __name__ == "__main__":
    main()
