"""MIP-IN's average percentage change (APC): does the source signal of an image have the image's logit? The paper's table 1.

    python -m tests.benchmarks.mip_in --network digits_mlp --images 1000
    python -m tests.benchmarks.mip_in --network digits_cnn --images 1000 --on ../shared/data/mnist/t10k.npz
    python -m tests.benchmarks.mip_in --network cifar_cnn --images 1000 --on cifar10/test.npz --fit-on cifar10/train.npz
    python -m tests.benchmarks.mip_in --network efficientnet_lite0 --images 100 --on DIR

``--on`` is what the change is measured on: freshly generated images (the default), a ``.npz`` of MNIST or CIFAR-10, or a folder of
photographs ``NNN_name.jpg``. ``--fit-on`` is what the inverses are fitted on; without it what comes with the network. Each image is
explained for its own class, whether the network gets it right or not, with one fit for each class. Means are over the classes, as in
the paper, with the standard error over the classes; medians are the means over the classes of each class's median.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import explainers as ex
from explainers.data import cifar10
from explainers.data.labelled import LabelledSet, digits_set, pictures_set, scenes_set
from explainers.data.reference import ReferenceSet, default, from_pictures
from explainers.metrics.average_percentage_change import PercentageChange, measure, percentage_change
from tests.benchmarks.command_line import add_summary, parser_of
from tests.benchmarks.photographs import Ledger
from tests.benchmarks.summaries import keep

GENERATED = {"digits": digits_set, "scenes": scenes_set}


def labelled_set(network: ex.Classifier, source: str, count: int) -> LabelledSet:
    """The first ``count`` labelled images of a source, which is named as ``--on`` says."""
    path = Path(source)
    if source == "fresh":
        return GENERATED[network.training_data](count)
    if path.is_dir():
        files = sorted(path.glob("[0-9][0-9][0-9]_*"))[:count]
        return pictures_set(network, ((file.name, ex.load_image(file)) for file in files))
    with np.load(path) as stored:
        encoded = "offsets" in stored
        if not encoded:
            pixels, labels = torch.from_numpy(stored["images"][:count])[:, None], torch.from_numpy(stored["labels"][:count]).long()
    if encoded:
        pictures, labels = cifar10.read(path, count)
        pixels = torch.as_tensor(pictures)
    return LabelledSet(f"{len(labels)} of {path.stem}", f"{path.stem} {len(labels)}", pixels, labels)


def reference_set(network: ex.Classifier, source: str | None, count: int, x: Tensor) -> ReferenceSet:
    """What the inverses are fitted on."""
    if source is None:
        return default(network, x)
    if Path(source).is_dir():
        return from_pictures(network, source)
    images = labelled_set(network, source, count)
    inputs = images.inputs(network)
    return ReferenceSet(images.title, images.identity, len(images), lambda start, stop: inputs[start:stop])


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--network", default="digits_mlp")
    parser.add_argument("--weights", type=Path, help="a checkpoint of a network that is not embedded")
    parser.add_argument("--on", default="fresh", help="fresh, a .npz, or a folder")
    parser.add_argument("--fit-on", help="a .npz or a folder; without it what comes with the network")
    parser.add_argument("--images", type=int, default=200, help="how many images the change is measured on")
    parser.add_argument("--reference", type=int, default=1000, help="how many images the inverses are fitted on, at most")
    parser.add_argument("--ridge", default="fitted", choices=("fitted", "paper"))
    parser.add_argument("--results", type=Path, help="a file of JSON lines, the logits by class; an interrupted run goes on")
    add_summary(parser)
    arguments = parser.parse_args()
    network = ex.load_model(arguments.network, weights=arguments.weights) if arguments.weights else ex.load_model(arguments.network)
    images = labelled_set(network, arguments.on, arguments.images)
    inputs = images.inputs(network)
    reference = reference_set(network, arguments.fit_on, arguments.reference, inputs[:1])
    of = {"network": network.name, "on": Path(arguments.on).stem, "fitted on": reference.count(arguments.reference),
          "ridge": arguments.ridge}
    change, right = over_classes(network, inputs, images.labels, reference, arguments.ridge, of, Ledger(arguments.results))
    print(f"\n{network.title} on {images.title}, fitted on {of['fitted on']} of {reference.title}, ridge {arguments.ridge}; "
          f"{right:.1%} right; {change.skipped} without a logit")
    print(f"APC {change.mean:.1%} ± {change.error:.1%}, median {change.median:.1%}; "
          f"APC+ {change.positive:.1%} ± {change.positive_error:.1%}, median {change.positive_median:.1%}")
    keep(arguments.summary, of, mean=_cell(change.mean, change.error, change.images), median=round(100 * change.median, 3),
         positive=_cell(change.positive, change.positive_error, change.images),
         positive_median=round(100 * change.positive_median, 3), right=round(100 * right, 2))


def over_classes(network: ex.Classifier, inputs: Tensor, labels: Tensor, reference: ReferenceSet, ridge: str, of: dict[str, Any],
                 ledger: Ledger) -> tuple[PercentageChange, float]:
    """The change over all classes, with the logits of one class after another kept in the ledger, and the network's accuracy."""
    for label in labels.unique().tolist():
        row = {**of, "class": label, "images": int((labels == label).sum())}
        if ledger.has(**row):
            continue
        begin, chosen = time.perf_counter(), labels == label
        part = measure(network, inputs[chosen], labels[chosen], reference, images=of["fitted on"], ridge=ridge)
        right = (network.predict(inputs[chosen]).argmax(1).cpu() == label).sum().item()
        ledger.add(**row, before=part.before.tolist(), after=part.after.tolist(), right=right)
        print(f"class {label}: APC {part.mean:.1%}, median {part.median:.1%}, {len(part.before)} images, "
              f"{time.perf_counter() - begin:.1f} s", flush=True)
    rows = [row for row in ledger.rows if of.items() <= row.items() and row["class"] in labels and
            row["images"] == int((labels == row["class"]).sum())]
    before, after = (torch.tensor([value for row in rows for value in row[name]]) for name in ("before", "after"))
    classes = torch.tensor([row["class"] for row in rows for _ in row["before"]])
    return percentage_change(before, after, classes), sum(row["right"] for row in rows) / len(classes)


def _cell(mean: float, error: float, images: int) -> dict[str, float | int | None]:
    """In percent."""
    return {"mean": round(100 * mean, 3), "error": None if np.isnan(error) else round(100 * error, 3), "n": images}


if __name__ == "__main__":
    main()
