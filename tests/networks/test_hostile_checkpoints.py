"""Checkpoints, cards, folders and files of networks that are broken or mean harm: a network or one sentence, within bounds."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from support import corpus_checkpoints as corpus
from support.corpus_checkpoints import Program, legacy, saved, state_dict, zipped
from support.networks import classifier
from support.outcomes import Outcome
from support.paths import ROOT
from torch import nn

import explainers as ex
from explainers.networks import own_checkpoints, own_modules, patience, rehearsal, torchvision_models
from explainers.networks.checkpoints import read_weights

MOST_SECONDS = 10.0  # of one core for one file; the slowest take 0.8, and several times that where coverage is measured
MOST_BYTES = 200 * 2**20  # beside four times the file
PATIENCE = 1.5  # seconds that a file which does not end is waited for


def is_one_sentence(text: str) -> bool:
    return text.endswith(".") and ". " not in text and text.isprintable() and len(text) < 500


def test_each_file_of_the_corpus_is_a_network_or_one_sentence_within_bounds():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed = subprocess.run([sys.executable, "-m", "support.outcomes"], cwd=ROOT / "tests", env=environment, stdout=subprocess.PIPE,
                             text=True, check=True).stdout
    outcomes, faults = [Outcome(**json.loads(line)) for line in printed.splitlines()], []
    for each in outcomes:
        wrong = each.expected not in (each.kind, "either") or each.says not in each.sentence
        loose = each.sentence and not is_one_sentence(each.sentence)
        if wrong or loose or each.seconds > MOST_SECONDS or each.grown > MOST_BYTES + 4 * each.size:
            faults.append(f"{each.name}: {each.kind} {each.sentence[:300]!r} in {each.seconds:.1f} s and {each.grown / 2**20:.0f} MB")
    assert not faults, "\n".join(faults)
    assert len(outcomes) >= 750 and sum(each.kind == "network" for each in outcomes) >= 5


def test_the_trap_of_the_corpus_works(monkeypatch):
    """Were the code in the files run, it would be noticed."""
    monkeypatch.setenv(corpus.TRAP, "set")
    command = next(part for part in corpus._calls("builtins", "eval").code if corpus.TRAP.encode() in part)
    eval(command)
    assert os.environ[corpus.TRAP] == "sprung"


# Reading as data gives what torch.load gives


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.bool])
def test_views_strides_and_shared_storages_are_read_as_torch_reads_them(old, dtype):
    base = (torch.arange(60).reshape(3, 4, 5) % 7).to(dtype)
    content = {"whole": base, "turned": base.permute(2, 0, 1), "part": base[1:, ::2, 1], "again": base, "one": base[0, 0, 0],
               "none": base[:0], "expanded": base[0, 0, :1].expand(3)}
    data = saved(content, legacy=old)
    expected = torch.load(io.BytesIO(data), weights_only=True)
    read = read_weights(data)
    assert read.keys() == expected.keys()
    for name, tensor in expected.items():
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        assert read[name].dtype == tensor.dtype and torch.equal(read[name], tensor), name


def test_numbers_of_a_machine_that_writes_them_backwards():
    raw = np.arange(16, dtype=">f4").tobytes()
    program = state_dict(Program().tensor("0", 16, (4, 4), (4, 1)))
    assert not torch.equal(read_weights(zipped(program, {"0": raw}))["w0"].flatten(), torch.arange(16.0))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in (("a/data.pkl", program), ("a/byteorder", b"big"), ("a/data/0", raw)):
            archive.writestr(name, content)
    assert torch.equal(read_weights(buffer.getvalue())["w0"].flatten(), torch.arange(16.0))


def test_a_written_program_is_read_in_both_formats():
    raw = np.arange(16, dtype="<f4").tobytes()
    program = state_dict(Program().tensor("0", 16, (2, 3), (1, 4), offset=2))
    expected = torch.arange(16.0).as_strided((2, 3), (1, 4), 2)
    for data in (zipped(program, {"0": raw}), legacy(program, {"0": raw})):
        assert torch.equal(read_weights(data)["w0"], expected)
    assert torch.equal(torch.load(io.BytesIO(zipped(program, {"0": raw})), weights_only=True)["w0"], expected)


# Rehearsing without memory


def test_every_kind_of_network_is_built_without_memory_and_counts_its_layers():
    for name in ("squeezenet1_1", "regnet_x_400mf", "swin_t", "vit_b_16", "googlenet"):
        empty = rehearsal.without_memory(lambda name=name: torchvision_models.build(name, 7))
        assert {tensor.device.type for tensor in empty.state_dict().values()} == {"meta"}, name
    empty = rehearsal.without_memory(lambda: torchvision_models.build("regnet_x_400mf", 7))
    real = torchvision_models.build("regnet_x_400mf", 7)
    assert {k: t.shape for k, t in empty.state_dict().items()} == {k: t.shape for k, t in real.state_dict().items()}


def test_the_bytes_of_all_layers_are_counted():
    with torch.device("meta"):
        module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(800, 2))
    counted = rehearsal.activation_bytes(module, 10, "Mine")
    assert counted >= 4 * (2 * 800 + 2) and counted < 4 * (5 * 800 + 810)
    with pytest.raises(ex.ExplainerError, match="Mine cannot be used on pictures of 11 pixels"):
        rehearsal.activation_bytes(module, 11, "Mine")


# Folders


@pytest.fixture()
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(own_checkpoints.VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def weights():
    return safetensors.torch.save({name: tensor.half() for name, tensor in corpus.network().items()})


def put(path: Path, data: bytes, title: str = "") -> None:
    path.write_bytes(data)
    card = {"architecture": corpus.ARCHITECTURE, "input_size": 64, **({"title": title} if title else {})}
    path.with_suffix(".json").write_text(json.dumps(card))


def mine() -> dict[str, ex.ModelEntry]:
    return {entry.name: entry for entry in ex.models() if entry.family == "yours"}


def test_a_checkpoint_called_like_another_network_has_a_name_of_its_own(folder, weights):
    for name in ("scenes_vgg", "resnet18", "efficientnet_lite0", "own"):
        put(folder / f"{name}.safetensors", weights)
    assert list(mine()) == ["efficientnet_lite0.safetensors", "own", "resnet18.safetensors", "scenes_vgg.safetensors"]
    entry = mine()["scenes_vgg.safetensors"]
    assert entry.ready and "because there is another network scenes_vgg" in entry.note
    assert ex.load_model("scenes_vgg", device="cpu").title == "Scenes: VGG with biases"
    assert len(ex.load_model("scenes_vgg.safetensors", device="cpu").categories) == 3


def test_two_checkpoints_of_one_name_are_both_there(folder, weights):
    put(folder / "net.safetensors", weights)
    (folder / "net.pth").write_bytes(saved(corpus.network(classes=2, seed=1)))
    assert list(mine()) == ["net.pth", "net.safetensors"]
    counts = [len(ex.load_model(name, device="cpu").categories) for name in mine()]
    assert counts == [2, 3]


def test_names_that_are_no_text_can_be_shown_and_loaded(folder, weights):
    for raw in (b"n\xff\xfe", b"n\xff\xfd", b"line\nbreak", b"tab\tand \x1b[31m"):
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + raw + b".safetensors"))
        put(path, weights)
    names = list(mine())
    assert len(names) == 4 and all(name.isprintable() and name.encode() for name in names)
    assert all(entry.note.isprintable() and entry.ready for entry in mine().values())
    assert all(len(ex.load_model(name, device="cpu").categories) == 3 for name in names)


def test_what_is_no_file_is_one_sentence_at_once_and_the_others_stand(folder, weights):
    put(folder / "good.safetensors", weights)
    (folder / "folder.pth").mkdir()
    os.mkfifo(folder / "pipe.pth")
    (folder / "loop.pth").symlink_to(folder / "loop.pth")
    (folder / "nowhere.pth").symlink_to(folder / "none")
    (folder / "zero.pth").symlink_to("/dev/zero")
    put(folder / "card.pth", weights)
    (folder / "card.json").unlink()
    os.mkfifo(folder / "card.json")
    (folder / "cardless.pth").write_bytes(weights)
    entries = mine()
    assert [name for name, entry in entries.items() if entry.ready] == ["good"]
    for name, entry in entries.items():
        if name != "good":
            assert is_one_sentence(entry.note), entry.note
            with pytest.raises(ex.ExplainerError):
                ex.load_model(name, device="cpu")


def test_a_link_to_a_file_is_that_file(folder, weights, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "w.safetensors"
    elsewhere.write_bytes(weights)
    put(folder / "linked.safetensors", b"")
    (folder / "linked.safetensors").unlink()
    (folder / "linked.safetensors").symlink_to(elsewhere)
    assert len(ex.load_model("linked", device="cpu").categories) == 3


@pytest.mark.parametrize(("kind", "says"), [("none", "was not found"), ("file", "is a file"), ("closed", "cannot be listed"),
                                            ("crowded", "files of weights"), ("null", "cannot be listed")])
def test_a_folder_that_cannot_be_used_is_one_sentence(folder, monkeypatch, kind, says):
    place = {"none": folder / "none", "file": folder / "file", "null": "~no_such_user/models"}.get(kind, folder)
    (folder / "file").write_text("text")
    monkeypatch.setenv(own_checkpoints.VARIABLE, str(place))
    if kind == "closed":
        def refuse(self):
            raise PermissionError("closed")
        monkeypatch.setattr(Path, "iterdir", refuse)
    if kind == "crowded":
        monkeypatch.setattr(own_checkpoints, "MOST_FILES", 2)
        for number in range(3):
            (folder / f"{number}.pth").touch()
    entry, = mine().values()
    assert not entry.ready and says in entry.note and is_one_sentence(entry.note)
    assert ex.models()[0].name == "efficientnet_lite0"
    assert ex.load_model("digits_mlp", device="cpu").categories == tuple("0123456789")
    with pytest.raises(ex.ExplainerError, match="EXPLORER_MODELS"):
        ex.load_model("mine", device="cpu")


def test_a_changed_card_is_read_again(folder, weights):
    put(folder / "net.safetensors", weights, "Before")
    assert mine()["net"].title == "Before"
    put(folder / "net.safetensors", weights, "After it")
    assert mine()["net"].title == "After it"


# Files of networks


@pytest.fixture()
def nets(tmp_path, monkeypatch):
    """Writes files, and names them to the app."""
    def write(**texts: str) -> None:
        paths = []
        for name, text in texts.items():
            paths.append(tmp_path / f"{name}.py")
            paths[-1].write_text(text)
        monkeypatch.setenv(own_modules.VARIABLE, os.pathsep.join(map(str, paths)))
    monkeypatch.setattr(own_modules, "READ_SECONDS", PATIENCE)
    return write


GOOD = """
import explainers as ex
from torch import nn

def small():
    return ex.classifier(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), input_size=8)
"""
BAD = {
    "loops": "import time\nwhile not getattr(time, 'stop_the_test', False):\n    time.sleep(0.05)\ntime.ended = True",
    "exits": "raise SystemExit", "interrupts": "raise KeyboardInterrupt", "generator": "raise GeneratorExit",
    "mute": "class E(Exception):\n    def __str__(self):\n        raise ValueError\nraise E", "deep": "def f(): f()\nf()",
    "liar": "class D(dict):\n    def items(self):\n        raise OSError\nNETWORKS = D()", "numbers": "NETWORKS = {3: 4, None: None}",
    "names": "NETWORKS = {'\\n![x](http://x)' * 99: len, '\\ud800': print}",
    "unnamed": "class N:\n    __str__ = None\nNETWORKS = {N(): 1}",
    "scenes_vgg": "raise ValueError('\\ud800\\n')",
}


def test_files_that_fail_or_never_end_are_one_sentence_each_and_the_others_stand(nets):
    nets(**BAD, good=GOOD)
    try:
        begin = time.monotonic()
        entries = mine()
        again = time.monotonic()
        assert entries.keys() == mine().keys() and time.monotonic() - again < PATIENCE  # nobody waits for the loop again
        assert again - begin < 5 * PATIENCE
        assert entries["good.small"].ready and len(ex.load_model("good.small", device="cpu").categories) == 2
        assert "still running after" in entries["loops.py"].note
        for name in BAD:
            own = {key: entry for key, entry in entries.items() if key.startswith(f"{name}.")}
            assert own, name
            for key, entry in own.items():
                assert key.isprintable() and entry.title.isprintable() and key.encode()
                assert entry.ready or is_one_sentence(entry.note), entry.note
                with pytest.raises(ex.ExplainerError):
                    ex.load_model(key, device="cpu")
        assert ex.load_model("scenes_vgg", device="cpu").title == "Scenes: VGG with biases"
    finally:
        time.stop_the_test = True  # lets the thread of the loop end
    assert any(getattr(time, "ended", False) or pause() for _ in range(100))
    assert mine()["loops.py"].note.endswith("has no function that returns a network.")
    del time.stop_the_test, time.ended


def pause() -> None:
    time.sleep(0.05)


def test_two_files_that_ask_for_each_other_do_not_wait(nets):
    ask = "import explainers as ex\nNAMES = [entry.name for entry in ex.models()]\n"
    nets(first=ask + GOOD, second=ask + GOOD)
    begin = time.monotonic()
    assert set(mine()) == {"first.small", "second.small"} and time.monotonic() - begin < PATIENCE


def test_a_checkpoint_and_a_function_of_one_name_are_told_apart(nets, folder, weights):
    nets(good=GOOD)
    put(folder / "good.small.safetensors", weights)
    entries = mine()
    assert list(entries) == ["good.small", "good.small of good.py"] and not entries["good.small of good.py"].ready
    assert len(ex.load_model("good.small", device="cpu").categories) == 3


def test_a_patient_call_is_shared_and_gives_its_result_or_its_error():
    gate = threading.Event()
    call = patience.Patient(lambda: gate.wait(5) and 7, 0.05)
    with pytest.raises(patience.StillRunning):
        call.result()
    gate.set()
    call._thread.join()
    assert call.result() == call.result() == 7
    with pytest.raises(ZeroDivisionError):
        patience.Patient(lambda: 1 / 0, 1).result()


# Networks of no class and of one


def test_a_network_of_one_class_says_so_and_one_of_none_is_refused():
    network = classifier(nn.Sequential(nn.Flatten(), nn.Linear(192, 1)), side=8, classes=1)
    assert any("probability is always 1" in note for note in network.notes)
    with pytest.raises(ex.ExplainerError, match="no classes"):
        classifier(nn.Sequential(nn.Flatten(), nn.Linear(192, 0)), side=8, classes=0)
    two = classifier(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), side=8, classes=2)
    assert not any("probability" in note for note in two.notes)
