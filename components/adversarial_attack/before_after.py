"""The picture, the attacked one and their difference, what the network gives for both, and whether the attack succeeded."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from components.adversarial_attack.attack_choice import Choice
from components.drawing import curves
from components.drawing.masked import image
from components.drawing.numbers import percent
from components.state.workspace import Workspace
from explainers.attack import Attack

FIRST = 3  # classes that are listed
CHART_HEIGHT = 210


def draw(workspace: Workspace, choice: Choice, attack: Attack) -> None:
    """The verdict, three pictures with predictions, and the probability over the steps."""
    words, level = verdict(workspace, choice, attack)
    st.container(key="attack-verdict").html(f'<div class="verdict {level}"><p>{words}</p></div>')
    pictures, chart = st.columns([7, 4], gap="medium")
    seen = workspace.input.seen
    attacked = workspace.network.preprocessing.picture(attack.x[0]).convert("RGB")
    names = ("The picture", "The attacked picture", "Their difference")
    below = [_first(workspace, choice, attack.before.numpy()), _first(workspace, choice, attack.after.numpy()),
             f"<p>{difference_in_words(workspace, attack, choice)}</p>"]
    shown = (seen, attacked, difference(workspace, attack))
    figures = "".join(f"<figure><figcaption>{name}</figcaption>{image(picture, name)}{text}</figure>"
                      for name, picture, text in zip(names, shown, below, strict=True))
    pictures.container(key="attack-pictures").html(f'<div class="attacked">{figures}</div>')
    with chart:
        drawing = steps_chart(workspace, attack)
        st.plotly_chart(drawing, key="attack-steps", height=CHART_HEIGHT, config={"displayModeBar": False},
                        alt=f"Probabilities at every step of the attack. {curves.in_words(drawing)}")


def verdict(workspace: Workspace, choice: Choice, attack: Attack) -> tuple[str, str]:
    """What became of the class, as HTML, and "warned" where the attack did not do what was asked for."""
    names = workspace.network.categories
    name, now = escape(names[attack.target]), escape(names[attack.first_after])
    was, is_now = (percent(float(probabilities[attack.target])) for probabilities in (attack.before, attack.after))
    change = f"{name} goes from {was} to {is_now}"
    if attack.first_before != attack.target:
        before = escape(names[attack.first_before])
        return f"{change}. It was not the first choice to begin with: that is {before}, and after the attack {now}.", "warned"
    if choice.levels == 0:
        return f"No pixel may change, so nothing happens: {name} stays at {was}.", "warned"
    if not attack.is_lost:
        return (f"The attack failed: {change} and stays the network's first choice. A larger change or more steps may take it away.",
                "warned")
    half = 1 + max(step for step, probability in enumerate(attack.trace) if probability >= attack.trace[0] / 2)
    when = f" It has less than half of its probability from step {half} of {choice.steps} on." if half <= choice.steps else ""
    if attack.towards is not None and not attack.is_reached:
        other = escape(names[attack.towards])
        return f"{change}, but the network now sees {now}, not {other}.{when}", "warned"
    return f"{change}; the network now sees {now}.{when}", ""


def difference(workspace: Workspace, attack: Attack) -> Image.Image:
    """The change of each pixel, enlarged so that the largest allowed one is black or white and none is grey."""
    change = _change(workspace, attack) / (2 * max(attack.epsilon, 1e-6))
    levels = ((0.5 + change).clip(0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels).convert("RGB")


def difference_in_words(workspace: Workspace, attack: Attack, choice: Choice) -> str:
    """How much larger the difference is drawn, and how many pixels changed by how much."""
    if choice.levels == 0:
        return "Nothing changed."
    change = np.abs(_change(workspace, attack)) * 255
    return (f"Enlarged {127.5 / choice.levels:.0f} times, grey: no change. Colour values change by {change.mean():.1f} of 255 on "
            f"average, {change.max():.0f} at most.")


def _change(workspace: Workspace, attack: Attack) -> np.ndarray:
    """(H, W, C): the change of the pixels, which go from 0 to 1."""
    pixels = workspace.network.preprocessing.pixels
    change: np.ndarray = (pixels(attack.x) - pixels(workspace.input.x))[0].permute(1, 2, 0).cpu().numpy()
    return change


def _first(workspace: Workspace, choice: Choice, probabilities: np.ndarray) -> str:
    """The most probable classes and, if it is not among them, the attacked one."""
    first = np.argsort(-probabilities, kind="stable")[:FIRST].tolist()
    listed = first if choice.target in first else [*first[:FIRST - 1], choice.target]
    rows = "".join(f'<li{" class=target" if index == choice.target else ""}><span>{escape(workspace.network.categories[index])}</span>'
                   f"<span>{percent(float(probabilities[index]))}</span></li>" for index in listed)
    return f"<ol>{rows}</ol>"


def steps_chart(workspace: Workspace, attack: Attack) -> dict[str, Any]:
    """The probability of the attacked class, and of the one that it is led to, at the start and after each step."""
    names = workspace.network.categories
    lines = [(names[attack.target], attack.trace, curves.PALETTE[0], "solid")]
    if attack.towards is not None:
        lines.append((names[attack.towards], attack.trace_towards, curves.PALETTE[3], "dash"))
    layout = curves.steps_layout("steps of the attack", "probability, %", len(attack.trace) - 1)
    layout["yaxis"]["range"] = [-3, 103]
    return {"data": [{"type": "scatter", "mode": "lines+markers", "name": escape(name), "y": [100 * value for value in values],
                      "line": {"color": shade, "width": 2.2, "dash": dash}, "marker": {"size": 6},
                      "hovertemplate": "%{y:.1f} %"} for name, values, shade, dash in lines], "layout": layout}
