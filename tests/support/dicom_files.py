"""DICOM files for tests, made by pydicom; tests that need one are skipped without that package."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest


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
