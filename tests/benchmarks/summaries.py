"""What is kept of a benchmark's results: rows of means with their standard errors, from which RESULTS.md is written.

Each file in ``results`` holds the rows of one benchmark as JSON lines. ``of`` says what a row is about (a method, a network and so
on); ``source`` is "measured" where the benchmark's ``--summary`` wrote it, and "printed" where it was copied from a printed line. All
else is numbers: ``{"mean": ..., "error": ..., "n": ...}``, plain numbers, or text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from explainers.metrics.map_distances import Average, average

FOLDER = Path(__file__).parent / "results"


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep(path: Path | None, of: dict[str, Any], **values: Any) -> None:
    """Write one row, in the place of the one about the same thing if there is one. Without a file nothing is kept."""
    if path is None:
        return
    row = {"of": of, **values, "source": "measured"}
    rows = read(path)
    places = [place for place, known in enumerate(rows) if known["of"] == of]
    if places:
        rows[places[0]] = row
    else:
        rows.append(row)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def cell(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean, standard error and number of the values that are defined; null where there are too few."""
    result = average([math.nan if value is None else value for value in values])
    return {"mean": _rounded(result.mean), "error": _rounded(result.error), "n": result.count}


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 5)


def in_words(result: Average) -> str:
    """``mean ± standard error``."""
    if not result.count:
        return "-"
    return f"{result.mean:.3f} ± {result.error:.3f}" if result.count > 1 else f"{result.mean:.3f}"


def mean_and_error(values: Sequence[float]) -> str:
    """``mean ± standard error`` of the values that are defined."""
    return in_words(average(list(values)))
