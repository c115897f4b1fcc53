"""The average percentage change of a labelled set: a sentence, the table, the logits of all pictures, and the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import streamlit as st

from components.drawing import curves, downloads
from components.drawing.numbers import fixed, significant
from components.drawing.theme import GUIDE, SMALLEST, muted
from components.state.workspace import Workspace
from explainers.metrics.average_percentage_change import PercentageChange

HEIGHT = 480  # pixels, with the legend below
MOST_COLOURED = 24  # classes that have a mark of their own and a line in the legend


@dataclass(frozen=True)
class ClassChange:
    """The pictures of one class: how many have a logit other than zero, and the mean and median of their change; 0.1 is 10 %."""

    label: int
    images: int
    mean: float
    positive: float
    median: float


def draw(workspace: Workspace, change: PercentageChange) -> None:
    """The numbers beside the chart of all logits, and the classes below."""
    names = workspace.network.categories
    left, right = st.columns([2, 3], gap="large")
    with left, st.container(key="percentage-change"):
        st.html(f"{_table(change)}{_words(change)}")
        st.download_button("Logits (CSV)", lambda: csv(change, names), key="download-percentage", mime="text/csv",
                           file_name=f"{workspace.network.name}-source-signals.csv", on_click="ignore",
                           help="One row for each picture: its class, its logit, that of its source signal, and how much lower "
                                "that is (drop), as a fraction of the picture's own.")
    with right:
        drawing = figure(change, names)
        st.plotly_chart(drawing, key="percentage-scatter", config={"displayModeBar": False}, height=HEIGHT, alt=_in_words(change))
    with st.expander("By class"):
        st.caption("Means and medians of a class's pictures, the largest change first.")
        rows = sorted(by_class(change), key=lambda row: -row.mean)
        st.dataframe([{"Class": names[row.label], "Pictures": row.images, "APC, %": _percent_number(row.mean),
                       "APC+, %": _percent_number(row.positive), "Median, %": _percent_number(row.median)} for row in rows],
                     hide_index=True, width="stretch")


def relative(change: PercentageChange) -> np.ndarray:
    """(N,) how much lower the source signal's logit is, over the magnitude of the picture's; NaN where that is zero."""
    before = change.before.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(before == 0, np.nan, (before - change.after) / np.abs(before))


def by_class(change: PercentageChange) -> list[ClassChange]:
    """The numbers of each class, in the order of the classes."""
    changes, rows = relative(change), []
    for label in np.unique(change.labels).tolist():
        own = changes[(change.labels == label) & np.isfinite(changes)]
        if len(own):
            rows.append(ClassChange(label, len(own), float(np.abs(own).mean()), float(np.maximum(own, 0).mean()),
                                    float(np.median(np.abs(own)))))
    return rows


def _table(change: PercentageChange) -> str:
    rows = (("APC", change.mean, change.error, change.median),
            ("APC+", change.positive, change.positive_error, change.positive_median))
    body = "".join(f"<tr><td>{name}</td><td>{_percent(mean)}{_error(error)}</td><td>{_percent(median)}</td></tr>"
                   for name, mean, error, median in rows)
    return ('<div class="wide"><table class="numbers"><tr><th>Lower is better</th><th>Mean over classes</th><th>of medians</th></tr>'
            f"{body}</table></div>")


def _words(change: PercentageChange) -> str:
    """What the numbers mean, and what would make them misleading."""
    negative = int((change.before < 0).sum())
    lines = ["APC: the mean difference of the logits in percent of the picture's own, for each class and then over the classes; APC+ "
             f"leaves out source signals with a higher logit. {change.images} pictures, standard errors over the classes."]
    if change.mean > 2 * change.median:
        lines.append("Few pictures make most of the mean: their own logit is near zero. Read the medians.")
    if negative:
        lines.append(f"The logit of the true class is negative for {negative} of them.")
    if change.skipped:
        lines.append(f"{change.skipped} more have a logit of zero and no percentage.")
    return f'<div class="verdict">{"".join(f"<p>{escape(line)}</p>" for line in lines)}</div>'


def figure(change: PercentageChange, names: Sequence[str]) -> dict[str, Any]:
    """The logit of the source signal against the picture's; on the dotted diagonal both are equal."""
    labels = np.unique(change.labels).tolist()
    together = len(labels) > MOST_COLOURED
    traces = []
    for place, label in enumerate(labels):
        own = change.labels == label
        style = curves.Style(curves.PALETTE[0]) if together else curves.numbered_style(place)
        traces.append({
            "type": "scatter", "mode": "markers", "name": names[label], "x": change.before[own], "y": change.after[own],
            "showlegend": not together, "marker": {"symbol": style.mark, "size": 7, "color": style.colour, "opacity": 0.8},
            "hovertemplate": f"{escape(names[label])}<br>picture %{{x:.3~g}}, source signal %{{y:.3~g}}<extra></extra>"})
    ends = [float(min(change.before.min(), change.after.min())), float(max(change.before.max(), change.after.max()))]
    quiet = {"size": SMALLEST, "color": muted()}
    axis = {"tickfont": quiet, "zeroline": True, "nticks": 7}
    layout = curves.panels_layout(HEIGHT, curves.BELOW) | {"hovermode": "closest", "showlegend": not together}
    layout["legend"] |= {"orientation": "h", "x": 0, "y": -0.16}
    layout["xaxis"] = axis | {"title": {"text": "logit of the picture", "font": quiet, "standoff": 6}}
    layout["yaxis"] = axis | {"title": {"text": "logit of its source signal", "font": quiet, "standoff": 8}}
    layout["shapes"] = [{"type": "line", "x0": ends[0], "y0": ends[0], "x1": ends[1], "y1": ends[1], "layer": "below",
                         "line": {"color": GUIDE, "width": 1, "dash": "dot"}}]
    layout["margin"]["t"] = 8
    return {"data": traces, "layout": layout}


def _in_words(change: PercentageChange) -> str:
    """The chart for people who do not see it."""
    ends = [significant(float(end(values))) for values in (change.before, change.after) for end in (np.min, np.max)]
    below = 100 * float((change.after < change.before).mean())
    return (f"Logit of the source signal against the picture's for {len(change.before)} pictures: the pictures' from {ends[0]} to "
            f"{ends[1]}, the source signals' from {ends[2]} to {ends[3]}; {below:.0f} % of the source signals have a lower logit.")


def csv(change: PercentageChange, names: Sequence[str]) -> bytes:
    """A line for each picture."""
    changes = relative(change)
    rows: list[Sequence[Any]] = [("label", "class", "logit", "source_logit", "drop")]
    rows += [(label, names[label], downloads.cell(before), downloads.cell(after), downloads.cell(own)) for label, before, after, own in
             zip(change.labels.tolist(), change.before, change.after, changes, strict=True)]
    return downloads.csv_of(rows)


def _percent(fraction: float) -> str:
    return f"{fixed(100 * fraction, 1)}\u00a0%"


def _percent_number(fraction: float) -> float:
    return round(100 * fraction, 1)


def _error(error: float) -> str:
    """A standard error in percentage points; empty for a single class."""
    return "" if np.isnan(error) else f" \u00b1 {fixed(100 * error, 1)}"
