"""All iterations of one base method side by side: masks, what they leave, signed attributions, and their sum beside the logit.

As the paper's figures 3 and 5 to 10 show them, with the attributions from which each mask is made. Nothing is computed here but
pictures, and these only once the section is open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

import numpy as np
import streamlit as st
from PIL import Image

from components.attribution_mask.masked import Masked, masks_in_words
from components.attribution_mask.reader import Answers
from components.drawing import colour
from components.drawing.colour import Display
from components.drawing.heatmaps import exact_uri
from components.drawing.masked import SMALL, image, target_percent
from components.drawing.numbers import percent, significant
from components.state.last_result import last
from components.state.workspace import Workspace
from explainers.methods.attribution_mask import COMPLETE_BASES, STRETCH_PERCENTILE, incompleteness, masked_view

SECTION = "every_mask"
KEPT = "every_mask_pictures"
SUMMED, SEPARATE = "Summed", "Red, green, blue"
CHANNELS = ("Red", "Green", "Blue")
SIDE = 128  # pixels: larger pictures are shown smaller
SHARED_SCALE = Display(scale="Shared", clip=98)  # more of the values get full colour than in a large map, so that small ones show
NONE = "\u2013"

Row = tuple[str, list[str]]
"""A row of the table: its name, and the HTML of a cell for each number of masks, from none on."""


def draw(workspace: Workspace, ready: Sequence[Masked], step: int, stretched: bool, answers: Mapping[str, Answers]) -> None:
    """A closed section with the table of one base method; the column of ``step`` stands out. stretched: masks are shown brighter."""
    section = st.expander("Every iteration: attributions, masks and sums", key=SECTION, on_change="rerun")
    if not section.open:
        return
    with section:
        masked, separate = _choose(workspace, ready)
        answer = answers.get(masked.base)
        rows = [*_pictures(workspace, masked, stretched, separate), *_numbers(workspace, masked, answer)]
        st.container(key="every-mask-table").html(_table(rows, step))
        st.html(f"<p class='quiet'>{escape(_words(workspace, masked))}</p>")


def _choose(workspace: Workspace, ready: Sequence[Masked]) -> tuple[Masked, bool]:
    """The two controls: which base method, and whether the colour channels are shown separately."""
    by_title = {masked.title: masked for masked in ready}
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        title = st.segmented_control("Base method", list(by_title), default=next(iter(by_title)), required=True, key="mask_film",
                                     bind="query-params", help="Whose iterations are shown.")
        channels = SUMMED
        if workspace.network.channels > 1:
            channels = st.segmented_control(
                "Colour channels", (SUMMED, SEPARATE), default=SUMMED, required=True, key="mask_channels", bind="query-params",
                help="Summed: the attributions of the three channels are added, and the masks averaged. A mask of its own for each "
                     "channel is what the network sees.")
    return by_title[title], channels == SEPARATE


def _pictures(workspace: Workspace, masked: Masked, stretched: bool, separate: bool) -> list[Row]:
    """The rows of pictures. The session keeps them until others are shown, because they take longer to make than to send."""
    dark = st.context.theme.type == "dark"
    return last(KEPT, (masked.key, stretched, separate, dark), lambda: [
        *_mask_rows(workspace, masked, stretched, separate), *_attribution_rows(workspace, masked, separate, dark)])


def _mask_rows(workspace: Workspace, masked: Masked, stretched: bool, separate: bool) -> Iterator[Row]:
    """What the masks leave, and the masks."""
    extras = masked.attribution.extras
    masks = extras["masks"].numpy()
    views = [masked_view(workspace.input.x, extras, step, stretched) for step in range(len(masks) + 1)]
    left = [workspace.network.preprocessing.picture(view.picture) for view in views]
    yield "What is left", [_cell(picture, f"{masked.title}: what is left after {masks_in_words(step)}")
                           for step, picture in enumerate(left)]
    for channel in range(masks.shape[1]) if separate else [None]:
        planes = [mask[channel] if channel is not None else mask.mean(0) for mask in masks]
        factors = [_stretch(mask) if stretched and separate else view.factor for mask, view in zip(masks, views[1:], strict=True)]
        cells = [_cell(_grey(plane * factor), f"{masked.title}: the product of {masks_in_words(step)}")
                 for step, (plane, factor) in enumerate(zip(planes, factors, strict=True), 1)]
        yield ("Mask" if channel is None else f"Mask, {CHANNELS[channel].lower()}"), [NONE, *cells]


def _stretch(mask: np.ndarray) -> float:
    """The factor that brings the brightest values of all channels (C, H, W) to 1."""
    strongest = float(np.percentile(mask, STRETCH_PERCENTILE))
    return 1 / strongest if strongest > 0 else 1.0


def _attribution_rows(workspace: Workspace, masked: Masked, separate: bool, dark: bool) -> Iterator[Row]:
    """The signed attributions of what is left, each iteration on its own scale, which its channels share."""
    every = masked.attribution.extras["attributions"].numpy()
    planes = every.transpose(1, 0, 2, 3) if separate else every.sum(1)[None]  # (rows, N, H, W)
    scaled = [colour.prepare([(plane, True) for plane in iteration], SHARED_SCALE)
              for iteration in planes.transpose(1, 0, 2, 3)]
    for channel in range(len(planes)):
        cells = []
        for step, channels in enumerate(scaled):
            shown = channels[channel]
            picture = Image.fromarray(colour.over(shown, workspace.input.seen, "None", dark))
            alt = f"{masked.title}: signed attributions after {masks_in_words(step)}"
            cells.append(_map_cell(picture, alt, f"\u00b1 {significant(shown.limit)}"))
        name = f"Attributions, {CHANNELS[channel].lower()}" if separate else "Attributions"
        yield name, [*cells, NONE]


def _numbers(workspace: Workspace, masked: Masked, answers: Answers | None) -> Iterator[Row]:
    """The sum of the attributions beside the logit, the probability, and what the reader says."""
    extras = masked.attribution.extras
    names, target = workspace.network.categories, workspace.target
    yield "Sum of attributions", [*(significant(value) for value in extras["attribution_sum"]), NONE]
    yield "Logit" if target.contrast is None else "Difference of logits", [significant(value) for value in extras["logit"]]
    yield "Probability", [target_percent(workspace, value) for value in extras["probability"]]
    firsts = zip(extras["prediction"], extras["prediction_probability"], strict=True)
    yield "First choice", [_first(names[index], value, index == target.first) for index, value in firsts]
    if answers is not None:
        choices = [answers.first(step) for step in range(len(answers.logits))]
        yield f"Read by {answers.reader.title}", [_first(names[index], value, index == target.first) for index, value in choices]


def _first(name: str, probability: float, same: bool) -> str:
    kind = "" if same else ' class="lost"'
    return f"<span{kind}>{escape(name)}<br>{percent(probability)}</span>"


def _grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray((values * 255).clip(0, 255).astype(np.uint8))


def _small(picture: Image.Image) -> Image.Image:
    """The picture with at most ``SIDE`` pixels a side."""
    return picture.resize((SIDE, SIDE), Image.Resampling.BOX) if max(picture.size) > SIDE else picture


def _cell(picture: Image.Image, alt: str) -> str:
    return image(_small(picture), alt)


def _map_cell(picture: Image.Image, alt: str, text: str) -> str:
    """A coloured map with a line below it. It is a PNG, because a JPEG would mix the colours of neighbouring pixels."""
    coarse = ' class="coarse"' if min(picture.size) < SMALL else ""
    return f'<img src="{exact_uri(_small(picture))}" alt="{escape(alt)}"{coarse}><small>{escape(text)}</small>'


def _table(rows: Sequence[Row], step: int) -> str:
    """The rows as a table that scrolls sideways, with the names of the rows at its left."""
    def line(name: str, cells: Sequence[str], tag: str) -> str:
        inside = "".join(f'<{tag}{" class=now" if place == step else ""}>{cell}</{tag}>' for place, cell in enumerate(cells))
        return f"<tr><th>{escape(name)}</th>{inside}</tr>"

    head = line("Masks", [str(place) for place in range(len(rows[0][1]))], "th")
    return f'<div class="iterations"><table>{head}{"".join(line(name, cells, "td") for name, cells in rows)}</table></div>'


def _words(workspace: Workspace, masked: Masked) -> str:
    """What the rows show, and what the difference between sum and logit means for this base method."""
    extras, base = masked.attribution.extras, masked.base
    total, logit = extras["attribution_sum"][0], extras["logit"][0]
    scale = "Red speaks for the class and blue against it, each iteration on its own scale. The next mask is made from them."
    if base not in COMPLETE_BASES:
        return f"{scale} {masked.title} is not made to sum to the logit."
    if not incompleteness(base, extras["attribution_sum"], extras["logit"]):
        return f"{scale} The attributions sum to the logit, because nothing is added by biases (definition 1 of the paper)."
    return (f"{scale} For the whole picture they sum to {significant(total)}, and the logit is {significant(logit)}: the rest is what "
            f"{'biases add' if base == 'gradient_x_input' else 'the mean colour alone already has'}, which no mask shows.")
