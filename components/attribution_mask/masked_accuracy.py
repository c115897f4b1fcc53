"""Masked input accuracy over a labelled set: fresh scenes with and without biases side by side, or a person's own pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import groupby
from typing import Any

import streamlit as st

import explainers as ex
from components.attribution_mask import reader
from components.attribution_mask.masked import title_of
from components.attribution_mask.recursive_masking import bases_and_iterations
from components.compute.schedule import Schedule
from components.compute.task import Failed, Ready, Task, measurement_task
from components.drawing import curves
from components.drawing.foreign_words import in_markdown
from components.drawing.masked import unbroken
from components.drawing.theme import GUIDE
from components.sidebar import labelled_uploads
from components.state.engine import network as shared_network
from components.state.last_result import holds, last
from components.state.workspace import Workspace
from explainers.data.labelled import SCENES_SEED, LabelledInputs, LabelledSet, scenes_set
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
    """Labelled pictures. ``identity`` decides their pixels; ``load(progress)`` draws them, unless they are ``ready``."""

    identity: str
    count: int
    load: Callable[[Progress | None], LabelledSet]
    ready: Callable[[], bool] = lambda: True

    def inputs(self, network: ex.Classifier, noise: float, seed: int, other: ex.Classifier | None = None) -> LabelledInputs:
        """What the metric judges: the pictures with noise added, as the network sees them, and another network that reads them."""
        def load(progress: Progress | None) -> tuple[Any, Any]:
            labelled = self.load(progress)
            return labelled.inputs(network, noise, seed), labelled.labels

        different = other is not None and other.fingerprint != network.fingerprint
        return LabelledInputs(network, f"{self.identity}, noise {noise}", self.count, load, seed, reader=other if different else None)


@dataclass(frozen=True)
class Curve:
    """How often the true label is the first choice after each mask, for one network and base method.

    reader: the title of another network that reads what the masks leave, with its own accuracies; empty without one.
    """

    network: ex.Classifier
    base: str
    accuracy: Sequence[float]
    reader: str = ""
    reader_accuracy: Sequence[float] = ()

    @property
    def title(self) -> str:
        """The base method's name for people."""
        return title_of(self.base)


def draw(workspace: Workspace) -> None:
    """The controls, the run, and the curves."""
    st.info("This is no accuracy: each mask is made for the picture's true label, so the label leaks into what the network sees, and "
            "the number can pass the plain accuracy and reach 100 %. Compare only base methods, or networks, with one another.")
    with st.container(key="accuracy-controls", horizontal=True, vertical_alignment="bottom", gap="medium"):
        bases, iterations = bases_and_iterations()
        drawn = workspace.network.training_data in ("scenes", "digits")
        source = st.segmented_control(
            "Labelled set", (SCENES, OWN), default=SCENES if drawn else OWN, required=True, key="labelled", bind="query-params",
            help="Scenes are drawn from the seed, and their classes are known. Your own pictures need their class in the file's "
                 "name.")
        noise = st.slider(
            "Noise", 0.0, 0.3, 0.0, 0.01, key="mask_noise", bind="query-params", width=200,
            help="Gaussian noise added to the pictures, as a standard deviation of pixels in [0, 1]. On clean scenes the "
                 "networks are almost always right, so no mask can raise the accuracy; around 0.12 both make mistakes.")
        pictures = _scenes(workspace) if source == SCENES else None
        networks = _networks(workspace, source)
        other = reader.choose(networks[0], besides=networks[1:])
    if source == OWN:
        pictures = _own(workspace)
    elif workspace.network.training_data != "scenes":
        st.caption("Scenes are measured on the two networks that know them, with and without biases. For "
                   f"{in_markdown(workspace.network.title)} choose {OWN}.")
    if "integrated_gradients" in bases:
        st.caption("Integrated Gradients takes 50 times the passes of Gradient x Input, and DeepLIFT twice as many. Without biases "
                   "all three are the same.")
    if pictures is None or not bases:
        return
    judged = [(pictures.inputs(network, noise, workspace.seed, other), base) for network in networks for base in bases]
    _show(_run(judged, pictures, iterations))


def _scenes(workspace: Workspace) -> Pictures:
    count = st.selectbox("Pictures", COUNTS, index=1, key="mask_pictures", bind="query-params", width=110,
                         help="How many scenes are drawn and measured. More: smoother curves, longer runs.")
    seed = workspace.seed
    return Pictures(f"scenes {count} {SCENES_SEED + seed}", count,
                    lambda progress: last(KEPT, (count, seed), lambda: scenes_set(count, seed, progress)),
                    lambda: holds(KEPT, (count, seed)))


def _own(workspace: Workspace) -> Pictures | None:
    labelled = labelled_uploads.draw(workspace.network)
    if labelled is None:
        if workspace.network.training_data == "photographs":
            st.caption("Photographs cannot be drawn afresh as scenes can: upload some of yours, ten or more, each with its class at "
                       "the beginning of the file's name, as 285_cat.jpg or Egyptian cat 1.jpg.")
        return None
    st.caption(in_markdown(f"{labelled.title}, {len(set(labelled.labels.tolist()))} classes, on {workspace.network.title}."))
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
                              f"{inputs.network.title}, {title_of(base)}") for inputs, base in judged]
    missing = [place for place, task in enumerate(tasks) if task.lookup() is None]
    if missing and not pictures.ready():
        tasks[missing[0]] = _after_drawing(tasks[missing[0]], pictures)
    schedule = Schedule(PLACE, tasks, in_order=True)
    schedule.offer("Measure")
    curves_ready = []
    for (inputs, base), task, state in zip(judged, tasks, schedule.run(), strict=True):
        if isinstance(state, Failed):
            st.error(in_markdown(f"{task.label}: {state.reason}"))
        elif isinstance(state, Ready):
            result = state.value[0]
            curves_ready.append(Curve(inputs.network, base, result.accuracy, result.reader, result.reader_accuracy))
    return curves_ready


def _after_drawing(task: Task, pictures: Pictures) -> Task:
    """The first task of a run draws the scenes for all of them; its cost and its progress say so."""
    drawing = pictures.count * DRAW_SECONDS

    def compute(progress: Progress) -> Any:
        measuring = task.cost().seconds

        def report(seconds: float) -> None:
            progress(round(1000 * seconds), round(1000 * (drawing + measuring)), None)

        pictures.load(lambda done, total, _: report(drawing * done / total))
        return task.compute(lambda done, total, _: report(drawing + measuring * done / total) if total else progress(0, 0, None))

    return replace(task, cost=lambda: task.cost() + ex.Cost(ex.Passes(), drawing), compute=compute)


def _show(ready: Sequence[Curve]) -> None:
    """A chart a network, on one scale, and the numbers below."""
    groups = [list(group) for _, group in groupby(ready, key=lambda curve: curve.network.fingerprint)]
    if not groups:
        return
    for place, group in zip(st.columns(len(groups), gap="medium"), groups, strict=True):
        network = group[0].network
        with place:
            st.markdown(f"**{in_markdown(network.title)}**")
            drawing = _chart(group)
            st.plotly_chart(drawing, key=f"accuracy-{network.name}", height=HEIGHT, config={"displayModeBar": False},
                            alt=f"Masked input accuracy of {network.title} after each mask. {curves.in_words(drawing)}")
            st.html(f"<p class='quiet'>{_verdict(group)}</p>")
    with st.expander("The numbers"):
        rows = [{"Network": curve.network.title, "Base method": curve.title, "Read by": who,
                 **{str(step): round(100 * value, 1) for step, value in enumerate(accuracy)}}
                for curve in ready
                for who, accuracy in [("itself", curve.accuracy), (curve.reader, curve.reader_accuracy)][:1 + bool(curve.reader)]]
        st.caption("Masked input accuracy in %, after as many masks as the column says; 0 is the plain accuracy.")
        st.dataframe(rows, hide_index=True, width="stretch")


def _verdict(group: Sequence[Curve]) -> str:
    """Where each curve starts and ends."""
    def whole(accuracy: float) -> str:
        return unbroken(f"{100 * accuracy:.0f} %")

    ends = "; ".join(f"{curve.title} {whole(curve.accuracy[-1])}" for curve in group)
    text = f"From {whole(group[0].accuracy[0])} without a mask, after {len(group[0].accuracy) - 1}: {ends}."
    read = [curve for curve in group if curve.reader]
    if not read:
        return text
    ends = "; ".join(f"{curve.title} {whole(curve.reader_accuracy[-1])}" for curve in read)
    plain = whole(read[0].reader_accuracy[0])
    return f"{text} Dotted: {escape(read[0].reader)} reads the same pictures, from {plain}, after the last: {ends}."


def _chart(group: Sequence[Curve]) -> dict[str, Any]:
    traces: list[dict[str, Any]] = [{
        "type": "scatter", "mode": "lines+markers", "name": curve.title, "y": [100 * value for value in curve.accuracy],
        "line": {"color": curves.style(curve.base).colour, "width": 2.5, "dash": curves.style(curve.base).dash},
        "marker": curves.style(curve.base).marker, "hovertemplate": "%{y:.1f} %"}
        for curve in group]
    traces += [trace | {
        "name": f"{curve.title}, reader", "y": [100 * value for value in curve.reader_accuracy], "showlegend": False,
        "line": trace["line"] | {"width": 1.5, "dash": "dot"}, "marker": {"size": 5, "symbol": "circle-open"}}
        for curve, trace in zip(group, traces, strict=True) if curve.reader]
    layout = curves.steps_layout("masks", "true label is first choice, %", len(group[0].accuracy) - 1)
    layout["yaxis"]["range"] = [-3, 103]
    plain = 100 * group[0].accuracy[0]
    layout["shapes"] = [{"type": "line", "x0": 0, "x1": 1, "xref": "paper", "y0": plain, "y1": plain, "layer": "below",
                         "line": {"color": GUIDE, "width": 1, "dash": "dot"}}]
    return {"data": traces, "layout": layout}
