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


def in_words(value: Any, form: str) -> tuple[str, int | None]:
    """A value as text, ``0.123 ± 0.004``, and the number of images behind it; a plain number has neither error nor images."""
    if not isinstance(value, Mapping):
        return f"{value:{form}}".replace("-", "−"), None
    if value["mean"] is None:
        return "–", value["n"]
    error = "" if value["error"] is None else f" ± {value['error']:{form}}"
    return f"{value['mean']:{form}}".replace("-", "−") + error, value["n"]


def measured(references: Iterable[Item]) -> list[str]:
    """Each value with its label; n stands behind the first value, and behind those that have another one than the value before."""
    parts, last = [], None
    for reference in references:
        text, images = in_words(result_of(reference), reference.get("format", ".3f"))
        parts.append(f"{reference['label']} {text}" + (f" (n = {images})" if images not in (None, last) else ""))
        last = images or last
    return parts


def here(item: Item) -> str:
    """What was measured, or which page shows it, and the section of RESULTS.md with the command."""
    parts = [*measured(item.get("ours", ())), *([item["view"]] if "view" in item else [])]
    return ("; ".join(parts) or "–") + (f". See {item['section']}" if "section" in item else "")


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
