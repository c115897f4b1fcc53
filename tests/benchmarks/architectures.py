"""Which method runs on which kind of network, and why another does not: ``python -m tests.benchmarks.architectures``.

Every method of the registry explains the top-1 class of one image of each of twelve small networks with random weights, with its
cheap settings. The command writes the table to ``ARCHITECTURES.md``; a test compares that file with what it measures. A cell is a
tick where the map is finite and not the same everywhere, and else the number of the reason that the method gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

import explainers as ex
from tests.support.architectures import ARCHITECTURES, architecture
from tests.support.networks import drawn_images

TARGET = Path(__file__).parent / "ARCHITECTURES.md"
RUNS = "\u2713"
HEAD = """# Methods and architectures

This file is written by `python -m tests.benchmarks.architectures`; change no cell by hand. Every method explains the top-1 class of
one image of each of twelve small networks (3 x 32 x 32 pixels, 5 classes, random weights) with its cheap settings. \u2713: its map
is finite and not the same everywhere. A number is the reason why the method does not run there, in its own words below the table.
"""

Outcomes = Mapping[str, Mapping[str, str]]  # by architecture and method: RUNS, or what the method needs


def outcome(network: ex.Classifier, key: str, method: ex.Method) -> str:
    """RUNS, or what the method needs of the network. Raises AssertionError for a map that says nothing."""
    missing = method.lacks(network)
    if missing is not None:
        return missing.removeprefix(f"{method.title} needs ").removesuffix(".")
    check(ex.explain(network, drawn_images(1, seed=3), key, **method.cheap), f"{key} on {network.name}")
    return RUNS


def check(attribution: ex.Attribution, where: str) -> None:
    """Raise AssertionError for a map that is not finite, or that is the same everywhere."""
    assert torch.isfinite(attribution.native).all(), f"{where}: the map is not finite"
    assert attribution.heatmap().std() > 0, f"{where}: the map is the same everywhere"


def outcomes(name: str) -> dict[str, str]:
    """The outcome of every method on one architecture."""
    return {key: outcome(architecture(name), key, method) for key, method in ex.methods().items()}


def table(results: Outcomes) -> str:
    """The whole file."""
    reasons = list(dict.fromkeys(result for row in results.values() for result in row.values() if result != RUNS))
    numbers = {reason: str(number) for number, reason in enumerate(reasons, 1)} | {RUNS: RUNS}
    lines = [HEAD, f"| method | {' | '.join(results)} |", "|---|" + "---|" * len(results)]
    for key in ex.methods():
        lines.append(f"| `{key}` | {' | '.join(numbers[row[key]] for row in results.values())} |")
    needs = [f"{number}. The method needs {reason}." for reason, number in numbers.items() if reason != RUNS]
    return "\n".join([*lines, "", "Why a method does not run:", "", *needs, ""])


def kept() -> dict[str, dict[str, str]]:
    """The outcomes in the written file, by architecture and method."""
    lines = TARGET.read_text().splitlines()
    reasons = dict(line.split(". The method needs ", 1) for line in lines if ". The method needs " in line)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    names = rows[0][1:]
    return {name: {row[0].strip("`"): RUNS if row[place] == RUNS else reasons[row[place]].removesuffix(".") for row in rows[2:]}
            for place, name in enumerate(names, 1)}


def main() -> None:
    TARGET.write_text(table({name: outcomes(name) for name in ARCHITECTURES}))
    print(TARGET.read_text())


if __name__ == "__main__":
    main()
