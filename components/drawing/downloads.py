"""Downloads: buttons whose files are made only when they are clicked, and the formats that pages share."""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from io import StringIO
from typing import Any

import numpy as np
import streamlit as st

import explainers as ex
from components.drawing.colour import Display
from components.state.entries import Name
from components.state.workspace import Workspace

File = tuple[str, str, str, Callable[[], bytes], str]
"""A download: the button's label, the file's ending and kind, what makes its bytes, and what the button's help says."""


@dataclass(frozen=True)
class Answer:
    """A question with its map. name: what it is called where the method is there several times; else it is called as its method."""

    question: ex.Question
    attribution: ex.Attribution
    name: Name | None = None

    @property
    def key(self) -> str:
        """What the map is called in files: the method's key, with a number behind it for a copy."""
        return self.name.key if self.name else self.question.method.key

    @property
    def title(self) -> str:
        """What the map is called by people."""
        return self.name.title if self.name else self.question.method.title

    @property
    def short_title(self) -> str:
        """The title for narrow places."""
        return self.name.short if self.name else self.question.method.short_title


def buttons(files: Sequence[File], name: str, key: str = "download") -> None:
    """A row of download buttons; each file is made when it is clicked. key: another one for each row of a page."""
    with st.container(key=f"{key}s", horizontal=True, gap="small"):
        for label, ending, kind, make, help_text in files:
            st.download_button(label, make, file_name=f"{name}.{ending}", mime=kind, key=f"{key}-{ending}", help=help_text,
                               on_click="ignore")


def csv_of(rows: Iterable[Sequence[Any]]) -> bytes:
    """Rows, the header first, as a CSV file."""
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def cell(value: float) -> str:
    """A number for a table, with six significant digits; NaN becomes an empty cell."""
    return "" if np.isnan(value) else f"{value:.6g}"


def json_of(facts: dict[str, Any]) -> bytes:
    """Settings as a JSON file."""
    return json.dumps(facts, indent=2).encode()


def settings(workspace: Workspace, answers: Sequence[Answer], display: Display | None = None) -> dict[str, Any]:
    """Everything that decides the maps, as plain JSON."""
    network, picture, classes = workspace.network, workspace.picture, workspace.target.classes
    reference = next((answer.question.reference_set for answer in answers if answer.question.reference_set), None)
    return {
        "network": {"name": network.name, "fingerprint": network.fingerprint, "device": str(network.device)},
        "picture": {"name": picture.name, "sha256": picture.digest, "size": list(picture.image.size),
                    "fit": workspace.input.fit},
        "target": {"classes": list(classes), "names": [network.categories[index] for index in classes],
                   "explains": "logit" if len(classes) == 1 else "difference of two logits"},
        "seed": workspace.seed,
        "reference_set": {"title": reference.title, "identity": reference.identity} if reference else None,
        "methods": {answer.key: _method(answer) for answer in answers},
        **({"display": vars(display)} if display else {}),
        "software": {"python": platform.python_version(), "torch": version("torch"), "torchvision": version("torchvision")},
    }


def _method(answer: Answer) -> dict[str, Any]:
    """What decides one map, and what it cost."""
    method, attribution = answer.question.method, answer.attribution
    return {"method": method.key, "title": answer.title, "version": method.version, "parameters": dict(attribution.params),
            "forward": attribution.passes.forward, "backward": attribution.passes.backward,
            "seconds": round(attribution.seconds, 4), "flags": list(attribution.flags)}
