"""Which network: embedded, torchvision's (downloaded only when asked for), or a person's own checkpoint."""

from __future__ import annotations

import json
from pathlib import PurePath

import streamlit as st

import explainers as ex
from components.state.engine import network as shared_network

DEFAULT = "scenes_vgg"
CHECKPOINT_TYPES = ["safetensors", "pth", "pt"]


def pick() -> ex.Classifier | None:
    """Draw the picker. None while the chosen network's weights are not here, or cannot be loaded; the reason is shown."""
    entries = {entry.name: entry for entry in ex.models()}
    uploaded: dict[str, ex.Classifier] = st.session_state.setdefault("uploaded_networks", {})
    names = [*entries, *uploaded]
    name = st.selectbox(
        "Network", names, index=names.index(DEFAULT) if DEFAULT in names else 0, key="network", bind="query-params",
        format_func=lambda name: _label(entries[name]) if name in entries else name,
        help="The classifier that is explained. Embedded networks are small and always there; torchvision's are "
             "ImageNet classifiers; your own come from a checkpoint.")
    _own_checkpoint()
    if name in uploaded:
        return uploaded[name]
    entry = entries[name]
    if entry.note:
        st.caption(entry.note)
    if not entry.ready and not _download(entry):
        return None
    try:
        return shared_network(name)
    except ex.ExplainerError as error:
        st.error(str(error))
        return None


def _label(entry: ex.ModelEntry) -> str:
    return {"torchvision": f"{entry.title} (torchvision)", "yours": f"{entry.title} (yours)"}.get(entry.family, entry.title)


def _download(entry: ex.ModelEntry) -> bool:
    """Offer the download, and do it with a progress bar when the button is pressed. True when the weights are here."""
    if not st.button("Download the weights", key=f"download-{entry.name}", width="stretch",
                     help="Fetches the weights from torchvision's server once; they are kept in torch's own folder."):
        return False
    bar = st.progress(0.0, text=f"Downloading {entry.title}")

    def report(done: int, total: int) -> None:
        fraction = min(done / total, 1.0) if total else 0.0
        bar.progress(fraction, text=f"Downloading {entry.title}: {done / 2**20:.0f} of {total / 2**20:.0f} MB")

    try:
        ex.load_model(entry.name, progress=report)
    except ex.ExplainerError as error:
        bar.empty()
        st.error(str(error))
        return False
    bar.empty()
    return True


def _own_checkpoint() -> None:
    """The upload of a checkpoint for one of torchvision's architectures."""
    with st.popover("Use your own checkpoint", width="stretch", type="tertiary",
                    help="A checkpoint from your disk for one of torchvision's architectures."):
        architectures = [entry.name for entry in ex.models() if entry.family == "torchvision"]
        st.selectbox("Architecture", architectures, key="own_architecture",
                     help="The torchvision architecture that the checkpoint was trained with.")
        st.file_uploader(
            "Checkpoint, and its card", type=[*CHECKPOINT_TYPES, "json"], accept_multiple_files=True, key="own_files",
            help="A .safetensors or .pth file that holds only weights. An optional .json beside it states categories (or "
                 "num_classes), input_size, mean and std. Files over 200 MB: put them into the folder that "
                 "EXPLORER_MODELS names, and start again.")
        st.button("Load the checkpoint", key="own_load", on_click=_load_own, disabled=not st.session_state.get("own_files"),
                  width="stretch", help="Reads the files, and chooses the network.")
    for line in st.session_state.get("own_errors", ()):
        st.error(line)


def _load_own() -> None:
    """Callback: load the uploaded files and choose the network. After a failure the former one stays chosen."""
    files = st.session_state.own_files
    cards = [file for file in files if PurePath(file.name).suffix == ".json"]
    checkpoints = [file for file in files if file not in cards]
    st.session_state.own_errors = errors = []
    try:
        if len(checkpoints) != 1 or len(cards) > 1:
            raise ex.ExplainerError("Give one checkpoint, and at most one .json card with it.")
        card = json.loads(cards[0].getvalue()) if cards else None
        file = checkpoints[0]
        net = ex.load_uploaded_model(file.name, file.getvalue(), st.session_state.own_architecture, card)
    except ex.ExplainerError as error:
        errors.append(str(error))
    except ValueError:
        errors.append("The .json card is not valid JSON.")
    else:
        label = f"{PurePath(file.name).stem[:40]} (uploaded)"
        st.session_state.uploaded_networks[label] = net
        st.session_state.network = label
