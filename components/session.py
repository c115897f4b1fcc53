"""What all sessions of the process share: the engine and the loaded networks; and what one picture gives a network."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import streamlit as st
from PIL import Image

import explainers as ex

T = TypeVar("T")
CACHE_FOLDER = "EXPLORER_CACHE"  # where maps are kept between starts; "off" keeps them in memory alone


@st.cache_resource(show_spinner=False)
def engine() -> ex.Engine:
    """The one engine of this process."""
    folder = os.environ.get(CACHE_FOLDER) or Path.home() / ".cache" / "attribution-explorer" / "maps"
    return ex.Engine(cache=ex.MapCache(None if folder == "off" else folder))


@st.cache_resource(max_entries=3, show_spinner=False)
def network(name: str) -> ex.Classifier:
    """A network whose weights are on this machine. Raises ExplainerError; a failure is not remembered."""
    return ex.load_model(name)


@dataclass(frozen=True)
class Sight:
    """What one picture is to one network: the input, the picture as it is seen, and the probabilities."""

    x: Any  # a tensor (1, C, H, W)
    seen: Image.Image
    box: tuple[float, float, float, float]
    probabilities: np.ndarray

    @property
    def ranked(self) -> list[int]:
        """The classes, the most probable first."""
        return np.argsort(-self.probabilities, kind="stable").tolist()


@st.cache_resource(max_entries=32, show_spinner=False, scope="session")
def sight(fingerprint: str, digest: str, _net: ex.Classifier, _image: Image.Image) -> Sight:
    """Show a picture to a network, once for each pair of ``fingerprint`` and ``digest``."""
    x = _net.preprocess(_image)
    return Sight(x, _net.seen(_image), _net.crop_box(_image.size), _net.predict(x)[0].cpu().numpy())


def last(place: str, key: Any, make: Callable[[], T]) -> T:
    """What ``make`` returns for ``key``, made once: the session holds one result a place, and another key replaces it."""
    kept = st.session_state.get(place)
    if kept is None or kept[0] != key:
        kept = st.session_state[place] = (key, make())
    return kept[1]
