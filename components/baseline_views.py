"""The same curves under every baseline, and where the ranking of the methods flips."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

from components import curve_runs, curves
from components.curve_runs import Measured, Terms
from components.curves import Curve, Panel
from components.protocol_controls import BASELINES
from components.runs import Job
from components.scrub import HIGHER, LOWER
from components.workspace import Workspace

PLACE = "baselines"
ABOVE = "as above"
MARGIN = 0.005  # AUCs that are closer than this rank neither way
ACROSS = {"insertion": "share shown", "deletion": "share removed"}
VALUES = {"Difference": "difference", "Insertion": "insertion_auc", "Deletion": "deletion_auc"}

Views = dict[str, list[Measured]]
"""The maps' curves by the name of the baseline; the first are those of the page's own terms."""


def draw(workspace: Workspace, jobs: Sequence[Job], terms: Terms) -> None:
    """The section: a button with its cost, or the views."""
    st.subheader("Does the ranking hold under other baselines?", anchor=False)
    named = {ABOVE: terms} | {name: {**terms, "baseline": (key, key)} for name, key in BASELINES.items()}
    found = curve_runs.measured(workspace, jobs, list(named.values()), PLACE, f"Measure under all {len(BASELINES)} baselines")
    views = dict(zip(named, found, strict=True))
    if all(len(view) == len(jobs) for view in views.values()):
        _draw(views)


@st.fragment
def _draw(views: Views) -> None:
    chosen = st.segmented_control("Ranked by", list(VALUES), default="Difference", required=True, key="ranked", bind="query-params",
                                  help="The number that ranks the methods. Difference: insertion minus deletion AUC.")
    value = VALUES[chosen]
    flips = flipped(views, value)
    lines = [f"{first} and {second} change places with {_listed(where)}." for (first, second), where in flips.items()]
    lines = lines or ["No two methods change places: their order is the same under every baseline."]
    lost = overtaken(views, value)
    lines += [f"With {name}, a control overtakes {_listed(titles)}." for name, titles in lost.items()]
    words = "".join(f"<p>{escape(line)}</p>" for line in lines)
    st.html(f'<div class="verdict{" warned" if flips or lost else ""}">{words}</div>{table(views, value)}')
    for which, better in (("insertion", HIGHER), ("deletion", LOWER)):
        if chosen in ("Difference", which.capitalize()):
            with st.container(key=f"curves-all-{which}"):
                st.plotly_chart(figure(views, which, better), key=f"baselines-{which}", config=curves.CONFIG,
                                alt=f"{which.capitalize()} curves under each baseline")


def flipped(views: Views, value: str) -> dict[tuple[str, str], list[str]]:
    """The pairs of methods (no controls) that change places, and the baselines with which they do."""
    own, *others = views
    methods = [one.title for one in views[own] if not one.control]
    score = {name: {one.title: _score(one, value) for one in view} for name, view in views.items()}
    found: dict[tuple[str, str], list[str]] = {}
    for place, first in enumerate(methods):
        for second in methods[place + 1:]:
            ahead = {name: score[name][first] - score[name][second] for name in views}
            where = [name for name in others if ahead[own] * ahead[name] < 0 and min(abs(ahead[own]), abs(ahead[name])) >= MARGIN]
            if where:
                found[first, second] = where
    return found


def overtaken(views: Views, value: str) -> dict[str, list[str]]:
    """By baseline, the methods that are behind a control which they were ahead of in the first view."""
    own, *others = views
    score = {name: {one.key: _score(one, value) for one in view} for name, view in views.items()}
    controls = [one.key for one in views[own] if one.control]
    found: dict[str, list[str]] = {}
    for name in others:
        for one in views[own]:
            margins = [[score[which][one.key] - score[which][control] for which in (own, name)] for control in controls]
            if not one.control and any(before >= MARGIN and after <= -MARGIN for before, after in margins):
                found.setdefault(name, []).append(one.title)
    return found


def _score(one: Measured, value: str) -> float:
    """Higher is better."""
    return getattr(one.found, value) * (-1 if value == "deletion_auc" else 1)


def ranks(view: Sequence[Measured], value: str) -> dict[str, int]:
    """Each map's place, 1 for the best; the controls are ranked with the methods."""
    ordered = sorted(view, key=lambda one: -_score(one, value))
    return {one.key: place for place, one in enumerate(ordered, start=1)}


def table(views: Views, value: str) -> str:
    """A row a map, a column a baseline: the number, the rank, and an arrow where it is not the rank of the first column."""
    own, *_ = views
    first = ranks(views[own], value)
    head = "".join(f"<th>{escape(name)}</th>" for name in views)
    rows = []
    for one in sorted(views[own], key=lambda one: first[one.key]):
        cells = []
        for view in views.values():
            same = next(other for other in view if other.key == one.key)
            rank = ranks(view, value)[one.key]
            moved = "" if rank == first[one.key] else "\u25b2" if rank < first[one.key] else "\u25bc"
            mark = f'<span class="moved">{moved}</span>' if moved else '<span class="moved"></span>'
            number = f"{getattr(same.found, value):.3f}".replace("-", "\u2212")
            cells.append(f'<td{" class=flip" if moved else ""}>{number}<span class="rank">{rank}</span>{mark}</td>')
        name = f'<td><i style="background:{one.style.colour}"></i>{escape(one.title)}</td>'
        rows.append(f'<tr{" class=control" if one.control else ""}>{name}{"".join(cells)}</tr>')
    return (f'<div class="wide"><table class="numbers"><tr><th>AUC and rank</th>{head}</tr>{"".join(rows)}</table></div>'
            '<p class="verdict">An arrow marks a rank that is not the one of the first column.</p>')


def figure(views: Views, which: str, better: str) -> dict[str, object]:
    """One curve of all maps, a panel for each baseline."""
    panels = [Panel(name, better if place == 0 else "", ACROSS[which], tuple(
        Curve(one.key, one.title, one.style, one.found.fractions, getattr(one.found, which)) for one in view))
        for place, (name, view) in enumerate(list(views.items())[1:])]
    low = -1.0 if isinstance(next(iter(views.values()))[0].found.target, tuple) else 0.0
    return curves.figure(panels, "", "probability" if low == 0 else "difference of p", low, height=230)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
