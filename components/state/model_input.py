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
    """A picture that can be chosen. ``name`` goes into links; ``notes`` say what was done to the file."""

    name: str
    title: str
    image: Image.Image
    notes: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """The sha256 of its pixels."""
        return ex.digest(self.image)


@dataclass(frozen=True)
class ModelInput:
    """One picture as the input of one network.

    x: the preprocessed tensor (1, C, H, W). seen: the RGB picture at the network's input size. box: the part of the picture that is
    seen, in its pixels: left, top, right, bottom. probabilities: (K,) softmax.
    """

    x: Any
    seen: Image.Image
    box: tuple[float, float, float, float]
    probabilities: np.ndarray

    @property
    def ranked(self) -> list[int]:
        """The classes, the most probable first."""
        return np.argsort(-self.probabilities, kind="stable").tolist()


def model_input(network: ex.Classifier, picture: Picture) -> ModelInput:
    """Preprocess a picture and predict its classes, once for each network and picture of the session."""
    return _model_input(network.fingerprint, picture.digest, network, picture.image)


@st.cache_resource(max_entries=32, show_spinner=False, scope="session")
def _model_input(fingerprint: str, digest: str, _network: ex.Classifier, _image: Image.Image) -> ModelInput:
    x = _network.preprocess(_image)
    return ModelInput(x, _network.seen(_image), _network.crop_box(_image.size), _network.predict(x)[0].cpu().numpy())
