"""A picture that can be explained, and what it becomes as the input of a network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

import explainers as ex


@dataclass(frozen=True)
class Picture:
    """A picture that can be chosen. ``name`` goes into links; ``notes`` say what was done to the file.

    kind: of a sample "scenes", "digits" or "photographs"; empty for an upload. source: where a photograph is from (what it shows,
    author, licence). deep: the picture as it was read, where its file holds grey values that can be shown through another window
    (``deep.values``); None for pictures of 8 bits.
    """

    name: str
    title: str
    image: Image.Image
    notes: tuple[str, ...] = ()
    kind: str = ""
    source: str = ""
    deep: ex.Picture | None = None

    @property
    def is_private(self) -> bool:
        """Whether it is a person's own, so that nothing computed from it is written to disk."""
        return not self.kind

    @cached_property
    def digest(self) -> str:
        """The sha256 of its pixels."""
        return ex.digest(self.image)


@dataclass(frozen=True)
class ModelInput:
    """One picture as the input of one network.

    x: the preprocessed tensor (1, C, H, W). seen: the RGB picture at the network's input size. box: the rectangle that the input
    covers, in the picture's pixels: left, top, right, bottom; it reaches beyond the picture where that is fitted whole.
    probabilities: (K,) softmax. fit: how the picture was fitted, "crop", "whole" or "stretch".
    """

    x: Any
    seen: Image.Image
    box: tuple[float, float, float, float]
    probabilities: np.ndarray
    fit: str = "crop"

    @property
    def ranked(self) -> list[int]:
        """The classes, the most probable first."""
        return np.argsort(-self.probabilities, kind="stable").tolist()


def model_input(network: ex.Classifier, picture: Picture, fit: str = "crop") -> ModelInput:
    """Preprocess a picture and predict its classes, once for each network, picture and fit of the session."""
    return _model_input(network.fingerprint, picture.digest, fit, network, picture.image)


@st.cache_resource(max_entries=32, show_spinner=False, scope="session")
def _model_input(fingerprint: str, digest: str, fit: str, _network: ex.Classifier, _image: Image.Image) -> ModelInput:
    x = _network.preprocess(_image, fit)
    return ModelInput(x, _network.seen(_image, fit), _network.crop_box(_image.size, fit), _network.predict(x)[0].cpu().numpy(), fit)
