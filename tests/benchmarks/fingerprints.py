"""One number for every map and every metric on the embedded networks: did a change of the code change any of them?

    python -m tests.benchmarks.fingerprints --out before.npz
    python -m tests.benchmarks.fingerprints --out after.npz --against before.npz

Every method explains one image of each embedded network with its cheap settings, and every metric judges the maps. All results go
into ``--out`` as arrays; their number and one sha256 over all names and bytes are printed. ``--against`` compares with the arrays of
an earlier run, by name: how many are equal to the bit, and the largest difference of the others, relative to the array's largest
magnitude. The exit status is 1 where that exceeds 1e-6, or where the names differ. About five minutes on two cores.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import torch

import explainers as ex
from explainers.data import digits
from explainers.data.labelled import LabelledInputs, scenes_set
from explainers.data.reference import procedural
from explainers.metrics import localisation, sensitivity_n
from explainers.networks.embedded import EMBEDDED

TOLERANCE = 1e-6
SEED, TARGET, CONTRAST = 3, 2, (2, 0)
COMPARED = ("gradient", "grad_cam", "rise", "sobel")  # one method a family: the maps of several classes and weights take their time
BASES = ("gradient_x_sign", "gradient_x_input", "positive_gradient_x_input", "guided_backprop")

Named = Iterator[tuple[str, Any]]
Questions = Mapping[str, ex.Question]


def questions_of(network: ex.Classifier, target: Any) -> Questions:
    """A question to every method that can explain the network, about the first sample of the network's kind."""
    sample = next(sample for sample in ex.samples() if sample.kind == network.training_data)
    x = network.preprocess(sample.load())
    return {key: ex.ask(network, x, key, target=target, seed=SEED, **method.cheap)
            for key, method in ex.methods().items() if not method.lacks(network)}


def maps(engine: ex.Engine, network: ex.Classifier) -> Named:
    """Every method's map of one class and of a contrast, its passes and its auxiliary outputs."""
    contrasts = questions_of(network, CONTRAST)
    for key, question in questions_of(network, TARGET).items():
        attribution = engine.explain(question)
        yield f"{key}/native", attribution.native.numpy()
        yield f"{key}/heatmap", attribution.heatmap()
        yield f"{key}/passes", astuple(attribution.passes)
        yield f"{key}/contrast", engine.explain(contrasts[key]).native.numpy()
        for name, value in attribution.extras.items():
            if isinstance(value, (torch.Tensor, int, float)):
                yield f"{key}/extra {name}", value.numpy() if isinstance(value, torch.Tensor) else value


def curves(engine: ex.Engine, questions: Questions) -> Named:
    """Insertion and deletion in every protocol and order, and Sensitivity-n with pixels and with tiles."""
    settings = {"rise": {"step": 100}, "dmbp": {"step": 100, "labels": (1,)}, "i_gos": {"resolution": 14}, "input_iba": {"step": 100}}
    for (protocol, own), order_by in itertools.product(settings.items(), ("value", "magnitude")):
        own = {name: value for name, value in own.items() if name != "labels" or order_by == "value"}  # cIM orders by value
        judged = [ex.judge("insertion_deletion", question, protocol=protocol, order_by=order_by, **own)
                  for question in questions.values()]
        for key, result in zip(questions, engine.measure_together(judged), strict=True):
            numbers = [result.cim or 0, result.insertion_auc, result.deletion_auc, result.passes.forward]
            yield f"insertion_deletion {protocol} {order_by}/{key}", np.concatenate([result.insertion, result.deletion, numbers])
    first, attributions = next(iter(questions.values())), [engine.explain(question) for question in questions.values()]
    for tile in (1, 4):
        results = sensitivity_n.measure(first.network, first.x, attributions, counts=(1, 5, 20), masks=10, tile=tile, seed=1)
        for key, result in zip(questions, results, strict=True):
            yield f"sensitivity_n {tile}/{key}", np.append(result.correlation, result.passes.forward)


def regions(engine: ex.Engine, questions: Questions) -> Named:
    """Localisation in one box."""
    height, width = next(iter(questions.values())).network.input_size
    region = localisation.box(width * 0.2, height * 0.3, width * 0.6, height * 0.7, (height, width))
    judged = [ex.judge("localisation", question, region=region) for question in questions.values()]
    for key, r in zip(questions, engine.measure_together(judged), strict=True):
        yield f"localisation/{key}", [r.pointing, r.pointing_near, r.bounding_box, r.energy, r.ehr, r.chance.ehr,
                                      r.chance.pointing_near, r.area, *r.highest]


def changes(engine: ex.Engine, questions: Questions) -> Named:
    """The maps of three classes, and of networks with re-initialised weights."""
    for key in (key for key in COMPARED if key in questions):
        result = engine.measure(ex.judge("class_sensitivity", questions[key], classes=(1, 2, 5)))
        for measure, matrix in result.matrices.items():
            yield f"class_sensitivity {measure}/{key}", matrix
        for how in ("reinitialise", "permute", "normal"):
            steps = engine.measure(ex.judge("sanity_checks", questions[key], how=how, stages=4, draw_seed=1)).steps
            yield f"sanity_checks {how}/{key}", np.stack([step.heatmap for step in steps])
            numbers = [(step.distances, step.predictions) for step in steps]
            yield f"sanity_checks {how} numbers/{key}", [[*astuple(distances), after.probability, after.rank, after.top]
                                                         for distances, after in numbers]


def labelled_sets(engine: ex.Engine, network: ex.Classifier) -> Named:
    """Masked input accuracy, and the average percentage change where MIP-IN can explain the network."""
    scenes = network.training_data == "scenes"
    if scenes:
        labelled = scenes_set(12, 0)
        images, labels = labelled.inputs(network, noise=0.1), labelled.labels
    else:
        pixels, labels = digits.draw_batch(12, 5)
        images = network.preprocessing.normalise(pixels.float() / 255)
    inputs = LabelledInputs.given(network, images, labels)
    for base in BASES:
        result = engine.measure(ex.judge("masked_input_accuracy", inputs, base=base, iterations=4))
        yield f"masked_input_accuracy/{base}", [*result.accuracy, *astuple(result.passes)]
    if not ex.methods()["mip_in"].lacks(network):
        few = LabelledInputs.given(network, images[:4], labels[:4], reference_set=procedural(network, 60))
        settings = {"images": 60, "depth": "features" if scenes else "auto"}
        change = engine.measure(ex.judge("average_percentage_change", few, **settings))
        yield "average_percentage_change", [*change.before, *change.after, change.mean, change.positive, change.median]


def all_arrays() -> dict[str, np.ndarray]:
    """Every result by name; numbers become float64."""
    arrays: dict[str, np.ndarray] = {}
    for name in (name for name, network in EMBEDDED.items() if network.training_data != "cifar10"):  # no sample is of their kind
        network, engine = ex.load_model(name), ex.Engine()
        questions = questions_of(network, TARGET)
        parts = (maps(engine, network), curves(engine, questions), regions(engine, questions), changes(engine, questions),
                 labelled_sets(engine, network))
        for key, value in itertools.chain(*parts):
            arrays[f"{name}/{key}"] = value if isinstance(value, np.ndarray) else np.asarray(value, dtype=np.float64)
        print(f"{name}: {len(arrays)} arrays so far", flush=True)
    return arrays


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """One sha256 over all names and bytes, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        total.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return total.hexdigest()


def difference(after: np.ndarray, before: np.ndarray) -> float:
    """The largest difference relative to the largest magnitude of ``before``; infinite for other shapes or other NaNs."""
    if after.shape != before.shape or not np.array_equal(np.isnan(after), np.isnan(before)):
        return np.inf
    apart = np.abs(np.nan_to_num(after) - np.nan_to_num(before)).max(initial=0.0)
    return float(apart / (np.abs(np.nan_to_num(before)).max(initial=0.0) or 1.0))


def compared(after: Mapping[str, np.ndarray], before: Mapping[str, np.ndarray]) -> bool:
    """Print how the two sets of arrays differ. Returns whether they agree within the tolerance."""
    for name in sorted(after.keys() ^ before.keys()):
        print(f"only {'after' if name in after else 'before'}: {name}")
    common = sorted(after.keys() & before.keys())
    others = {name: difference(after[name], before[name]) for name in common
              if after[name].dtype != before[name].dtype or after[name].tobytes() != before[name].tobytes()}
    for name, apart in others.items():
        print(f"{name}: {apart:.2g}")
    largest = max(others.values(), default=0.0)
    print(f"{len(common) - len(others)} of {len(common)} arrays are equal to the bit; largest relative difference {largest:.2g}")
    return largest <= TOLERANCE and after.keys() == before.keys()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the .npz file that is written")
    parser.add_argument("--against", type=Path, help="the .npz file of an earlier run")
    arguments = parser.parse_args()
    arrays = all_arrays()
    np.savez_compressed(arguments.out, **arrays)
    print(f"{len(arrays)} arrays, sha256 {digest(arrays)}")
    if arguments.against and not compared(arrays, dict(np.load(arguments.against))):
        sys.exit(1)


if __name__ == "__main__":
    main()
