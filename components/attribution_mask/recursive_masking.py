"""The recursive masking of one picture: what several base methods' masks leave of it, step by step, and what is still seen in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

import explainers as ex
from components.compute import revealing
from components.compute.schedule import Schedule
from components.compute.task import Failed, Ready, Task, map_task
from components.drawing import curves
from components.drawing.masked import first_class, image, target_percent, unbroken
from components.drawing.numbers import percent, significant
from components.drawing.theme import GUIDE
from components.state.workspace import Workspace
from explainers.methods.attribution_mask import masked_view

METHOD = "attribution_mask"
PLACE = "masking"
MOST_ITERATIONS = 30
CHART_HEIGHT = 290


@dataclass(frozen=True)
class Masked:
    """One base method with its finished masks."""

    base: str
    attribution: ex.Attribution

    @property
    def title(self) -> str:
        """The base method's name for people."""
        return title_of(self.base)

    def number(self, name: str, step: int) -> float:
        """The entry of the trace ``name`` after ``step`` masks; 0 is the picture itself."""
        return self.attribution.extras[name][step]


def title_of(base: str) -> str:
    """A base method's name for people."""
    return ex.methods()[base].title


def bases_and_iterations() -> tuple[list[str], int]:
    """The two controls that decide what is computed; both views of the page share them."""
    declared = {parameter.name: parameter for parameter in ex.methods()[METHOD].parameters}
    options = list(declared["base"].options)
    chosen = st.multiselect(
        "Base methods", options, default=options[:4], format_func=title_of, key="bases", bind="query-params", width=690,
        placeholder="Choose base methods",
        help="Each map is scaled to values from 0 to 1 in every colour channel and multiplied with the picture, as a mask. All masks "
             "so far are multiplied together.")
    iterations = st.slider(
        "Masks", 1, MOST_ITERATIONS, 10, key="mask_iterations", bind="query-params", width=220,
        help="How many masks are laid over the picture, each made from what the ones before it left.")
    return chosen, int(iterations)


def draw(workspace: Workspace) -> None:
    """The controls, the run, and what came of it."""
    with st.container(key="masking-controls", horizontal=True, vertical_alignment="bottom", gap="medium"):
        bases, iterations = bases_and_iterations()
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
            st.warning(f"{title_of(base)}: {state.reason}")
        elif isinstance(state, Ready):
            ready.append(Masked(base, state.value))
    if ready:
        blank = revealing.answers(workspace, [np.zeros(workspace.network.input_size, bool)], "zero")[0]
        _scrub(workspace, ready, iterations, blank)


def _task(workspace: Workspace, base: str, iterations: int) -> Task:
    """The masks of one base method."""
    return map_task(workspace.question(ex.methods()[METHOD], {"base": base, "iterations": iterations}), title_of(base))


@st.fragment
def _scrub(workspace: Workspace, ready: Sequence[Masked], iterations: int, blank: np.ndarray) -> None:
    """A slider through finished masks; only pictures are made here. ``blank``: (K,) probabilities of the mean colour alone."""
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
        drawing = _lines(workspace, ready, shown.lower(), step)
        st.plotly_chart(drawing, key="masking-lines", height=CHART_HEIGHT, config={"displayModeBar": False},
                        alt=f"{shown} of {workspace.target_words} after each mask. {curves.in_words(drawing)}")
    columns = "".join(_tile(workspace, masked, step, stretched) for masked in ready)
    tiles.container(key="masking-tiles").html(f'<div class="masking">{columns}</div>')
    text = (f"{_verdict(workspace, ready, iterations)} Crosses: another class comes first. Masks dim the picture, which "
            f"alone lowers probabilities. All masks are made for {workspace.target_words}, so its rise proves nothing.")
    st.container(key="masking-verdict").html(f"<p class='quiet'>{escape(text)}</p>")


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


def _tile(workspace: Workspace, masked: Masked, step: int, stretched: bool) -> str:
    """A base method's column: what is left of the picture, the mask, and what the network says."""
    view = masked_view(workspace.input.x, masked.attribution.extras, step, stretched)
    left = workspace.network.preprocessing.picture(view.picture)
    grey = Image.fromarray((view.mask * 255).clip(0, 255).astype(np.uint8))
    first, probability = masked.attribution.extras["prediction"][step], masked.number("prediction_probability", step)
    return (f'<figure style="--line: {curves.style(masked.base).colour}"><figcaption>{escape(masked.title)}</figcaption>'
            f"{image(left, f'What {step} masks leave')}{image(grey, f'The product of {step} masks')}"
            f'<div class="reading"><b>{target_percent(workspace, masked.number("probability", step))}</b>'
            f"<span>logit {significant(masked.number('logit', step))}</span></div>"
            f"{first_class(workspace, first, probability)}<p>{_strength(view.factor)}</p></figure>")


def _strength(factor: float) -> str:
    if factor < 1.05:
        return "shown as it is"
    return f"shown {significant(factor)} times as strong" if factor < 1000 else "shown over 1,000 times as strong"


def _verdict(workspace: Workspace, ready: Sequence[Masked], iterations: int) -> str:
    """Under which base methods the class is still the first choice at the end, and where the others lost it."""
    name, after = workspace.network.categories[workspace.target.first], f"after {iterations} mask{'s' if iterations > 1 else ''}"
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


def _lines(workspace: Workspace, ready: Sequence[Masked], name: str, step: int) -> dict[str, Any]:
    """The explained class over the masks, one line a base method; a cross where another class comes first."""
    probability, target = name == "probability", workspace.target
    unit = "%" if target.contrast is None else "points"
    what = f"{name}, {unit}" if probability else name
    factor = 100 if probability else 1
    traces = [{
        "type": "scatter", "mode": "lines+markers", "name": masked.title,
        "y": [factor * value for value in masked.attribution.extras[name]],
        "line": {"color": curves.style(masked.base).colour, "width": 2.5, "dash": curves.style(masked.base).dash},
        "marker": {"size": 7, "symbol": ["circle" if first == target.first else "x"
                                         for first in masked.attribution.extras["prediction"]]},
        "hovertemplate": f"%{{y:.1f}} {unit}" if probability else "%{y:.4~g}"} for masked in ready]
    layout = curves.steps_layout("masks", what if target.contrast is None else f"difference of {what}", len(traces[0]["y"]) - 1)
    layout["showlegend"] = False  # the tiles show the colours
    layout["shapes"] = [{"type": "line", "x0": step, "x1": step, "y0": 0, "y1": 1, "yref": "paper", "layer": "below",
                         "line": {"color": GUIDE, "width": 1.5, "dash": "dot"}}]
    if probability:
        lowest = min(min(trace["y"]) for trace in traces)
        layout["yaxis"]["range"] = [min(-3, lowest - 3), 103]
    return {"data": traces, "layout": layout}
