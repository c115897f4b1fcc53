"""Another network that reads the masked pictures: the control, and what it makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

import explainers as ex
from components.compute.task import Task
from components.drawing.foreign_words import in_markdown
from components.sidebar import network_loader, network_picker
from components.state.engine import engine
from components.state.engine import network as shared_network
from explainers.keys import key_of
from explainers.methods.attribution_mask import check_reader, reader_logits
from explainers.progress import Progress

SAME = "The same network"
CONTROL = "mask_reader"
HELP = ("Another network of the same classes that looks at what the masks leave. If it names the class, too, the masks show what the "
        "class looks like; if not, perhaps only what their own network responds to. It was trained on whole pictures.")


def choose(network: ex.Classifier, besides: Sequence[ex.Classifier] = ()) -> ex.Classifier | None:
    """The control, and the chosen reader; None for the same network, and for one that cannot read these pictures, with the reason.

    besides: further networks whose masks are shown, so that ``network`` itself may be their reader.
    """
    entries = {network_picker.label(entry): entry for entry in ex.models()
               if entry.ready and (besides or entry.name != network.name) and _may_fit(entry, network)}
    uploaded = {name: each for name, each in network_loader.uploaded().items() if each.fingerprint != network.fingerprint}
    title = st.selectbox("Reader", [SAME, *entries, *uploaded], key=CONTROL, bind="query-params", width=200, help=HELP)
    if title == SAME:
        return None
    try:
        reader = uploaded[title] if title in uploaded else shared_network(entries[title].name)
        check_reader(network, reader)
    except ex.ExplainerError as error:
        st.warning(in_markdown(str(error)))
        return None
    return reader


def _may_fit(entry: ex.ModelEntry, network: ex.Classifier) -> bool:
    """Whether a network that is not loaded yet may have the same classes: one that knows the same pictures, or a person's own."""
    return entry.family == "yours" or (entry.training_data == network.training_data and bool(entry.training_data))


def task(reader: ex.Classifier, question: ex.Question, label: str) -> Task:
    """The task of reading what the masks of ``question``, whose map is there, leave. Its result are logits (n + 2, K)."""
    name, parts = "read by another network", (reader, question)
    pictures = question.settings.iterations + 2

    def compute(progress: Progress) -> Any:
        masks = engine().explain(question, progress=progress).extras["masks"]
        return engine().get_or_compute(
            name, parts, lambda: reader_logits(reader, question.network, question.x, masks, progress), progress, type(question.x))

    return Task(f"{reader.title} reads {label}", key_of(name, *parts),
                lambda: ex.Cost(ex.Passes(forward=pictures), pictures * reader.pass_seconds().forward),
                lambda: engine().lookup_computed(name, parts, type(question.x)), compute)


@dataclass(frozen=True)
class Answers:
    """What a reader says of a picture and of what each mask leaves of it, ``logits`` (n + 1, K), and of a ``blank`` picture, (K,)."""

    reader: ex.Classifier
    logits: np.ndarray
    blank: np.ndarray

    @property
    def probabilities(self) -> np.ndarray:
        """(n + 1, K)."""
        return _softmax(self.logits)

    @property
    def first_of_blank(self) -> tuple[int, float]:
        """The first choice for a blank picture, and its probability."""
        row = _softmax(self.blank[None])[0]
        return int(row.argmax()), float(row.max())

    def first(self, step: int) -> tuple[int, float]:
        """The first choice after ``step`` masks, and its probability."""
        row = self.probabilities[step]
        return int(row.argmax()), float(row.max())

    def trace(self, name: str, target: ex.Target) -> list[float]:
        """The explained class's "logit" or "probability" after each mask, for a contrast the difference of two."""
        rows = self.probabilities if name == "probability" else self.logits
        values = rows[:, target.first] if target.contrast is None else rows[:, target.first] - rows[:, target.contrast]
        return [float(value) for value in values]


def _softmax(logits: np.ndarray) -> np.ndarray:
    """(N, K) logits to probabilities."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
