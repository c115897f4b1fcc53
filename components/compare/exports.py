"""Downloads of the compare page: the figure (PNG, SVG), the maps as numbers (NPZ) and what decides them (JSON)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np

from components.compare.evidence import Findings
from components.compute.method_row import MethodMap
from components.drawing import downloads, publication
from components.drawing.colour import Display, prepare
from components.drawing.downloads import Answer
from components.drawing.heatmaps import fitting
from components.state.workspace import Workspace


def draw(workspace: Workspace, maps: Sequence[MethodMap], display: Display, findings: Findings) -> None:
    """A row of download buttons for the maps that are there. findings: the line of evidence under them."""
    answers = [entry.answer for entry in maps if entry.answer]
    if not answers:
        return
    seen = workspace.input.seen
    caption = f"{workspace.network.title}, maps for {workspace.target_words}"
    facts = downloads.settings(workspace, answers, display)
    facts["evidence"] = {key: {check: finding.words for check, finding in checks.items()} for key, checks in findings.items()}

    def picture(kind: str) -> bytes:
        shown = prepare([(answer.attribution.heatmap(), answer.attribution.signed) for answer in answers], display)
        titles = [fitting(answer.title, answer.short_title) for answer in answers]
        return publication.figure(seen, titles, shown, display.backdrop, caption, kind)

    downloads.buttons((
        ("Figure (PNG)", "png", "image/png", lambda: picture("png"), "300 dots per inch, colour bars in raw units."),
        ("Figure (SVG)", "svg", "image/svg+xml", lambda: picture("svg"), "The same figure, scalable."),
        ("Arrays (NPZ)", "npz", "application/octet-stream", lambda: arrays(answers, np.asarray(seen), facts),
         "For each method the map as computed (native) and at the input's resolution (heatmap), float32, signed; "
         "and its auxiliary outputs: parts, masks, traces."),
        ("Settings (JSON)", "json", "application/json", lambda: downloads.json_of(facts),
         "Network, picture, target, seed, every parameter, what it cost, and the evidence."),
    ), f"{workspace.picture.name}-{workspace.network.name}")


def arrays(answers: Sequence[Answer], seen: np.ndarray, facts: dict[str, Any]) -> bytes:
    """An .npz with ``method.native`` (C, h, w), ``method.heatmap`` (H, W), the ``seen`` picture and the ``settings``.

    A method's auxiliary outputs are there as ``method.name``, as far as they are made of numbers. Those of a method's further copies
    begin with ``method~2``.
    """
    content: dict[str, Any] = {"seen": seen, "settings": np.array(json.dumps(facts))}
    for answer in answers:
        content[f"{answer.key}.native"] = answer.attribution.native.numpy()
        content[f"{answer.key}.heatmap"] = answer.attribution.heatmap()
        for output in answer.question.auxiliary_outputs:
            value = answer.attribution.extras.get(output.name)
            if isinstance(value, list) or hasattr(value, "numpy"):
                content[f"{answer.key}.{output.name}"] = np.asarray(value)
    buffer = BytesIO()
    np.savez_compressed(buffer, **content)
    return buffer.getvalue()
