"""Do the passes of black-box methods pay in bfloat16, in int8 or compiled, and how far do the maps of RISE and occlusion then change?

    python -m tests.benchmarks.reduced_precision efficientnet_lite0 --photographs DIR --calibration DIR
    python -m tests.benchmarks.reduced_precision squeezenet1_0 --weights FILE --photographs DIR --calibration DIR

Each form of the forward pass is compared with ``float32``, which every method uses:

``compiled``: by ``torch.compile``, which needs a C++ compiler where it runs. ``compiled, frozen``: with the weights as constants.
``bfloat16``: by ``torch.autocast``. ``int8 dense``: the dense layers alone. ``int8 (...)``: convolutions too, by one of torch's
backends, with the ranges of values that layers have on the photographs of ``--calibration``.

Preparing takes the seconds on the clock until the first batch has gone through. The forms take turns in timed passes, and the least of
all turns is kept; ``--cpu`` is for a machine that is busy with something else (see ``time_over_floor``). The maps are those of the
first photographs that the network gets right, for their class. Their errors are the rank correlation with the map in float32, the
least of all photographs, and the largest difference as a fraction of that map's range, the largest of all.
"""

from __future__ import annotations

import argparse
import copy
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import perf_counter as wall
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.ao import quantization
from torch.ao.quantization import quantize_fx

import explainers as ex
from explainers.metrics import map_distances
from explainers.networks.classifier import Classifier
from tests.benchmarks.command_line import add_summary, parse_method
from tests.benchmarks.photographs import Photograph, recognised
from tests.benchmarks.summaries import keep
from tests.benchmarks.time_over_floor import clock_of, floor_parser, images, least_in_turns

FLOAT32 = "float32"
CALIBRATING = 32  # photographs
METHODS = ("rise:masks=1000", "occlusion")
Prepare = Callable[[nn.Module, Tensor], Any]  # from the module in float32 and the photographs to calibrate with


class InBfloat16(nn.Module):
    """A module whose convolutions and dense layers compute in bfloat16."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return self.module(x).float()


def compiled(module: nn.Module, photographs: Tensor) -> Any:
    return torch.compile(module)


def compiled_and_frozen(module: nn.Module, photographs: Tensor) -> Any:
    return torch.compile(module, options={"freezing": True})


def int8(backend: str) -> Prepare:
    """Ranges from the photographs, then int8. The backend x86 keeps activations to 7 bits, for processors that would overflow."""
    def prepare(module: nn.Module, photographs: Tensor) -> nn.Module:
        torch.backends.quantized.engine = backend
        observed = quantize_fx.prepare_fx(module, quantization.get_default_qconfig_mapping(backend), (photographs[:1],))
        with torch.inference_mode():
            for photograph in photographs.split(1):
                observed(photograph)
        return quantize_fx.convert_fx(observed)

    return prepare


FORMS: dict[str, Prepare] = {
    FLOAT32: lambda module, photographs: module,
    "compiled": compiled,
    "compiled, frozen": compiled_and_frozen,
    "bfloat16": lambda module, photographs: InBfloat16(module),
    "int8 dense": lambda module, photographs: quantization.quantize_dynamic(module, {nn.Linear}),
    "int8 (x86)": int8("x86"),
    "int8 (onednn)": int8("onednn"),
}


def through(network: Classifier, module: nn.Module) -> Classifier:
    """A view of the network whose passes go through another module; without a graph, no method can leave that out."""
    network.measure()
    view = copy.copy(network)
    view.graph, view.module = None, module
    return view


def forward(network: Classifier, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return network.logits(x)


def prepared(network: Classifier, x: Tensor, photographs: Tensor, chosen: list[str]) -> Iterator[tuple[str, Classifier, float]]:
    """The forms with their views of the network and the seconds of preparing; those that fail are named and left out."""
    for name in chosen:
        begin = wall()
        try:
            view = through(network, FORMS[name](copy.deepcopy(network.module), photographs))
            forward(view, x)
        except (RuntimeError, NotImplementedError, torch.fx.proxy.TraceError) as error:
            print(f"{name} is left out: {str(error).splitlines()[0]}")
            continue
        yield name, view, wall() - begin


def maps(network: Classifier, photographs: list[Photograph], method: str) -> list[np.ndarray]:
    key, settings = parse_method(method, None, network.input_size[0])
    return [ex.explain(network, photograph.x, key, target=photograph.label, **settings).heatmap() for photograph in photographs]


def errors(ours: list[np.ndarray], exact: list[np.ndarray]) -> dict[str, float]:
    """The least rank correlation and the largest difference, as a fraction of the exact map's range."""
    return {"rank": min(map_distances.rank(a, b) for a, b in zip(ours, exact, strict=True)),
            "difference": max(float(np.abs(a - b).max() / np.ptp(b)) for a, b in zip(ours, exact, strict=True))}


def calibration(network: Classifier, folder: Path) -> Tensor:
    """(N, C, H, W): the first photographs of a folder."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in {".jpg", ".webp", ".png"})[:CALIBRATING]
    return torch.cat([network.preprocess(ex.load_image(path)) for path in paths])


def parsed() -> argparse.Namespace:
    parser = floor_parser(__doc__, methods=False)
    parser.add_argument("--photographs", type=Path, required=True, help="a folder of NNN_name.jpg, NNN the class")
    parser.add_argument("--calibration", type=Path, required=True, help="a folder of other photographs")
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10.0, help="for all turns of the timing")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--methods", nargs="*", default=METHODS)
    add_summary(parser)
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    warnings.filterwarnings("ignore")
    network = ex.load_model(arguments.network, weights=arguments.weights, device="cpu")
    x, photographs = images(network, arguments.batch), list(recognised(network, arguments.photographs, arguments.images))
    chosen = [FLOAT32, *(name for name in arguments.forms if name != FLOAT32)]
    seconds, views = {}, {}
    for name, view, spent in prepared(network, x, calibration(network, arguments.calibration), chosen):
        views[name], seconds[name] = view, spent
        print(f"{name:18s} prepared in {spent:.1f} s", flush=True)
    works = {name: partial(forward, view, x) for name, view in views.items()}
    times = {name: 1e3 * least / len(x) for name, least in least_in_turns(works, clock_of(arguments), arguments.seconds).items()}
    exact = {method: maps(views[FLOAT32], photographs, method) for method in arguments.methods}
    for name, view in views.items():
        measured = {f"{method}: {what}": round(value, 4) for method in arguments.methods
                    for what, value in errors(maps(view, photographs, method), exact[method]).items()}
        print(f"{name:18s} {times[name]:7.2f} ms an image, {times[FLOAT32] / times[name]:.2f} times as fast;  "
              + ", ".join(f"{what} {value:.4f}" for what, value in measured.items()), flush=True)
        keep(arguments.summary, {"network": network.name, "form": name}, prepare=round(seconds[name], 1),
             milliseconds=round(times[name], 2), faster=round(times[FLOAT32] / times[name], 2), **measured)


if __name__ == "__main__":
    main()
