"""The recursive masking of one picture: what several base methods' masks leave of it, step by step, and what is still seen in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

import explainers as ex
from components.attribution_mask import every_mask, reader
from components.attribution_mask.masked import Masked, masks_in_words, title_of
from components.attribution_mask.reader import Answers
from components.compute import revealing
from components.compute.schedule import Schedule
from components.compute.task import Failed, Ready, Task, map_task
from components.drawing import curves
from components.drawing.foreign_words import in_markdown
from components.drawing.masked import first_class, image, target_percent, unbroken
from components.drawing.numbers import percent, significant
from components.drawing.theme import GUIDE
from components.state.workspace import Workspace
from explainers.methods.attribution_mask import masked_view

METHOD = "attribution_mask"
PLACE = "masking"
MOST_ITERATIONS = 30
CHART_HEIGHT = 290


def bases_and_iterations() -> tuple[list[str], int]:
    """The two controls that decide what is computed; both views of the page share them."""
    declared = {parameter.name: parameter for parameter in ex.methods()[METHOD].parameters}
    options = list(declared["base"].options)
    chosen = st.multiselect(
        "Base methods", options, default=options[:4], format_func=title_of, key="bases", bind="query-params", width=670,
        placeholder="Choose base methods",
        help="Each map is scaled to values from 0 to 1 in every colour channel and multiplied with the picture, as a mask. All masks "
             "so far are multiplied together.")
    iterations = st.slider(
        "Masks", 1, MOST_ITERATIONS, 10, key="mask_iterations", bind="query-params", width=160,
        help="How many masks are laid over the picture, each made from what the ones before it left.")
    return chosen, int(iterations)


def draw(workspace: Workspace) -> None:
    """The controls, the run, and what came of it."""
    with st.container(key="masking-controls", horizontal=True, vertical_alignment="bottom", gap="medium"):
        bases, iterations = bases_and_iterations()
        other = reader.choose(workspace.network)
        offer_place = st.empty()
    if not bases:
        st.info("Choose at least one base method.")
        return
    schedule = Schedule(PLACE, [_task(workspace, base, iterations) for base in bases])
    with offer_place:
        schedule.offer("Mask", caption=False)
    ready = []
    for base, state in zip(bases, schedule.run(), strict=True):
        if isinstance(state, Failed):
            st.warning(in_markdown(f"{title_of(base)}: {state.reason}"))
        elif isinstance(state, Ready):
            ready.append(Masked(base, state.value, _question(workspace, base, iterations).key))
    if ready:
        answers = _read(workspace, ready, iterations, other) if other else {}
        blank = revealing.answers(workspace, [np.zeros(workspace.network.input_size, bool)], "zero")[0]
        _scrub(workspace, ready, iterations, blank, answers)


def _task(workspace: Workspace, base: str, iterations: int) -> Task:
    """The masks of one base method."""
    return map_task(_question(workspace, base, iterations), title_of(base))


def _question(workspace: Workspace, base: str, iterations: int) -> ex.Question:
    return workspace.question(ex.methods()[METHOD], {"base": base, "iterations": iterations})


def _read(workspace: Workspace, ready: Sequence[Masked], iterations: int, other: ex.Classifier) -> dict[str, Answers]:
    """What the other network says of each base method's masked pictures, as far as it is known."""
    questions = [_question(workspace, masked.base, iterations) for masked in ready]
    schedule = Schedule("reading", [reader.task(other, question, masked.title)
                                    for question, masked in zip(questions, ready, strict=True)])
    schedule.offer("Read", caption=False)
    answers = {}
    for masked, state in zip(ready, schedule.run(), strict=True):
        if isinstance(state, Failed):
            st.warning(in_markdown(state.reason))
        elif isinstance(state, Ready):
            *logits, blank = state.value.numpy()
            answers[masked.base] = Answers(other, np.stack(logits), blank)
    return answers


@st.fragment
def _scrub(workspace: Workspace, ready: Sequence[Masked], iterations: int, blank: np.ndarray, answers: Mapping[str, Answers]) -> None:
    """A slider through finished masks; only pictures are made here.

    blank: (K,) probabilities of the mean colour alone. answers: of the reader, by base method; empty without one.
    """
    with st.container(key="scrub", horizontal=True, vertical_alignment="bottom", gap="medium"):
        step = st.slider(
            "After how many masks", 0, iterations, min(3, iterations), key="mask_step", bind="query-params", width=420,
            help="0 is the picture itself. Nothing is computed again.")
        stretched = st.toggle(
            "Stretch contrast", True, key="mask_stretch", bind="query-params",
            help="Shows masks and masked pictures brighter, divided by the mask's strongest value, because products of masks grow "
                 "dark. The network sees the dark ones.")
        shown = st.segmented_control(
            "Line", ("Probability", "Logit"), default="Probability", required=True, key="mask_line", bind="query-params",
            label_visibility="collapsed", help="What the lines show of the explained class after each mask.")
    overview, tiles = st.columns([5, 9], gap="medium")
    with overview:
        st.container(key="masking-picture").html(_picture(workspace, blank))
        drawing = _lines(workspace, ready, shown.lower(), step, answers)
        st.plotly_chart(drawing, key="masking-lines", height=CHART_HEIGHT, config={"displayModeBar": False},
                        alt=f"{shown} of {workspace.target_words} after each mask. {curves.in_words(drawing)}")
    columns = "".join(_tile(workspace, masked, step, stretched, answers.get(masked.base)) for masked in ready)
    tiles.container(key="masking-tiles").html(f'<div class="masking">{columns}</div>')
    read = _read_verdict(workspace, ready, iterations, answers)
    text = (f"{_verdict(workspace, ready, iterations)}{read} Crosses: another class comes first. Masks dim the picture, which "
            f"alone lowers probabilities. All masks are made for {workspace.target_words}, so its rise proves nothing.")
    st.container(key="masking-verdict").html(f"<p class='quiet'>{escape(text)}</p>")
    every_mask.draw(workspace, ready, step, stretched, answers)


def _picture(workspace: Workspace, blank: np.ndarray) -> str:
    """The whole picture and what it is taken for; and the class that a biased network falls back to when all is dim."""
    shown, names = workspace.input, workspace.network.categories
    rows = "".join(f"<li><span>{escape(names[index])}</span> {percent(float(shown.probabilities[index]))}</li>"
                   for index in shown.ranked[:3])
    first = int(np.argmax(blank))
    even = float(blank.max()) - float(blank.min()) < 1e-6  # without biases a blank picture says nothing
    text = "all classes alike" if even else f"{escape(names[first])} {unbroken(percent(float(blank[first])))}"
    return (f'<div class="unmasked">{image(shown.seen, "What the network sees")}'
            f"<div><p>The whole picture</p><ol>{rows}</ol><p>Blank: {text}</p></div></div>")


def _tile(workspace: Workspace, masked: Masked, step: int, stretched: bool, answers: Answers | None) -> str:
    """A base method's column: what is left of the picture, the mask, and what the network says."""
    view = masked_view(workspace.input.x, masked.attribution.extras, step, stretched)
    left = workspace.network.preprocessing.picture(view.picture)
    grey = Image.fromarray((view.mask * 255).clip(0, 255).astype(np.uint8))
    first, probability = masked.attribution.extras["prediction"][step], masked.number("prediction_probability", step)
    after = masks_in_words(step)
    return (f'<figure style="--line: {curves.style(masked.base).colour}"><figcaption>{escape(masked.title)}</figcaption>'
            f"{image(left, f'{masked.title}: what is left after {after}')}"
            f"{image(grey, f'{masked.title}: the product of {after}')}"
            f'<div class="reading"><b>{target_percent(workspace, masked.number("probability", step))}</b>'
            f"<span>logit {significant(masked.number('logit', step))}</span></div>"
            f"{first_class(workspace, first, probability)}{_reading(workspace, answers, step)}"
            f"<p>{_strength(view.factor)}</p></figure>")


def _reading(workspace: Workspace, answers: Answers | None, step: int) -> str:
    """What the reader says of a masked picture: its first choice and, where that is another class, the explained one's probability."""
    if answers is None:
        return ""
    index, probability = answers.first(step)
    explained = target_percent(workspace, answers.trace("probability", workspace.target)[step])
    rest = "" if index == workspace.target.first and workspace.target.contrast is None else (
        f", {escape(workspace.target_words)} {unbroken(explained)}")
    kind = "reader" if index == workspace.target.first else "reader lost"
    return f'<p class="{kind}">reader: {escape(workspace.network.categories[index])} {unbroken(percent(probability))}{rest}</p>'


def _strength(factor: float) -> str:
    if factor < 1.05:
        return "shown as it is"
    return f"shown {significant(factor)} times as strong" if factor < 1000 else "shown over 1,000 times as strong"


def _verdict(workspace: Workspace, ready: Sequence[Masked], iterations: int) -> str:
    """Under which base methods the class is still the first choice at the end, and where the others lost it."""
    name, after = workspace.network.categories[workspace.target.first], f"after {masks_in_words(iterations)}"
    kept, lost = [], []
    for masked in ready:
        wrong = [step for step, first in enumerate(masked.attribution.extras["prediction"]) if first != workspace.target.first]
        if iterations not in wrong:
            kept.append(masked.title)
        else:
            kept_until = max((step for step in range(iterations + 1) if step not in wrong), default=-1)
            lost.append(f"{masked.title} (from mask {kept_until + 1} on)" if kept_until >= 0 else f"{masked.title} (it never was)")
    parts = [f"{name} is the first choice {after}: {', '.join(kept)}."] if kept else []
    parts += [f"{'Not' if kept else f'{name} is not the first choice {after}'}: {', '.join(lost)}."] if lost else []
    return " ".join(parts)


def _read_verdict(workspace: Workspace, ready: Sequence[Masked], iterations: int, answers: Mapping[str, Answers]) -> str:
    """Under which base methods the reader names the explained class in the end; empty without a reader."""
    if not answers:
        return ""
    some = next(iter(answers.values()))
    index, probability = some.first_of_blank
    named = [masked.title for masked in ready if masked.base in answers
             and answers[masked.base].first(iterations)[0] == workspace.target.first]
    names = workspace.network.categories
    return (f" Dotted: {some.reader.title} reads the same pictures, and names {names[workspace.target.first]} in the end under "
            f"{', '.join(named) or 'none of the masks'}; a blank picture it takes for {names[index]} ({100 * probability:.1f} %).")


def _lines(workspace: Workspace, ready: Sequence[Masked], name: str, step: int, answers: Mapping[str, Answers]) -> dict[str, Any]:
    """The explained class over the masks, one line a base method, and a dotted one of the reader; a cross where another class comes
    first."""
    probability, target = name == "probability", workspace.target
    unit = "%" if target.contrast is None else "points"
    what = f"{name}, {unit}" if probability else name
    factor = 100 if probability else 1
    traces: list[dict[str, Any]] = [{
        "type": "scatter", "mode": "lines+markers", "name": masked.title,
        "y": [factor * value for value in masked.attribution.extras[name]],
        "line": {"color": curves.style(masked.base).colour, "width": 2.5, "dash": curves.style(masked.base).dash},
        "marker": {"size": 7, "symbol": ["circle" if first == target.first else "x"
                                         for first in masked.attribution.extras["prediction"]]},
        "hovertemplate": f"%{{y:.1f}} {unit}" if probability else "%{y:.4~g}"} for masked in ready]
    traces += [trace | {
        "name": f"{trace['name']}, reader", "y": [factor * value for value in answers[masked.base].trace(name, target)],
        "line": trace["line"] | {"width": 1.5, "dash": "dot"},
        "marker": {"size": 5, "symbol": ["circle-open" if index == target.first else "x-thin-open"
                                         for index in answers[masked.base].logits.argmax(1)]},
    } for masked, trace in zip(ready, traces, strict=True) if masked.base in answers]
    layout = curves.steps_layout("masks", what if target.contrast is None else f"difference of {what}", len(traces[0]["y"]) - 1)
    layout["showlegend"] = False  # the tiles show the colours
    layout["shapes"] = [{"type": "line", "x0": step, "x1": step, "y0": 0, "y1": 1, "yref": "paper", "layer": "below",
                         "line": {"color": GUIDE, "width": 1.5, "dash": "dot"}}]
    if probability:
        lowest = min(min(trace["y"]) for trace in traces)
        layout["yaxis"]["range"] = [min(-3, lowest - 3), 103]
    return {"data": traces, "layout": layout}
