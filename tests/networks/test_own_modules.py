"""A person's own module, and files of them: what is loaded, and one sentence for all that is wrong."""

from __future__ import annotations

import os

import pytest
import torch
from support.networks import drawn_images, residual_module, seeded
from torch import nn

import explainers as ex
from explainers.networks import own_modules

FILE = '''
"""My networks."""
import explainers as ex
from torch import nn

calls = []

def small():
    """A small network."""
    calls.append(1)
    return ex.classifier(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), categories=["cat", "dog"], input_size=8)

def broken():
    raise FileNotFoundError("no weights here")

def wrong():
    return 3

def helper(width):
    return width

def _private():
    return 1
'''


@pytest.fixture()
def named(tmp_path, monkeypatch):
    """Writes a file and names it to the app."""
    def write(text: str, name: str = "my_nets.py"):
        path = tmp_path / name
        path.write_text(text)
        already = os.environ.get(own_modules.VARIABLE, "").split(os.pathsep)
        monkeypatch.setenv(own_modules.VARIABLE, os.pathsep.join([*already, str(path)]))
        return path
    monkeypatch.delenv(own_modules.VARIABLE, raising=False)
    return write


def mine() -> dict[str, ex.ModelEntry]:
    return {entry.name: entry for entry in ex.models() if entry.family == "yours"}


def test_a_module_becomes_a_classifier_and_stays_as_it_was():
    module = residual_module().train()
    network = ex.classifier(module, input_size=32, title="Mine", device="cpu")
    assert network.categories == tuple(f"class {i}" for i in range(5)) and network.name == "mine"
    assert network.preprocessing.mean == (0.485, 0.456, 0.406) and network.preprocessing.resize == 32
    assert module.training and all(parameter.requires_grad for parameter in module.parameters())
    x = drawn_images(2, 0)
    assert torch.allclose(network.logits(x), module.eval()(x), atol=1e-6)


LINEAR = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 4)))


@pytest.mark.parametrize(("given", "says"), [
    ({"module": "resnet"}, "made of a torch.nn.Module, not of a str"),
    ({"categories": ["a", "b"]}, "has 4 outputs, but 2 names"),
    ({"categories": "abcd"}, "a list of names"),
    ({"input_size": 9}, r"refuses pictures of size \(3, 9, 9\)"),
    ({"input_size": 0}, "from 1 to 2048, not 0"),
    ({"input_size": 8.0}, "side of a square"),
    ({"resize": 4}, "at least the input size 8"),
    ({"mean": (0.5,), "std": (0.5,)}, r"refuses pictures of size \(1, 8, 8\)"),
    ({"mean": (0.5, 0.5)}, "one number for each channel"),
    ({"std": (0, 1, 1)}, "std above 0"),
    ({"interpolation": "cubic"}, "bilinear, bicubic"),
])
def test_what_is_wrong_is_one_sentence(given, says):
    with pytest.raises(ex.ExplainerError, match=says) as caught:
        ex.classifier(**{"module": LINEAR, "input_size": 8, "device": "cpu", **given})
    assert "\n" not in str(caught.value)


def test_a_files_functions_are_networks_and_are_called_only_when_loaded(named):
    named(FILE)
    entries = mine()
    assert list(entries) == ["my_nets.small", "my_nets.broken", "my_nets.wrong"]
    assert entries["my_nets.small"].title == "A small network" and entries["my_nets.small"].ready
    module = own_modules.networks()["my_nets.small"].build.__globals__
    assert module["calls"] == []
    network = ex.load_model("my_nets.small", device="cpu")
    assert module["calls"] == [1] and network.categories == ("cat", "dog") and network.name == "my_nets.small"


@pytest.mark.parametrize(("name", "says"), [
    ("my_nets.broken", r"my_nets.broken of my_nets.py failed \(FileNotFoundError: no weights here\)"),
    ("my_nets.wrong", "returned a int; it must return"),
])
def test_a_function_that_fails_is_one_sentence(named, name, says):
    named(FILE)
    with pytest.raises(ex.ExplainerError, match=says):
        ex.load_model(name, device="cpu")


@pytest.mark.parametrize(("text", "says"), [
    ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
    ("def f(:", "SyntaxError"),
    ("raise SystemExit(3)", "SystemExit: 3"),
    ("x = 1", "has no function that returns a network"),
])
def test_a_file_that_cannot_be_read_is_one_sentence_and_the_others_stay(named, text, says):
    named(FILE)
    named(text, "bad.py")
    entries = mine()
    assert not entries["bad.py"].ready and says in entries["bad.py"].note and "my_nets.small" in entries
    with pytest.raises(ex.ExplainerError, match="bad.py"):
        ex.load_model("bad.py", device="cpu")


def test_of_two_files_with_one_name_the_first_counts(named, tmp_path):
    named(FILE)
    (tmp_path / "later").mkdir()
    named(FILE.replace("A small network", "Another"), "later/my_nets.py")
    assert mine()["my_nets.small"].title == "A small network"


def test_what_a_module_was_trained_on_is_kept():
    for kind in ("scenes", ""):
        assert ex.classifier(LINEAR, input_size=8, training_data=kind, device="cpu").training_data == kind


def test_a_missing_file_is_one_sentence(monkeypatch):
    monkeypatch.setenv(own_modules.VARIABLE, "/nowhere/nets.py")
    assert mine()["nets.py"].note == "nets.py was not found, though EXPLORER_NETWORKS or --networks names it."


def test_a_dict_names_the_networks(named):
    named(FILE + "\nNETWORKS = {'the one': small}\n")
    assert list(mine()) == ["my_nets.the one"]


def test_a_changed_file_is_read_again(named):
    path = named(FILE)
    assert "my_nets.small" in mine()
    path.write_text("def other():\n    pass\n")
    os.utime(path, (1, 1))
    assert list(mine()) == ["my_nets.other"]


def test_a_file_may_use_other_networks_while_it_is_read(named):
    named(FILE + "\nNAMES = [entry.name for entry in ex.models()]\n")
    assert list(mine()) == ["my_nets.small", "my_nets.broken", "my_nets.wrong"]


class Scaled(nn.Module):
    """The same layers and weights whatever the factor, which only the code or a plain attribute holds."""

    def __init__(self, factor: float, traceable: bool):
        super().__init__()
        self.linear, self.factor, self.traceable = seeded(lambda: nn.Linear(192, 2)), factor, traceable

    def forward(self, x):
        if not self.traceable and float(x.sum()) > 1e9:
            return self.linear(x.flatten(1))
        return self.linear(x.flatten(1)) * self.factor


def test_networks_that_differ_in_their_code_alone_have_different_fingerprints():
    one, same, other = (ex.classifier(Scaled(factor, True), input_size=8, device="cpu").fingerprint for factor in (1.5, 1.5, 2.5))
    assert one == same != other


def test_the_code_of_a_network_that_cannot_be_traced_is_in_its_fingerprint(named):
    text = """
import explainers as ex
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(192, 2)
        nn.init.ones_(self.linear.weight), nn.init.ones_(self.linear.bias)

    def forward(self, x):
        y = self.linear(x.flatten(1))
        return y * 2 if float(y.sum()) > 0 else y

def net():
    return ex.classifier(Net(), input_size=8, device="cpu")
"""
    path = named(text)
    before = ex.load_model("my_nets.net")
    assert before.graph is None and ex.load_model("my_nets.net").fingerprint == before.fingerprint
    path.write_text(text.replace("y * 2", "y * 3"))
    os.utime(path, (1, 1))
    assert ex.load_model("my_nets.net").fingerprint != before.fingerprint


def test_the_apps_arguments_name_files(monkeypatch, tmp_path):
    from components.shell import arguments

    monkeypatch.setenv(own_modules.VARIABLE, "/first.py")
    assert arguments.NETWORKS == own_modules.VARIABLE
    arguments.read(["--networks", str(tmp_path / "a.py"), str(tmp_path / "b.py"), "--other", "x"])
    assert os.environ[own_modules.VARIABLE].split(os.pathsep) == ["/first.py", str(tmp_path / "a.py"), str(tmp_path / "b.py")]
    arguments.read(["pytest", "-q"])
    assert len(os.environ[own_modules.VARIABLE].split(os.pathsep)) == 3
