"""What all sessions of the process share: the engine and the loaded networks."""

from __future__ import annotations

import os
from pathlib import Path

import streamlit as st

import explainers as ex
from explainers.networks import own_modules
from explainers.networks.patience import Patient, StillRunning

LOAD_SECONDS = 120.0  # that a page waits for a person's function to return its network
CACHE_FOLDER = "EXPLORER_CACHE"  # where maps are kept between starts; "off" keeps them in memory alone


@st.cache_resource(show_spinner=False)
def engine() -> ex.Engine:
    """The one engine of this process."""
    folder = os.environ.get(CACHE_FOLDER) or _own_folder() / "maps"
    return ex.Engine(cache=ex.MapCache(None if folder == "off" else folder))


def _own_folder() -> Path:
    """The folder of this program in a person's cache folder, closed to others; former versions left it open."""
    folder = Path.home() / ".cache" / "attribution-explorer"
    if folder.is_dir():
        folder.chmod(0o700)
    return folder


def network(name: str) -> ex.Classifier:
    """A network whose weights are on this machine. Raises ExplainerError; a failure is not remembered."""
    return _network(name, own_modules.changed(name))


@st.cache_resource(max_entries=3, show_spinner=False)
def _network(name: str, changed: int) -> ex.Classifier:
    """changed: the time of the last change of a person's file, which is then loaded again; 0 for other networks."""
    if not changed:
        return ex.load_model(name)
    try:
        network = _loading(name, changed).result()
    except StillRunning as error:
        raise ex.ExplainerError(f"{name} is still being made after {LOAD_SECONDS:.0f} seconds; choose it again when its function has "
                                "ended.") from error
    except Exception:
        _loading.clear(name, changed)
        raise
    _loading.clear(name, changed)
    return network


@st.cache_resource(max_entries=3, show_spinner=False)
def _loading(name: str, changed: int) -> Patient[ex.Classifier]:
    """The call of a person's function, which may run without an end. All sessions that ask meanwhile wait for the same one."""
    return Patient(lambda: ex.load_model(name), LOAD_SECONDS)
