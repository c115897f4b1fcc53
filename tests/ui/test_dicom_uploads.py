"""A DICOM file that is uploaded: neither the session nor its session file keeps the patient's data."""

from __future__ import annotations

import numpy as np
from support import page
from support.dicom_files import dicom

import explainers as ex
from components.state import pool, session_archive
from explainers.pictures import picture_digest

STORED = np.arange(96 * 64, dtype=np.uint16).reshape(64, 96)


def test_the_patient_is_in_no_session_file_and_the_values_and_the_window_are(open_app):
    data = dicom(STORED, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=[40, 500], WindowWidth=[400, 2000])
    app = page.upload(open_app(query={"methods": ["Gradient"]}), "uploaded_files", ("scan.dcm", data, "application/dicom"))
    upload, = app.session_state[pool.POOL].values()
    stored = session_archive.Stored(upload.file_name, upload.data, tuple(upload.roles))
    saved = session_archive.write(session_archive.Session("compare", {}, [stored]))
    assert b"A^Name" in data and b"A^Name" not in saved
    picture, = session_archive.read(saved).pictures
    scan = ex.read_picture(picture.data)
    assert not app.exception and picture_digest(scan) == upload.digest
    assert np.array_equal(scan.values, STORED - 1024.0) and scan.window == (40, 400)
