"""Which network: one of the list, one that an architecture's published weights make, or a person's own.

The URL holds the network's name and the start of its fingerprint, so that a link never shows another network without a word.
"""

from __future__ import annotations

import streamlit as st

import explainers as ex
from components.drawing.foreign_words import in_markdown, shortened
from components.sidebar import network_loader
from components.state import link, network_link
from components.state.engine import network as shared_network
from components.state.link import Missing
from components.state.network_link import PARAMETER

DEFAULT = "efficientnet_lite0"


def pick() -> ex.Classifier | Missing | None:
    """Draw the picker and return the network; Missing where the link names one that is not here.

    None while the chosen network's weights are not here, or cannot be loaded; the reason is shown.
    """
    entries = {entry.name: entry for entry in ex.models()}
    uploaded = network_loader.uploaded()
    name = _named(entries)
    if name not in entries and name not in uploaded and (public := network_loader.public(name)):
        entries[name] = public
    is_here = name in entries or name in uploaded
    st.session_state[PARAMETER] = name
    st.selectbox(
        "Network", list(dict.fromkeys((*entries, *uploaded, name))), key=PARAMETER, on_change=_choose,
        format_func=lambda option: label(entries[option]) if option in entries else option,
        help="The classifier that is explained. It decides which pictures make sense: photographs, scenes or digits.")
    if is_here:
        network_loader.draw()
    else:  # the page itself has a place for the file
        return Missing("network", shortened(name), network_link.fingerprint())
    network = uploaded[name] if name in uploaded else _loaded(entries[name])
    if network is not None:
        if warning := network_link.compare(name, network):
            st.warning(in_markdown(warning))
        _describe(network, entries[name].note if name in entries else "Your checkpoint, kept for this session.")
    return network


def label(entry: ex.ModelEntry) -> str:
    """What the picker calls a network. Several of a person's own may have the same title, so their names are added."""
    if entry.family == "embedded":
        return f"Photographs: {entry.title}" if entry.training_data == "photographs" else entry.title
    if entry.family == "yours":
        return f"{entry.title} (yours)" if entry.title == entry.name else f"{entry.title} ({entry.name}, yours)"
    return entry.title if entry.family == "timm" else f"{entry.title} ({entry.family})"


def _choose() -> None:
    """Callback of the picker."""
    network_link.choose(st.session_state[PARAMETER])


def _named(entries: dict[str, ex.ModelEntry]) -> str:
    """The network that the URL names, which older links do by its title; without one, the first for the link's picture."""
    name = link.get(PARAMETER)
    if name in entries:
        return name
    titles: dict[str, str] = {}
    for entry in entries.values():  # of two with one title the first counts, so that a person's own takes nobody's place
        titles.setdefault(label(entry), entry.name)
        titles.setdefault(entry.title, entry.name)
    resolved = titles.get(name, name) or _first(entries)
    if resolved != name:
        link.put(PARAMETER, resolved)
    return resolved


def _first(entries: dict[str, ex.ModelEntry]) -> str:
    """The default network, or the first that knows such pictures as the one that the link names."""
    picture = link.get("picture")
    kind = next((sample.kind for sample in ex.samples() if sample.name == picture), entries[DEFAULT].training_data)
    if entries[DEFAULT].training_data == kind and entries[DEFAULT].ready:
        return DEFAULT
    return next((entry.name for entry in entries.values() if entry.training_data == kind and entry.ready), DEFAULT)


def _loaded(entry: ex.ModelEntry) -> ex.Classifier | None:
    """The network of an entry, after its download where that is needed; None where it cannot be had, and the page says why."""
    if not entry.ready and entry.family == "yours":
        st.error(in_markdown(entry.note))
        return None
    if not entry.ready and entry.family in {"torchvision", "timm"} and not network_loader.download(entry):
        return None
    try:
        return shared_network(entry.name)
    except ex.ExplainerError as error:
        st.error(in_markdown(str(error)))
        return None


def _describe(network: ex.Classifier, note: str) -> None:
    """One line on what the network is, and a line on each thing that was recognised when it was loaded."""
    height, width = network.input_size
    with st.container(key="network_notes"):
        st.caption(f"{in_markdown(note)} {network.weights / 1e6:.2g} million weights; it sees {width} \u00d7 {height} pixels.")
        for line in network.notes:
            st.caption(in_markdown(line))
