"""The sidebar, the same on every page: picture, network, classes, methods, reference set, seed. The URL holds every choice."""

from __future__ import annotations

import streamlit as st

import explainers as ex
from components.drawing import number_field
from components.drawing.foreign_words import in_markdown
from components.sidebar import (
    cached_maps,
    copy_link,
    method_picker,
    network_picker,
    picture_picker,
    picture_view,
    reference_picker,
    session_file,
)
from components.state.link import Missing
from components.state.model_input import ModelInput, Picture, model_input
from components.state.workspace import LARGEST_SEED, Workspace, class_labels
from explainers.data.gallery import mismatch

TOP = "Top prediction"
NO_CONTRAST = "None"


def draw() -> Workspace | list[Missing] | None:
    """Draw the sidebar and read it; None while there is no network to explain.

    Where the link needs what is not here: the list of it. The rest of the sidebar is then left out, and nothing is computed.
    """
    with st.sidebar:
        pictures, networks = st.container(gap="small"), st.container(gap="small")
        with networks:
            network = network_picker.pick()
        with pictures:
            picture = picture_picker.pick(network)
            if isinstance(picture, Missing) or isinstance(network, Missing):
                return [each for each in (network, picture) if isinstance(each, Missing)]
            _say_where_it_is_from(picture, network)
            picture, fit = picture_view.draw(picture)
        classes = st.container(gap="small")
        methods = method_picker.pick(network)
        reference = reference_picker.pick(network, methods) if network else None
        if isinstance(reference, Missing):
            return [reference]
        shown = model_input(network, picture, fit) if network else None
        with classes:
            target = _target(network, shown)
        seed = number_field.whole(
            "Seed", 0, LARGEST_SEED, 0, key="seed",
            help="Some methods draw random noise or masks. The same number (seed) gives the same map again.")
        copy_link.draw()
        session_file.draw()
        cached_maps.draw()
    if network is None or shown is None:
        return None
    return Workspace(network, picture, shown, target, methods, seed or 0, reference)


def _say_where_it_is_from(picture: Picture, network: ex.Classifier | None) -> None:
    """What was done to the file, where a photograph is from, and whether the network can know such a picture."""
    with st.container(key="picture_notes"):
        for note in picture.notes:
            st.caption(in_markdown(note))
    if picture.source:
        with st.container(key="picture_source"):
            st.caption(picture.source)
    outside = mismatch(network.training_data, picture.kind) if network else ""
    if outside:
        with st.container(key="picture_mismatch"):
            st.caption(outside)


def _target(network: ex.Classifier | None, shown: ModelInput | None) -> ex.Target:
    """The class that is explained, and the contrast class."""
    labels = class_labels(network.categories) if network else ()
    chosen = st.selectbox(
        "Class", [TOP, *labels], key="class", bind="query-params",
        help="The class that the maps explain: what speaks for its score (logit). The top prediction follows the picture. Type to "
             "search.")
    contrast = st.selectbox(
        "Contrast class", [NO_CONTRAST, *labels], key="against", bind="query-params",
        help="A second class: the maps then show what speaks for the first rather than for this one, logit(class) \u2212 "
             "logit(contrast class). Type to search.")
    if shown is None:
        return ex.Target.of(0)
    first = shown.ranked[0] if chosen == TOP else labels.index(chosen)
    other = None if contrast == NO_CONTRAST else labels.index(contrast)
    if other == first:
        st.warning("Both classes are the same: the maps explain the class alone.")
        other = None
    return ex.Target.of(first if other is None else (first, other))
