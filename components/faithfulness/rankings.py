"""Which method comes out best, and whether that is more than chance: a table, and plain words where it is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import streamlit as st

from components.drawing import curves
from components.drawing.numbers import fixed
from components.faithfulness.map_curves import ARROWS, SCORES, MapCurves
from explainers.metrics import insertion_deletion as metric

CHANCE = "random"  # the control that every method must beat
SIGNS = ("The sign of a value does not always mean for or against: a gradient's says whether a pixel should be brighter. For such "
         "maps, order by magnitudes above")
SUMMARY = [SCORES[name] for name in ("insertion_auc", "deletion_auc", "difference")]
TURNING = [SCORES[name] for name in ("lost_at", "regained_at")]
TURNS = {
    "lost_at": "Class lost at: the share of the cells after whose removal another class is first for the first time.",
    "regained_at": "Class regained at: the share of the cells that must be shown until the class is first."}
BEST: dict[str, Callable[[list[float]], float]] = {"higher": max, "lower": min}


def verdict(measured: Sequence[MapCurves]) -> None:
    """Name every method that does not beat the random control, and every map that has something wrong with it."""
    lines = complaints(measured)
    by_sign = [map_curves for map_curves in measured if map_curves.settings.order_by == "value" and map_curves.attribution.signed
               and _behind(map_curves, measured)]
    if by_sign:
        lines.append(f"{SIGNS}{_times_input(by_sign)}.")
    methods = [map_curves for map_curves in measured if not map_curves.is_control]
    unsure = [map_curves.title for map_curves in methods if _too_close(map_curves, measured)]
    if unsure:
        lines.append(f"Coarse curves cannot tell yet whether {listed(unsure)} beat{'s' if len(unsure) == 1 else ''} the random "
                     "control at both, insertion and deletion: one of the numbers is too close.")
    if lines:
        warn(lines)
    elif methods:
        who = "Every method beats" if len(methods) > 1 else f"{methods[0].title} beats"
        with st.container(key="verdict"):
            st.html(f'<p class="verdict">{escape(who)} the random control on this picture, by insertion and by deletion'
                    f"{', by coarse curves so far' if any(map_curves.coarse for map_curves in measured) else ''}.</p>")


def _times_input(behind: Sequence[MapCurves]) -> str:
    """The methods of these maps that can multiply their map by the image and do not, as the rest of a sentence; else empty."""
    able = [map_curves.title for map_curves in behind if map_curves.attribution.params.get("times_input") is False]
    return f", or multiply {listed(able)} by the image (Times input in the settings)" if able else ""


def warn(lines: Sequence[str]) -> None:
    """Sentences with the mark of a warning: what a person must know before trusting the numbers."""
    with st.container(key="verdict"):
        st.html('<div class="verdict warned">' + "".join(f"<p>{escape(line)}</p>" for line in lines) + "</div>")


def listed(names: Sequence[str]) -> str:
    """Names in a sentence: "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def complaints(measured: Sequence[MapCurves]) -> list[str]:
    """One sentence for each method that is no better than chance here, or whose map has a flag."""
    lines = []
    for map_curves in measured:
        if map_curves.is_control:
            continue
        worse = _behind(map_curves, measured)
        if worse:
            lines.append(f"{map_curves.title} does not beat the random control here: {' and '.join(worse)}.")
        lines += [f"{map_curves.title}: {flag}." for flag in map_curves.attribution.flags]
    return lines


def _behind(map_curves: MapCurves, measured: Sequence[MapCurves]) -> list[str]:
    """Where a method is no better than chance, in words; nothing for a control, or where that cannot be told."""
    chance = _chance(map_curves, measured)
    if chance is None:
        return []
    worse = []
    for score in metric.not_better(map_curves.result, chance, map_curves.error):
        own, random = (fixed(score.of(result), 2) for result in (map_curves.result, chance))
        side = "above" if score.better == "higher" else "below"
        worse.append(f"its {score.title[0].lower()}{score.title[1:]}, {own}, is not {side} {random}")
    return worse


def _too_close(map_curves: MapCurves, measured: Sequence[MapCurves]) -> bool:
    """Whether an AUC of a method's coarse curves is too close to that of the random control to tell which is better."""
    chance = _chance(map_curves, measured)
    return chance is not None and bool(metric.too_close(map_curves.result, chance, map_curves.error))


def _chance(map_curves: MapCurves, measured: Sequence[MapCurves]) -> metric.InsertionDeletion | None:
    """The random control's result, for a method; None for a control, or where it is not measured."""
    return None if map_curves.is_control else next((other.result for other in measured if other.key == CHANCE), None)


def table(measured: Sequence[MapCurves]) -> None:
    """A row for each map, the largest difference first; the best of each column in bold."""
    ordered = sorted(measured, key=lambda map_curves: -map_curves.result.difference)
    columns = [(score.title, score.better, [score.of(map_curves.result) for map_curves in ordered]) for score in SUMMARY]
    if any(map_curves.result.cim is not None for map_curves in ordered):
        columns.append(("cIM", "higher", [map_curves.result.cim or 0.0 for map_curves in ordered]))
    head = "".join(f"<th>{title} {ARROWS[better]}</th>" for title, better, _ in columns)
    head += "".join(f'<th title="{escape(TURNS[score.name])}">{score.title} {ARROWS[score.better]}</th>' for score in TURNING)
    rows = []
    for place, map_curves in enumerate(ordered):
        cells = "".join(_cell(values[place], BEST[better](values)) for _, better, values in columns)
        result = map_curves.result
        cells += f"<td>{_share(result.lost_at)}</td><td>{_share(result.regained_at)}</td>"
        grid = "{} \u00d7 {} cells, {} a step, {} points".format(*result.cells, result.step, len(result.fractions))
        grid += f"; coarse, {map_curves.steps} of {map_curves.all_steps} steps" if map_curves.coarse else ""
        rows.append(f'<tr{" class=control" if map_curves.is_control else ""}><td>{curves.swatch(map_curves.style)}'
                    f'{escape(map_curves.title)}</td>{cells}<td class="quiet">{grid}</td></tr>')
    with st.container(key="ranking"):
        st.html(f'<div class="wide"><table class="numbers"><tr><th>Map</th>{head}<th>Points</th></tr>{"".join(rows)}</table></div>')
        st.caption(f"{TURNS['lost_at']} {TURNS['regained_at']} The rings on the curves mark both.")


def _share(fraction: float | None) -> str:
    """A share of the cells in percent; "never" where there is none."""
    return "never" if fraction is None else f"{100 * fraction:.{1 if 0 < fraction < 0.1 else 0}f}\u00a0%"


def _cell(value: float, best: float) -> str:
    return f'<td class="best" title="the best of this column">{fixed(value)}</td>' if value == best else f"<td>{fixed(value)}</td>"
