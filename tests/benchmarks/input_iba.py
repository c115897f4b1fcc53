"""What InputIBA's paper claims, measured for it, its priors and IBA: deletion, Sensitivity-n, and the heat inside an object.

    python -m tests.benchmarks.input_iba photographs --photographs DIR --network efficientnet_lite0 --results photographs.jsonl
    python -m tests.benchmarks.input_iba scenes --network scenes_vgg --results scenes.jsonl

``photographs``: insertion and deletion AUC in the protocol ``input_iba``, pixel by pixel, and the mean correlation of Sensitivity-n,
on photographs that the network gets right. ``--step`` pixels change between two points of a curve: 896 make 56 steps of a 224 x 224
image, where the paper's 10 make 5018. Sensitivity-n takes ``--counts`` numbers n on the paper's scale and ``--masks`` masks for each.
``scenes``: EHR, box accuracy and energy in the visible masks of both objects of generated scenes.

A subject is a photograph, or an object of a scene. What matters most comes first: with the first seed the methods without an
adversarial training and then those with one, on the first ``--game-images`` subjects; the methods without one on the others; then the
other seeds on the first ``--seed-images`` subjects, for the methods that are random. Results are written after each subject, and with
``--cache`` each map at once, so a run that was stopped goes on when it is started again; Ctrl-C and ``--report`` print the tables of
what is there. A method's value for a subject is the mean over its seeds. Every line has the mean ± standard error over the subjects,
the standard deviation between seeds, and the difference to IBA on the same subjects.

``input_iba:prior=iba`` is ``input_iba:epochs=0``: the same map.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

import explainers as ex
from explainers.data.reference import ReferenceSet, from_pictures
from explainers.methods.input_iba import Params
from explainers.metrics import insertion_deletion, sensitivity_n
from explainers.resampling import size_of
from tests.benchmarks.command_line import add_summary, parse_method, parser_of
from tests.benchmarks.photographs import Ledger, recognised, recognised_scenes
from tests.benchmarks.summaries import cell, keep, mean_and_error

METHODS = ("iba", "input_iba:prior=sharpened,beta=60", "input_iba:prior=iba", "input_iba:prior=none", "input_iba:prior=iba,beta=60",
           "input_iba", "integrated_gradients", "grad_cam", "random")
RANDOM = ("iba", "input_iba", "random")  # whose maps depend on the seed
FIELDS = {"photographs": ("insertion", "deletion", "sensitivity_n"), "scenes": ("ehr", "bounding_box", "energy")}
OBJECTS = 2

Numbers = dict[str, float]


@dataclass(frozen=True)
class Subject:
    """An image (1, C, H, W) and the class that is asked about; in scenes with the mask (H, W) of the object."""

    name: str
    x: Tensor
    label: int
    mask: np.ndarray | None = None


@dataclass(frozen=True)
class Round:
    """A part of the run: the subjects ``start`` to ``stop``, with these methods and seeds."""

    start: int
    stop: int
    methods: tuple[str, ...]
    seeds: tuple[int, ...]


def trains(spec: str) -> bool:
    """Whether this method plays InputIBA's adversarial game, which takes most of the time."""
    key, settings = parse_method(spec, None, 0)
    return key == "input_iba" and Params(**settings).prior_settings.epochs > 0


def rounds(methods: Sequence[str], seeds: Sequence[int], subjects: int, game: int, seeded: int) -> Iterator[Round]:
    """The parts of the run, the most important first. game, seeded: how many subjects get a game, and more than one seed."""
    game, seeded = min(game, subjects), min(seeded, subjects)
    quick = tuple(spec for spec in methods if not trains(spec))
    yield Round(0, game, quick, (seeds[0],))
    yield Round(0, game, tuple(spec for spec in methods if trains(spec)), (seeds[0],))
    yield Round(game, subjects, quick, (seeds[0],))
    drawn = tuple(spec for spec in quick if spec.partition(":")[0] in RANDOM)
    yield Round(0, seeded, drawn, tuple(seeds[1:]))


def run(network: ex.Classifier, subjects: Sequence[Subject], arguments: argparse.Namespace, ledger: Ledger,
        measure: Callable[[ex.Engine, list[ex.Question], Subject], list[Numbers]]) -> None:
    """Everything that the ledger does not have yet."""
    engine = ex.Engine(ex.MapCache(arguments.cache))
    reference = from_pictures(network, arguments.reference) if arguments.reference else None
    for part in rounds(arguments.methods, arguments.seeds, len(subjects), arguments.game_images, arguments.seed_images):
        for subject in subjects[part.start:part.stop]:
            keys = {"network": network.name, "subject": subject.name}
            missing = [(spec, seed) for seed in part.seeds for spec in part.methods
                       if not ledger.has(method=spec, seed=seed, **keys)]
            if not missing:
                continue
            questions = [_question(network, subject, spec, seed, reference) for spec, seed in missing]
            for (spec, seed), question, numbers in zip(missing, questions, measure(engine, questions, subject), strict=True):
                ledger.add(method=spec, seed=seed, seconds=engine.explain(question).seconds, **keys, **numbers)
            print(f"{subject.name}: {len(missing)} maps, seeds {', '.join(map(str, part.seeds))}", flush=True)


def _question(network: ex.Classifier, subject: Subject, spec: str, seed: int, reference: ReferenceSet | None) -> ex.Question:
    key, settings = parse_method(spec, None, network.input_size[0])
    return ex.ask(network, subject.x, key, target=subject.label, seed=seed, reference=reference, **settings)


def faithful(arguments: argparse.Namespace) -> Callable[[ex.Engine, list[ex.Question], Subject], list[Numbers]]:
    """Measures insertion, deletion and Sensitivity-n of the maps of one image, with the same masks for all maps and seeds."""
    def measure(engine: ex.Engine, questions: list[ex.Question], subject: Subject) -> list[Numbers]:
        attributions = [engine.explain(question) for question in questions]
        network, target = questions[0].network, questions[0].target
        curves = insertion_deletion.measure(network, subject.x, attributions, target=target, protocol="input_iba", step=arguments.step)
        counts = sensitivity_n.log_spaced(math.prod(size_of(subject.x)), points=arguments.counts)
        sums = sensitivity_n.measure(network, subject.x, attributions, target=target, counts=counts, masks=arguments.masks)
        return [{"insertion": curve.insertion_auc, "deletion": curve.deletion_auc, "sensitivity_n": correlation.mean}
                for curve, correlation in zip(curves, sums, strict=True)]
    return measure


def localised(engine: ex.Engine, questions: list[ex.Question], subject: Subject) -> list[Numbers]:
    """Measures how much of each map lies in the object."""
    results = [engine.measure(ex.judge("localisation", question, region=subject.mask)) for question in questions]
    return [{field: getattr(result, field) for field in FIELDS["scenes"]} for result in results]


def photographs_of(network: ex.Classifier, arguments: argparse.Namespace) -> list[Subject]:
    """The first photographs that the network gets right."""
    return [Subject(photograph.name, photograph.x, photograph.label)
            for photograph in recognised(network, arguments.photographs, arguments.images, arguments.skip)]


def scenes_of(network: ex.Classifier, arguments: argparse.Namespace) -> list[Subject]:
    """Both objects of the first scenes in which the network recognises both."""
    subjects = []
    for number, scene in enumerate(itertools.islice(recognised_scenes(network, OBJECTS, arguments.scene_seed), arguments.images)):
        x = network.preprocess(Image.fromarray(scene.image))
        subjects += [Subject(f"scene {number}, class {label}", x, label, mask)
                     for label, mask in zip(scene.labels, scene.masks, strict=True)]
    return subjects


def values_of(ledger: Ledger, network: str, spec: str, field: str) -> dict[str, list[float]]:
    """The values of a method by subject, one a seed."""
    values: dict[str, list[float]] = {}
    for row in ledger.rows:
        if row["network"] == network and row["method"] == spec and field in row:
            values.setdefault(row["subject"], []).append(row[field])
    return values


def differences(values: Mapping[str, Sequence[float]], others: Mapping[str, Sequence[float]]) -> list[float]:
    """Subject by subject, the mean over the seeds of ``values`` minus that of ``others``, where both are there."""
    return [float(np.mean(values[name]) - np.mean(others[name])) for name in sorted(values.keys() & others.keys())]


def between_seeds(values: Mapping[str, Sequence[float]]) -> float:
    """The standard deviation between the seeds of a subject, over the subjects with several: the root of the mean variance."""
    variances = [np.var(seeds, ddof=1) for seeds in values.values() if len(seeds) > 1]
    return float(np.sqrt(np.mean(variances))) if variances else math.nan


def report(network: str, kind: str, methods: Sequence[str], ledger: Ledger, summary: Path | None, against: str) -> None:
    """One table a measure: mean ± standard error, the deviation between seeds, and the difference to the method ``against``."""
    for field in FIELDS[kind]:
        others = values_of(ledger, network, against, field)
        print(f"\n{network}, {field}\n{'method':40s} {'n':>4s} {'mean':>15s} {'seeds':>7s} {'minus ' + against:>15s}")
        for spec in methods:
            values = values_of(ledger, network, spec, field)
            if not values:
                continue
            means = [float(np.mean(seeds)) for _, seeds in sorted(values.items())]
            line = f"{spec:40s} {len(means):4d} {mean_and_error(means):>15s} {between_seeds(values):7.3f}"
            of = {"network": network, "of": kind, "measure": field, "method": spec}
            deviation = between_seeds(values)
            keep(summary, of, value=cell(means), **({} if math.isnan(deviation) else {"seeds": round(deviation, 3)}))
            if spec != against and others:
                keep(summary, {**of, "minus": against}, value=cell(differences(values, others)))
                line += f" {mean_and_error(differences(values, others)):>15s}"
            print(line)


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    photographs, scenes = kinds.add_parser("photographs"), kinds.add_parser("scenes")
    photographs.add_argument("--photographs", type=Path, required=True, help="a folder of NNN_name.jpg, NNN the class")
    photographs.add_argument("--network", default="efficientnet_lite0")
    photographs.add_argument("--weights", type=Path, help="a checkpoint of the network; without one, its published weights")
    photographs.add_argument("--skip", type=int, default=0, help="leave out the first photographs")
    photographs.add_argument("--step", type=int, default=896, help="pixels between two points of a curve")
    photographs.add_argument("--counts", type=int, default=14, help="how many numbers n Sensitivity-n takes; the paper has 42")
    photographs.add_argument("--masks", type=int, default=50, help="masks for each n; the paper has 200")
    scenes.add_argument("--network", default="scenes_vgg")
    scenes.add_argument("--weights", type=Path)
    scenes.add_argument("--scene-seed", type=int, default=7)
    for part in (photographs, scenes):
        part.add_argument("--reference", type=Path, help="a folder of reference pictures; without one, the network's own set")
        part.add_argument("--images", type=int, default=30, help="photographs, or scenes of two objects")
        part.add_argument("--game-images", type=int, default=10, help="how many subjects get the whole adversarial training")
        part.add_argument("--seed-images", type=int, default=10, help="how many subjects get more than the first seed")
        part.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
        part.add_argument("--methods", nargs="+", default=list(METHODS), help="names, or name:parameter=value,...")
        part.add_argument("--results", type=Path, help="a file of JSON lines, one a map; an interrupted run goes on")
        part.add_argument("--cache", type=Path, help="a folder for the maps")
        part.add_argument("--against", default="iba", help="the method to which the differences are printed")
        part.add_argument("--report", action="store_true", help="only print the tables of what is there")
        add_summary(part)
    return parser


def main(words: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(words)
    ledger = Ledger(arguments.results)
    network = ex.load_model(arguments.network, weights=arguments.weights)
    try:
        if not arguments.report:
            photographs = arguments.kind == "photographs"
            subjects = (photographs_of if photographs else scenes_of)(network, arguments)
            run(network, subjects, arguments, ledger, faithful(arguments) if photographs else localised)
    except KeyboardInterrupt:
        print("stopped")
    report(network.name, arguments.kind, arguments.methods, ledger, arguments.summary, arguments.against)


if __name__ == "__main__":
    main()
