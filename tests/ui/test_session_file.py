"""A session as a file: what is saved comes back, and hostile files get one sentence."""

from __future__ import annotations

import json
import struct
import tracemalloc
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


@pytest.mark.parametrize("ending", [".a b", ".\u0301", ".toolong", ".", ""])
def test_an_ending_that_is_not_plain_is_left_out(ending):
    with zipfile.ZipFile(BytesIO(write(Session("compare", {}, [Stored("a" + ending, b"x", ("explain",))])))) as archive:
        assert archive.namelist() == ["pictures/0000", "session.json"]


@pytest.mark.parametrize("chosen", [2, -1, "0", None])
def test_a_choice_that_is_not_among_the_pictures_is_none(chosen):
    manifest = {**GOOD, "pictures": [{**ENTRY, "file": file} for file in "ab"], "chosen": chosen}
    assert read(archive_of(manifest, a=b"x", b=b"y")).chosen is None
    assert read(archive_of({**manifest, "chosen": 1}, a=b"x", b=b"y")).chosen == 1


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
    "one file for several pictures": lambda: archive_of({**GOOD, "pictures": [ENTRY, ENTRY]}, a=picture(1)),
    "a file outside": lambda: archive_of({**GOOD, "pictures": [{**ENTRY, "file": "/etc/passwd"}]}),
    "a huge manifest": lambda: archive_of({**GOOD, "settings": {"seed": ["0" * (session_archive.MOST_MANIFEST_BYTES + 1)]}}),
    "a newer version": lambda: archive_of({**GOOD, "version": 2}),
    "another compression": lambda: archive_of(GOOD, zipfile.ZIP_LZMA),
    "a flipped bit": lambda: flipped(),
    "no deflate stream": lambda: no_stream(),
}


def flipped() -> bytes:
    data = bytearray(archive_of({**GOOD, "pictures": [ENTRY]}, zipfile.ZIP_STORED, a=b"picture"))
    data[data.index(b"picture")] ^= 1
    return bytes(data)


def no_stream() -> bytes:
    data = bytearray(archive_of(GOOD))
    data[30 + len("session.json")] = 0xFF
    return bytes(data)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_cannot_be_opened_gets_one_sentence(name):
    with pytest.raises(ex.ExplainerError) as caught:
        read(HOSTILE[name]())
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value) and len(str(caught.value)) < 160


def test_sizes_are_bounded_before_anything_is_unpacked(monkeypatch):
    bomb = archive_of({**GOOD, "pictures": [ENTRY]}, a=b"\0" * (session_archive.MOST_BYTES + 1))
    assert len(bomb) < 2**20
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(ex.ExplainerError, match="190 MB"):
        read(bomb)


def test_an_entry_that_is_larger_than_it_declares_is_not_unpacked():
    size = 2**26
    bomb = archive_of({**GOOD, "pictures": [ENTRY]}, a=b"\0" * size).replace(size.to_bytes(4, "little"), (100).to_bytes(4, "little"))
    tracemalloc.start()
    with pytest.raises(ex.ExplainerError, match="damaged"):
        read(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < size / 8


def test_too_many_files_are_refused():
    with pytest.raises(ex.ExplainerError, match="2000 pictures"):
        read(archive_of(GOOD, **{str(number): b"" for number in range(2001)}))


def open_file(app, data: bytes):
    app = page.unfold(app, "session_file")
    return page.upload(app, "open_session_file", ("session.zip", data, "application/zip"))


def test_parameters_that_streamlit_keeps_for_itself_are_left_out(open_app):
    data = archive_of({**GOOD, "settings": {"embed": ["true"], "EMBED_OPTIONS": ["light_theme"], "seed": ["7"]}})
    app = click(open_file(open_app(query={"methods": ["Gradient"]}), data), "confirm_session")
    assert not app.exception and page.value(app, "seed") == 7


def many_entries(count: int) -> bytes:
    """A zip file with so many empty entries, which all share one name."""
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    return entry * count + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count % 65536, count % 65536, len(entry) * count, 0, 0)


def test_a_list_of_entries_that_would_become_gigabytes_is_not_read(monkeypatch):
    data = many_entries(50_000)
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("the list of entries was read"))
    with pytest.raises(ex.ExplainerError, match="2000 pictures"):
        read(data)


@pytest.mark.parametrize("change", [
    lambda data: data[:-2] + b"\1\0x",  # a comment
    lambda data: data[:-22] + struct.pack("<4sIQI", b"PK\6\7", 0, 0, 1) + data[-22:],  # a zip file of the large kind
    lambda data: data + b"tail"])
def test_an_end_that_hides_the_list_of_entries_is_refused(change):
    assert read(write(SAVED)) == SAVED
    with pytest.raises(ex.ExplainerError):
        read(change(write(SAVED)))


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


@pytest.fixture()
def saved_file(monkeypatch):
    """Saves the session of an app. AppTest offers no click on a download, so what the button would write is caught on its way."""
    files: list[bytes] = []

    def button(label, data, *_, key="", **__):
        if key == "save_session":
            files.append(data())

    def save(app) -> bytes:
        with monkeypatch.context() as patch:
            patch.setattr(st, "download_button", button)
            page.unfold(app, "session_file")
        return files[-1]

    return save


def test_what_is_saved_is_the_session_at_hand(open_app, saved_file):
    app = open_app(query={"methods": ["Gradient"], "seed": "7"})
    app = page.upload(app, "uploaded_files", ("a.png", picture(1), "image/png"), ("b.png", picture(2), "image/png"))
    saved = read(saved_file(click(app, "next_picture")))
    assert [(stored.file_name, stored.data, stored.roles) for stored in saved.pictures] == [
        ("a.png", picture(1), ("explain",)), ("b.png", picture(2), ("explain",))]
    assert saved.page == "compare" and saved.chosen == 1 and saved.query["seed"] == ["7"] and saved.query["methods"] == ["Gradient"]


def reopened(open_app, data: bytes):
    """Another session, in which a session file was opened."""
    app = click(open_file(open_app(query={"methods": ["RISE"], "rise.masks": "20"}), data), "confirm_session")
    assert not app.exception and not page.errors(app)
    return app


def test_a_round_trip_with_reference_pictures(open_app, saved_file):
    app = open_app(query={"methods": ["MIP-IN"], "network": "digits_mlp", "reference": "Uploaded pictures"})
    app = page.upload(app, "reference_files", *((f"{seed}.png", picture(seed), "image/png") for seed in range(3)))
    app = page.run_all(app)
    expected, identity = maps(app), query(app)["reference_id"]
    other = page.run_all(reopened(open_app, saved_file(app)))
    assert not has(other, "missing") and query(other)["reference_id"] == identity and maps(other) == expected
    assert "3 pictures uploaded here" in page.section(other, "reference_all_row") and not has(other, "upload_steps")


def scan() -> bytes:
    buffer = BytesIO()
    values = np.random.default_rng(0).integers(0, 4000, (64, 96), dtype=np.uint16)
    Image.fromarray(values).save(buffer, "TIFF")
    return buffer.getvalue()


@pytest.mark.parametrize("fit", ["Whole", "Stretch"])
def test_a_round_trip_with_a_window_and_a_fit(open_app, saved_file, fit):
    """The settings are in the URL from the start, because it is the browser that writes the choices of widgets into it."""
    settings = {"methods": ["Gradient"], "level": "1000", "width": "100", "fit": fit}
    app = page.upload(open_app(query=settings), "uploaded_files", ("scan.tif", scan(), "image/tiff"))
    expected, seen = maps(app), page.pictures(app, "overview")
    other = reopened(open_app, saved_file(app))
    assert [page.value(other, key) for key in ("level", "width", "fit")] == [1000, 100, fit]
    assert page.pictures(other, "overview") == seen and maps(other) == expected
    assert page.pictures(choose(other, "width", 200.0), "overview") != seen


def test_a_round_trip_without_the_network_asks_for_it(open_app, saved_file):
    app = page.upload(open_app(query={"methods": ["Gradient"]}), "uploaded_files", ("a.png", picture(1), "image/png"))
    saved = read(saved_file(app))
    settings = {**saved.query, "network": ["mine (uploaded)"], "network_id": ["0123456789ab"]}
    other = reopened(open_app, write(Session(saved.page, settings, saved.pictures, saved.chosen)))
    assert "(sha 0123456789ab)" in page.section(other, "missing") and not page.charts(other) and not has(other, "missing_picture")
    assert maps(choose(other, "network", "scenes_vgg")) == maps(app)


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
