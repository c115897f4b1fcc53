"""The picker of reference images: there when it is needed, told in the panel, and part of what a map is."""

from __future__ import annotations

from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from support import page
from support.page import choose, errors, has, maps, run_all, value, words

import explainers as ex
from components.compare.maps import fitted_on
from components.compute.method_row import MethodMap
from components.compute.task import Ready
from components.state import engine as state_engine
from explainers.methods.reference_pictures import NOT_HERE

QUERY = {"methods": ["MIP-IN"], "network": "Digits: MLP-M of MIP-IN", "mip_in.images": "40"}


def picture(seed: int) -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def give(app, *files: tuple[str, bytes]):
    return page.upload(app, "reference_files", *((name, data, "image/png") for name, data in files))


@pytest.fixture()
def own_set(open_app):
    """The page with three uploaded reference pictures and a file that is none."""
    app = open_app(query={**QUERY, "reference": "Uploaded pictures"})
    return give(app, *((f"{seed}.png", picture(seed)) for seed in range(3)), ("bad.png", b"no picture"))


def test_it_is_there_only_where_a_method_is_fitted(open_app):
    assert not has(open_app(query={"methods": ["Gradient"]}), "reference")
    assert value(open_app(query=QUERY), "reference") == "Fresh digits"


def test_the_panel_says_what_the_map_was_fitted_on(open_app):
    assert "fitted on 40 of 2000 fresh digits" in words(run_all(open_app(query=QUERY)))


def test_uploaded_pictures_are_fitted_on_and_bad_ones_get_a_line(own_set):
    assert len(errors(own_set)) == 1 and errors(own_set)[0].startswith("bad.png:")
    app = run_all(own_set)
    assert not app.exception and "fitted on 3 uploaded pictures" in words(app)
    shown = maps(app)
    app = run_all(choose(app, "reference", "Fresh digits"))
    assert maps(app) != shown and "fresh digits" in words(app)


def test_until_there_are_pictures_the_usual_ones_are_used(open_app):
    app = open_app(query={**QUERY, "reference": "Uploaded pictures"})
    assert any("fresh digits" in caption for caption in page.captions(app))
    app = give(app, ("1.png", picture(1)))
    assert len(errors(app)) == 1 and "at least two" in errors(app)[0]


def test_a_folder_is_offered_where_one_is_named(open_app, tmp_path, monkeypatch):
    for seed in range(2):
        (tmp_path / f"{seed}.png").write_bytes(picture(seed))
    monkeypatch.setenv("EXPLORER_REFERENCE", str(tmp_path))
    app = open_app(query={**QUERY, "reference": "Folder of the server"})
    assert not errors(app)
    assert "fitted on 2 pictures of the server" in words(run_all(app))
    monkeypatch.setenv("EXPLORER_REFERENCE", str(tmp_path / "nowhere"))
    app = open_app(query={**QUERY, "reference": "Folder of the server"})
    assert len(errors(app)) == 1 and str(tmp_path) not in errors(app)[0]


def test_for_other_networks_copies_are_the_last_resort_and_marked(open_app, monkeypatch):
    monkeypatch.setattr(state_engine.network("digits_mlp"), "training_data", "")
    app = open_app(query=QUERY)
    assert value(app, "reference") == "Copies of the picture"
    assert "fitted on copies of this image" in words(run_all(app))


def test_a_map_for_which_the_sets_pictures_are_missing_is_not_said_to_be_fitted_on_them():
    network = ex.load_model("efficientnet_lite0")  # it brings statistics of photographs, and not the photographs
    question = ex.ask(network, torch.zeros(1, 3, *network.input_size), "gradient_shap", target=3)

    def lines(*flags: str) -> tuple[str, ...]:
        map_there = Ready(SimpleNamespace(flags=flags, params=question.params))
        return fitted_on(MethodMap(question.method, question.params, question, map_there))

    assert lines() == (f"fitted on {question.reference_set.title}",)
    assert lines(NOT_HERE) == ()
