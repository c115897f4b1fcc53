"""DICOM files: without pydicom one sentence, with it the values in the file's units through the file's own window."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import pytest

from explainers.pictures import PictureError, read_picture

STORED = np.arange(256, dtype=np.uint16).reshape(16, 16) * 8  # 0 .. 2040


def dicom(stored: np.ndarray, syntax: str = "1.2.840.10008.1.2.1", **elements: Any) -> bytes:
    """A grey DICOM file in Explicit VR Little Endian with these stored values."""
    pydicom = pytest.importorskip("pydicom", minversion="3")
    header = pydicom.dataset.Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    header.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    header.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    bits = stored.dtype.itemsize * 8
    basic = {"PatientName": "A^Name", "PhotometricInterpretation": "MONOCHROME2", "SamplesPerPixel": 1, "Rows": stored.shape[-2],
             "Columns": stored.shape[-1], "BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": 0}
    for name, value in {**basic, **elements}.items():
        setattr(header, name, value)
    header.add_new(0x7FE00010, "OW", stored.tobytes())
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, header, enforce_file_format=True)
    return buffer.getvalue()


def refusal(data: bytes) -> str:
    with pytest.raises(PictureError) as caught:
        read_picture(data)
    message = str(caught.value)
    assert message.endswith(".") and message.count(". ") == 0 and "Error" not in message
    return message


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
