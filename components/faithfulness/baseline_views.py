"""The same curves under every baseline, and where the ranking of the methods flips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import Any

import streamlit as st

from components.compute.schedule import Schedule
from components.compute.task import Failed, Ready
from components.drawing import curves
from components.drawing.curves import Curve, Panel
from components.drawing.foreign_words import in_markdown
from components.drawing.numbers import fixed
from components.faithfulness import map_curves
from components.faithfulness.map_curves import SCORES, MapCurves
from components.faithfulness.protocol_controls import BASELINES
from components.faithfulness.rankings import listed
from explainers.metrics.protocols import Params

PLACE = "baselines"
ABOVE = "as above"
MARGIN = 0.005  # AUCs that are closer than this count as equal
ACROSS = {"insertion": "share shown", "deletion": "share removed"}
VALUES = {"Difference": "difference", "Insertion": "insertion_auc", "Deletion": "deletion_auc"}

Views = dict[str, list[MapCurves]]
"""The same maps with their curves, by the name of the baseline; the first view is by the page's own settings."""


def draw(measured: Sequence[MapCurves]) -> None:
    """Measure the maps under each baseline with as many steps, and show those that are measured beside the page's own settings."""
    st.header("Does the ranking hold under other baselines?", anchor=False)
    answers = [judged.answer for judged in measured]
    under = {name: replace(_common(measured), baseline=(key, key)) for name, key in BASELINES.items()}
    schedule = Schedule(PLACE, [map_curves.task(answers, settings, f"Baseline {name}") for name, settings in under.items()])
    count = len(schedule.waiting)
    schedule.offer(f"Measure under all {count} baselines" if count == len(BASELINES) else
                   f"Measure under {count} more baseline{'s' if count > 1 else ''}")
    states = schedule.run()
    for reason in dict.fromkeys(state.reason for state in states if isinstance(state, Failed)):
        st.error(in_markdown(reason))
    steps = map_curves.so_far(measured)
    if steps:
        st.caption(f"By coarse curves like those above: {steps}.")
    views = {ABOVE: list(measured)} | {
        name: map_curves.paired(answers, [(result, settings) for result in state.value])
        for (name, settings), state in zip(under.items(), states, strict=True) if isinstance(state, Ready)}
    if len(views) > 1:
        _draw(views)


def _common(measured: Sequence[MapCurves]) -> Params:
    """The coarsest settings of the maps. While a new map waits, those that are there may differ in their number of steps."""
    return min((judged.settings for judged in measured), key=lambda settings: settings.most_steps or float("inf"))


@st.fragment
def _draw(views: Views) -> None:
    chosen = st.segmented_control("Ranked by", list(VALUES), default="Difference", required=True, key="ranked", bind="query-params",
                                  help="The number that ranks the methods. Difference: insertion minus deletion AUC.")
    value = VALUES[chosen]
    flips, lost = flipped(views, value), overtaken(views, value)
    which = "every baseline" if len(views) > len(BASELINES) else "the baselines that are measured so far"
    lines = [f"{first} and {second} change places with {listed(where)}." for (first, second), where in flips.items()]
    lines = lines or [f"No two methods change places: their order is the same under {which}."]
    lines += [f"With {name}, a control overtakes {listed(titles)}." for name, titles in lost.items()]
    words = "".join(f"<p>{escape(line)}</p>" for line in lines)
    with st.container(key="baselines"):
        st.html(f'<div class="verdict{" warned" if flips or lost else ""}">{words}</div>{table(views, value)}')
    for name in ACROSS:
        if chosen in ("Difference", name.capitalize()):
            with st.container(key=f"curves-all-{name}"):
                drawing = figure(views, name)
                st.plotly_chart(drawing, key=f"baselines-{name}", config=curves.CONFIG,
                                alt=f"{name.capitalize()} curves under each baseline. {curves.in_words(drawing)}")


def flipped(views: Views, value: str) -> dict[tuple[str, str], list[str]]:
    """The pairs of methods (no controls) that change places, and the baselines with which they do. value: a score's name."""
    own, *others = views
    margin = _margin(views)
    methods = [judged.title for judged in views[own] if not judged.is_control]
    merit = {name: {judged.title: _merit(judged, value) for judged in view} for name, view in views.items()}
    flips: dict[tuple[str, str], list[str]] = {}
    for place, first in enumerate(methods):
        for second in methods[place + 1:]:
            ahead = {name: merit[name][first] - merit[name][second] for name in views}
            where = [name for name in others if ahead[own] * ahead[name] < 0 and min(abs(ahead[own]), abs(ahead[name])) >= margin]
            if where:
                flips[first, second] = where
    return flips


def overtaken(views: Views, value: str) -> dict[str, list[str]]:
    """By baseline, the methods that are behind a control which they were ahead of in the first view."""
    own, *others = views
    margin = _margin(views)
    merit = {name: {judged.key: _merit(judged, value) for judged in view} for name, view in views.items()}
    controls = [judged.key for judged in views[own] if judged.is_control]
    titles: dict[str, list[str]] = {}
    for name in others:
        for judged in views[own]:
            margins = [[merit[which][judged.key] - merit[which][control] for which in (own, name)] for control in controls]
            if not judged.is_control and any(before >= margin and after <= -margin for before, after in margins):
                titles.setdefault(name, []).append(judged.title)
    return titles


def _margin(views: Views) -> float:
    """AUCs that are closer than this count as equal; coarse curves are less sure."""
    return max([MARGIN, *(judged.error for view in views.values() for judged in view)])


def _merit(judged: MapCurves, value: str) -> float:
    """The score by its name, its sign turned where lower is better: higher is better."""
    score = SCORES[value]
    return score.of(judged.result) * (1 if score.better == "higher" else -1)


def ranks(view: Sequence[MapCurves], value: str) -> dict[str, int]:
    """Each map's rank by its method's key, 1 for the best; the controls are ranked with the methods."""
    ordered = sorted(view, key=lambda judged: -_merit(judged, value))
    return {judged.key: rank for rank, judged in enumerate(ordered, start=1)}


def table(views: Views, value: str) -> str:
    """A row a map, a column a baseline: the number, the rank, and an arrow where it is not the rank of the first column."""
    own, *_ = views
    places = {name: ranks(view, value) for name, view in views.items()}
    numbers = {name: {judged.key: SCORES[value].of(judged.result) for judged in view} for name, view in views.items()}
    first = places[own]
    rows = []
    for judged in sorted(views[own], key=lambda judged: first[judged.key]):
        cells = []
        for name in views:
            rank = places[name][judged.key]
            moved = "" if rank == first[judged.key] else "\u25b2" if rank < first[judged.key] else "\u25bc"
            cells.append(f'<td{" class=flip" if moved else ""}>{fixed(numbers[name][judged.key])}<span class="rank">{rank}</span>'
                         f'<span class="moved">{moved}</span></td>')
        title = f'<td>{curves.swatch(judged.style)}{escape(judged.title)}</td>'
        rows.append(f'<tr{" class=control" if judged.is_control else ""}>{title}{"".join(cells)}</tr>')
    head = "".join(f"<th>{escape(name)}</th>" for name in views)
    return (f'<div class="wide"><table class="numbers"><tr><th>AUC and rank</th>{head}</tr>{"".join(rows)}</table></div>'
            '<p class="verdict">An arrow marks a rank that is not the one of the first column.</p>')


def figure(views: Views, which: str) -> dict[str, Any]:
    """One curve of all maps, a panel for each baseline. which: ``insertion`` or ``deletion``."""
    better = map_curves.better_in_words(SCORES[f"{which}_auc"])
    panels = [Panel(name, better if place == 0 else "", ACROSS[which], tuple(
        Curve(judged.key, judged.title, judged.style, judged.result.fractions, getattr(judged.result, which))
        for judged in view))
        for place, (name, view) in enumerate(list(views.items())[1:])]
    low = 0.0 if views[ABOVE][0].result.target.contrast is None else -1.0
    return curves.figure(panels, "", "probability" if low == 0 else "difference of p", low, height=230)

