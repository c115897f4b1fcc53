"""A session as a file: what is saved comes back, and hostile files get one sentence."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO

import numpy as np
import pytest
import streamlit as st
from PIL import Image
from support import page
from support.page import choose, click, has, maps

import explainers as ex
from components.state import session_archive
from components.state.session_archive import Session, Stored, read, write


def picture(seed: int) -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


SAVED = Session("faithfulness", {"methods": ["Gradient", "RISE"], "seed": ["7"]},
                [Stored("../../a b.png", picture(1), ("explain",)), Stored("x" * 300, picture(2), ("labelled", "reference"))], 1)


def test_what_is_written_is_read():
    assert read(write(SAVED)) == SAVED


def test_names_are_no_paths():
    with zipfile.ZipFile(BytesIO(write(SAVED))) as archive:
        assert archive.namelist() == ["pictures/0000.png", "pictures/0001", "session.json"]


def archive_of(manifest: object = None, compression: int = zipfile.ZIP_DEFLATED, **files: bytes) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        if manifest is not None:
            archive.writestr("session.json", manifest if isinstance(manifest, (str, bytes)) else json.dumps(manifest))
    return buffer.getvalue()


GOOD = {"format": session_archive.FORMAT, "version": 1, "page": "compare", "settings": {}, "pictures": [], "chosen": None}
ENTRY = {"file": "a", "name": "a.png", "roles": ["explain"]}
HOSTILE = {
    "no zip": lambda: b"GIF89a" * 10,
    "empty": lambda: b"",
    "cut off": lambda: write(SAVED)[:-30],
    "no manifest": lambda: archive_of(a=b"x"),
    "other manifest": lambda: archive_of({"format": "another"}),
    "no JSON": lambda: archive_of("{"),
    "deep JSON": lambda: archive_of("[" * 100_000),
    "a list": lambda: archive_of([]),
    "settings are a number": lambda: archive_of({**GOOD, "settings": 3}),
    "a value is a number": lambda: archive_of({**GOOD, "settings": {"seed": 3}}),
    "pictures without files": lambda: archive_of({**GOOD, "pictures": [ENTRY]}),
    "pictures of numbers": lambda: archive_of({**GOOD, "pictures": [3]}),
    "a file outside": lambda: archive_of({**GOOD, "pictures": [{**ENTRY, "file": "/etc/passwd"}]}),
    "a newer version": lambda: archive_of({**GOOD, "version": 2}),
    "another compression": lambda: archive_of(GOOD, zipfile.ZIP_LZMA),
    "a flipped bit": lambda: flipped(),
}


def flipped() -> bytes:
    data = bytearray(archive_of({**GOOD, "pictures": [ENTRY]}, zipfile.ZIP_STORED, a=b"picture"))
    data[data.index(b"picture")] ^= 1
    return bytes(data)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_cannot_be_opened_gets_one_sentence(name):
    with pytest.raises(ex.ExplainerError) as caught:
        read(HOSTILE[name]())
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value) and len(str(caught.value)) < 160


def test_sizes_are_bounded_before_anything_is_unpacked(monkeypatch):
    bomb = archive_of({**GOOD, "pictures": [ENTRY]}, a=b"\0" * (session_archive.MOST_BYTES + 1))
    assert len(bomb) < 2**20
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(ex.ExplainerError, match="190 MB"):
        read(bomb)


def test_too_many_files_are_refused():
    with pytest.raises(ex.ExplainerError, match="2000 pictures"):
        read(archive_of(GOOD, **{str(number): b"" for number in range(2001)}))


def open_file(app, data: bytes):
    app = page.unfold(app, "session_file")
    return page.upload(app, "open_session_file", ("session.zip", data, "application/zip"))


def query(app) -> dict[str, list[str]]:
    return {name: values if isinstance(values, list) else [values] for name, values in app.query_params.items()}


def test_a_session_brings_pictures_and_settings_to_another_one(open_app):
    app = open_app(query={"methods": ["Gradient"], "seed": "7", "class": "umbrella"})
    app = page.upload(app, "uploaded_files", ("a.png", picture(1), "image/png"), ("b.png", picture(2), "image/png"))
    app = click(app, "next_picture")
    expected = maps(app)
    pictures = [Stored("a.png", picture(1), ("explain",)), Stored("b.png", picture(2), ("explain",))]
    other = open_app(query={"methods": ["RISE"], "seed": "3", "rise.masks": "20", "controls": "true"})
    other = open_file(other, write(Session("compare", query(app), pictures, 1)))
    assert has(other, "open_session") and not has(other, "heatmaps")
    assert "2 pictures to explain" in page.section(other, "open_session")
    other = click(other, "confirm_session")
    assert not other.exception and maps(other) == expected
    assert page.value(other, "seed") == 7 and page.value(other, "methods") == ["gradient"]
    assert page.value(other, "controls") is False and "2 of 2: b.png" in page.section(other, "upload_steps")


def test_what_is_saved_is_the_session_at_hand(open_app, monkeypatch):
    """AppTest offers no click on a download, so what the button would write is caught on its way."""
    caught: list[Session] = []
    monkeypatch.setattr(st, "download_button", lambda label, data, *_, key="", **__: data() if key == "save_session" else None)
    monkeypatch.setattr(session_archive, "write", lambda session: caught.append(session) or b"")
    app = open_app(query={"methods": ["Gradient"], "seed": "7"})
    app = page.upload(app, "uploaded_files", ("a.png", picture(1), "image/png"), ("b.png", picture(2), "image/png"))
    page.unfold(click(app, "next_picture"), "session_file")
    saved = caught[-1]
    assert [(stored.file_name, stored.data, stored.roles) for stored in saved.pictures] == [
        ("a.png", picture(1), ("explain",)), ("b.png", picture(2), ("explain",))]
    assert saved.page == "compare" and saved.chosen == 1 and saved.query["seed"] == ["7"] and saved.query["methods"] == ["Gradient"]


def test_cancel_keeps_everything(open_app):
    app = open_app(query={"methods": ["Gradient"]})
    app = choose(page.upload(app, "uploaded_files", ("a.png", picture(1), "image/png")), "seed", 5)
    expected = maps(app)
    app = click(open_file(app, write(SAVED)), "cancel_session")
    assert maps(app) == expected and page.value(app, "seed") == 5 and page.value(app, "methods") == ["gradient"]


def test_a_bad_session_file_changes_nothing(open_app):
    app = open_app(query={"methods": ["Gradient"]})
    expected = maps(app)
    app = open_file(app, b"no zip")
    assert page.errors(app) == [session_archive.NO_SESSION] and maps(app) == expected
