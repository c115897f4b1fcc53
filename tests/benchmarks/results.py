"""Write RESULTS.md from the results that were kept: ``python -m tests.benchmarks.results``.

``results/*.jsonl`` hold the results, one benchmark a file (see ``summaries``). ``results/tables.toml`` says which tables are made of
them, ``results/rankings.toml`` how the papers rank methods (see ``rankings``), and ``results/papers.toml`` what the results say about
the tables and figures of the papers (see ``papers``). To replace results by a fresh run, give the table's command
``--summary tests/benchmarks/results/NAME.jsonl``, then run this.
"""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import papers, rankings
from tests.benchmarks.summaries import FOLDER, read

TARGET = Path(__file__).parent / "RESULTS.md"
NOTHING = "–"  # of a cell for which there is no result
INTRODUCTION = """# Results

This file is written by `python -m tests.benchmarks.results` from `tests/benchmarks/results`; change neither it nor a number by hand.
Each table names the command that measures it. With `--summary tests/benchmarks/results/NAME.jsonl` a benchmark's next run replaces its
own rows, and this file is then written again.

Values are mean ± standard error over n images; n stands above each table, and in brackets where a cell has another one. Rows that are
counted as "printed" below a table are summaries that were copied when a benchmark printed them, rounded as it printed them: the values
of the single photographs were not kept, so they cannot be averaged or compared again. Those counted as "measured" were written by the
benchmark itself. `results/by_picture` holds what the longest of them measured picture by picture: with `--results` and such a file a
benchmark goes on from there. Methods are named as in the commands, with the settings that differ from the defaults; `{r}` is the
resolution at which the measure orders the maps.

All times are from two shared CPU cores whose speed varies by a factor of two: compare rows, not absolute values. No GPU was at hand.
"""

Row = Mapping[str, Any]


def matching(column: Row, rows: Sequence[str]) -> dict[tuple[str, ...], Row]:
    """A column's results by their row labels; ``of`` must hold the column's values, and beside them nothing but the labels."""
    wanted = column["of"]
    results = {}
    for result in read(FOLDER / f"{column['from']}.jsonl"):
        of = result["of"]
        if wanted.items() <= of.items() and of.keys() <= {*wanted, *rows} and column["field"] in result:
            results[tuple(str(of.get(name, NOTHING)) for name in rows)] = result
    return results


def shown(value: Any, form: str, usual: int | None) -> str:
    """A cell. usual: the number of images that need not be repeated."""
    if value is None:
        return NOTHING
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping):
        return format(value, form)
    if value["mean"] is None:
        return f"{NOTHING} ({value['n']})"
    text = format(value["mean"], form) + (f" ± {value['error']:{form}}" if value["error"] is not None else "")
    return text.replace("-", "−") + (f" ({value['n']})" if value["n"] != usual else "")


def _labels(columns: Sequence[Mapping[tuple[str, ...], Row]], table: Row) -> list[tuple[str, ...]]:
    """The row labels in the order of the file, those of one first label together; or the best first."""
    labels = list(dict.fromkeys(label for column in columns for label in column))
    firsts = list(dict.fromkeys(label[0] for label in labels))
    if not table.get("best_first"):
        return sorted(labels, key=lambda label: firsts.index(label[0]))
    fields = [column["field"] for column in table["columns"][:2]]

    def difference(label: tuple[str, ...]) -> float:
        high, low = (column[label][field]["mean"] for column, field in zip(columns, fields, strict=False))
        return low - high

    return sorted((label for label in labels if label in columns[0]), key=difference)


def section(table: Row) -> str:
    """One table with its title, text, n, command, notes and the origin of its rows."""
    columns = [matching(column, table["rows"]) for column in table["columns"]]
    labels = _labels(columns, table)
    cells = [[column.get(label, {}).get(declared["field"]) for column, declared in zip(columns, table["columns"], strict=True)]
             for label in labels]
    counts = Counter(cell["n"] for row in cells for cell in row if isinstance(cell, Mapping))
    usual = counts.most_common(1)[0][0] if counts else None
    lines = [f"## {table['title']}", "", table["text"] + (f" n = {usual}." if usual else ""), ""]
    headings = [*table["rows"], *(column["title"] for column in table["columns"])]
    lines += [_line(headings), _line(["---"] * len(headings))]
    for label, row in zip(labels, cells, strict=True):
        forms = [column.get("format", ".3f") for column in table["columns"]]
        lines.append(_line([*label, *(shown(cell, form, usual) for cell, form in zip(row, forms, strict=True))]))
    if "command" in table:
        lines += ["", *("    " + line for line in table["command"].strip().splitlines())]
    for note in table.get("notes", ()):
        lines += ["", note]
    return "\n".join([*lines, "", _origin(columns)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _origin(columns: Sequence[Mapping[tuple[str, ...], Row]]) -> str:
    results = {json.dumps(result["of"]): result["source"] for column in columns for result in column.values()}
    counts = Counter(results.values())
    return "Results: " + ", ".join(f"{counts[source]} {source}" for source in sorted(counts)) + "."


def tables() -> list[Row]:
    """What ``tables.toml`` declares."""
    return tomllib.loads((FOLDER / "tables.toml").read_text())["table"]


def document() -> str:
    """The whole of RESULTS.md."""
    return "\n\n".join([INTRODUCTION.strip(), *map(section, tables()), rankings.section(rankings.declared()),
                       papers.sections(papers.items())]) + "\n"


def main() -> None:
    text = document()
    TARGET.write_text(text)
    print(f"{TARGET.name}: {len(text.splitlines())} lines")


if __name__ == "__main__":
    main()
