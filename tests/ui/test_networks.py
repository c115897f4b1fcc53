"""The choice of a network: what the link says of it, and one line for each that cannot be had."""

from __future__ import annotations

import json
import os

import pytest
import safetensors.torch
import torch
from support import page
from support.page import choose, click, errors, maps, value

import explainers as ex
from components.sidebar import network_loader, network_picker
from components.state import engine as state_engine
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
    app = opened_section(open_app())
    before = maps(app)
    app = upload(app, (name, BAD[name](), "application/octet-stream"))
    assert len(errors(app)) == 1 and not app.exception
    assert maps(app) == before and value(app, "network") == "scenes_vgg"


def opened_section(app):
    return page.unfold(app, network_loader.SECTION)


def upload(app, *files):
    return click(page.upload(app, "own_files", *files), "own_load")


def test_a_good_checkpoint_is_loaded_and_chosen(open_app):
    from explainers.networks import torchvision_models

    module = torchvision_models.build("squeezenet1_0", 4)
    data = safetensors.torch.save(module.state_dict())
    card = json.dumps({"categories": ["ant", "bee", "cat", "dog"], "input_size": 64, "resize_size": 64}).encode()
    app = choose(opened_section(open_app()), "own_architecture", "squeezenet1_0")
    app = upload(app, ("mine.safetensors", data, "application/octet-stream"), ("mine.json", card, "application/json"))
    assert not app.exception and not errors(app)
    assert value(app, "network") == "mine (uploaded)"
    assert page.widget(app, "class").options[1:] == ["ant", "bee", "cat", "dog"]
    assert maps(app)


@pytest.mark.parametrize("card", [b"[1, 2]", b"{", b"[" * 100_000, b"\xff"])
def test_a_card_that_is_no_json_object_gets_one_line(open_app, card):
    app = upload(opened_section(open_app()), ("a.pth", weights(0.5), "application/octet-stream"), ("a.json", card, "application/json"))
    assert len(errors(app)) == 1 and "card" in errors(app)[0] and not app.exception


def test_two_checkpoints_at_once_are_refused(open_app):
    files = [(name, weights(0.5), "application/octet-stream") for name in ("a.safetensors", "b.safetensors")]
    assert errors(upload(opened_section(open_app()), *files)) == ["Give one checkpoint, and at most one .json card with it."]


def test_twin_class_names_are_told_apart():
    assert class_labels(("crane", "ox", "crane")) == ("crane (0)", "ox", "crane (2)")
    assert network_picker.DEFAULT in {entry.name for entry in ex.models()}


# Links


def link_of(app, name: str) -> str:
    given = app.query_params.get(name, "")
    return given if isinstance(given, str) else given[-1]


def fingerprint(name: str) -> str:
    return state_engine.network(name).fingerprint[:12]


def test_the_link_holds_the_name_and_the_fingerprint_and_follows_the_choice(open_app):
    app = open_app()
    assert (link_of(app, "network"), link_of(app, "network_id")) == ("scenes_vgg", fingerprint("scenes_vgg"))
    app = choose(app, "network", "digits_mlp")
    assert (link_of(app, "network"), link_of(app, "network_id")) == ("digits_mlp", fingerprint("digits_mlp"))
    assert not app.warning


def test_an_old_link_names_the_network_by_its_title(open_app):
    app = open_app(query={"network": "Digits: MLP-M of MIP-IN"})
    assert value(app, "network") == link_of(app, "network") == "digits_mlp"
    app = open_app(query={"network": f"{entry_title('resnet18')} (torchvision)"})
    assert value(app, "network") == "resnet18"


def entry_title(name: str) -> str:
    return next(entry.title for entry in ex.models() if entry.name == name)


@pytest.mark.parametrize(("picture", "network"), [("star-heart", "scenes_vgg"), (None, network_picker.DEFAULT)])
def test_a_link_without_a_network_opens_one_that_knows_the_picture(open_app, picture, network):
    app = open_app(query={"network": None, "picture": picture, "methods": ["Gradient"]})
    assert value(app, "network") == network and not app.exception


@pytest.mark.parametrize("name", ["mine (uploaded)", "no_such_network", "timm/no_such_network", "../../etc/passwd"])
def test_a_network_that_is_not_here_is_asked_for_and_nothing_is_computed(open_app, name):
    app = open_app(query={"network": name, "network_id": "0123456789ab"})
    assert not app.exception and not page.has(app, "heatmaps")
    assert any("This link needs" in warning.value and "(sha 0123456789ab)" in warning.value for warning in app.warning)
    assert link_of(app, "network") == name
    app = choose(app, "network", "scenes_vgg")
    assert maps(app) and link_of(app, "network_id") == fingerprint("scenes_vgg")


def test_other_weights_under_the_same_name_get_a_warning_until_another_network_is_chosen(open_app):
    app = open_app(query={"network_id": "0123456789ab"})
    says = "This link was made with other weights of Scenes: VGG with biases (sha 0123456789ab); the maps may differ."
    assert maps(app) and [warning.value for warning in app.warning] == [says]
    assert link_of(app, "network_id") == fingerprint("scenes_vgg")
    app = choose(choose(app, "network", "digits_mlp"), "network", "scenes_vgg")
    assert not app.warning


def test_each_network_is_described_and_what_was_recognised_is_said(open_app, monkeypatch):
    app = open_app()
    assert "drawn scenes" in page.section(app, "network_notes") and "million weights" in page.section(app, "network_notes")
    monkeypatch.setattr(state_engine.network("scenes_vgg"), "notes", ("The network ends in a softmax.",))
    assert "ends in a softmax" in page.section(app.run(), "network_notes")


def test_an_architecture_is_found_by_search_and_is_not_downloaded_without_being_asked(open_app):
    app = opened_section(open_app())
    app = click(choose(app, "own_architecture", "timm/test_resnet"), "own_published")
    assert not app.exception and value(app, "network") == link_of(app, "network") == "timm/test_resnet"
    assert page.has(app, "download-timm/test_resnet") and not page.has(app, "heatmaps")


def test_a_persons_file_of_networks(open_app, monkeypatch, tmp_path):
    path = tmp_path / "my_nets.py"
    path.write_text("""
import explainers as ex
from torch import nn

def softmax():
    return ex.classifier(nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(1)),
                         categories=["cat", "dog"], input_size=16)

def broken():
    raise ValueError("no weights here")
""")
    monkeypatch.setenv("EXPLORER_NETWORKS", str(path))
    app = open_app(query={"network": "my_nets.softmax", "methods": ["Gradient"]})
    described = page.section(app, "network_notes")
    assert maps(app) and "ends in a softmax" in described and "my_nets.py" in described
    path.write_text(path.read_text().replace('"dog"', '"fox"'))
    os.utime(path, (1, 1))
    app.run()
    assert "fox" in page.section(app, "overview") and not app.exception
    app = choose(app, "network", "my_nets.broken")
    assert errors(app) == ["my_nets.broken of my_nets.py failed (ValueError: no weights here)."] and not app.exception
