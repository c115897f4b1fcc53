"""Networks that are not in the picker's list: a person's checkpoint, and architectures of torchvision and timm by search."""

from __future__ import annotations

import re
from pathlib import PurePath

import streamlit as st

import explainers as ex
from components.drawing.foreign_words import in_markdown
from components.state import link, network_link
from explainers.networks import loading
from explainers.networks.checkpoint_files import readable
from explainers.networks.model_cards import card_fields

CHECKPOINT_TYPES = ["safetensors", "pth", "pt"]
UPLOADED, ERRORS = "uploaded_networks", "own_errors"
SECTION = "other_network"
MOST_UPLOADED = 3  # networks of a session; the oldest makes room, as in the list of networks that all sessions share


def uploaded() -> dict[str, ex.Classifier]:
    """The networks that this session has loaded from uploaded checkpoints, by the names that links use."""
    return st.session_state.setdefault(UPLOADED, {})


def public(name: str) -> ex.ModelEntry | None:
    """The entry of one of torchvision's or timm's architectures; None where they have none of this name."""
    if not re.fullmatch(r"(timm/)?[\w.]{1,80}", name):
        return None
    try:
        return loading.public_entry(name)
    except ex.ExplainerError:  # the page says that it is missing
        return None


def draw() -> None:
    """The popover. The list of architectures, for which timm is imported, is made only while it is open."""
    section = st.popover("Use another network", width="stretch", type="tertiary", key=SECTION, on_change="rerun",
                         help="Any architecture of torchvision or timm, with its published weights or with your checkpoint.")
    if section.open:
        with section:
            _contents()
    _complain()


def draw_open() -> None:
    """The same without the popover, for a page that waits for the network of its link."""
    _contents()
    _complain()


def _complain() -> None:
    for line in st.session_state.get(ERRORS, ()):
        st.error(in_markdown(line))


@st.cache_data(show_spinner=False)
def _architectures() -> tuple[str, ...]:
    return loading.architectures()


def _contents() -> None:
    st.selectbox("Architecture", _architectures(), key="own_architecture",
                 help="Type to search. Names that begin with timm/ are timm's, the others torchvision's.")
    st.button("Use its published weights", key="own_published", on_click=_use_published, width="stretch",
              help="Chooses this network. Its weights are downloaded only after you have been asked.")
    st.file_uploader(
        "Checkpoint, and its card", type=[*CHECKPOINT_TYPES, "json"], accept_multiple_files=True, key="own_files",
        help="A .safetensors or .pth file that holds only weights. An optional .json beside it states categories (or "
             "num_classes), input_size, mean and std. Files over 200 MB: put them into the folder that "
             "EXPLORER_MODELS names, and start again.")
    st.button("Load the checkpoint", key="own_load", on_click=_load_own, disabled=not st.session_state.get("own_files"),
              width="stretch", help="Reads the files, and chooses the network.")


def _use_published() -> None:
    """Callback: choose the architecture with the weights that are published for it."""
    st.session_state[ERRORS] = []
    network_link.choose(st.session_state.own_architecture)


def download(entry: ex.ModelEntry) -> bool:
    """Offer the download, and do it with a progress bar when the button is pressed. True when the weights are here."""
    if not st.button("Download the weights", key=f"download-{entry.name}", width="stretch",
                     help=f"Fetches the weights that are published by {entry.family} once; they are kept on this machine."):
        return False
    title = in_markdown(entry.title)
    bar = st.progress(0.0, text=f"Downloading {title}")

    def report(done: int, total: int) -> None:
        fraction = min(done / total, 1.0) if total else 0.0
        bar.progress(fraction, text=f"Downloading {title}: {done / 2**20:.0f} of {total / 2**20:.0f} MB")

    try:
        ex.load_model(entry.name, progress=report)
    except ex.ExplainerError as error:
        bar.empty()
        st.error(in_markdown(str(error)))
        return False
    bar.empty()
    return True


def _load_own() -> None:
    """Callback: load the uploaded files and choose the network. After a failure the former one stays chosen."""
    files = st.session_state.own_files
    cards = [file for file in files if PurePath(file.name).suffix == ".json"]
    checkpoints = [file for file in files if file not in cards]
    st.session_state[ERRORS] = errors = []
    try:
        if len(checkpoints) != 1 or len(cards) > 1:
            raise ex.ExplainerError("Give one checkpoint, and at most one .json card with it.")
        card = card_fields(cards[0].getvalue()) if cards else None
        file = checkpoints[0]
        network = ex.load_uploaded_model(file.name, file.getvalue(), st.session_state.own_architecture, card)
    except ex.ExplainerError as error:
        errors.append(str(error))
    else:
        name = f"{readable(PurePath(file.name).stem, 40)} (uploaded)"
        awaited = name == link.get(network_link.PARAMETER) and name not in uploaded()
        _keep(name, network)
        if not awaited:  # else the link's fingerprint stays, so that other weights are warned of
            network_link.choose(name)


def _keep(name: str, network: ex.Classifier) -> None:
    """Keep a network for this session, and only the last few, because each may take hundreds of megabytes."""
    networks = uploaded()
    networks.pop(name, None)
    networks[name] = network
    for oldest in list(networks)[:-MOST_UPLOADED]:
        del networks[oldest]
