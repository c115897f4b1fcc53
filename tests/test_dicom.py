"""DICOM files: without pydicom one sentence, with it the values in the file's units through the file's own window."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from support.dicom_files import dicom
from support.refusals import refusal

from explainers.dicom import without_header
from explainers.pictures import read_picture

STORED = np.arange(256, dtype=np.uint16).reshape(16, 16) * 8  # 0 .. 2040


def test_without_pydicom_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert 'pip install "pydicom>=3"' in refusal(bytes(128) + b"DICM" + bytes(100))


def test_values_are_rescaled_and_shown_through_the_files_window():
    """Stored 0..2040 with slope 1 and intercept -1024; level 40 and width 400 show -160 as black and 240 as white."""
    picture = read_picture(dicom(STORED, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=[40, 500], WindowWidth=[400, 2000]))
    assert np.array_equal(picture.values, STORED.astype(np.float32) - 1024) and picture.window == (40, 400)
    grey = np.asarray(picture.image)[..., 0]
    assert (grey[picture.values <= -160] == 0).all() and (grey[picture.values >= 240] == 255).all()
    assert grey[picture.values == 40].tolist() == [128]
    assert picture.notes == ("opened with the file's own window: level 40, width 400",)
    assert picture.image.info == {}


def test_values_that_are_not_finite_are_pixels_without_a_value():
    picture = read_picture(dicom(STORED, RescaleSlope=3e35, RescaleIntercept=0))
    assert np.array_equal(np.isnan(picture.values), STORED.astype(np.float64) * 3e35 > np.finfo(np.float32).max)
    assert np.isfinite(picture.value_range).all()


def test_monochrome1_shows_small_values_white():
    picture = read_picture(dicom(STORED, PhotometricInterpretation="MONOCHROME1", WindowCenter=1000, WindowWidth=100))
    assert picture.inverted and picture.image.getpixel((0, 0)) == (255,) * 3 and picture.image.getpixel((15, 15)) == (0,) * 3


def test_without_a_window_the_values_give_one():
    assert read_picture(dicom(STORED)).window == pytest.approx((1020, 2020), rel=0.01)


def test_of_several_frames_the_first_is_used():
    picture = read_picture(dicom(np.stack([STORED, STORED[::-1]]), NumberOfFrames=2))
    assert np.array_equal(picture.values, STORED) and picture.notes[0] == "2 frames: only the first is used"


def test_colours_are_read():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    data = dicom(pixels, PhotometricInterpretation="RGB", SamplesPerPixel=3, PlanarConfiguration=0, Rows=16, Columns=16)
    assert np.array_equal(np.asarray(read_picture(data).image), pixels)


GREY_FILE = {"RescaleSlope": 0.5, "RescaleIntercept": -1024, "WindowCenter": [40, 500], "WindowWidth": [400, 2000],
             "NumberOfFrames": 2, "PhotometricInterpretation": "MONOCHROME1"}
COLOUR_FILE = {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3, "PlanarConfiguration": 0, "Rows": 16, "Columns": 16}


@pytest.mark.parametrize(("stored", "elements"), [
    (np.stack([STORED, STORED[::-1]]), GREY_FILE), (np.zeros((16, 16, 3), np.uint8) + np.uint8([1, 2, 3]), COLOUR_FILE)])
def test_without_the_header_the_picture_is_the_same_and_nobody_is_named(stored, elements):
    data = dicom(stored, PatientID="ID-4711", InstitutionName="Hospital", StudyInstanceUID="1.2.3.4711", **elements)
    data = b"preamble".ljust(128, b"!") + data[128:]
    before, after = read_picture(data), read_picture(without_header(data))
    assert np.array_equal(np.asarray(after.image), np.asarray(before.image)) and after.notes == before.notes
    assert (after.window, after.inverted) == (before.window, before.inverted)
    assert after.values is before.values is None or np.array_equal(after.values, before.values)
    private = (b"A^Name", b"4711", b"Hospital", b"preamble", b"1.2.3")
    assert all(word in data for word in private) and not any(word in without_header(data) for word in private)


@pytest.mark.parametrize("change, word", [
    ({"Rows": 20000, "Columns": 20000}, "40 million pixels"),
    ({"Rows": 4, "Columns": 64}, "at least 8"),
    ({"PhotometricInterpretation": "PALETTE COLOR"}, "neither grey nor RGB"),
    ({"Rows": 64}, "damaged"),
])
def test_files_that_cannot_be_used(change, word):
    assert word in refusal(dicom(STORED, **change))


def test_compressed_and_damaged_files():
    plain = dicom(STORED)
    assert "compressed" in refusal(plain.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"))
    assert "compressed" in refusal(plain + b"1.2.840.10008.1.2.1.99")
    for length in (140, 200, len(plain) - 300):
        assert refusal(plain[:length])
