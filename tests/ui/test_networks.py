"""Networks that cannot be had: one line, and the app goes on."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch
from support import page
from support.page import choose, click, errors, maps, value

import explainers as ex
from components.sidebar import network_picker
from components.state.workspace import class_labels


def not_ready() -> str:
    return next(entry.name for entry in ex.models() if entry.family == "torchvision" and not entry.ready)


def test_nothing_is_downloaded_without_being_asked(open_app, monkeypatch):
    def refuse(*args, **rest):
        raise AssertionError("a download without a question")

    app = open_app()
    monkeypatch.setattr(ex, "load_model", refuse)
    app = choose(app, "network", not_ready())
    assert not app.exception and any("No network is loaded" in info for info in page.infos(app))
    assert page.widget(app, f"download-{not_ready()}").label == "Download the weights"


def test_a_download_without_network_gives_one_line(open_app, monkeypatch):
    def offline(name, progress=None, **rest):
        progress(1, 4)
        raise ex.ExplainerError("The weights cannot be fetched: there is no network.")

    app = choose(open_app(), "network", not_ready())
    monkeypatch.setattr(ex, "load_model", offline)
    app = click(app, f"download-{not_ready()}")
    assert errors(app) == ["The weights cannot be fetched: there is no network."] and not app.exception
    app = choose(app, "network", "scenes_vgg")
    assert maps(app) and not errors(app)


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
    assert len(errors(app)) == 1 and not app.exception
    assert maps(app) == before and value(app, "network") == "scenes_vgg"


def upload(app, *files):
    return click(page.upload(app, "own_files", *files), "own_load")


def test_a_good_checkpoint_is_loaded_and_chosen(open_app):
    from explainers.networks import torchvision_models

    module = torchvision_models.build("squeezenet1_0", 4)
    data = safetensors.torch.save(module.state_dict())
    card = json.dumps({"categories": ["ant", "bee", "cat", "dog"], "input_size": 64, "resize_size": 64}).encode()
    app = choose(open_app(), "own_architecture", "squeezenet1_0")
    app = upload(app, ("mine.safetensors", data, "application/octet-stream"), ("mine.json", card, "application/json"))
    assert not app.exception and not errors(app)
    assert value(app, "network") == "mine (uploaded)"
    assert page.widget(app, "class").options[1:] == ["ant", "bee", "cat", "dog"]
    assert maps(app)


def test_two_checkpoints_at_once_are_refused(open_app):
    files = [(name, weights(0.5), "application/octet-stream") for name in ("a.safetensors", "b.safetensors")]
    assert errors(upload(open_app(), *files)) == ["Give one checkpoint, and at most one .json card with it."]


def test_twin_class_names_are_told_apart():
    assert class_labels(("crane", "ox", "crane")) == ("crane (0)", "ox", "crane (2)")
    assert network_picker.DEFAULT in {entry.name for entry in ex.models()}
