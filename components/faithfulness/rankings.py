"""Which method comes out best, and whether that is more than chance: a table, and plain words where it is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import streamlit as st

from components.drawing.numbers import fixed
from components.faithfulness.map_curves import ARROWS, AUCS, SCORES, MapCurves
from explainers.metrics.protocols import Params

CHANCE = "random"  # the control that every method must beat
SIGNS = ("A sign is not always evidence: a gradient's says whether a pixel should be brighter. For such maps, order by magnitudes "
         "above.")
BEST: dict[str, Callable[[list[float]], float]] = {"higher": max, "lower": min}


def verdict(measured: Sequence[MapCurves], settings: Params) -> None:
    """Name every method that does not beat the random control, and every map that has something wrong with it."""
    lines = complaints(measured)
    if settings.order_by == "value" and any(one.attribution.signed and _behind(one, measured) for one in measured):
        lines.append(SIGNS)
    methods = [one for one in measured if not one.is_control]
    if lines:
        warn(lines)
    elif methods:
        who = "Every method beats" if len(methods) > 1 else f"{methods[0].title} beats"
        with st.container(key="verdict"):
            st.html(f'<p class="verdict">{escape(who)} the random control on this picture, by insertion and by deletion.</p>')


def warn(lines: Sequence[str]) -> None:
    """Sentences with the mark of a warning: what a person must know before trusting the numbers."""
    with st.container(key="verdict"):
        st.html('<div class="verdict warned">' + "".join(f"<p>{escape(line)}</p>" for line in lines) + "</div>")


def complaints(measured: Sequence[MapCurves]) -> list[str]:
    """One sentence for each method that is no better than chance here, or whose map has a flag."""
    lines = []
    for one in measured:
        if one.is_control:
            continue
        worse = _behind(one, measured)
        if worse:
            lines.append(f"{one.title} does not beat the random control here: {' and '.join(worse)}.")
        lines += [f"{one.title}: {flag}." for flag in one.attribution.flags]
    return lines


def _behind(one: MapCurves, measured: Sequence[MapCurves]) -> list[str]:
    """Where a method is no better than chance, in words; nothing for a control, or where chance was not measured."""
    chance = next((other.result for other in measured if other.key == CHANCE), None)
    if one.is_control or chance is None:
        return []
    worse = []
    for score in AUCS:
        own, random = score.of(one.result), score.of(chance)
        if own <= random if score.better == "higher" else own >= random:
            side = "above" if score.better == "higher" else "below"
            worse.append(f"its {score.title[0].lower()}{score.title[1:]}, {fixed(own, 2)}, is not {side} {fixed(random, 2)}")
    return worse


def table(measured: Sequence[MapCurves]) -> None:
    """A row for each map, the largest difference first; the best of each column in bold."""
    ordered = sorted(measured, key=lambda one: -one.result.difference)
    columns = [(score.title, score.better, [score.of(one.result) for one in ordered]) for score in SCORES.values()]
    if any(one.result.cim is not None for one in ordered):
        columns.append(("cIM", "higher", [one.result.cim or 0.0 for one in ordered]))
    head = "".join(f"<th>{title} {ARROWS[better]}</th>" for title, better, _ in columns)
    rows = []
    for place, one in enumerate(ordered):
        cells = "".join(_cell(values[place], BEST[better](values)) for _, better, values in columns)
        grid = "{} \u00d7 {} cells, {} a step, {} points".format(*one.result.cells, one.result.step, len(one.result.fractions))
        rows.append(f'<tr{" class=control" if one.is_control else ""}><td><i style="background:{one.style.colour}"></i>'
                    f'{escape(one.title)}</td>{cells}<td class="quiet">{grid}</td></tr>')
    with st.container(key="ranking"):
        st.html(f'<div class="wide"><table class="numbers"><tr><th>Map</th>{head}<th></th></tr>{"".join(rows)}</table></div>')


def _cell(value: float, best: float) -> str:
    return f'<td class="best" title="the best of this column">{fixed(value)}</td>' if value == best else f"<td>{fixed(value)}</td>"
