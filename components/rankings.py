"""Which method comes out best, and whether that is more than chance: a table, and plain words where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

from components.curve_runs import Measured, Terms
from components.numbers import fixed

CHANCE = "random"  # the control that every method must beat
SIGNS = ("A sign is not always evidence: a gradient's says whether a pixel should be brighter. For such maps, order by magnitudes "
         "above.")


def verdict(found: Sequence[Measured], terms: Terms) -> None:
    """Name every method that does not beat the random control, and every map that has something wrong with it."""
    lines = complaints(found)
    if terms["order_by"] == "value" and any(one.job.found.signed and _behind(one, found) for one in found):
        lines.append(SIGNS)
    real = [one for one in found if not one.control]
    if not lines and real:
        lines = ["Every method beats the random control on this picture, by insertion and by deletion." if len(real) > 1 else
                 f"{real[0].job.method.title} beats the random control on this picture, by insertion and by deletion."]
        st.html(f'<p class="verdict">{lines[0]}</p>')
    elif lines:
        warn(lines)


def warn(lines: Sequence[str]) -> None:
    """Sentences with the mark of a warning: what a person must know before trusting the numbers."""
    st.html('<div class="verdict warned">' + "".join(f"<p>{escape(line)}</p>" for line in lines) + "</div>")


def complaints(found: Sequence[Measured]) -> list[str]:
    """One sentence for each method that is no better than chance here, or whose map has a flag."""
    lines = []
    for one in found:
        if one.control:
            continue
        worse = _behind(one, found)
        if worse:
            lines.append(f"{one.title} does not beat the random control here: {' and '.join(worse)}.")
        lines += [f"{one.title}: {flag}." for flag in one.job.found.flags]
    return lines


def _behind(one: Measured, found: Sequence[Measured]) -> list[str]:
    """Where a method is no better than chance, in words; nothing for a control, or where chance was not measured."""
    chance = next((other.found for other in found if other.key == CHANCE), None)
    own, worse = one.found, []
    if one.control or chance is None:
        return worse
    if own.insertion_auc <= chance.insertion_auc:
        worse.append(f"its insertion AUC, {fixed(own.insertion_auc, 2)}, is not above {fixed(chance.insertion_auc, 2)}")
    if own.deletion_auc >= chance.deletion_auc:
        worse.append(f"its deletion AUC, {fixed(own.deletion_auc, 2)}, is not below {fixed(chance.deletion_auc, 2)}")
    return worse


def table(found: Sequence[Measured]) -> None:
    """A row for each map, the largest difference first; the best of each column in bold."""
    ordered = sorted(found, key=lambda one: -one.found.difference)
    columns = [("Insertion AUC \u2191", [one.found.insertion_auc for one in ordered], max),
               ("Deletion AUC \u2193", [one.found.deletion_auc for one in ordered], min),
               ("Difference \u2191", [one.found.difference for one in ordered], max)]
    if any(one.found.cim is not None for one in ordered):
        columns.append(("cIM \u2191", [one.found.cim or 0.0 for one in ordered], max))
    head = "".join(f"<th>{name}</th>" for name, _, _ in columns)
    rows = []
    for place, one in enumerate(ordered):
        cells = "".join(_cell(values[place], best(values)) for _, values, best in columns)
        grid = "{} \u00d7 {} cells, {} a step, {} points".format(*one.found.cells, one.found.step, len(one.found.fractions))
        rows.append(f'<tr{_control(one)}>{_name(one)}{cells}<td class="quiet">{grid}</td></tr>')
    st.html(f'<div class="wide"><table class="numbers"><tr><th>Map</th>{head}<th></th></tr>{"".join(rows)}</table></div>')


def _cell(value: float, best: float) -> str:
    text = f"{value:.3f}".replace("-", "\u2212")
    return f'<td class="best" title="the best of this column">{text}</td>' if value == best else f"<td>{text}</td>"


def _control(one: Measured) -> str:
    return ' class="control"' if one.control else ""


def _name(one: Measured) -> str:
    return f'<td><i style="background:{one.style.colour}"></i>{escape(one.title)}</td>'
