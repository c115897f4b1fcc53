"""Tables 2 to 5 and figure 4 of the Attribution Mask paper on CIFAR-10's test pictures: masked input accuracy.

    python -m tests.benchmarks.attribution_mask --cifar10 FOLDER --images 1000 --iterations 10 --results FILE

Prints, for each table, a line of percentages for each network and base method, from no mask (the plain accuracy) on. A standard
error is that of a fraction of n pictures, sqrt(Q (1 - Q) / n). With --results an interrupted run goes on after the last line that it
printed, and a line that several tables need is measured once.

The paper's networks are up to 16 layers deep and 64 to 512 channels wide, and are right on 83 to 92 % of the pictures. These are
small enough to train on a CPU, and are right on fewer. Integrated Gradients and DeepLIFT are measured on --few-images.

Table 4 lets one network read the pictures that are masked for another. The paper trains each reader, its student, on masked pictures;
here the readers have been trained on whole ones only, so the table says how much of a mask speaks to a network that never saw one.
The same is measured on --scenes scenes with noise of deviation 0.12.
"""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

import explainers as ex
from explainers.data import cifar10
from explainers.data.labelled import LabelledInputs, scenes_set
from explainers.methods.attribution_mask import ONE_PASS_BASES
from tests.benchmarks.command_line import add_summary, parser_of
from tests.benchmarks.photographs import Ledger
from tests.benchmarks.summaries import keep

DEEPEST = "cifar_nib_vgg8"
DEPTHS = ("cifar_nib_vgg4", "cifar_nib_vgg6", "cifar_nib_vgg8")
BIASES = ("cifar_vgg6_lb_bnb", "cifar_vgg6_bnb", "cifar_vgg6_lb", "cifar_nib_vgg6")  # in the order of table 5
COSTLY_BASES = ("deep_lift", "integrated_gradients")
TEACHERS = ("cifar_nib_vgg4", "cifar_nib_vgg8")  # the shallowest and the deepest, as in table 4
READERS = (*DEPTHS, "cifar_vgg6_lb_bnb", "cifar_cnn")
SCENES = ("scenes_nib_vgg", ("scenes_nib_vgg", "scenes_vgg", "scenes_resnet"))  # the teacher and its readers
SCENES_NOISE = 0.12  # without noise the networks read nearly every scene

Measure = Callable[..., Sequence[float]]
"""Network, base method, number of pictures and, for table 4, reader -> its accuracies, or the reader's, after 0, 1, ... masks."""


def table_2(arguments: Namespace, measure: Measure) -> None:
    """The base methods on the deepest network without biases; also figure 4 (a) and table 6.

    Gradient x Input comes again on the few pictures of the costly methods, which without biases must give the same numbers.
    """
    jobs = [(base, arguments.images) for base in ONE_PASS_BASES]
    jobs += [(base, arguments.few_images) for base in ("gradient_x_input", *COSTLY_BASES)]
    for base, images in jobs:
        _report(arguments, "2", {"network": DEEPEST, "base": base, "images": images}, measure(DEEPEST, base, images))


def table_3(arguments: Namespace, measure: Measure) -> None:
    """Gradient x Sign by depth; also table 8."""
    for name in DEPTHS:
        accuracy = measure(name, "gradient_x_sign", arguments.images)
        _report(arguments, "3", {"network": name, "base": "gradient_x_sign", "images": arguments.images}, accuracy)


def table_5(arguments: Namespace, measure: Measure) -> None:
    """Networks with layer biases (LB), batch-norm biases (BNB) or both, beside the one without."""
    for name in BIASES:
        for base in ("gradient_x_input", "gradient_x_sign"):
            _report(arguments, "5", {"network": name, "base": base, "images": arguments.images}, measure(name, base, arguments.images))


def table_4(arguments: Namespace, measure: Measure) -> None:
    """Pictures masked by Gradient x Sign for one network and read by another, which was trained on whole pictures only."""
    pairs = [(teacher, reader, arguments.images) for teacher in TEACHERS for reader in READERS]
    pairs += [(SCENES[0], reader, arguments.scenes) for reader in SCENES[1]]
    for teacher, reader, images in pairs:
        if images:
            of = {"network": reader, "teacher": teacher, "base": "gradient_x_sign", "images": images}
            _report(arguments, "4", of, measure(teacher, "gradient_x_sign", images, reader))


TABLES = {"2": table_2, "3": table_3, "4": table_4, "5": table_5}


def measured(arguments: Namespace, ledger: Ledger) -> Measure:
    """Masked input accuracy on the first pictures of the test set, taken from the ledger where it has them."""
    pictures, labels = cifar10.read(arguments.cifar10 / "test.npz", max(arguments.images, arguments.few_images))

    def inputs_and_labels(network: ex.Classifier, images: int) -> tuple[torch.Tensor, torch.Tensor]:
        if network.training_data == "scenes":
            scenes = scenes_set(images)
            return scenes.inputs(network, SCENES_NOISE), scenes.labels
        return network.preprocessing.normalise(torch.from_numpy(pictures[:images]).contiguous().float() / 255), labels[:images]

    def measure(name: str, base: str, images: int, reader: str = "") -> Sequence[float]:
        of: dict[str, Any] = {"network": name, "base": base, "images": images, "iterations": arguments.iterations, "reader": reader}
        if not ledger.has(**of):
            network = ex.load_model(name)
            other = ex.load_model(reader) if reader else None
            subject = LabelledInputs.given(network, *inputs_and_labels(network, images), reader=other)
            result = ex.judge("masked_input_accuracy", subject, base=base, iterations=arguments.iterations).run()
            ledger.add(**of, accuracy=list(result.reader_accuracy if reader else result.accuracy))
        return next(row["accuracy"] for row in ledger.rows if of.items() <= row.items())

    return measure


def in_percent(accuracy: float, images: int) -> dict[str, Any]:
    """A fraction of ``images`` pictures as a percentage with its standard error."""
    error = math.sqrt(accuracy * (1 - accuracy) / images)
    return {"mean": round(100 * accuracy, 2), "error": round(100 * error, 2), "n": images}


def _report(arguments: Namespace, table: str, of: dict[str, Any], accuracy: Sequence[float]) -> None:
    cells = [in_percent(value, of["images"]) for value in accuracy]
    largest = max(cell["error"] for cell in cells)
    teacher = f"masked for {of['teacher']}, " if "teacher" in of else ""
    print(f"table {table}  {of['network']:18s} {teacher}{of['base']:26s}", " ".join(f"{cell['mean']:5.1f}" for cell in cells),
          f"  standard errors up to {largest:.1f}, n = {of['images']}", flush=True)
    keep(arguments.summary, {"table": table, **of}, **{f"after {masks}": cell for masks, cell in enumerate(cells)})


def parse(words: Iterable[str] | None = None) -> Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--cifar10", type=Path, required=True, help="a folder with CIFAR-10's test.npz (explainers/data/cifar10.py)")
    parser.add_argument("--images", type=int, default=1000, help="how many test pictures")
    parser.add_argument("--few-images", type=int, default=200, help="the same for Integrated Gradients and DeepLIFT")
    parser.add_argument("--scenes", type=int, default=200, help="how many scenes for table 4; 0 leaves them out")
    parser.add_argument("--iterations", type=int, default=10, help="how many masks")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--results", type=Path, help="a file of JSON lines, the accuracies of each run; an interrupted run goes on")
    add_summary(parser)
    return parser.parse_args(None if words is None else list(words))


def main() -> None:
    arguments = parse()
    measure = measured(arguments, Ledger(arguments.results))
    for table in arguments.tables:
        TABLES[table](arguments, measure)


if __name__ == "__main__":
    main()
