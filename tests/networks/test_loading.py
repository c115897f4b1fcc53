"""Every way to get a network, and one clear sentence for every way to fail."""

from __future__ import annotations

import io
import json
import urllib.error

import pytest
import torch
from safetensors.torch import save, save_file

import explainers as ex
from explainers.networks import loading, torchvision_models
from explainers.networks.torchvision_models import OFFERED, build, published


@pytest.fixture(scope="module")
def ten_classes():
    """A squeezenet1_1 of ten classes with weights of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {name: tensor.half() for name, tensor in build("squeezenet1_1", 10).state_dict().items()}


def test_the_offered_files_are_torchvisions_own():
    for name, (_, file) in OFFERED.items():
        assert published(name).url.endswith("/" + file), name


def test_every_family_is_listed_without_loading_anything(tmp_path, monkeypatch, ten_classes):
    monkeypatch.setenv("EXPLORER_MODELS", str(tmp_path))
    save_file(ten_classes, tmp_path / "mine.safetensors")
    (tmp_path / "mine.json").write_text(json.dumps({"architecture": "squeezenet1_1", "num_classes": 10, "title": "Mine"}))
    save_file(ten_classes, tmp_path / "cardless.safetensors")
    entries = {entry.name: entry for entry in ex.models()}
    assert entries["scenes_vgg"].family == "embedded" and entries["scenes_vgg"].ready
    assert entries["resnet50"].family == "torchvision"
    assert entries["mine"].title == "Mine" and entries["mine"].ready and not entries["cardless"].ready
    assert "card" in entries["cardless"].note


def test_ones_own_network_follows_its_card(tmp_path, monkeypatch, ten_classes):
    monkeypatch.setenv("EXPLORER_MODELS", str(tmp_path))
    save_file(ten_classes, tmp_path / "mine.safetensors")
    card = {"architecture": "squeezenet1_1", "categories": [f"thing {i}" for i in range(10)], "input_size": 96, "mean": [0.5] * 3}
    (tmp_path / "mine.json").write_text(json.dumps(card))
    network = ex.load_model("mine", device="cpu")
    assert network.categories[3] == "thing 3" and network.input_size == (96, 96)
    assert network.preprocessing.mean == (0.5,) * 3 and network.predict(torch.zeros(1, 3, 96, 96)).shape == (1, 10)


def test_a_checkpoint_without_a_card_is_counted(tmp_path, ten_classes):
    save_file(ten_classes, tmp_path / "w.safetensors")
    network = ex.load_model("squeezenet1_1", weights=tmp_path / "w.safetensors", device="cpu")
    assert len(network.categories) == 10 and network.input_size == (224, 224)
    again = ex.load_uploaded_model("my net.safetensors", save(ten_classes), "squeezenet1_1", device="cpu")
    assert again.title == "my net" and again.fingerprint == network.fingerprint


def uploaded(weights, architecture="squeezenet1_1", name="w.safetensors"):
    return ex.load_uploaded_model(name, weights, architecture, device="cpu")


class Code:
    def __reduce__(self):
        return (print, ("never run",))


def test_bad_checkpoints_are_refused_in_one_sentence(ten_classes, capsys):
    broken = {**ten_classes, "features.0.bias": torch.full_like(ten_classes["features.0.bias"], float("nan"))}
    pickled = io.BytesIO()
    torch.save({"weights": Code()}, pickled)
    cases = {
        "NaN": (save(broken), "squeezenet1_1"), "needs code": (pickled.getvalue(), "squeezenet1_1"),
        "is missing": (save(ten_classes), "squeezenet1_0"), "another architecture": (save(ten_classes), "resnet18"),
        "empty": (b"", "squeezenet1_1"), "not a checkpoint": (b"hello, world, this is text", "squeezenet1_1"),
        "damaged": (save(ten_classes)[:-100], "squeezenet1_1"), "no classifier": (save(ten_classes), "resnet999"),
    }
    for says, (data, architecture) in cases.items():
        with pytest.raises(ex.ExplainerError) as caught:
            uploaded(data, architecture)
        if says != "is missing":
            assert says in str(caught.value), (says, str(caught.value))
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert "never run" not in capsys.readouterr().out


def test_no_network_is_one_sentence_and_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def offline(*args, **options):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torchvision_models.urllib.request, "urlopen", offline)
    with pytest.raises(ex.ExplainerError, match="resnet18 are not on this machine and could not be downloaded.*checkpoint file"):
        ex.load_model("resnet18", device="cpu")
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_download_is_checked_kept_and_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    stored = io.BytesIO()
    torch.save(build("squeezenet1_0").state_dict(), stored)
    data, heard = stored.getvalue(), []

    class Answer(io.BytesIO):
        headers = {"Content-Length": str(len(data))}

    monkeypatch.setattr(torchvision_models.urllib.request, "urlopen", lambda *a, **k: Answer(data))
    with pytest.raises(ex.ExplainerError, match="checksum"):
        ex.load_model("squeezenet1_0", device="cpu")
    assert not torchvision_models.is_downloaded("squeezenet1_0")
    monkeypatch.setattr(torchvision_models.re, "search", lambda *a: None)  # as for a file whose name promises no checksum
    network = ex.load_model("squeezenet1_0", device="cpu", progress=lambda done, total: heard.append((done, total)))
    assert heard[-1] == (len(data), len(data)) and torchvision_models.is_downloaded("squeezenet1_0")
    assert network.categories[282] == "tiger cat"


def test_an_unknown_name_or_device_says_what_there_is():
    with pytest.raises(ex.ExplainerError, match="no classifier 'resnet_50'"):
        ex.load_model("resnet_50", device="cpu")
    if not torch.cuda.is_available():
        with pytest.raises(ex.ExplainerError, match="no device cuda on this machine; there is cpu"):
            ex.load_model("scenes_vgg", device="cuda")


@pytest.mark.parametrize("name", ["resnet50.", "timm/resnet50d.no_such_weights", "timm/resnet50d.", "timm/.", "timm/", "timm/timm/x",
                                  "timm/aimv2_1b_patch14_224", "__class__", "models", "", "resnet50" * 1000, "\ud800",
                                  "fasterrcnn_resnet50_fpn"])
def test_a_name_that_a_link_may_give_is_an_entry_or_one_sentence(name):
    try:
        entry = loading.public_entry(name)
    except ex.ExplainerError as error:
        assert str(error).endswith(".") and str(error).isprintable() and len(str(error)) < 300
    else:
        assert not entry.ready and entry.note
