"""The tables and figures of the five papers, each with what was measured here: the last part of RESULTS.md.

``results/papers.toml`` declares them. ``ours`` names results by file and ``of``, as the columns of ``tables.toml`` do, so that no
number is typed twice; ``verdict`` says in words whether the paper's claim holds here. An item without ``ours`` is a figure of
pictures: its ``view`` names the page that shows the same for any picture, or it was not measured, and its verdict says why.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from tests.benchmarks.summaries import FOLDER, read

Item = Mapping[str, Any]
HEADINGS = ("in the paper", "here", "the paper has", "differences", "verdict")


def items() -> list[Item]:
    """What ``papers.toml`` declares, in its order."""
    return tomllib.loads((FOLDER / "papers.toml").read_text())["item"]


def result_of(reference: Item) -> Any:
    """The value that an entry of ``ours`` names. Raises LookupError unless exactly one result has this ``of``."""
    rows = [row for row in read(FOLDER / f"{reference['from']}.jsonl") if row["of"] == reference["of"]]
    if len(rows) != 1 or reference["field"] not in rows[0]:
        raise LookupError(f"{reference['from']}.jsonl has {len(rows)} results with the field {reference['field']} of "
                          f"{json.dumps(reference['of'])}")
    return rows[0][reference["field"]]


def in_words(reference: Item) -> str:
    """``label 0.123 ± 0.004 (n = 30)``; a plain number has no error."""
    value, form = result_of(reference), reference.get("format", ".3f")
    if not isinstance(value, Mapping):
        return f"{reference['label']} {value:{form}}".replace("-", "−")
    if value["mean"] is None:
        return f"{reference['label']} – (n = {value['n']})"
    error = "" if value["error"] is None else f" ± {value['error']:{form}}"
    return f"{reference['label']} {value['mean']:{form}}{error} (n = {value['n']})".replace(" -", " −")


def here(item: Item) -> str:
    """What was measured, or which page shows it, and the section of RESULTS.md with the command."""
    parts = [in_words(reference) for reference in item.get("ours", ())]
    parts += [item["view"]] if "view" in item else []
    return ("; ".join(parts) or "not measured") + (f". See {item['section']}" if "section" in item else "")


def sections(declared: Iterable[Item]) -> str:
    """One table a paper."""
    lines = ["## The five papers, table by table", "", (
        "For every table and figure of the five papers: what was measured here, what the paper has, how network and data differ, and\n"
        "whether the claim holds. Values are mean ± standard error over n images; those of MIP-IN's table 1 are over the classes.\n"
        "Nothing here repeats a paper exactly, because its networks and data sets are not at hand.")]
    for paper, group in groupby(declared, key=lambda item: item["paper"]):
        lines += ["", f"### {paper}", "", f"| {' | '.join(HEADINGS)} |", f"|{' --- |' * len(HEADINGS)}"]
        for item in group:
            cells = (item["what"], here(item), item["has"], item["differs"], item["verdict"])
            lines.append(f"| {' | '.join(' '.join(cell.split()) for cell in cells)} |")
    return "\n".join(lines)
