"""What a page shows instead of its content while something that its link needs is not here; nothing is computed meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from components.drawing.foreign_words import in_markdown, shortened
from components.sidebar import network_loader, picture_picker, pool_uploader, reference_picker, uploading
from components.state import link, pool
from components.state.link import Missing

PICTURE_UPLOADER, REFERENCE_UPLOADER = "missing_picture", "missing_reference"
START = "pages/compare.py"


def draw(missing: Sequence[Missing]) -> None:
    """Say what is missing, with a place for the file and the ways to go on without it."""
    with st.container(key="missing"):
        for each in missing:
            st.warning(in_markdown(each.sentence))
            _PLACES[each.kind](each)
        if st.button("Open the start page instead", key="open_start",
                     help="Leaves this link for the picture and the network that the app begins with."):
            link.forget()
            st.switch_page(START, query_params={})


def _picture(missing: Missing) -> None:
    st.caption("A link never carries pictures: they stay with the person who made it. Drop the same file here to see the same view.")
    pool_uploader.draw(PICTURE_UPLOADER, pool.EXPLAIN, f"Drop {in_markdown(missing.name)} here",
                       "The file that the link was made with.")
    uploading.complain(pool_uploader.complaints(PICTURE_UPLOADER))
    for name in pool_uploader.new(PICTURE_UPLOADER):
        upload = pool.find(name)
        if upload:
            file_name = in_markdown(shortened(upload.file_name))
            st.info(f"{file_name} is another picture (sha {upload.digest[:pool.DIGITS]}).")
            st.button(f"Open {file_name} instead", key=f"open-{name}", on_click=picture_picker.choose, args=(name,),
                      help="Shows this picture with the link's other settings.")


def _reference(missing: Missing) -> None:
    st.caption("The link's maps were fitted on these pictures, and a link never carries pictures. Drop all of them here to see "
               "the same maps.")
    pool_uploader.draw(REFERENCE_UPLOADER, pool.REFERENCE, "Drop the reference pictures here",
                       "The files that the link was made with.")
    uploading.complain(pool_uploader.complaints(REFERENCE_UPLOADER))
    here = pool.uploads(pool.REFERENCE)
    if here:
        st.info(f"{len(here)} pictures are here (sha {pool.fingerprint(here)}); the link was made with others, or with more.")
        st.button(f"Go on with these {len(here)} pictures", key="accept_reference", on_click=reference_picker.accept,
                  help="Fits the statistics on these pictures. The maps differ from those of the link.")
    st.button("Go on without reference pictures", key="no_reference", on_click=reference_picker.give_up,
              help="Fits the statistics on the network's own reference pictures, or on copies of the explained one.")


def _network(missing: Missing) -> None:
    st.caption("A link never carries weights. Load the checkpoint that it was made with here, under its own file name, or choose "
               "another network in the sidebar.")
    with st.container(key="missing_network"):
        network_loader.draw_open()


_PLACES = {"picture": _picture, "reference pictures": _reference, "network": _network}
