"""Numbers that add up to a total, as bars that go from zero to both sides: negative parts to the left, positive ones to the right."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from components.drawing.curves import PALETTE
from components.drawing.numbers import significant
from explainers.contract import AuxiliaryOutput

Numbers = tuple[AuxiliaryOutput, Sequence[float]]
"""An output of the kind "parts", and its numbers."""


def as_html(outputs: Sequence[Numbers]) -> str:
    """A bar for each output; those of one unit share one scale, so that lengths can be compared."""
    figures = "".join(_figure(output, values, _span([other for kind, other in outputs if kind.unit == output.unit]))
                      for output, values in outputs)
    shared = " Bars of one unit share a scale." if len(outputs) > 1 else ""
    return f'{figures}<p class="quiet">Solid line: 0. Dotted line: the total.{shared}</p>' if outputs else ""


def percentages(values: Sequence[float]) -> list[float]:
    """Each part's magnitude in percent of the sum of all magnitudes; of the total, where all parts have one sign."""
    whole = sum(abs(value) for value in values)
    return [100 * abs(value) / whole if whole else 0.0 for value in values]


def _span(groups: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The longest stretch to the left of zero and to the right."""
    left = max(sum(-value for value in values if value < 0) for values in groups)
    right = max(sum(value for value in values if value > 0) for values in groups)
    return left, right


def _figure(output: AuxiliaryOutput, values: Sequence[float], span: tuple[float, float]) -> str:
    left, right = span
    width = (left + right) or 1.0

    def place(value: float) -> float:
        return 100 * (left + value) / width

    total = sum(values)
    pieces, ends = [], {True: 0.0, False: 0.0}  # where the next negative and the next positive part begin
    for number, value in enumerate(values):
        begin, ends[value < 0] = ends[value < 0], ends[value < 0] + value
        low, high = sorted((begin, begin + value))
        pieces.append(f'<i style="left: {place(low):.2f}%; width: {place(high) - place(low):.2f}%; '
                      f'background: {PALETTE[number % len(PALETTE)]}"></i>')
    mixed = min(values, default=0.0) < 0 < max(values, default=0.0)
    of = "of the sum of magnitudes" if mixed else "of the total"
    rows = [(name, significant(value), f"{share:.0f}\u00a0%") for name, value, share in
            zip(output.parts, values, percentages(values), strict=True)]
    words = ", ".join(f"{name} {value} ({share} {of})" for name, value, share in rows)
    listed = "".join(f'<tr><td><i style="background: {PALETTE[number % len(PALETTE)]}"></i>{escape(name)}</td><td>{value}</td>'
                     f"<td>{share}</td></tr>" for number, (name, value, share) in enumerate(rows))
    unit = f" {escape(output.unit)}" if output.unit else ""
    return (f'<figure class="parts"><figcaption>{escape(output.title)} <span>total {significant(total)}{unit}</span></figcaption>'
            f'<div class="bar" role="img" aria-label="{escape(output.title)}: {escape(words)}, total {significant(total)}">'
            f'{"".join(pieces)}<b class="zero" style="left: {place(0):.2f}%"></b>'
            f'<b class="total" style="left: {place(total):.2f}%"></b></div>'
            f'<table><tr><th></th><th></th><th>{of}</th></tr>{listed}</table><p>{escape(output.help)}</p></figure>')
