"""How the picture is attacked: how far a pixel may change, in how many steps, and whether towards a certain class."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from components.drawing.foreign_words import in_markdown
from components.state.workspace import Workspace, class_labels
from explainers.attack import EPSILON, STEPS

LEVELS = 255  # of a pixel, in which people count its change
MOST_LEVELS, MOST_STEPS = 32, 40
AWAY, TOWARDS = "Away from the class", "Towards another class"


@dataclass(frozen=True)
class Choice:
    """target: the class that is attacked. towards: the class to lead to, or None. levels: the largest change of a pixel, of 255."""

    target: int
    towards: int | None
    levels: int
    steps: int

    @property
    def epsilon(self) -> float:
        """The largest change of a pixel, where pixels go from 0 to 1."""
        return self.levels / LEVELS


def draw(workspace: Workspace) -> Choice:
    """The row of controls. Of a contrast the first class is attacked."""
    target = workspace.target.first
    with st.container(key="attack-controls", horizontal=True, vertical_alignment="bottom", gap="medium"):
        direction = st.segmented_control(
            "Direction", (AWAY, TOWARDS), default=AWAY, required=True, key="attack_direction", bind="query-params",
            help="Away: the class in the sidebar becomes less probable, whatever takes its place. Towards: a class that you choose "
                 "becomes more probable, which is harder.")
        towards = _towards(workspace, target) if direction == TOWARDS else None
        levels = st.slider(
            "Largest change of a pixel", 0, MOST_LEVELS, round(EPSILON * LEVELS), format="%d of 255", key="attack_change",
            bind="query-params", width=240,
            help="Epsilon: no colour value of a pixel changes by more than this. 8 of 255 is hardly seen.")
        steps = st.slider("Steps", 1, MOST_STEPS, STEPS, key="attack_steps", bind="query-params", width=200,
                          help="Each step follows the gradient and the directions of the steps before it (MI-FGSM). Cost: one pass "
                               "forward and one backward a step.")
    if workspace.target.contrast is not None:
        name = in_markdown(workspace.network.categories[target])
        st.caption(f"This page explains single classes: here {name}, the first of the contrast.")
    return Choice(target, towards, int(levels), int(steps))


def _towards(workspace: Workspace, target: int) -> int | None:
    """The class to lead to; where none is chosen, or the attacked one, the likeliest other class. None where there is no other."""
    labels = class_labels(workspace.network.categories)
    likeliest = next((index for index in workspace.input.ranked if index != target), None)
    if likeliest is None:
        return None
    chosen = st.selectbox("Lead to", labels, index=None, key="attack_towards", bind="query-params", width=220,
                          placeholder=f"{labels[likeliest]}; type to choose", help="The class that the network is led to.")
    index = labels.index(chosen) if chosen else likeliest
    return likeliest if index == target else index
