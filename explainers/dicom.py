"""Reads the first frame of a DICOM file by the package pydicom, which is only needed for such files.

The values are those after the file's rescale slope and intercept. Its window is taken as linear, whatever its VOI LUT function.
Uncompressed files only: the size of a compressed frame is known after decoding it, which is too late to refuse it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np

from explainers.picture_limits import PictureError, damaged, refuse_size

MARK = b"DICM"  # at byte 128
DEFLATED = b"1.2.840.10008.1.2.1.99"  # the transfer syntax whose whole file is one compressed stream
GREY = ("MONOCHROME1", "MONOCHROME2")

# The elements that decide what is seen. Everything else may say whose picture it is.
SEEN = ("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns", "BitsAllocated",
        "BitsStored", "HighBit", "PixelRepresentation", "RescaleIntercept", "RescaleSlope", "WindowCenter", "WindowWidth", "PixelData")
NEUTRAL = "1.2.840.10008.5.1.4.1.1.7", "2.25.1"  # the class of pictures from any source, and an identifier that names none


@dataclass(frozen=True)
class Frame:
    """The first frame. values: float32 (H, W) in the file's units, finite or not a number, or uint8 (H, W, 3) colours.

    window: the file's first (level, width), None where it names none. inverted: small values are shown white (MONOCHROME1).
    """

    values: np.ndarray
    window: tuple[float, float] | None
    inverted: bool
    notes: tuple[str, ...]


def is_dicom(data: bytes) -> bool:
    """Whether a file's bytes are DICOM, by the mark after its preamble."""
    return data[128:132] == MARK


def read_dicom(data: bytes) -> Frame:
    """The first frame of a file's bytes. Raises PictureError where pydicom is missing or the file cannot be used."""
    try:
        import pydicom
        from pydicom.pixels import pixel_array
    except ImportError as error:
        raise PictureError("This file is a DICOM file, which needs a package that is not installed here; "
                           "run `pip install \"pydicom>=3\"`, or save the picture as PNG.") from error
    if DEFLATED in data:
        raise PictureError(_compressed())
    try:
        header = pydicom.dcmread(BytesIO(data))
        _refuse(header)
        return _frame(header, np.asarray(pixel_array(header, index=0)))
    except PictureError:
        raise
    except Exception as error:  # pydicom raises many kinds for damaged files: AttributeError, ValueError, struct.error ...
        raise PictureError(damaged()) from error


def without_header(data: bytes) -> bytes:
    """The same pixels, units and window in a file without anything else, such as names, dates and identifiers.

    Text that is part of the pixels stays. data: a file that ``read_dicom`` can read.
    """
    import pydicom

    header = pydicom.dcmread(BytesIO(data))
    plain = pydicom.Dataset()
    for name in SEEN:
        if name in header:
            plain.add(header[name])
    plain.file_meta = pydicom.dataset.FileMetaDataset()
    plain.file_meta.TransferSyntaxUID = header.file_meta.TransferSyntaxUID
    neutral = map(pydicom.uid.UID, NEUTRAL)
    plain.file_meta.MediaStorageSOPClassUID, plain.file_meta.MediaStorageSOPInstanceUID = neutral
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, plain, enforce_file_format=True)
    return buffer.getvalue()


def _refuse(header: Any) -> None:
    """Raise PictureError, before any pixel is decoded, for a file without a picture that can be read here."""
    if "PixelData" not in header:
        raise PictureError("This DICOM file holds no picture; choose one that does.")
    if header.file_meta.TransferSyntaxUID.is_compressed:
        raise PictureError(_compressed())
    if header.PhotometricInterpretation not in (*GREY, "RGB"):
        raise PictureError("This DICOM file's colours are neither grey nor RGB; save the picture as PNG.")
    refuse_size(int(header.Columns), int(header.Rows))


def _frame(header: Any, stored: np.ndarray) -> Frame:
    frames = int(header.get("NumberOfFrames", 1) or 1)
    notes = (f"{frames} frames: only the first is used",) if frames > 1 else ()
    if header.PhotometricInterpretation == "RGB":
        if stored.dtype != np.uint8:
            raise PictureError("This DICOM file's colours have more than 8 bits; save the picture as PNG.")
        return Frame(stored, None, False, notes)
    slope, intercept = float(header.get("RescaleSlope", 1) or 1), float(header.get("RescaleIntercept", 0) or 0)
    with np.errstate(over="ignore", invalid="ignore"):  # a slope beyond all reason
        values = stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)
    values[~np.isfinite(values)] = np.nan
    level, width = _first(header, "WindowCenter"), _first(header, "WindowWidth")
    return Frame(values, None if level is None or width is None or width <= 0 else (level, width),
                 header.PhotometricInterpretation == "MONOCHROME1", notes)


def _first(header: Any, name: str) -> float | None:
    """An element's first value; files may name several windows."""
    value = header.get(name)
    if value is None or value == "":
        return None
    number = float(value if isinstance(value, (int, float, str)) else value[0])
    return number if math.isfinite(number) else None


def _compressed() -> str:
    return "This DICOM file is compressed; save it uncompressed (in pydicom: dataset.decompress()), or save the picture as PNG."
