"""What is known of the objects in a picture: the masks that come with a sample, and the classes that are worth comparing."""

from __future__ import annotations

import numpy as np
import streamlit as st

import explainers as ex
from components.state.workspace import Workspace


def object_masks(workspace: Workspace) -> dict[str, np.ndarray]:
    """The masks of a sample's objects as the network sees them, (H, W) bool by class name; none for other pictures."""
    picture, network, fit = workspace.picture, workspace.network, workspace.input.fit
    return _masks(picture.name, picture.digest, network.fingerprint, fit, network)


@st.cache_resource(max_entries=64, show_spinner=False)
def _masks(name: str, digest: str, fingerprint: str, fit: str, _network: ex.Classifier) -> dict[str, np.ndarray]:
    sample = _sample(name)
    if sample is None or not sample.has_masks:
        return {}
    return {label: _network.preprocessing.seen_mask(mask, fit) for label, mask in zip(sample.labels, sample.masks, strict=True)}


def likely_classes(workspace: Workspace) -> list[int]:
    """Classes worth comparing, the best first: those of the sidebar, the sample's objects, the likeliest."""
    names = workspace.network.categories
    sample = _sample(workspace.picture.name)
    objects = [names.index(label) for label in sample.labels if label in names] if sample and len(sample.labels) > 1 else []
    target, ranked = workspace.target, workspace.input.ranked
    in_sidebar = target.classes if target.contrast is not None or target.first != ranked[0] else ()
    return list(dict.fromkeys([*in_sidebar, *objects, *ranked[:3]]))


def _sample(name: str) -> ex.Sample | None:
    return next((sample for sample in ex.samples() if sample.name == name), None)
