"""The picker of reference images: there when it is needed, told in the panel, and part of what a map is."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from app.reading import complaints, explained, maps, words

QUERY = {"methods": ["MIP-IN"], "network": "Digits: MLP-M of MIP-IN", "mip_in.images": "40"}


def picture(seed: int) -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def picker(app):
    return next((box for box in app.selectbox if box.key == "reference"), None)


def uploader(app):
    return next(box for box in app.file_uploader if box.key == "reference_files")


@pytest.fixture()
def own_set(open_app):
    """The page with three uploaded reference pictures and a file that is none."""
    app = open_app(query={**QUERY, "reference": "Uploaded pictures"})
    files = [(f"{seed}.png", picture(seed), "image/png") for seed in range(3)]
    return uploader(app).set_value([*files, ("bad.png", b"no picture", "image/png")]).run()


def test_it_is_there_only_where_a_method_is_fitted(open_app):
    assert picker(open_app(query={"methods": ["Gradient"]})) is None
    assert picker(open_app(query=QUERY)).value == "Fresh digits"


def test_the_panel_says_what_the_map_was_fitted_on(open_app):
    assert "fitted on 40 of 2000 fresh digits" in words(explained(open_app(query=QUERY)))


def test_uploaded_pictures_are_fitted_on_and_bad_ones_get_a_line(own_set):
    assert len(complaints(own_set)) == 1 and complaints(own_set)[0].startswith("bad.png:")
    app = explained(own_set)
    assert not app.exception and "fitted on 3 uploaded pictures" in words(app)
    shown = maps(app)
    app = picker(app).set_value("Fresh digits").run()
    app = explained(app)
    assert maps(app) != shown and "fresh digits" in words(app)


def test_until_there_are_pictures_the_usual_ones_are_used(open_app):
    app = open_app(query={**QUERY, "reference": "Uploaded pictures"})
    assert any("fresh digits" in caption.value for caption in app.sidebar.caption)
    app = uploader(app).set_value([("1.png", picture(1), "image/png")]).run()
    assert len(complaints(app)) == 1 and "at least two" in complaints(app)[0]


def test_a_folder_is_offered_where_one_is_named(open_app, tmp_path, monkeypatch):
    for seed in range(2):
        (tmp_path / f"{seed}.png").write_bytes(picture(seed))
    monkeypatch.setenv("EXPLORER_REFERENCE", str(tmp_path))
    app = open_app(query={**QUERY, "reference": "Folder of the server"})
    assert not complaints(app)
    assert "fitted on 2 pictures of the server" in words(explained(app))
    monkeypatch.setenv("EXPLORER_REFERENCE", str(tmp_path / "nowhere"))
    app = open_app(query={**QUERY, "reference": "Folder of the server"})
    assert len(complaints(app)) == 1 and str(tmp_path) not in complaints(app)[0]


def test_for_other_networks_copies_are_the_last_resort_and_marked(open_app, monkeypatch):
    from components import session

    network = session.network("digits_mlp")
    monkeypatch.setattr(network, "reference", "")
    app = open_app(query=QUERY)
    assert picker(app).value == "Copies of the picture"
    assert "fitted on copies of this image" in words(explained(app)).replace("<br>", " ").replace("\n", " ")
