"""Masked input accuracy over a labelled set: fresh scenes with and without biases side by side, or a person's own pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

import explainers as ex
from components import curves, gate, labelled_uploads, masking, runs, session
from components.heatmaps import MUTED
from components.workspace import Workspace
from explainers.data.labelled import LabelledSet, scenes_set
from explainers.methods.attribution_mask import ONE_PASS_BASES
from explainers.metrics import masked_input_accuracy

PLACE = "masked-accuracy"
MEASUREMENT = "masked_input_accuracy"
SCENES, OWN = "Fresh scenes", "My pictures"
SIDE_BY_SIDE = ("scenes_nib_vgg", "scenes_vgg")
COUNTS = (50, 100, 200, 500)
DRAW_SECONDS = 0.03  # a scene, roughly
HEIGHT = 340


@dataclass(frozen=True)
class Curve:
    """One network and base method: how often the true label is the first choice, after each mask; None while unknown."""

    network: ex.Classifier
    base: str
    facts: tuple[Any, ...]
    accuracy: Sequence[float] | None = None


@dataclass(frozen=True)
class Question:
    """What is measured on: ``identity`` decides the images, ``load`` brings them, with a progress callback."""

    identity: str
    count: int
    noise: float
    seed: int
    load: Callable[[Any], LabelledSet]
    draw_seconds: float = 0.0


def draw(workspace: Workspace) -> None:
    """The controls, the run, and the curves."""
    st.info("This is no accuracy: each mask is made for the picture's true label, so the label leaks into what the network sees, and "
            "the number can pass the plain accuracy and reach 100 %. Compare only base methods, or networks, with one another.")
    with st.container(key="accuracy-controls", horizontal=True, vertical_alignment="bottom", gap="medium"):
        bases, iterations = masking.bases_and_iterations()
        source = st.segmented_control(
            "Labelled set", (SCENES, OWN), default=SCENES, required=True, key="labelled", bind="query-params",
            help="Scenes are drawn anew from the seed, and their classes are known. Your own pictures need their class in the file's "
                 "name.")
        noise = st.slider(
            "Noise", 0.0, 0.3, 0.0, 0.01, key="mask_noise", bind="query-params", width=200,
            help="Gaussian noise added to the pictures, as a standard deviation of pixels in [0, 1]. Clean scenes are read almost "
                 "perfectly, which leaves nothing to rise to: around 0.12 both networks make mistakes.")
        question = _scenes(workspace, noise) if source == SCENES else None
    if source == OWN:
        question = _own(workspace, noise)
    elif workspace.network.reference != "scenes":
        st.caption("Scenes are measured on the two networks that know them, with and without biases. For "
                   f"{workspace.network.title} choose {OWN}.")
    measured = [base for base in bases if base in ONE_PASS_BASES]
    if len(measured) < len(bases):
        st.caption("Integrated Gradients is left out over sets: it takes 50 times the passes, and without biases it equals "
                   "Gradient x Input.")
    if question is None or not measured:
        return
    _show(_run(_curves(workspace, question, measured, iterations, source), question, iterations))


def _scenes(workspace: Workspace, noise: float) -> Question:
    count = st.selectbox("Pictures", COUNTS, index=1, key="mask_pictures", bind="query-params", width=110,
                         help="How many scenes are drawn and measured. More: smoother curves, longer runs.")
    seed = workspace.seed

    def load(progress: Any) -> LabelledSet:
        return session.last("scenes_set", (count, seed), lambda: scenes_set(count, seed, progress))

    return Question(f"scenes {count} {seed}", count, noise, seed, load, count * DRAW_SECONDS)


def _own(workspace: Workspace, noise: float) -> Question | None:
    found = labelled_uploads.draw(workspace.network)
    if found is None:
        return None
    st.caption(f"{found.title}, {len(set(found.labels.tolist()))} classes, on {workspace.network.title}.")
    return Question(found.identity, len(found), noise, workspace.seed, lambda progress: found)


def _curves(workspace: Workspace, question: Question, bases: Sequence[str], iterations: int, source: str) -> list[Curve]:
    """One curve a network and base method, those that were measured before filled in."""
    networks = [workspace.network]
    if source == SCENES:
        networks = [session.network(name) for name in SIDE_BY_SIDE]
        if workspace.network.reference == "scenes" and workspace.network.name not in SIDE_BY_SIDE:
            networks.append(workspace.network)
    lines = []
    for network in networks:
        for base in bases:
            facts = (network.fingerprint, str(network.device), question.identity, question.noise, question.seed, base, iterations)
            known = session.engine().known(MEASUREMENT, facts)
            lines.append(Curve(network, base, facts, known["accuracy"] if known else None))
    return lines


def _run(lines: list[Curve], question: Question, iterations: int) -> list[Curve]:
    """Measure what is missing, if it is quick or was asked for; what is finished stays when it is stopped."""
    missing = [place for place, curve in enumerate(lines) if curve.accuracy is None]
    if not missing:
        return lines
    seconds = question.draw_seconds
    for place in missing:
        each = lines[place].network.pass_seconds()
        seconds += question.count * ((iterations + 1) * each.forward + iterations * each.backward)
    key = repr([curve.facts for curve in lines])
    if not gate.opens(PLACE, key, seconds):
        passes = len(missing) * question.count
        st.button(f"Measure, about {runs.seconds_in_words(seconds)}", key="ask-accuracy", type="primary", on_click=gate.ask,
                  args=(PLACE, key),
                  help=f"{passes * (iterations + 1):,} images forward and {passes * iterations:,} gradients back.")
        return lines
    with gate.bar(PLACE, key) as report:
        labelled = question.load(lambda done, total, _: report("Drawing scenes", done, total))
        for number, place in enumerate(missing):
            lines[place] = _measured(lines[place], labelled, question, iterations, report, f"curve {number + 1} of {len(missing)}")
    return lines


def _measured(curve: Curve, labelled: LabelledSet, question: Question, iterations: int, report: Any, which: str) -> Curve:
    def tick(done: int, total: int, _: Any = None) -> None:
        report(f"{curve.network.title}, {masking.title_of(curve.base)}, {which}: picture", done, total)

    def compute() -> dict[str, Any]:
        images = labelled.inputs(curve.network, question.noise, question.seed)
        found = masked_input_accuracy.measure(curve.network, images, labelled.labels, curve.base, iterations, progress=tick)
        return {"accuracy": list(found.accuracy), "images": found.images}

    try:
        return replace(curve, accuracy=session.engine().measured(MEASUREMENT, curve.facts, compute, tick)["accuracy"])
    except ex.ExplainerError as error:
        st.error(f"{curve.network.title}, {masking.title_of(curve.base)}: {error}")
        return curve


def _show(lines: Sequence[Curve]) -> None:
    """A chart a network, on one scale, and the numbers below."""
    by_network: dict[str, list[Curve]] = {}
    for curve in lines:
        if curve.accuracy is not None:
            by_network.setdefault(curve.network.fingerprint, []).append(curve)
    if not by_network:
        return
    for place, group in zip(st.columns(len(by_network), gap="medium"), by_network.values(), strict=True):
        with place:
            title = group[0].network.title
            st.markdown(f"**{title}**")
            st.plotly_chart(_chart(group), key=f"accuracy-{group[0].network.name}", height=HEIGHT, config={"displayModeBar": False},
                            alt=f"Masked input accuracy of {title} after each mask")
            st.html(f"<p class='quiet'>{_verdict(group)}</p>")
    with st.expander("The numbers"):
        rows = [{"Network": curve.network.title, "Base method": masking.title_of(curve.base),
                 **{str(step): round(100 * value, 1) for step, value in enumerate(curve.accuracy)}}
                for group in by_network.values() for curve in group]
        st.caption("Masked input accuracy in %, after as many masks as the column says; 0 is the plain accuracy.")
        st.dataframe(rows, hide_index=True, width="stretch")


def _verdict(group: Sequence[Curve]) -> str:
    """Where each curve starts and ends."""
    ends = "; ".join(f"{masking.title_of(curve.base)} {100 * curve.accuracy[-1]:.0f} %" for curve in group)
    return f"From {100 * group[0].accuracy[0]:.0f} % without a mask, after {len(group[0].accuracy) - 1}: {ends}."


def _chart(group: Sequence[Curve]) -> dict[str, Any]:
    traces = [{
        "type": "scatter", "mode": "lines+markers", "name": masking.title_of(curve.base),
        "y": [100 * value for value in curve.accuracy],
        "line": {"color": masking.COLOURS[curve.base], "width": 2.5}, "marker": {"size": 5}, "hovertemplate": "%{y:.1f} %"}
        for curve in group]
    layout = curves.steps_layout("masks", "true label is first choice, %", len(group[0].accuracy) - 1)
    layout["yaxis"]["range"] = [-3, 103]
    plain = 100 * group[0].accuracy[0]
    layout["shapes"] = [{"type": "line", "x0": 0, "x1": 1, "xref": "paper", "y0": plain, "y1": plain, "layer": "below",
                         "line": {"color": MUTED, "width": 1, "dash": "dot"}}]
    return {"data": traces, "layout": layout}
