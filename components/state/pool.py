"""The pictures that a person uploaded in this session: one pool, from which pictures are explained, and sets are made.

A file is kept as it was given, in memory, and decoded when it is needed (see ``decoded``): four hundred decoded photographs would
fill the memory. Only of a DICOM file the header is dropped, because it names the patient, and the files go into session files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import streamlit as st

import explainers as ex
from components.state import decoded
from explainers.picture_limits import CostlyPicture

POOL = "pool"
PREFIX = "upload-"  # an uploaded picture's name is this and the start of its digest
DIGITS = 12  # of a digest in a name or a link
MOST_PICTURES = 2000
MOST_BYTES = 2**30
MOST_COSTLY = 3  # files of one upload whose decoding had to be ended; no further one is then tried

EXPLAIN, REFERENCE, LABELLED = "explain", "reference", "labelled"
"""What a picture was uploaded for; a picture may have several of these roles."""


@dataclass(frozen=True)
class Upload:
    """An uploaded file that can be read as a picture. digest: of what it shows, see ``pictures.picture_digest``, 64 hex digits."""

    file_name: str
    data: bytes
    digest: str
    roles: frozenset[str]

    @property
    def name(self) -> str:
        """Its name in links."""
        return PREFIX + self.digest[:DIGITS]

    def read(self) -> ex.Picture:
        """The decoded picture; the last few stay decoded. Raises PictureError where decoding fails now, as for lack of memory."""
        return decoded.picture(self.digest, self.data)


def _all() -> dict[str, Upload]:
    return st.session_state.setdefault(POOL, {})


def uploads(role: str = "") -> list[Upload]:
    """All uploads, or those with this role, in the order in which they were uploaded."""
    return [upload for upload in _all().values() if not role or role in upload.roles]


def find(name: str) -> Upload | None:
    """The upload with this name, if it is here."""
    return _all().get(name)


def add(file_name: str, data: bytes, roles: Iterable[str]) -> Upload:
    """Put a file into the pool. A picture that is there already only gets these roles, too, and the newer file name.

    Raises ExplainerError for a file that is no picture, and where the pool is full.
    """
    checked = decoded.decoders().check(data, decoded.give_way)
    data = checked.data
    upload = Upload(file_name, data, checked.digest, frozenset(roles))
    former = find(upload.name)
    if former:
        upload = replace(former, file_name=file_name, roles=former.roles | upload.roles)
    elif len(_all()) >= MOST_PICTURES or size() + len(data) > MOST_BYTES:
        raise ex.ExplainerError(f"There are already {len(_all())} uploaded pictures ({size() / 2**20:.0f} MB), as many as one session "
                                "keeps; remove some first.")
    _all()[upload.name] = upload
    return upload


def add_each(files: Iterable[tuple[str, bytes, Iterable[str]]]) -> Iterator[Upload | ex.ExplainerError]:
    """Put files (name, bytes, roles) into the pool: for each the upload, or the error that says why it cannot be used."""
    costly = 0
    for file_name, data, roles in files:
        outcome: Upload | ex.ExplainerError
        try:
            if costly >= MOST_COSTLY:  # each of them takes seconds, and holds up the uploads of everybody
                raise ex.ExplainerError(
                    f"This file was not read, because decoding {MOST_COSTLY} files before it took too long; upload it without them.")
            outcome = add(file_name, data, roles)
        except ex.ExplainerError as error:
            costly += isinstance(error, CostlyPicture)
            outcome = error
        yield outcome


def remove(chosen: Iterable[Upload], role: str) -> None:
    """Take a role from uploads; those that have no other leave the pool."""
    for upload in chosen:
        roles = upload.roles - {role}
        if roles:
            _all()[upload.name] = replace(upload, roles=roles)
        else:
            _all().pop(upload.name, None)


def size() -> int:
    """The bytes of all files."""
    return sum(len(upload.data) for upload in _all().values())


def fingerprint(chosen: Sequence[Upload]) -> str:
    """The first digits of a sha256 that stands for a set of pictures, in whatever order; empty for none."""
    if not chosen:
        return ""
    digests = sorted(upload.digest for upload in chosen)
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()[:DIGITS]
