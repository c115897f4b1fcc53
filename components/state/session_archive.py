"""A session as a file: a zip with the uploaded pictures, as the pool keeps them, and session.json with every setting.

It holds no weights and no maps.

Other people's files are read here, so sizes are bounded before anything is unpacked, and no name in the file is used as a path.
"""

from __future__ import annotations

import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePath
from typing import Any

import explainers as ex
from components.state import pool

FORMAT = "attribution explorer session"
VERSION = 1
MANIFEST = "session.json"
MOST_BYTES = 190 * 2**20  # of all entries together; the server accepts uploads of 200 MB
MOST_MANIFEST_BYTES = 2 * 2**20
MOST_DIRECTORY_BYTES = 2**20  # of the zip file's list of entries, which is read whole; 2000 pictures take 130 kB
END = struct.Struct("<4s8xI6x")  # the last 22 bytes of a zip file without a comment: its mark, and the bytes of its list
END_MARK, LARGE_ZIP_MARK = b"PK\5\6", b"PK\6\7"
DAMAGED = "This session file is damaged; save it again."
_TOO_MUCH = (f"This file would unpack to more than {MOST_BYTES // 2**20} MB or {pool.MOST_PICTURES} pictures, more than a session may "
             "hold.")
NO_SESSION = "This is no session file of this app; make one with Save session."


@dataclass(frozen=True)
class Stored:
    """An uploaded picture: its file as the pool keeps it, and its roles (see ``pool``)."""

    file_name: str
    data: bytes
    roles: tuple[str, ...]


@dataclass(frozen=True)
class Session:
    """What is saved. page: its name in the address, such as "faithfulness". query: the link's parameters, each with its values.
    chosen: the place of the explained picture among ``pictures``, or None where that is a sample."""

    page: str
    query: Mapping[str, Sequence[str]]
    pictures: Sequence[Stored] = ()
    chosen: int | None = None


def write(session: Session) -> bytes:
    """The session as a zip file."""
    buffer = BytesIO()
    entries = []
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # pictures are compressed already
        for number, picture in enumerate(session.pictures):
            file = f"pictures/{number:04}{_ending(picture.file_name)}"
            archive.writestr(file, picture.data)
            entries.append({"file": file, "name": picture.file_name, "roles": sorted(picture.roles)})
        manifest = {"format": FORMAT, "version": VERSION, "page": session.page, "settings": dict(session.query),
                    "pictures": entries, "chosen": session.chosen}
        archive.writestr(MANIFEST, json.dumps(manifest, indent=1), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def read(data: bytes) -> Session:
    """The session in a zip file. Raises ExplainerError for a file that is none, of a newer version, damaged, or too large."""
    try:
        _refuse_directory(data)
        with zipfile.ZipFile(BytesIO(data)) as archive:
            sizes = _sizes(archive)
            if sizes.get(MANIFEST, MOST_MANIFEST_BYTES + 1) > MOST_MANIFEST_BYTES:
                raise ex.ExplainerError(NO_SESSION)
            manifest = json.loads(_content(archive, MANIFEST, sizes))
            return _session(manifest, lambda file: _content(archive, file, sizes))
    except ex.ExplainerError:
        raise
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError, EOFError, OSError, MemoryError) as error:
        raise ex.ExplainerError(DAMAGED if data.startswith(b"PK") else NO_SESSION) from error


def _ending(name: str) -> str:
    """The ending of a file's name, for people who unpack the archive by hand; empty where it is no plain one."""
    ending = PurePath(name).suffix.lower()
    return ending if re.fullmatch(r"\.[a-z0-9]{1,5}", ending) else ""


def _refuse_directory(data: bytes) -> None:
    """Raise ExplainerError for a zip file whose list of entries is large: 200 MB of it would become gigabytes.

    Also for one that ends otherwise than ``write`` ends it, so that the list that zipfile reads is the one that is bounded here.
    """
    mark, directory = END.unpack(data[-END.size:]) if len(data) >= END.size else (b"", 0)
    if mark != END_MARK or data[-2:] != b"\0\0" or data[-END.size - 20:-END.size].startswith(LARGE_ZIP_MARK):
        raise ex.ExplainerError(DAMAGED if data.startswith(b"PK") else NO_SESSION)
    if directory > MOST_DIRECTORY_BYTES:
        raise ex.ExplainerError(_TOO_MUCH)


def _sizes(archive: zipfile.ZipFile) -> dict[str, int]:
    """The unpacked bytes of each entry as the archive declares them."""
    entries = archive.infolist()
    if len(entries) > pool.MOST_PICTURES + 1 or sum(entry.file_size for entry in entries) > MOST_BYTES:
        raise ex.ExplainerError(_TOO_MUCH)
    if any(entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries):
        raise ex.ExplainerError(NO_SESSION)
    return {entry.filename: entry.file_size for entry in entries}


def _content(archive: zipfile.ZipFile, file: str, sizes: Mapping[str, int]) -> bytes:
    """An entry's bytes. Without a limit, zipfile would unpack whatever the entry holds before it cuts that to the declared size."""
    if file not in sizes:
        raise ex.ExplainerError("This session file lacks one of its pictures; save it again.")
    with archive.open(file) as entry:
        return entry.read(sizes[file])


def _session(manifest: Any, content: Callable[[str], bytes]) -> Session:
    """The session that session.json describes; ``content(file)`` gives the bytes of an entry."""
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or not isinstance(manifest.get("version"), int):
        raise ex.ExplainerError(NO_SESSION)
    if manifest["version"] > VERSION:
        raise ex.ExplainerError("This session was saved by a newer version of the app; update this one to open it.")
    try:
        query = {str(name): [str(value) for value in values] for name, values in manifest["settings"].items()}
        files = [entry["file"] for entry in manifest["pictures"]]
        if len(set(files)) < len(files):  # one entry, read once for each of thousands of pictures
            raise ex.ExplainerError(DAMAGED)
        pictures = [Stored(str(entry["name"]), content(entry["file"]), tuple(map(str, entry["roles"])))
                    for entry in manifest["pictures"]]
        chosen = manifest["chosen"]
        page = str(manifest["page"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ex.ExplainerError(DAMAGED) from error
    return Session(page, query, pictures, chosen if isinstance(chosen, int) and 0 <= chosen < len(pictures) else None)
