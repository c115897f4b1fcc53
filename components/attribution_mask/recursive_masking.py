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
from components.attribution_mask import revealing
from components.compare.overview import percent
from components.compute import gate, runs
from components.drawing import curves
from components.drawing.heatmaps import MUTED, data_uri
from components.drawing.numbers import significant
from components.sidebar.sidebar import Workspace

METHOD = "attribution_mask"
PLACE = "masking"
COLOURS = dict(zip(  # of the base methods, on both of the page's charts
    ("gradient_x_sign", "gradient_x_input", "positive_gradient_x_input", "guided_backprop", "integrated_gradients"),
    ("#0f9184", "#c2710c", "#8a5fbf", "#4f86c6", "#7d878b"), strict=True))
MOST_ITERATIONS = 30
CHART_HEIGHT = 290
BRIGHT = 99.5  # the percentile of a mask that stretching makes white


@dataclass(frozen=True)
class Masked:
    """One base method with its finished masks."""

    base: str
    found: ex.Attribution

    @property
    def title(self) -> str:
        """The base method's name for people."""
        return title_of(self.base)

    def number(self, name: str, step: int) -> float:
        """The entry of the trace ``name`` after ``step`` masks; 0 is the picture itself."""
        return self.found.extras[name][step]


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
        help="Each map is brought to [0, 1] in every colour channel and becomes a mask; masks multiply up.")
    iterations = st.slider(
        "Masks", 1, MOST_ITERATIONS, 10, key="mask_iterations", bind="query-params", width=220,
        help="How many masks are laid over the picture, each made from what the ones before it left.")
    return chosen, int(iterations)


def draw(workspace: Workspace) -> None:
    """The controls, the run, and what came of it."""
    with st.container(key="masking-controls", horizontal=True, vertical_alignment="bottom", gap="medium"):
        bases, iterations = bases_and_iterations()
        button_place = st.empty()
    if not bases:
        st.info("Choose at least one base method.")
        return
    jobs = _run(workspace, bases, iterations, button_place)
    for job in jobs:
        if job.trouble:
            st.warning(f"{title_of(job.params['base'])}: {job.trouble}")
    ready = [Masked(job.params["base"], job.found) for job in jobs if job.found is not None]
    if ready:
        blank = revealing.answers(workspace, [np.zeros(workspace.network.input_size, bool)], "zero")[0]
        _scrub(workspace, ready, iterations, blank)


def _run(workspace: Workspace, bases: Sequence[str], iterations: int, button_place: Any) -> list[runs.Job]:
    """Every base's masks: from the cache, now if that is quick, or when they are asked for."""
    method = ex.methods()[METHOD]
    jobs = [runs.job_for(workspace, method, {"base": base, "iterations": iterations}) for base in bases]
    key = repr((workspace.network.fingerprint, workspace.picture.digest, workspace.explained, tuple(bases), iterations))
    order = sorted((place for place, job in enumerate(jobs) if job.pending), key=lambda place: jobs[place].cost.seconds)
    total, now = 0.0, []
    for place in order:
        total += jobs[place].cost.seconds
        if gate.opens(PLACE, key, total):
            now.append(place)
    waiting = [place for place in order if place not in now]
    if waiting:
        seconds = runs.seconds_in_words(sum(jobs[place].cost.seconds for place in waiting))
        names = ", ".join(title_of(bases[place]) for place in waiting)
        button_place.button(f"Mask, about {seconds}", key="ask-masking", type="primary", on_click=gate.ask, args=(PLACE, key),
                            help=f"Still waits: {names}. What takes three seconds or less runs by itself.")
    if now:
        with gate.bar(PLACE, key) as report:
            for place in now:
                jobs[place] = _one(workspace, jobs[place], report)
    return jobs


def _one(workspace: Workspace, job: runs.Job, report: Any) -> runs.Job:
    alone = runs.Plan((job,), "", (job.method.key,), (), False)
    title = title_of(job.params["base"])
    return runs.run(workspace, alone, lambda _, step, steps, __: report(title, step, steps), lambda _: None)[0]


@st.fragment
def _scrub(workspace: Workspace, ready: Sequence[Masked], iterations: int, blank: np.ndarray) -> None:
    """Walks through finished masks; nothing is computed here but pictures. ``blank``: what the network says of the mean colour."""
    with st.container(key="scrub", horizontal=True, vertical_alignment="bottom", gap="medium"):
        step = st.slider(
            "After how many masks", 0, iterations, min(3, iterations), key="mask_step", bind="query-params", width=420,
            help="0 is the picture itself. Nothing is recomputed.")
        stretched = st.toggle(
            "Stretch contrast", True, key="mask_stretch", bind="query-params",
            help="Shows masks and masked pictures divided by the mask's strongest value, since masks that multiply up grow "
                 "dark. The network sees the dim one.")
        shown = st.segmented_control(
            "Line", ("Probability", "Logit"), default="Probability", required=True, key="mask_line", bind="query-params",
            label_visibility="collapsed", help="What the lines show of the explained class after each mask.")
    overview, tiles = st.columns([5, 9], gap="medium")
    with overview:
        st.html(_picture(workspace, blank))
        st.plotly_chart(_lines(workspace, ready, shown.lower(), step), key="masking-lines", height=CHART_HEIGHT,
                        config={"displayModeBar": False}, alt=f"{shown} of {workspace.explained_in_words} after each mask")
    tiles.html(f'<div class="masking">{"".join(_tile(workspace, one, step, stretched) for one in ready)}</div>')
    told = (f"{_verdict(workspace, ready, iterations)} Crosses: another class comes first. Masks dim the picture, which "
            f"alone lowers probabilities. All masks are made for {workspace.explained_in_words}, so its rise proves nothing.")
    st.html(f"<p class='quiet'>{escape(told)}</p>")


def _picture(workspace: Workspace, blank: np.ndarray) -> str:
    """The whole picture and what it is taken for; and the class that a biased network falls back to when all is dim."""
    sight, names = workspace.sight, workspace.network.categories
    rows = "".join(f"<li><span>{escape(names[index])}</span> {percent(float(sight.probabilities[index]))}</li>"
                   for index in sight.ranked[:3])
    first = int(np.argmax(blank))
    even = float(blank.max()) - float(blank.min()) < 1e-6  # without biases a blank picture says nothing
    told = "all classes alike" if even else f"{escape(names[first])} {unbroken(percent(float(blank[first])))}"
    return (f'<div class="unmasked">{image(sight.seen, "What the network sees")}'
            f"<ol><p>The whole picture</p>{rows}<p>Blank: {told}</p></ol></div>")


def _tile(workspace: Workspace, one: Masked, step: int, stretched: bool) -> str:
    """A base method's column: what is left of the picture, the mask, and what the network says."""
    extras, preprocessing, x = one.found.extras, workspace.network.preprocessing, workspace.sight.x[0].cpu()
    mask = extras["masks"][step - 1] if step else x * 0 + 1
    strongest = float(np.percentile(mask.mean(0).numpy(), BRIGHT))
    factor = 1 / strongest if stretched and strongest > 0 else 1.0
    left = preprocessing.picture(x * mask * factor)
    grey = Image.fromarray((mask.mean(0).numpy() * factor * 255).clip(0, 255).astype(np.uint8))
    prediction = workspace.network.categories[extras["prediction"][step]]
    aimed = workspace.target == extras["prediction"][step]
    told = f"first: {escape(prediction)} {unbroken(percent(one.number('prediction_probability', step)))}"
    return (f'<figure style="--line: {COLOURS[one.base]}"><figcaption>{escape(one.title)}</figcaption>'
            f"{image(left, f'What {step} masks leave')}{image(grey, f'The product of {step} masks')}"
            f'<div class="reading"><b>{share(workspace, one.number("probability", step))}</b>'
            f"<span>logit {significant(one.number('logit', step))}</span></div>"
            f'<p class="{"" if aimed else "lost"}">{told}</p><p>{_strength(factor)}</p></figure>')


def _strength(factor: float) -> str:
    if factor < 1.05:
        return "shown as it is"
    return f"shown {significant(factor)} times as strong" if factor < 1000 else "shown over 1,000 times as strong"


def image(picture: Image.Image, alt: str) -> str:
    """A picture as HTML; a small one keeps its sharp edges when it is enlarged."""
    coarse = ' class="coarse"' if min(picture.size) < 64 else ""
    return f'<img src="{data_uri(picture)}" alt="{escape(alt)}"{coarse}>'


def unbroken(text: str) -> str:
    """A number whose unit stays on its line."""
    return text.replace(" ", "&nbsp;")


def share(workspace: Workspace, value: float) -> str:
    """The explained class's probability, or for a contrast the difference of two."""
    return percent(value) if workspace.contrast is None else f"{100 * value:+.1f}".replace("-", "\u2212") + " points"


def _verdict(workspace: Workspace, ready: Sequence[Masked], iterations: int) -> str:
    """Under which base methods the class is still the first choice at the end, and where the others lost it."""
    name, after = workspace.network.categories[workspace.target], f"after {iterations} mask{'s' if iterations > 1 else ''}"
    kept, lost = [], []
    for one in ready:
        wrong = [step for step, first in enumerate(one.found.extras["prediction"]) if first != workspace.target]
        if iterations not in wrong:
            kept.append(one.title)
        else:
            kept_until = max((step for step in range(iterations + 1) if step not in wrong), default=-1)
            lost.append(f"{one.title} (from mask {kept_until + 1} on)" if kept_until >= 0 else f"{one.title} (it never was)")
    parts = [f"{name} is the first choice {after}: {', '.join(kept)}."] if kept else []
    parts += [f"{'Not' if kept else f'{name} is not the first choice {after}'}: {', '.join(lost)}."] if lost else []
    return " ".join(parts)


def _lines(workspace: Workspace, ready: Sequence[Masked], name: str, step: int) -> dict[str, Any]:
    """The explained class over the masks, one line a base method; a cross where another class comes first."""
    probability, target = name == "probability", workspace.target
    unit = "%" if workspace.contrast is None else "points"
    what = f"{name}, {unit}" if probability else name
    factor = 100 if probability else 1
    traces = [{
        "type": "scatter", "mode": "lines+markers", "name": one.title, "y": [factor * value for value in one.found.extras[name]],
        "line": {"color": COLOURS[one.base], "width": 2.5, "dash": "dot" if one.base == "integrated_gradients" else "solid"},
        "marker": {"size": 7, "symbol": ["circle" if first == target else "x" for first in one.found.extras["prediction"]]},
        "hovertemplate": f"%{{y:.1f}} {unit}" if probability else "%{y:.4~g}"} for one in ready]
    layout = curves.steps_layout("masks", what if workspace.contrast is None else f"difference of {what}", len(traces[0]["y"]) - 1)
    layout["showlegend"] = False  # the tiles show the colours
    layout["shapes"] = [{"type": "line", "x0": step, "x1": step, "y0": 0, "y1": 1, "yref": "paper", "layer": "below",
                         "line": {"color": MUTED, "width": 1.5, "dash": "dot"}}]
    if probability:
        lowest = min(min(trace["y"]) for trace in traces)
        layout["yaxis"]["range"] = [min(-3, lowest - 3), 103]
    return {"data": traces, "layout": layout}
