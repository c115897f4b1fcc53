"""Where uploaded files are decoded, and which of their pictures stay decoded for a while.

A file of 20 kB can hold a picture of 160 MB. So decoding is done in worker processes (``explainers.decoding``), and what is kept is
bounded by its size: for each session, and for all sessions of the server together. What is given up is decoded again when needed.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable

import streamlit as st

import explainers as ex
from explainers.decoding import Decoders

STORE = "decoded_pictures"
MOST_PICTURES = 4  # of a session
SESSION_BYTES = 200_000_000  # the picture that was read last is kept, even if it alone is larger
SERVER_BYTES = 600_000_000


class Store:
    """The decoded pictures of one session, by the digests of what they show; the one that was read last stands last."""

    def __init__(self) -> None:
        self.pictures: OrderedDict[str, ex.Picture] = OrderedDict()

    @property
    def size(self) -> int:
        """The bytes of all pictures."""
        return sum(map(bytes_of, self.pictures.values()))


@st.cache_resource(show_spinner=False)
def decoders() -> Decoders:
    """The worker processes of this server."""
    return Decoders()


@st.cache_resource(show_spinner=False)
def _stores() -> tuple[threading.Lock, weakref.WeakSet[Store]]:
    """The stores of all sessions, which end with their sessions, and the lock for whoever adds or removes pictures."""
    return threading.Lock(), weakref.WeakSet()


def picture(digest: str, data: bytes) -> ex.Picture:
    """The picture in an uploaded file; the last few stay decoded. digest: of what it shows. Raises PictureError."""
    return kept(digest, lambda: fresh(data))


def fresh(data: bytes) -> ex.Picture:
    """The picture in an uploaded file, which is not kept, for sets of which each picture is looked at once. Raises PictureError."""
    return decoders().picture(data, give_way)


def kept(digest: str, decode: Callable[[], ex.Picture]) -> ex.Picture:
    """The picture with this digest: from the session's store, or by ``decode``, and then it is in the store."""
    lock, stores = _stores()
    store: Store = st.session_state.setdefault(STORE, Store())
    with lock:
        stores.add(store)
        if digest in store.pictures:
            store.pictures.move_to_end(digest)
            return store.pictures[digest]
    result = decode()
    with lock:
        store.pictures[digest] = result
        store.pictures.move_to_end(digest)
        while len(store.pictures) > MOST_PICTURES or (store.size > SESSION_BYTES and len(store.pictures) > 1):
            store.pictures.popitem(last=False)
        _shrink_others(stores, store)
    return result


def _shrink_others(stores: weakref.WeakSet[Store], own: Store) -> None:
    """Empty the stores of other sessions, the largest first, until all together hold no more than the server may."""
    others = sorted((store for store in stores if store is not own), key=lambda store: store.size)
    total = own.size + sum(store.size for store in others)
    while total > SERVER_BYTES and others:
        largest = others.pop()
        total -= largest.size
        largest.pictures.clear()


def bytes_of(picture: ex.Picture) -> int:
    """The memory that a decoded picture takes. Pillow keeps four bytes a pixel."""
    return 4 * picture.image.width * picture.image.height + (0 if picture.values is None else picture.values.nbytes)


def give_way() -> None:
    """Let Streamlit end this script where the page was changed, stopped or closed; it does so when the session is looked at."""
    "stop" in st.session_state  # noqa: B015
