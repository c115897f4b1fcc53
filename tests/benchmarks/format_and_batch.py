"""What an image costs by memory format and batch size, and what several sequential runs would gain by going through together.

    python -m tests.benchmarks.format_and_batch efficientnet_lite0
    python -m tests.benchmarks.format_and_batch squeezenet1_0 --weights FILE --batches 1 2 4 8 20 40

The formats: with ``channels_last`` the images are in this format, as ``Classifier.walk`` brings them into it on the CPU; with
``contiguous`` neither the images nor the weights are, with ``both channels_last`` both. All batch sizes and formats take turns, so
that a machine that becomes slower slows them alike, and each number is the least of all turns. ``--cpu`` is for a machine that is busy
with something else (see ``time_over_floor``). A method that runs n images at once, such as the 20 points of the path of I-GOS, would
run 2 n for two classes together; what an image takes at 2 n, compared with n, is what that would gain.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

import explainers as ex
from explainers.networks.classifier import Classifier
from tests.benchmarks.command_line import add_summary
from tests.benchmarks.summaries import keep
from tests.benchmarks.time_over_floor import Clock, clock_of, floor_parser, images, least_in_turns

BATCHES = (1, 2, 4, 8, 16, 20, 32, 40)


def forms_of(network: Classifier) -> Mapping[str, tuple[nn.Module, torch.memory_format]]:
    """A module and the format of its images, by the form's name."""
    plain, last = (in_format(network.module, form) for form in (torch.contiguous_format, torch.channels_last))
    return {"channels_last": (plain, torch.channels_last), "contiguous": (plain, torch.contiguous_format),
            "both channels_last": (last, torch.channels_last)}


def in_format(module: nn.Module, form: torch.memory_format) -> nn.Module:
    """A copy of a module whose weights of convolutions have this memory format."""
    copied = copy.deepcopy(module)
    for weight in copied.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=form)
    return copied


def forward(module: nn.Module, x: Tensor) -> None:
    """One pass forward."""
    with torch.inference_mode():
        module(x)


def both(module: nn.Module, x: Tensor) -> None:
    """One pass forward and back to the pixels."""
    x = x.detach().requires_grad_(True)
    torch.autograd.grad(module(x)[:, 0].sum(), x)


def least_milliseconds(network: Classifier, batches: Sequence[int], clock: Clock, budget: float) -> dict[tuple[int, str], list[float]]:
    """[forward, forward and backward], each in milliseconds for an image, by batch size and form; ``budget`` as in least_in_turns."""
    inputs = {(batch, name): (module, images(network, batch).contiguous(memory_format=form))
              for batch in batches for name, (module, form) in forms_of(network).items()}
    best = least_in_turns({(key, run): partial(run, *of) for key, of in inputs.items() for run in (forward, both)}, clock, budget)
    return {key: [1e3 * best[key, run] / key[0] for run in (forward, both)] for key in inputs}


def main() -> None:
    parser = floor_parser(__doc__, methods=False)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--seconds", type=float, default=40.0, help="for all turns; at least three are made")
    add_summary(parser)
    arguments = parser.parse_args()
    network = ex.load_model(arguments.network, weights=arguments.weights, device="cpu")
    print(f"{network.title}, torch {torch.__version__}, {torch.get_num_threads()} threads; milliseconds an image, "
          "forward / forward and backward")
    best = least_milliseconds(network, arguments.batches, clock_of(arguments), arguments.seconds)
    names = list(dict.fromkeys(name for _, name in best))
    print(f"{'batch':>5s} " + " ".join(f"{name:>20s}" for name in names))
    for batch in arguments.batches:
        of_batch = {name: best[batch, name] for name in names}
        print(f"{batch:5d} " + " ".join(f"{one_way:10.2f} / {two_ways:7.2f}" for one_way, two_ways in of_batch.values()))
        keep(arguments.summary, {"network": network.name, "batch": str(batch)},
             **{f"{way}, {name}": round(value, 2) for name, pair in of_batch.items()
                for way, value in zip(("forward", "both"), pair, strict=True)})


if __name__ == "__main__":
    main()
