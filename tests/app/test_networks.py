"""Networks that cannot be had: one line, and the app goes on."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch

import explainers as ex
from app.reading import complaints, maps
from components import network_picker


def choose(app, name: str):
    return next(s for s in app.selectbox if s.key == "network").set_value(name).run()


def not_ready() -> str:
    return next(entry.name for entry in ex.models() if entry.family == "torchvision" and not entry.ready)


def test_nothing_is_downloaded_without_being_asked(open_app, monkeypatch):
    def refuse(*args, **rest):
        raise AssertionError("a download without a question")

    app = open_app()
    monkeypatch.setattr(ex, "load_model", refuse)
    app = choose(app, not_ready())
    assert not app.exception and any("No network is loaded" in info.value for info in app.info)
    assert any(b.label == "Download the weights" for b in app.button)


def test_a_download_without_network_gives_one_line(open_app, monkeypatch):
    def offline(name, progress=None, **rest):
        progress(1, 4)
        raise ex.ExplainerError("The weights cannot be fetched: there is no network.")

    app = choose(open_app(), not_ready())
    monkeypatch.setattr(ex, "load_model", offline)
    app = next(b for b in app.button if b.label == "Download the weights").click().run()
    assert complaints(app) == ["The weights cannot be fetched: there is no network."] and not app.exception
    app = choose(app, "scenes_vgg")
    assert maps(app) and not complaints(app)


def weights(value: float) -> bytes:
    return safetensors.torch.save({"conv1.weight": torch.full((64, 3, 7, 7), value)})


BAD = {
    "nan.safetensors": lambda: weights(float("nan")),
    "other.safetensors": lambda: weights(0.5),
    "text.pth": lambda: b"no weights",
    "empty.safetensors": lambda: b"",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_checkpoint_gets_one_line_and_the_network_stays(open_app, name):
    app = open_app()
    before = maps(app)
    app = upload(app, (name, BAD[name](), "application/octet-stream"))
    assert len(complaints(app)) == 1 and not app.exception
    assert maps(app) == before and app.session_state["network"] == "scenes_vgg"


def upload(app, *files):
    uploader = next(u for u in app.file_uploader if u.key == "own_files")
    app = uploader.set_value(list(files)).run()
    return next(b for b in app.button if b.key == "own_load").click().run()


def test_a_good_checkpoint_is_loaded_and_chosen(open_app):
    from explainers.networks import torchvision_models

    module = torchvision_models.build("squeezenet1_0", 4)
    data = safetensors.torch.save(module.state_dict())
    card = json.dumps({"categories": ["ant", "bee", "cat", "dog"], "input_size": 64, "resize_size": 64}).encode()
    app = open_app()
    next(s for s in app.selectbox if s.key == "own_architecture").set_value("squeezenet1_0").run()
    app = upload(app, ("mine.safetensors", data, "application/octet-stream"), ("mine.json", card, "application/json"))
    assert not app.exception and not complaints(app)
    assert app.session_state["network"] == "mine (uploaded)"
    assert next(s for s in app.selectbox if s.key == "class").options[1:] == ["ant", "bee", "cat", "dog"]
    assert maps(app)


def test_two_checkpoints_at_once_are_refused(open_app):
    files = [(name, weights(0.5), "application/octet-stream") for name in ("a.safetensors", "b.safetensors")]
    assert complaints(upload(open_app(), *files)) == ["Give one checkpoint, and at most one .json card with it."]


def test_twin_class_names_are_told_apart():
    from components.workspace import class_labels

    assert class_labels(("crane", "ox", "crane")) == ("crane (0)", "ox", "crane (2)")
    assert network_picker.DEFAULT in {entry.name for entry in ex.models()}
