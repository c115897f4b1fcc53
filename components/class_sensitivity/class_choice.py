"""What the class sensitivity page compares: the classes, the methods with their settings, and the measure of the matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import streamlit as st

import explainers as ex
from components.compute import method_row
from components.compute.method_row import MethodMap
from components.state.objects import likely_classes
from components.state.workspace import Workspace, class_labels

MOST = 6
NAMES = {  # the measures of map_distances, as people read them
    "rank": "Rank correlation", "rank_absolute": "Rank, magnitudes", "ssim": "SSIM", "hog": "HOG correlation",
    "l2_unit": "l2, unit maps", "l2_max_abs": "l2, largest is 1"}
MEANT = (
    "How alike two maps are. Rank correlation (Spearman's): 1 when both put all pixels in the same order. Rank, magnitudes: the same "
    "for the strengths, without the sign. SSIM: structural similarity of the maps scaled from 0 to 1. HOG correlation: of their "
    "contours. These four are 1 for equal maps. l2, unit maps: the distance of maps scaled to length 1; 0 for equal ones, 1.41 for "
    "maps that share nothing, 2 for opposite ones. l2, largest is 1: the distance of maps whose strongest pixel is scaled to 1.")


@dataclass(frozen=True)
class Choice:
    """methods: each with its settings. classes: two to six class indices. pair: the two whose contrast is shown. measure: of the
    matrices."""

    methods: tuple[MethodMap, ...]
    classes: tuple[int, ...]
    pair: tuple[int, int]
    measure: str

    @property
    def targets(self) -> tuple[ex.Target, ...]:
        """What each method explains: every class, and last the contrast of the pair."""
        return (*map(ex.Target.of, self.classes), ex.Target.of(self.pair))

    def pair_words(self, categories: Sequence[str]) -> str:
        """The pair by its names: ``umbrella and heart``."""
        return f"{categories[self.pair[0]]} and {categories[self.pair[1]]}"


def draw(workspace: Workspace) -> Choice:
    """The methods' settings, and one row with the classes, the pair and the measure. Ends the page for a network of one class."""
    if len(workspace.network.categories) < 2:
        st.info("This page compares classes, and this network has only one; choose another network in the sidebar.")
        st.stop()
    with st.container(key="settings", horizontal=True, gap="small", vertical_alignment="top"):
        methods, _ = method_row.chosen(workspace)
    with st.container(key="class-controls", horizontal=True, vertical_alignment="bottom", gap="medium"):
        classes = _classes(workspace)
        pair = _pair(workspace, classes)
        measure = st.selectbox("Compared by", list(NAMES), key="compared_by", bind="query-params", width=190,
                               format_func=NAMES.__getitem__, help=MEANT)
    return Choice(tuple(methods), classes, pair, measure)


def _classes(workspace: Workspace) -> tuple[int, ...]:
    """The chosen classes; where there are none, or only one, filled up to two by ``likely_classes``."""
    labels = class_labels(workspace.network.categories)
    filled = likely_classes(workspace)
    chosen = st.multiselect(
        "Classes", labels, key="held_against", bind="query-params", max_selections=MOST, width=560,
        placeholder=f"{labels[filled[0]]} and {labels[filled[1]]}; type to choose others",
        help="Two to six classes that each method explains in turn. While none is chosen: the class and the contrast class of the "
             "sidebar, the objects of a sample with two, or the two likeliest.")
    classes = [labels.index(name) for name in chosen]
    classes += [index for index in filled if index not in classes][:max(0, 2 - len(classes))]
    return tuple(classes)


def _pair(workspace: Workspace, classes: Sequence[int]) -> tuple[int, int]:
    pairs = list(combinations(classes, 2))
    if len(pairs) == 1:
        return pairs[0]
    return st.selectbox("Pair", pairs, key=f"pair-{'-'.join(map(str, classes))}", width=240,
                        format_func=lambda pair: ex.Target.of(pair).words(workspace.network.categories),
                        help="The contrast map shows what speaks for the first rather than the second (the difference of their "
                             "logits). Verdicts and table are about these two.")
