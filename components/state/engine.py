"""What all sessions of the process share: the engine and the loaded networks."""

from __future__ import annotations

import os
from pathlib import Path

import streamlit as st

import explainers as ex
from explainers.networks import own_modules

CACHE_FOLDER = "EXPLORER_CACHE"  # where maps are kept between starts; "off" keeps them in memory alone


@st.cache_resource(show_spinner=False)
def engine() -> ex.Engine:
    """The one engine of this process."""
    folder = os.environ.get(CACHE_FOLDER) or Path.home() / ".cache" / "attribution-explorer" / "maps"
    return ex.Engine(cache=ex.MapCache(None if folder == "off" else folder))


def network(name: str) -> ex.Classifier:
    """A network whose weights are on this machine. Raises ExplainerError; a failure is not remembered."""
    return _network(name, own_modules.changed(name))


@st.cache_resource(max_entries=3, show_spinner=False)
def _network(name: str, changed: int) -> ex.Classifier:
    """changed: the time of the last change of a person's file, which is then loaded again; 0 for other networks."""
    return ex.load_model(name)
