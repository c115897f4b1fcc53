"""Downloads: the figure for a paper (PNG, SVG), the numbers (.npz) and what they are (.json). Made only when clicked."""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from io import BytesIO, StringIO
from typing import Any

import numpy as np
import streamlit as st

from components import publication
from components.colour import Display, prepare
from components.runs import Job
from components.workspace import Workspace

File = tuple[str, str, str, Callable[[], bytes], str]
"""A download: the button's label, the file's ending and kind, what makes its bytes, and what the button's help says."""


def draw(workspace: Workspace, jobs: Sequence[Job], display: Display) -> None:
    """A row of download buttons for the maps that are there."""
    found = [job for job in jobs if job.found is not None]
    if not found:
        return
    seen = workspace.sight.seen
    caption = f"{workspace.network.title}, maps for {workspace.explained_in_words}"
    name = f"{workspace.picture.name}-{workspace.network.name}"
    facts = settings(workspace, found, display)

    def picture(kind: str) -> bytes:
        shown = prepare([(job.found.heatmap(), job.found.signed) for job in found], display)
        return publication.figure(seen, [job.method.title for job in found], shown, display.backdrop, caption, kind)

    files = (
        ("Figure (PNG)", "png", "image/png", lambda: picture("png"), "300 dots per inch, colour bars in raw units."),
        ("Figure (SVG)", "svg", "image/svg+xml", lambda: picture("svg"), "The same figure, scalable."),
        ("Arrays (NPZ)", "npz", "application/octet-stream", lambda: arrays(found, np.asarray(seen), facts),
         "For each method the map as computed (native) and at the input's resolution (heatmap), float32, signed; "
         "and what it shows beside it: parts, masks, traces."),
        ("Settings (JSON)", "json", "application/json", lambda: json_of(facts),
         "Network, picture, target, seed, every parameter, and what it cost."),
    )
    buttons(files, name)


def buttons(files: Sequence[File], name: str, key: str = "download") -> None:
    """A row of download buttons; each file is made when it is asked for. ``key`` tells rows of one page apart."""
    with st.container(key=f"{key}s", horizontal=True, gap="small"):
        for label, ending, kind, make, told in files:
            st.download_button(label, make, file_name=f"{name}.{ending}", mime=kind, key=f"{key}-{ending}", help=told,
                               on_click="ignore")


def csv_of(rows: Iterable[Sequence[Any]]) -> bytes:
    """Rows, the head first, as a CSV file."""
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def cell(value: float) -> str:
    """A number for a table: six digits; nothing where it cannot be told."""
    return "" if np.isnan(value) else f"{value:.6g}"


def json_of(facts: dict[str, Any]) -> bytes:
    """Settings as a JSON file."""
    return json.dumps(facts, indent=2).encode()


def settings(workspace: Workspace, jobs: Sequence[Job], display: Display | None = None) -> dict[str, Any]:
    """Everything that decides the maps, as plain JSON."""
    network, picture = workspace.network, workspace.picture
    classes = workspace.explained if isinstance(workspace.explained, tuple) else (workspace.explained,)
    return {
        "network": {"name": network.name, "fingerprint": network.fingerprint, "device": str(network.device)},
        "picture": {"name": picture.name, "sha256": picture.digest, "size": list(picture.image.size)},
        "target": {"classes": list(classes), "names": [network.categories[index] for index in classes],
                   "explains": "logit" if len(classes) == 1 else "difference of two logits"},
        "seed": workspace.seed,
        "reference": ({"title": workspace.reference.title, "identity": workspace.reference.identity}
                      if workspace.reference else None),
        "methods": {
            job.method.key: {
                "version": job.method.version, "parameters": dict(job.found.params),
                "forward": job.found.passes.forward, "backward": job.found.passes.backward,
                "seconds": round(job.found.seconds, 4), "flags": list(job.found.flags)}
            for job in jobs},
        **({"display": vars(display)} if display else {}),
        "software": {"python": platform.python_version(), "torch": version("torch"), "torchvision": version("torchvision")},
    }


def arrays(jobs: Sequence[Job], seen: np.ndarray, facts: dict[str, Any]) -> bytes:
    """An .npz with ``method.native`` (C, h, w), ``method.heatmap`` (H, W), the ``seen`` picture and the ``settings``.

    What a method shows beside its map is there as well, as ``method.extra``, as far as it is made of numbers.
    """
    content: dict[str, Any] = {"seen": seen, "settings": np.array(json.dumps(facts))}
    for job in jobs:
        content[f"{job.method.key}.native"] = job.found.native.numpy()
        content[f"{job.method.key}.heatmap"] = job.found.heatmap()
        for extra in job.method.shows:
            value = job.found.extras.get(extra.name)
            if isinstance(value, list) or hasattr(value, "numpy"):
                content[f"{job.method.key}.{extra.name}"] = np.asarray(value)
    buffer = BytesIO()
    np.savez_compressed(buffer, **content)
    return buffer.getvalue()
