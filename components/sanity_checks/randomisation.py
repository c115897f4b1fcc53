"""Which weights the sanity checks page randomises, and how."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from components.drawing import number_field
from components.state.workspace import LARGEST_SEED, Workspace
from explainers.metrics import sanity_checks as metric
from explainers.networks.randomised import WAYS

MODES = {"Cascading": "cascading", "Independent": "independent", "Last layer only": "last_layer"}
VALUES = dict(zip(("Re-initialised", "Permuted", "Normal"), WAYS, strict=True))
FEWEST, MOST = 6, 10  # stages


@dataclass(frozen=True)
class Randomisation:
    """The ``changes`` in order, how the new weights are drawn, and their seed."""

    mode: str
    how: str
    seed: int
    changes: tuple[metric.Change, ...]

    @property
    def how_in_words(self) -> str:
        """How the new weights are drawn, as the control names it."""
        return next(title.lower() for title, how in VALUES.items() if how == self.how)


def draw(workspace: Workspace) -> Randomisation:
    """Which weights, how many stages, how the new values are drawn."""
    with st.container(key="sanity-controls", horizontal=True, vertical_alignment="bottom", gap="medium"):
        mode = MODES[st.segmented_control(
            "Weights re-initialised", list(MODES), default="Cascading", required=True, key="randomise", bind="query-params",
            help="Cascading: from the last layer down, each stage on top of those before. Independent: one stage at a time, the rest "
                 "as trained. Last layer only: the one comparison that the DMBP paper makes.")]
        how = VALUES[st.segmented_control(
            "New values", list(VALUES), default="Re-initialised", required=True, key="drawn", bind="query-params",
            help="Re-initialised: random, as before training; normalisation layers change nothing. Permuted: each layer's own values "
                 "in another order. Normal: from a normal distribution with the spread of the layer's values.")]
        few = len(metric.schedule(workspace.network, "cascading", MOST)) <= FEWEST  # no choice is left: all stages are shown
        wanted = st.slider("Stages at most", FEWEST, MOST, 8, key="stages", bind="query-params", width=150,
                           disabled=few or mode == "last_layer",
                           help="Layers are grouped into this many stages, blocks kept whole. Off where the network has no more than "
                                f"{FEWEST}.")
        seed = number_field.whole("Seed of the weights", 0, LARGEST_SEED, 0, key="draw_seed", width=150,
                                  help="The same seed draws the same weights. The methods' own seed is in the sidebar.")
    return Randomisation(mode, how, seed or 0, metric.schedule(workspace.network, mode, wanted))
