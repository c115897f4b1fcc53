"""The section on MIP-IN's source signal: whether the part of a picture that a logit determines gives the network the same logit.

Above the picture, its source signal and both logits; below the same over a labelled set, with the average percentage change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import streamlit as st
from PIL import Image

import explainers as ex
from components.compute import method_row
from components.compute.method_row import MethodMap
from components.compute.schedule import Schedule
from components.compute.task import Failed, Ready, Task, map_task, measurement_task
from components.drawing import colour
from components.drawing.foreign_words import in_markdown
from components.drawing.heatmaps import data_uri
from components.drawing.numbers import significant
from components.faithfulness import percentage_views
from components.sidebar import labelled_uploads
from components.state.engine import engine
from components.state.last_result import last
from components.state.workspace import Workspace
from explainers.data.labelled import LabelledInputs, LabelledSet, digits_set, scenes_set
from explainers.data.reference import default as default_reference
from explainers.progress import Progress
from explainers.resampling import resample

PLACE_OF_PICTURE, PLACE_OF_SET = "source-signal", "percentage-change"
METHOD, METRIC = "mip_in", "average_percentage_change"
FRESH, OWN = "Fresh pictures", "My pictures"
COUNTS = (50, 100, 200, 500)
KEPT = "source_signal_set"  # in the session
SHOWN = 240  # pixels of a picture's side at most; smaller ones are enlarged with sharp edges
HELP = ("If the source signal held everything that the decision depends on, the network would give it the picture's own logit. It may "
        "hold more than that, so an equal logit does not show that the map is right.")


@dataclass(frozen=True)
class Labelled:
    """Labelled pictures: ``load(progress)`` draws or gives them. classes: how many classes they have, at most."""

    identity: str
    count: int
    classes: int
    load: Callable[[Progress | None], LabelledSet]


def draw(workspace: Workspace, maps: Sequence[MethodMap]) -> None:
    """Everything below the choice of the measurement: the reason where MIP-IN cannot run, else the picture and the set."""
    reason = ex.methods()[METHOD].lacks(workspace.network)
    if reason:
        st.info(f"{in_markdown(reason)} The source signal is MIP-IN's, so there is none for this network.")
        return
    chosen = next((entry for entry in maps if entry.method.key == METHOD), None)
    entry = chosen or method_row.of_method(workspace, ex.methods()[METHOD], {})
    settings = "the settings above" if chosen else "its default settings; choose it in the sidebar to change them"
    st.caption(f"The source signal is what MIP-IN reconstructs from the logit alone, by {settings}. {HELP}")
    if entry.question is None:
        st.error(in_markdown(entry.reason))
        return
    _picture(workspace, entry.question)
    _set(workspace, entry.question)


def _picture(workspace: Workspace, question: ex.Question) -> None:
    """The picture beside its source signal, and both logits."""
    schedule = Schedule(PLACE_OF_PICTURE, [map_task(question, "Source signal")])
    schedule.offer("Reconstruct the picture")
    (state,) = schedule.run()
    if isinstance(state, Failed):
        st.error(in_markdown(state.reason))
    elif isinstance(state, Ready):
        with st.container(key="source-signal"):
            st.html(picture_and_source(workspace, state.value))


def picture_and_source(workspace: Workspace, attribution: ex.Attribution) -> str:
    """Two pictures, or a picture and a map, and the logits below."""
    extras, source = attribution.extras, attribution.extras["source"]
    whole = tuple(source.shape[-2:]) == tuple(workspace.network.input_size)
    if whole:
        image, title = workspace.network.preprocessing.picture(source), "Source signal"
    else:
        flat = resample(source.mean(0).float(), workspace.network.input_size, ex.methods()[METHOD].upsample).numpy()
        shown = colour.prepare([(flat, True)], colour.Display())[0]
        image = Image.fromarray(colour.over(shown, workspace.input.seen, "Grey"))
        title = f"Source signal, mean of {len(source)} features of {extras['layer']}"
    change = extras.get("percentage_change")
    changed = "" if change is None else f" ({significant(change)} %)"
    figures = ((workspace.input.seen, workspace.picture.title, f"logit <b>{significant(extras['logit'])}</b>"),
               (image, title, f"logit <b>{significant(extras['source_logit'])}</b>{changed}"))
    tiles = "".join(
        f'<figure><img class="{"coarse" if min(seen.size) < SHOWN // 2 else ""}" src="{data_uri(seen)}" alt="{escape(name)}">'
        f"<figcaption>{escape(name)}</figcaption><p>{text}</p></figure>" for seen, name, text in figures)
    return f'<div class="sources">{tiles}</div>'


def _set(workspace: Workspace, question: ex.Question) -> None:
    """The same over a labelled set: the controls, the run and its numbers."""
    st.header("How far is the logit of a source signal from its picture's?", anchor=False)
    labelled = _labelled(workspace)
    if labelled is None:
        return
    reference = question.reference or default_reference(workspace.network, workspace.input.x)

    def load(progress: Progress | None) -> tuple[Any, Any]:
        pictures = labelled.load(progress)
        return pictures.inputs(workspace.network), pictures.labels

    inputs = LabelledInputs(workspace.network, labelled.identity, labelled.count, load, workspace.seed, reference)
    measurement = ex.judge(METRIC, inputs, **vars(question.settings))
    schedule = Schedule(PLACE_OF_SET, [_task(measurement, question, labelled.classes)])
    schedule.offer(f"Measure {labelled.count} pictures")
    (state,) = schedule.run()
    if isinstance(state, Failed):
        st.error(in_markdown(state.reason))
    elif isinstance(state, Ready):
        percentage_views.draw(workspace, state.value[0])


def _task(measurement: ex.Measurement, question: ex.Question, classes: int) -> Task:
    """The measurement, which waits to be asked for because it fits the inverses of every class; its cost has them too."""
    task = measurement_task([measurement], "Source signals", fits=True)

    def cost() -> ex.Cost:
        fit = engine().fit_seconds(question)  # of recording the reference images, once for all classes
        of_class = max(engine().cost(question).seconds - fit, 0.0)
        return task.cost() + ex.Cost(ex.Passes(), fit + classes * of_class)

    return replace(task, cost=cost)


def _labelled(workspace: Workspace) -> Labelled | None:
    """The choice of the labelled set: pictures like the training data's, drawn afresh, or a person's own."""
    network, seed = workspace.network, workspace.seed
    draw_set = {"scenes": scenes_set, "digits": lambda n, seed, progress: digits_set(n, seed)}.get(network.training_data)
    with st.container(key="source-controls", horizontal=True, vertical_alignment="bottom", gap="medium"):
        source = st.segmented_control(
            "Labelled set", (FRESH, OWN), default=FRESH, required=True, key="source_set", bind="query-params",
            help="Fresh pictures are drawn from the seed, and no network was trained on them. Your own pictures need their class at "
                 "the beginning of the file's name.") if draw_set else OWN
        if source == FRESH and draw_set:
            count = st.selectbox("Pictures", COUNTS, index=1, key="source_pictures", bind="query-params", width=110,
                                 help="How many pictures are drawn and measured. More: smaller errors, longer runs.")
            key = (network.training_data, count, seed)
            return Labelled(" ".join(map(str, key)), count, min(count, len(network.categories)),
                            lambda progress: last(KEPT, key, lambda: draw_set(count, seed, progress)))
    pictures = labelled_uploads.draw(network)
    if pictures is None:
        st.caption("Upload ten pictures or more, each with its class at the beginning of the file's name, as 3_photo.jpg.")
        return None
    return Labelled(pictures.identity, len(pictures), len(set(pictures.labels.tolist())), lambda progress: pictures)
