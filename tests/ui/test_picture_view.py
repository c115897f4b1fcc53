"""The widgets that say how a picture is shown to the network: fitted into its square, and through which window of its values."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from support import page

import explainers as ex
from components.state import decoded
from explainers.decoding import Decoders

SCAN = np.linspace(0, 4000, 96 * 64).reshape(64, 96).astype(np.uint16)
QUERY = {"methods": ["Gradient"], "controls": "false"}


def tiff(values: np.ndarray) -> tuple[str, bytes, str]:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF")
    return "scan.tif", buffer.getvalue(), "image/tiff"


def overview(app) -> tuple[str, str]:
    """The text beside the picture, and the picture's source."""
    return page.section(app, "overview"), page.pictures(app, "overview")[0]


@pytest.fixture()
def scan(open_app):
    """The start page with an uploaded TIFF of 12-bit values, 96 x 64."""
    return page.upload(open_app(query=QUERY), "uploaded_files", tiff(SCAN))


def test_each_fit_changes_what_the_network_sees_and_is_said(scan):
    texts, sources = zip(*(overview(page.choose(scan, "fit", fit)) for fit in ("Crop", "Whole", "Stretch")), strict=True)
    assert len(set(sources)) == 3
    assert "framed part seen" in texts[0] and "seen whole with borders" in texts[1] and "seen stretched" in texts[2]


def test_the_fit_is_in_the_link(open_app):
    app = open_app(query={**QUERY, "fit": "Whole", "picture": "coffee"})
    assert page.value(app, "fit") == "Whole" and "seen whole with borders" in overview(app)[0]


def test_a_scan_has_a_window_and_a_photograph_has_none(scan, open_app):
    assert page.has(scan, "level") and page.has(scan, "width")
    app = open_app(query=QUERY)
    assert page.has(app, "fit") and not page.has(app, "level") and not page.has(app, "width")


def test_another_window_is_another_picture(scan):
    whole = overview(scan)[1]
    page.choose(scan, "level", 1000.0)
    narrow = overview(page.choose(scan, "width", 100.0))[1]
    assert not scan.exception and narrow != whole
    page.choose(scan, "level", None)
    assert overview(page.choose(scan, "width", None))[1] == whole


def test_the_window_of_one_scan_is_not_kept_for_another(open_app):
    app = page.upload(open_app(query=QUERY), "uploaded_files", tiff(SCAN), tiff(SCAN[::-1].copy()))
    page.choose(app, "level", 1000.0)
    step = next(key for key in ("next_picture", "previous_picture") if not page.widget(app, key).disabled)
    app = page.click(app, step)
    assert not app.exception and page.value(app, "level") is None and page.value(app, "width") is None


def test_scans_that_look_the_same_and_hold_other_values_are_two_pictures(open_app):
    """Twice the values through a window of twice the width are the same 8 bits, until a window is chosen."""
    scans = [tiff((SCAN // 8 * 8 + 8) * factor) for factor in (1, 2)]
    assert len({ex.digest(ex.load_image(data)) for _, data, _ in scans}) == 1
    app = page.upload(open_app(query=QUERY), "uploaded_files", *scans)
    first = overview(page.choose(app, "level", 1000.0))[1]
    app = page.click(app, "next_picture" if not page.widget(app, "next_picture").disabled else "previous_picture")
    assert overview(page.choose(app, "level", 1000.0))[1] != first and not app.exception


def test_a_window_in_the_link_is_kept(open_app):
    app = page.upload(open_app(query={**QUERY, "level": "1000", "width": "100"}), "uploaded_files", tiff(SCAN))
    assert not app.exception and (page.value(app, "level"), page.value(app, "width")) == (1000, 100)


def test_a_dicom_file_without_its_package_gets_one_line(open_app, monkeypatch, tmp_path):
    (tmp_path / "pydicom.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # for the process that decodes
    workers = Decoders(most=1)
    monkeypatch.setattr(decoded, "decoders", lambda: workers)
    app = page.upload(open_app(query=QUERY), "uploaded_files", ("scan.dcm", bytes(128) + b"DICM" + bytes(100), "application/dicom"))
    assert len(page.errors(app)) == 1 and "pip install" in page.errors(app)[0] and page.errors(app)[0].startswith("scan.dcm")
    workers.close()
