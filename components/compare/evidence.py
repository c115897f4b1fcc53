"""One line of evidence under every map: does it beat the controls, change with the class, change with the weights?

Each part is a link to the page with the numbers, grey until it was measured. None of them says that a map is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from components.compute.method_row import MethodMap
from components.drawing.foreign_words import in_markdown
from components.drawing.heatmaps import columns_for
from components.state import evidence
from components.state.workspace import Workspace

ABOUT = ("**Evidence.** A map that passes these checks is not yet right: noise changes with the class and the weights, too. Where it "
         "should lie is said only where an object is known.")

Findings = dict[str, dict[str, evidence.Finding]]
"""What the checks say about the maps, by the entry's key and by check."""


@dataclass(frozen=True)
class Check:
    """One part of the line: the page that measures it, its name until then, what it asks, and the part of the page."""

    page: str
    name: str
    help: str
    part: dict[str, str] | None = None


CHECKS = {
    evidence.CONTROLS: Check("pages/faithfulness.py", "beats the controls", (
        "Does the network react more to the pixels that this map ranks high than to those of maps that know nothing of it (random, a "
        "blob in the centre, edges)? By insertion and deletion. Opens the page that measures it."),
        {"measurement": "Insertion and deletion"}),
    evidence.CLASSES: Check("pages/class_sensitivity.py", "changes with the class", (
        "Is the map another one for another class? A map that is not shows the picture, not the decision. Opens the page that "
        "measures it.")),
    evidence.WEIGHTS: Check("pages/sanity_checks.py", "changes with the weights", (
        "Is the map another one when the network's weights are re-initialised? A map that is not does not show what was learned. "
        "Opens the page that measures it.")),
    evidence.PLACE: Check("pages/faithfulness.py", "", (
        "The share of the map's strongest pixels, as many as the region has, that lie inside it (box accuracy). It asks where the map "
        "lies, not whether the network used what is there. Opens the page with more measures."), {"measurement": "Localisation"}),
}


def draw(workspace: Workspace, maps: Sequence[MethodMap]) -> Findings:
    """A cell under each map, in the columns of the figure; on a narrow page under each other. Returns what is known."""
    findings = {entry.key: evidence.of(workspace, entry.answer.question, entry.answer.attribution)
                for entry in maps if entry.answer and not entry.is_control}
    if not findings:
        return {}
    columns = columns_for(len(maps) + 1)
    with st.container(key="evidence"):
        cells = [cell for _ in range(0, len(maps) + 1, columns) for cell in st.columns(columns, gap="small")]
        cells[0].caption(ABOUT)
        for entry, cell in zip(maps, cells[1:], strict=False):
            if entry.key in findings:
                with cell.container(key=f"evidence-{entry.key}", gap=None):
                    st.markdown(f"**{in_markdown(entry.title)}**")
                    _links(entry.key, findings[entry.key])
    return findings


def _links(entry: str, findings: dict[str, evidence.Finding]) -> None:
    for key, check in CHECKS.items():
        finding = findings.get(key)
        if finding is not None:
            words, state = finding.words, "warned" if finding.warned else "measured"
        elif check.name:
            words, state = f"{check.name}: not measured yet", "unmeasured"
        else:
            continue
        with st.container(key=f"evidence-{entry}-{key}-{state}"):  # the style of each state is in style.css
            st.page_link(check.page, label=_label(words), help=check.help, query_params=check.part)


def _label(words: str) -> str:
    """The words with a capital, as they are."""
    return in_markdown(words[:1].upper() + words[1:])
