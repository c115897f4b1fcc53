"""Masked input accuracy over a labelled set: fresh scenes with and without biases side by side, or a person's own pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import streamlit as st

import explainers as ex
from components.attribution_mask import labelled_uploads, recursive_masking
from components.compute.schedule import Schedule
from components.compute.task import Failed, Ready, Task, measurement_task
from components.drawing import curves
from components.drawing.heatmaps import MUTED
from components.state.engine import network as shared_network
from components.state.last_result import last
from components.state.workspace import Workspace
from explainers.data.labelled import SCENES_SEED, LabelledInputs, LabelledSet, scenes_set
from explainers.methods.attribution_mask import ONE_PASS_BASES
from explainers.progress import Progress

PLACE = "masked-accuracy"
METRIC = "masked_input_accuracy"
SCENES, OWN = "Fresh scenes", "My pictures"
SIDE_BY_SIDE = ("scenes_nib_vgg", "scenes_vgg")
COUNTS = (50, 100, 200, 500)
KEPT = "scenes_set"
DRAW_SECONDS = 0.03  # a scene, roughly
HEIGHT = 340


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures, which are there, or drawn when they are needed: ``load(progress)``. ``identity`` decides their pixels."""

    identity: str
    count: int
    load: Callable[[Progress | None], LabelledSet]

    def inputs(self, network: ex.Classifier, noise: float, seed: int) -> LabelledInputs:
        """What the metric judges: the pictures with noise added, as the network sees them."""
        def load(progress: Progress | None) -> tuple[Any, Any]:
            labelled = self.load(progress)
            return labelled.inputs(network, noise, seed), labelled.labels

        return LabelledInputs(network, f"{self.identity}, noise {noise}", self.count, load, seed)


@dataclass(frozen=True)
class Curve:
    """How often the true label is the first choice after each mask, for one network and base method."""

    network: ex.Classifier
    base: str
    accuracy: Sequence[float]

    @property
    def title(self) -> str:
        """The base method's name for people."""
        return recursive_masking.title_of(self.base)


def draw(workspace: Workspace) -> None:
    """The controls, the run, and the curves."""
    st.info("This is no accuracy: each mask is made for the picture's true label, so the label leaks into what the network sees, and "
            "the number can pass the plain accuracy and reach 100 %. Compare only base methods, or networks, with one another.")
    with st.container(key="accuracy-controls", horizontal=True, vertical_alignment="bottom", gap="medium"):
        bases, iterations = recursive_masking.bases_and_iterations()
        source = st.segmented_control(
            "Labelled set", (SCENES, OWN), default=SCENES, required=True, key="labelled", bind="query-params",
            help="Scenes are drawn from the seed, and their classes are known. Your own pictures need their class in the file's "
                 "name.")
        noise = st.slider(
            "Noise", 0.0, 0.3, 0.0, 0.01, key="mask_noise", bind="query-params", width=200,
            help="Gaussian noise added to the pictures, as a standard deviation of pixels in [0, 1]. Clean scenes are read almost "
                 "perfectly, which leaves nothing to rise to: around 0.12 both networks make mistakes.")
        pictures = _scenes(workspace) if source == SCENES else None
    if source == OWN:
        pictures = _own(workspace)
    elif workspace.network.training_data != "scenes":
        st.caption("Scenes are measured on the two networks that know them, with and without biases. For "
                   f"{workspace.network.title} choose {OWN}.")
    measured = [base for base in bases if base in ONE_PASS_BASES]
    if len(measured) < len(bases):
        st.caption("Integrated Gradients is left out over sets: it takes 50 times the passes, and without biases it equals "
                   "Gradient x Input.")
    if pictures is None or not measured:
        return
    judged = [(pictures.inputs(network, noise, workspace.seed), base) for network in _networks(workspace, source) for base in measured]
    _show(_run(judged, pictures, iterations))


def _scenes(workspace: Workspace) -> Pictures:
    count = st.selectbox("Pictures", COUNTS, index=1, key="mask_pictures", bind="query-params", width=110,
                         help="How many scenes are drawn and measured. More: smoother curves, longer runs.")
    seed = workspace.seed
    return Pictures(f"scenes {count} {SCENES_SEED + seed}", count,
                    lambda progress: last(KEPT, (count, seed), lambda: scenes_set(count, seed, progress)))


def _own(workspace: Workspace) -> Pictures | None:
    labelled = labelled_uploads.draw(workspace.network)
    if labelled is None:
        return None
    st.caption(f"{labelled.title}, {len(set(labelled.labels.tolist()))} classes, on {workspace.network.title}.")
    return Pictures(labelled.identity, len(labelled), lambda progress: labelled)


def _networks(workspace: Workspace, source: str) -> list[ex.Classifier]:
    """Scenes are measured on the two networks that show what biases do, and on the chosen one if it knows scenes."""
    if source == OWN:
        return [workspace.network]
    networks = [shared_network(name) for name in SIDE_BY_SIDE]
    if workspace.network.training_data == "scenes" and workspace.network.name not in SIDE_BY_SIDE:
        networks.append(workspace.network)
    return networks


def _run(judged: Sequence[tuple[LabelledInputs, str]], pictures: Pictures, iterations: int) -> list[Curve]:
    """The curves that are known; what is missing is measured if it is quick or was asked for."""
    tasks = [measurement_task([ex.judge(METRIC, inputs, base=base, iterations=iterations)],
                              f"{inputs.network.title}, {recursive_masking.title_of(base)}") for inputs, base in judged]
    schedule = Schedule(PLACE, [_drawing(pictures, tasks), *tasks], in_order=True)
    schedule.offer("Measure")
    curves_known = []
    for (inputs, base), task, state in zip(judged, tasks, schedule.run()[1:], strict=True):
        if isinstance(state, Failed):
            st.error(f"{task.label}: {state.reason}")
        elif isinstance(state, Ready):
            curves_known.append(Curve(inputs.network, base, state.value[0].accuracy))
    return curves_known


def _drawing(pictures: Pictures, tasks: Sequence[Task]) -> Task:
    """The task that draws the scenes, which all others need. There is nothing to do for it where all others are known."""
    def lookup() -> Any:
        kept = st.session_state.get(KEPT)
        ...

    return Task("Drawing scenes", pictures.identity, lambda: ex.Cost(ex.Passes(), pictures.count * DRAW_SECONDS), lookup, pictures.load)
