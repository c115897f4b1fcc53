"""A person's weights: what is read comes out bit for bit, what is refused is refused with its cause."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from explainers.errors import ExplainerError
from explainers.networks.checkpoint_files import CheckpointError
from explainers.networks.checkpoints import read_weights
from explainers.networks.fitting import fit, num_classes
from explainers.networks.model_cards import ModelCard, read_card
from explainers.networks.torchvision_guard import torchvision

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "weights"


class Small(nn.Module):
    """A convolution, batch norm with its counter, and a head that is a convolution, as in SqueezeNet."""

    def __init__(self, classes: int = 5):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(), nn.Conv2d(4, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))


class Trap:
    """Unpickling it would leave a mark."""

    def __reduce__(self):
        return (exec, ("import os; os.environ['TRAP'] = 'sprung'",))


def small(seed: int = 0, classes: int = 5) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return dict(Small(classes).state_dict())


def saved(content: object, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def zipped(members: dict[str, bytes], **options) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


def refusal(function, *arguments, **options) -> str:
    """The message, after checking that it is one readable sentence."""
    with pytest.raises(CheckpointError) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert issubclass(CheckpointError, ExplainerError)
    assert message.endswith(".") and message.count(". ") == 0 and "\n" not in message and len(message) < 400
    assert not any(word in message for word in ("Traceback", "BytesIO", "weights_only", "torch.load"))
    return message


# Reading


@pytest.mark.parametrize(
    "data",
    [
        safetensors.torch.save(small()),
        saved(small()),
        saved(small(), _use_new_zipfile_serialization=False),
        saved({"state_dict": small(), "epoch": 3, "optimizer": {"lr": [0.1]}}),
        saved({"model": small()}),
        saved({"module." + key: tensor for key, tensor in small().items()}),
        saved({"state_dict": {"module._orig_mod." + key: tensor for key, tensor in small().items()}}),
        saved({key: nn.Parameter(t) if t.is_floating_point() else t for key, t in small().items()}),
    ],
    ids=["safetensors", "pth", "legacy", "state_dict", "model", "module.", "compiled", "parameters"],
)
def test_weights_come_back_bit_for_bit(data, tmp_path):
    path = tmp_path / "any.name"
    path.write_bytes(data)
    for source in (data, path, str(path)):
        weights = read_weights(source)
        assert type(weights) is dict and same(weights, small())
        assert not any(tensor.requires_grad for tensor in weights.values())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("write", [safetensors.torch.save, saved])
def test_other_precisions_become_float32_and_counters_stay(kind, write):
    given = {key: tensor.to(kind) if tensor.is_floating_point() else tensor for key, tensor in small().items()}
    read = read_weights(write(given))
    assert same(read, {key: t.float() if t.is_floating_point() else t for key, t in given.items()})
    assert read["body.1.num_batches_tracked"].dtype == torch.int64


# Refusing


def test_code_is_refused_and_never_run(monkeypatch):
    monkeypatch.setenv("TRAP", "set")
    for data in (
        saved({"weights": Trap()}),
        saved({"weights": Trap()}, _use_new_zipfile_serialization=False),
        pickle.dumps(Trap()),
        pickle.dumps(small(), protocol=2),
        saved(Small()),
    ):
        message = refusal(read_weights, data, "model.pth")
        assert "model.pth needs code to load" in message and ".safetensors" in message
    assert os.environ["TRAP"] == "set"
    pickle.loads(pickle.dumps(Trap()))
    assert os.environ["TRAP"] == "sprung"  # the trap works


def test_the_code_that_a_file_asks_for_is_named():
    assert "Small" in refusal(read_weights, saved(Small()))
    assert "numpy" in refusal(read_weights, saved({"state_dict": small(), "best": np.float64(0.9)}))


def test_torchscript_is_refused():
    program = zipped({"m/data.pkl": b"", "m/constants.pkl": b"", "m/code/net.py": b"pass"})
    assert "TorchScript" in refusal(read_weights, program)


@pytest.mark.parametrize(
    "data, word",
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>Not found</html>", "not a checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "Git LFS"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "not a checkpoint"),
        (zipped({"holiday/photo.txt": b"hello"}), "not a checkpoint"),
        (zipped({"m/data.pkl": b"x" * 99}, compression=zipfile.ZIP_DEFLATED), "compressed"),
        (saved({}), "no tensors"),
        (saved({"state_dict": {}}), "no tensors"),
        (safetensors.torch.save({}), "no tensors"),
        (saved([1, 2]), "holds a list"),
        (saved(torch.ones(3)), "holds a Tensor"),
        (saved(small() | {"epoch": 3}), "'epoch' of type int"),
        (saved({0: torch.ones(3)}), "0 of type Tensor"),
        (saved({"w": torch.eye(3).to_sparse()}), "special form"),
        (saved({"w": torch.ones(2, dtype=torch.complex64)}), "special form"),
    ],
)
def test_what_holds_no_weights(data, word):
    assert word in refusal(read_weights, data, "net.pth")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_truncated_checkpoints(part, legacy):
    pth = saved(small(), _use_new_zipfile_serialization=not legacy)
    for data in (pth, safetensors.torch.save(small())):
        assert "damaged or cut off" in refusal(read_weights, data[: int(len(data) * part)], "net.pth")


def test_a_checkpoint_in_the_old_format_cut_anywhere():
    """Also in the middle of a name, where what is left looks like one that is not allowed; the first bytes tell the format."""
    data = saved(small(), _use_new_zipfile_serialization=False)
    for end in range(32, len(data)):
        assert "damaged or cut off" in refusal(read_weights, data[:end], "net.pth"), f"cut after {end} bytes: {data[:end][-30:]}"


def test_a_flipped_bit_in_a_zip_is_noticed():
    """torch.load itself ignores the checksums and would hand out a wrong weight."""
    tensor = torch.arange(1000, dtype=torch.float32)
    data = bytearray(saved({"w": tensor}))
    data[data.find(tensor.numpy().tobytes()) + 2001] ^= 0x40
    assert not torch.equal(torch.load(io.BytesIO(data), weights_only=True)["w"], tensor)
    assert "damaged" in refusal(read_weights, bytes(data))


def test_a_few_bytes_that_claim_gigabytes():
    huge = torch.ones(1).expand(100_000, 100_000)
    assert "40 GB" in refusal(read_weights, saved({"w": huge}))
    one = torch.zeros(10_000)
    assert "claims" in refusal(read_weights, saved({f"again {i}": one for i in range(200)}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("write", [safetensors.torch.save, saved])
def test_weights_that_are_not_finite(write, value):
    weights = {"a": torch.ones(4), "b": torch.ones(2, 5), "c": torch.ones(3)}
    weights["b"][0, :3] = value
    weights["c"][1] = value
    message = refusal(read_weights, write(weights))
    assert "3 of the 10 values of 'b'" in message and "2 of 3 tensors" in message
    assert refusal(read_weights, saved({"w": torch.tensor([1e300], dtype=torch.float64)}))  # infinite as float32


def test_files_that_cannot_be_opened_and_names_that_lie(tmp_path):
    assert "not found" in refusal(read_weights, tmp_path / "none.pth")
    assert "folder" in refusal(read_weights, str(tmp_path))
    for name in ("n" * 5000, "null\0byte", "/dev/zero"):
        assert refusal(read_weights, name)
    message = refusal(read_weights, b"text", "../<img src=x onerror=alert(1)>`**.pth")
    assert not any(mark in message for mark in "<>`*/()")
    assert str(tmp_path) not in refusal(read_weights, tmp_path / "none.pth")


# Fitting


def test_fit_loads_every_tensor():
    module = Small()
    fit(module, small(seed=1), "small")
    assert same(dict(module.state_dict()), small(seed=1)) and not same(small(0), small(1))


def test_fit_converts_half_precision():
    module = Small()
    fit(module, {key: t.half() if t.is_floating_point() else t for key, t in small(1).items()}, "small")
    assert module.body[0].weight.dtype == torch.float32
    assert torch.equal(module.body[0].weight, small(1)["body.0.weight"].half().float())


def test_fit_names_the_first_fault_of_each_kind():
    weights = small(classes=7)
    del weights["body.0.weight"], weights["body.0.bias"]
    weights["extra"] = torch.ones(1)
    message = refusal(fit, Small(5), weights, "small_net")
    assert "do not fit small_net" in message and "'extra' is unexpected," in message
    assert "'body.0.weight' is missing (and 1 more)" in message
    assert "'head.1.weight' is (7, 4, 1, 1) instead of (5, 4, 1, 1) (and 1 more)" in message


@pytest.mark.parametrize("change, word", [("drop", "is missing"), ("add", "is unexpected"), ("reshape", "instead of")])
def test_fit_is_strict_about_each(change, word):
    weights = small()
    if change == "drop":
        del weights["head.1.bias"]
    elif change == "add":
        weights["fc.weight"] = torch.ones(1)
    else:
        weights["head.1.bias"] = torch.ones(5, 1)
    message = refusal(fit, Small(), weights, "small")
    assert [fault for fault in ("is missing", "is unexpected", "instead of") if fault in message] == [word]


def test_fit_forgives_a_missing_counter_of_old_checkpoints():
    weights = small(1)
    del weights["body.1.num_batches_tracked"]
    module = Small()
    fit(module, weights, "small")
    assert torch.equal(module.head[1].bias, weights["head.1.bias"])


def test_fit_reads_the_old_names_in_torchvisions_own_files():
    dense = nn.ModuleDict({"denselayer1": nn.ModuleDict({"norm1": nn.BatchNorm2d(2), "conv2": nn.Conv2d(1, 1, 1)})})
    new = {key: torch.rand_like(t) if t.is_floating_point() else t for key, t in dense.state_dict().items()}
    old = {key.replace("norm1", "norm.1").replace("conv2", "conv.2"): tensor for key, tensor in new.items()}
    fit(dense, old, "densenet121")
    assert same(dict(dense.state_dict()), new)
    assert "unexpected" in refusal(fit, dense, old, "resnet18")
    block = torchvision.models.vision_transformer.MLPBlock(2, 3, 0.0)
    first = torch.rand(3, 2)
    legacy = {"linear_1.weight": first, "linear_1.bias": torch.rand(3)}
    legacy |= {"linear_2.weight": torch.rand(2, 3), "linear_2.bias": torch.rand(2)}
    fit(block, legacy, "vit_b_16")
    assert torch.equal(block[0].weight, first)
    assert refusal(fit, block, legacy | {"linear_1.weight": torch.rand(9, 9)}, "vit_b_16")


# Counting classes


@pytest.mark.parametrize("name", "squeezenet1_0 resnet18 vgg16 mobilenet_v2 densenet121 vit_b_16 swin_t".split())
def test_classes_are_counted_in_the_head(name):
    with torch.device("meta"):  # shapes without memory
        weights = torchvision.models.get_model(name, weights=None, num_classes=10).state_dict()
        module = torchvision.models.get_model(name, weights=None)
    assert num_classes(weights, module) == 10 and num_classes(module.state_dict(), module) == 1000


def test_classes_of_another_architecture():
    assert "'head.1.weight'" in refusal(num_classes, {"fc.weight": torch.ones(3, 3)}, Small())
    assert refusal(num_classes, {"head.1.weight": torch.ones(3)}, Small())
    assert "no linear" in refusal(num_classes, {}, nn.ReLU())


def test_a_ten_class_squeezenet_from_file_to_network():
    torch.manual_seed(3)
    trained = torchvision.models.squeezenet1_1(num_classes=10).eval()
    weights = read_weights(safetensors.torch.save({"module." + k: v for k, v in trained.state_dict().items()}))
    rebuilt = torchvision.models.squeezenet1_1(num_classes=num_classes(weights, trained)).eval()
    fit(rebuilt, weights, "squeezenet1_1")
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(rebuilt(x), trained(x)) and rebuilt(x).shape == (1, 10)
    assert "do not fit resnet18" in refusal(fit, torchvision.models.resnet18(num_classes=10), weights, "resnet18")


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared checkpoints are not here")
@pytest.mark.parametrize("name", ["squeezenet1_0", "mobilenet_v2"])
def test_real_checkpoints(name):
    weights = read_weights(DATA / f"{name}-imagenet.safetensors")
    module = torchvision.models.get_model(name, weights=None)
    fit(module, weights, name)
    assert num_classes(weights, module) == 1000


# Cards


def test_a_card_with_its_defaults(tmp_path):
    card = ModelCard(
        architecture="resnet18", num_classes=None, categories=(), input_size=224, resize_size=256,
        mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), title="resnet18",
    )  # fmt: skip
    path = tmp_path / "resnet.json"
    path.write_text(json.dumps({"architecture": "resnet18"}))
    given = {"architecture": "resnet18", "mean": None}
    assert read_card(given) == read_card(path) == read_card(str(path)) == read_card(path.read_bytes()) == card
    assert hash(card)
    with pytest.raises(FrozenInstanceError):
        card.title = "other"


def test_a_card_with_every_field():
    text = """{"architecture": "vgg16", "categories": ["cat", "dög"], "num_classes": 2, "input_size": 128,
        "resize_size": 128, "mean": [0, 0.5, 1], "std": [1, 1, 0.5], "title": " Cats  and dogs "}"""
    expected = ModelCard("vgg16", 2, ("cat", "dög"), 128, 128, (0.0, 0.5, 1.0), (1.0, 1.0, 0.5), "Cats  and dogs")
    assert read_card(text.encode()) == read_card(b"\xef\xbb\xbf" + text.encode()) == expected


def test_what_a_card_derives():
    assert read_card({"architecture": "a", "categories": ["x", "y", "z"]}).num_classes == 3
    assert [read_card({"architecture": "a", "input_size": s}).resize_size for s in (224, 299, 128)] == [256, 341, 146]


@pytest.mark.parametrize(
    "field, value",
    [
        ("architecture", "os.system('x')"), ("architecture", ""), ("architecture", 3), ("architecture", None),
        ("num_classes", 0), ("num_classes", -1), ("num_classes", 2.5), ("num_classes", "10"), ("num_classes", True),
        ("categories", "cat"), ("categories", {"0": "cat"}), ("categories", 7),
        ("input_size", 0), ("input_size", 10**6), ("input_size", "224"), ("input_size", [224, 224]),
        ("resize_size", 100), ("resize_size", 1e9),
        ("mean", [0.5, 0.5]), ("mean", 0.5), ("mean", [123.7, 116.8, 103.9]), ("mean", ["a", 0, 0]),
        ("mean", [True, 0, 0]),
        ("std", [0.2, 0.2, 0]), ("std", [0.2, -1, 0.2]), ("std", [0.2, 0.2, float("nan")]), ("std", []),
        ("title", ""), ("title", "x" * 201), ("title", "two\nlines"), ("title", 5),
    ],
)  # fmt: skip
def test_a_bad_field_is_named_with_its_value(field, value):
    message = refusal(read_card, {"architecture": "resnet18"} | {field: value})
    assert f"card's {field} is {repr(value)[:60]}" in message and "must be" in message


def test_faults_of_a_card_as_a_whole(tmp_path):
    plain = {"architecture": "resnet18"}
    assert "'inputsize'" in refusal(read_card, plain | {"inputsize": 3})
    assert "category 1 is ''" in refusal(read_card, plain | {"categories": ["cat", ""]})
    assert "2, the number of categories" in refusal(read_card, plain | {"categories": ["a", "b"], "num_classes": 3})
    assert "line 2" in refusal(read_card, b'{"architecture":\n resnet}')
    assert "JSON object" in refusal(read_card, b"[1]")
    for data in (b"\xff\xfe{}", b"", b"[" * 100_000):
        assert "JSON" in refusal(read_card, data)
    assert "not found" in refusal(read_card, tmp_path / "none.json")
