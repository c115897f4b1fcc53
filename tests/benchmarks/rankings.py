"""How the papers rank the methods, and how the same methods rank here: a part of RESULTS.md.

``results/rankings.toml`` declares one ranking a table of a paper: the values that the paper printed, and the results of
``results/*.jsonl`` that stand for them here. Kendall's tau compares the two orders: 1 for the same order, -1 for the reverse. A pair
counts as *the other way* where the difference here, against the paper's, is larger than two standard errors of the difference. The
errors are taken as independent; both methods are measured on the same pictures, so the true error is mostly smaller.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from scipy.stats import kendalltau

from tests.benchmarks.papers import result_of
from tests.benchmarks.summaries import FOLDER

HEADINGS = ("in the paper", "order in the paper", "order here", "tau", "the other way here", "verdict")
INTRODUCTION = """For each table of the five papers that compares methods which are here: the order in the paper and the order here,
the best first, Kendall's tau of the two (1: the same, −1: the reverse), and the pairs whose order here is the other one by more than
two standard errors, the better one here first. The values stand in the tables above; networks and data differ from the papers'."""
ERRORS = 2.0  # standard errors of a difference that counts

Ranking = Mapping[str, Any]
Cell = Mapping[str, Any]


def declared() -> list[Ranking]:
    """What ``rankings.toml`` declares, in its order."""
    return tomllib.loads((FOLDER / "rankings.toml").read_text())["ranking"]


def measured(ranking: Ranking) -> dict[str, Cell]:
    """The result of each method of the ranking by the method's name in the paper. Raises LookupError where there is none."""
    return {entry["name"]: result_of({"from": ranking["from"], "of": {**ranking["of"], "method": entry["method"]},
                                      "field": ranking["field"]})
            for entry in ranking["methods"]}


def order(values: Mapping[str, float], higher_is_better: bool) -> list[str]:
    """The names, the best first."""
    return sorted(values, key=lambda name: values[name], reverse=higher_is_better)


def agreement(paper: Mapping[str, float], here: Mapping[str, float]) -> float:
    """Kendall's tau (b, for ties) of the two rankings, from -1 to 1."""
    return float(kendalltau(list(paper.values()), [here[name] for name in paper]).statistic)


def reversed_pairs(paper: Mapping[str, float], here: Mapping[str, Cell]) -> list[tuple[str, str]]:
    """The pairs (larger here, smaller here) that the paper has in the other order, and that differ here by more than the error."""
    pairs = []
    for first, second in combinations(paper, 2):
        difference = here[first]["mean"] - here[second]["mean"]
        error = math.hypot(here[first]["error"], here[second]["error"])
        if difference * (paper[first] - paper[second]) < 0 and abs(difference) > ERRORS * error:
            pairs.append((first, second) if difference > 0 else (second, first))
    return pairs


def section(rankings: Sequence[Ranking]) -> str:
    """The part of RESULTS.md, with a line a ranking."""
    lines = ["## Do the papers' rankings hold?", "", INTRODUCTION, "", f"| {' | '.join(HEADINGS)} |", f"|{' --- |' * len(HEADINGS)}"]
    for ranking in rankings:
        lines.append(f"| {' | '.join(_cells(ranking))} |")
    return "\n".join(lines)


def _cells(ranking: Ranking) -> tuple[str, ...]:
    higher = ranking["better"] == "higher"
    paper = {entry["name"]: entry["paper"] for entry in ranking["methods"]}
    here = measured(ranking)
    means = {name: cell["mean"] for name, cell in here.items()}
    pairs = [pair if higher else pair[::-1] for pair in reversed_pairs(paper, here)]
    images = sorted({cell["n"] for cell in here.values()})
    count = f"n = {images[0]}" + (f" to {images[-1]}" if len(images) > 1 else "")
    return (f"{ranking['paper']}, {ranking['what']}", " > ".join(order(paper, higher)),
            f"{' > '.join(order(means, higher))} ({ranking['here']}, {count})",
            f"{agreement(paper, means):.2f}".replace("-", "−"),
            ", ".join(f"{better} over {worse}" for better, worse in pairs) or "none", ranking["verdict"])
