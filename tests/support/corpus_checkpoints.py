"""Checkpoints and cards that are broken or mean harm, all made from one seed, and what must become of each: a network or one sentence.

``cases`` makes them one after the other, because some are large. The pickles in them are written instruction by instruction.
"""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import safetensors.torch
import torch
from torch import Tensor

ARCHITECTURE = "squeezenet1_1"  # the smallest of torchvision's files
TRAP = "TRAP_OF_THE_CORPUS"  # an environment variable that code in a checkpoint would set
DIGITS = 10**400
NUMERIC = ("num_classes", "input_size", "resize_size", "mean", "std")
FIELDS = ("architecture", "categories", "title", *NUMERIC)


@dataclass(frozen=True)
class Case:
    """An uploaded checkpoint with its card. outcome: "network", "sentence" or "either". says: a part of the sentence."""

    name: str
    data: bytes
    card: bytes | None = None
    architecture: str = ARCHITECTURE
    outcome: str = "sentence"
    says: str = ""


def cases(seed: int = 0) -> Iterator[Case]:
    """All cases, always the same ones for a seed."""
    draw = random.Random(seed)
    yield from _sound()
    yield from _broken_files(draw)
    yield from _headers(draw)
    yield from _giants()
    yield from _programs()
    yield from _zips()
    yield from _values()
    yield from _cards(draw)


def network(classes: int = 3, seed: int = 0) -> dict[str, Tensor]:
    """The weights of an untrained network of ``ARCHITECTURE``."""
    from explainers.networks.torchvision_models import build

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return dict(build(ARCHITECTURE, classes).state_dict())


def small(seed: int = 0) -> dict[str, Tensor]:
    """A few tensors that belong to no network."""
    generator = torch.Generator().manual_seed(seed)
    return {"a.weight": torch.randn(3, 4, generator=generator), "a.bias": torch.randn(3, generator=generator),
            "b.count": torch.tensor(7)}


def saved(content: object, legacy: bool = False) -> bytes:
    """A file of torch.save."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def _formats(weights: dict[str, Tensor]) -> dict[str, bytes]:
    return {"safetensors": safetensors.torch.save(weights), "zip": saved(weights), "legacy": saved(weights, legacy=True)}


# Sound files, so that a reader that refuses everything fails


def _sound() -> Iterator[Case]:
    weights = network()
    small_card = json.dumps({"categories": ["ant", "bee", "cat"], "input_size": 64, "resize_size": 64}).encode()
    for kind, data in _formats({name: tensor.half() for name, tensor in weights.items()}).items():
        yield Case(f"sound {kind}", data, small_card, outcome="network")
    ordered = OrderedDict(("module." + name, tensor.bfloat16()) for name, tensor in weights.items())
    yield Case("sound, wrapped", saved({"epoch": 3, "state_dict": ordered, "best": 0.5}), small_card, outcome="network")
    side = json.dumps({"input_size": 64, "resize_size": 64}).encode()
    yield Case("one class", safetensors.torch.save(network(1)), side, outcome="network")
    for card in ({"num_classes": 4}, {"categories": ["a", "b"]}):
        yield Case(f"card {card}", safetensors.torch.save(weights), json.dumps(card).encode(), says="do not fit")
    for architecture in ("resnet18", "squeezenet1_0", "no_such_network", "timm/no_such_network", "../../etc/passwd", "", "a" * 5000):
        yield Case(f"another architecture {architecture[:20]}", safetensors.torch.save(weights), architecture=architecture)


# Files that were cut off or changed


def _broken_files(draw: random.Random) -> Iterator[Case]:
    for kind, data in _formats(small()).items():
        for _ in range(20):
            end = draw.randrange(len(data))
            yield Case(f"{kind} cut at {end}", data[:end])
        for _ in range(30):
            changed = bytearray(data)
            for _ in range(draw.choice((1, 1, 1, 5, 50))):
                changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            yield Case(f"{kind} with flipped bits", bytes(changed))
    for length in (1, 7, 8, 9, 64, 1000, 100_000):
        for start in (b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", b"\x20\0\0\0\0\0\0\0{"):
            yield Case(f"{length} random bytes after {start[:4]!r}", start + draw.randbytes(length))
    for data in (b"", b"<!DOCTYPE html><html>", b"version https://git-lfs.github.com/spec/v1\n", b"\x89PNG\r\n\x1a\n", b"{}", b"[]"):
        yield Case(f"another file {data[:8]!r}", data)


# The header of .safetensors


def described(header: object, content: bytes = b"", length: int | None = None) -> bytes:
    """A .safetensors file with this header. length: the one that the file states, where it lies."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + content


def entry(shape: object, dtype: object = "F32", offsets: object = (0, 0)) -> dict[str, object]:
    """One tensor in a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def _headers(draw: random.Random) -> Iterator[Case]:
    good = {"w": entry([4], offsets=[0, 16])}
    for length in (0, 1, 50, 10**6, 2**32, 2**62, 2**63, 2**64 - 1):
        yield Case(f"header of {length} bytes", described(good, bytes(16), length))
    for offsets in ([0, 8], [8, 24], [16, 0], [-4, 12], [0, 2**63], [0, 2**70], [0.5, 16.5], ["0", "16"], [0], None, {}, [0, 16, 8]):
        yield Case(f"offsets {offsets}", described({"w": entry([4], offsets=offsets)}, bytes(16)))
    for shape in ([5], [-4], [2**63], [2**32, 2**32], [2**62, 4], [4.0], ["4"], None, {}, [[4]], [1] * 5000 + [4], [DIGITS],
                  [True] * 4):
        yield Case(f"shape {str(shape)[:30]}", described({"w": entry(shape, offsets=[0, 16])}, bytes(16)))
    for dtype in ("F4", "F128", "C64", "complex", 32, None, [], "f32", "F8_E8M0", "U64", "x" * 10**5):
        yield Case(f"type {str(dtype)[:20]}", described({"w": entry([2], dtype, [0, 16])}, bytes(16)))
    yield Case("overlapping tensors", described({"a": entry([4], offsets=[0, 16]), "b": entry([4], offsets=[8, 24])}, bytes(24)))
    yield Case("the same bytes twice", described({f"{i}": entry([4], offsets=[0, 16]) for i in range(1000)}, bytes(16)))
    yield Case("a name twice", described(b'{"w":' + json.dumps(good["w"]).encode() + b',"w":' + json.dumps(good["w"]).encode() + b"}",
                                         bytes(16)))
    for header in ([], 3, "text", None, {"w": 3}, {"w": []}, {"w": {}}, {"__metadata__": 3}, {"__metadata__": {"a": 3}}, {}):
        yield Case(f"header {header}", described(header, bytes(16)))
    yield Case("a header nested deeply", described(b'{"w":' + b"[" * 100_000 + b"]" * 100_000 + b"}"))
    yield Case("a header of numbers", described(b'{"w":' + b"9" * 100_000 + b"}"))
    yield Case("200000 empty tensors", described({f"{i}": entry([0]) for i in range(200_000)}), says="more than")
    yield Case("a long name", described({"w" * 10**6: entry([4], offsets=[0, 16])}, bytes(16)), says="characters")
    for name in ("", "\0", "\ud800", "![x](http://x.example)", "<img src=x>", "a\nb", "\u202e", ":red[x]", "a" * 299):
        yield Case(f"a tensor called {name[:20]!r}", described({name: entry([4], offsets=[0, 16])}, bytes(16)))
    yield Case("long metadata", described({"__metadata__": {"a": "x" * 5 * 10**6}, **good}, bytes(16)))
    many = {f"features.{draw.randrange(99)}.{i}": entry([0]) for i in range(9000)}
    yield Case("9000 unknown tensors", described(many), says="no head")


# Shapes that are giants and take no bytes


def _giants() -> Iterator[Case]:
    heads = {"resnet18": "fc.weight", "vgg16": "classifier.6.weight", "squeezenet1_1": "classifier.1.weight",
             "mobilenet_v2": "classifier.1.weight", "regnet_x_400mf": "fc.weight"}
    for architecture, head in heads.items():
        for classes in (0, 100_000, 10**6, 10**9, 2**40):
            for shape in ([classes, 0], [classes, 0, 1, 1]):
                yield Case(f"{architecture} of {classes} classes", described({head: entry(shape)}), architecture=architecture)
    for shape in ([0, 10**12], [10**12, 0, 10**12], [0] * 64, [2**31, 2**31, 0]):
        yield Case(f"an empty tensor {str(shape)[:30]}", described({"fc.weight": entry(shape)}), architecture="resnet18")
    card = json.dumps({"num_classes": 100_000}).encode()
    yield Case("a card of 100000 classes", described({"fc.weight": entry([10, 0])}), card, "vgg16", says="do not fit")
    whole = safetensors.torch.save(network(2))
    for side, says in ((8, "pixels"), (16, ""), (512, ""), (2048, "GB for one picture")):
        card = json.dumps({"input_size": side}).encode()
        yield Case(f"pictures of {side} pixels", whole, card, says=says, outcome="sentence" if says else "either")


# Programs of torch.save


class Program:
    """A pickle, written instruction by instruction."""

    def __init__(self) -> None:
        self.code = [b"\x80\x02"]

    def __add__(self, code: bytes) -> Program:
        self.code.append(code)
        return self

    def name(self, module: str, name: str) -> Program:
        """A class or function."""
        return self + b"c" + f"{module}\n{name}\n".encode()

    def text(self, text: str) -> Program:
        return self + b"X" + struct.pack("<I", len(text.encode())) + text.encode()

    def number(self, number: int) -> Program:
        raw = number.to_bytes((number.bit_length() + 8) // 8, "little", signed=True)
        return self + (b"\x8a" + bytes([len(raw)]) + raw)

    def numbers(self, *numbers: int) -> Program:
        """A tuple of numbers."""
        self + b"("
        for number in numbers:
            self.number(number)
        return self + b"t"

    def storage(self, key: str, count: int, kind: str = "FloatStorage") -> Program:
        self + b"("
        self.text("storage").name("torch", kind).text(key).text("cpu").number(count)
        return self + b"tQ"

    def tensor(self, key: str, count: int, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> Program:
        """A tensor that shows a storage."""
        self.name("torch._utils", "_rebuild_tensor_v2") + b"("
        self.storage(key, count).number(offset).numbers(*size).numbers(*stride) + b"\x89"
        return self.name("collections", "OrderedDict") + b")Rt" + b"R"

    def bytes(self) -> bytes:
        return b"".join(self.code) + b"."


def state_dict(*values: Program) -> bytes:
    """The program of a dict with these values under "w0", "w1" and so on."""
    program = Program() + b"}("
    for index, value in enumerate(values):
        program.text(f"w{index}")
        program.code += value.code[1:]
    return (program + b"u").bytes()


def zipped(program: bytes, storages: dict[str, bytes] | None = None) -> bytes:
    """A zip of torch.save with this program."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", program)
        for key, content in (storages or {"0": bytes(64)}).items():
            archive.writestr(f"a/data/{key}", content)
        archive.writestr("a/version", "3\n")
    return buffer.getvalue()


def legacy(program: bytes, storages: dict[str, bytes] | None = None, lengths: dict[str, int] | None = None) -> bytes:
    """A file of torch.save before 1.6. lengths: how many numbers a storage is said to have, where the file lies."""
    storages = {"0": bytes(64)} if storages is None else storages
    start = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001})]
    end = [struct.pack("<q", (lengths or {}).get(key, len(content) // 4)) + content for key, content in storages.items()]
    return b"".join((*start, program, pickle.dumps(list(storages), 2), *end))


CODE = (("os", "system"), ("posix", "system"), ("builtins", "eval"), ("__builtin__", "exec"), ("builtins", "getattr"),
        ("torch", "load"), ("torch.hub", "load"), ("subprocess", "Popen"), ("_codecs", "encode"), ("numpy", "ones"),
        ("builtins", "bytearray"),
        ("torch.storage", "_load_from_bytes"), ("torch", "FloatTensor"), ("pickle", "loads"), ("operator", "attrgetter"))


def _calls(module: str, name: str) -> Program:
    """A call with a text that would set the environment variable TRAP, were it run as Python."""
    command = f"__import__('os').environ.__setitem__('{TRAP}', 'sprung')"
    return Program().name(module, name) .text(command) + b"\x85R"


def _nested(instruction: bytes, depth: int) -> Program:
    return Program() + (b")" if instruction == b"\x85" else b"]") + instruction * depth


def _programs() -> Iterator[Case]:
    for wrap in (zipped, legacy):
        kind = wrap.__name__
        for module, name in CODE:
            yield Case(f"{kind} that calls {module}.{name}", wrap(state_dict(_calls(module, name))), says="needs code")
        yield Case(f"{kind} that fits nothing", wrap(state_dict(Program().tensor("0", 16, (4, 4), (4, 1)))), says="no head")
        for size in ((100_000, 100_000), (10**9,), (2**31, 2**31)):
            program = state_dict(Program().tensor("0", 16, size, (0,) * len(size)))
            yield Case(f"{kind} that claims {size}", wrap(program), says="claims")
        for size, stride, offset in (((4, 4), (4, 2), 0), ((16,), (1,), 1), ((4, 4), (-4, 1), 12), ((4,), (1,), -1), ((4, 4), (4,), 0),
                                     ((-4, -4), (4, 1), 0), ((2,) * 70, (0,) * 70, 0), ((2,), (2**62,), 0), ((2,), (1,), 2**62),
                                     ((2**62, 2**62), (0, 0), 0), ((2**62, 2**62, 0), (0, 0, 0), 0)):
            program = state_dict(Program().tensor("0", 16, size, stride, offset))
            yield Case(f"{kind} with {size[:3]} {stride[:3]} {offset}", wrap(program))
        for count in (0, 15, 17, 10**12, 2**62, 2**64, -1):
            yield Case(f"{kind} with a storage of {count}", wrap(state_dict(Program().tensor("0", count, (4, 4), (4, 1)))))
        yield Case(f"{kind} without its storage", wrap(state_dict(Program().tensor("1", 16, (4, 4), (4, 1)))), says="damaged")
        yield Case(f"{kind} with 2000 names of a tensor", wrap(state_dict(*[Program().tensor("0", 16, (4, 4), (4, 1))] * 2000)))
        yield Case(f"{kind} with 40000 tensors", wrap(state_dict(*[Program().tensor("0", 16, (0,), (1,))] * 40_000)), says="more than")
        deep = _nested(b"\x85", 200_000)  # a tuple in a tuple in a tuple, as the key of a dict
        yield Case(f"{kind} with a deep key", wrap(Program().__add__(b"}").__add__(b"".join(deep.code[1:])).__add__(b"K\1s").bytes()))
        yield Case(f"{kind} with a deep value", wrap(state_dict(deep)))
        yield Case(f"{kind} that is a deep tuple", wrap(deep.bytes()))
        shadow = Program() + b"c" + b"collections\nOrderedDict\n)R}(" + b"X\5\0\0\0items" + b"K\1" + b"X\3\0\0\0get" + b"K\1ub"
        yield Case(f"{kind} whose dict has attributes", wrap(shadow.bytes()))
        function = Program().name("collections", "OrderedDict") + b"}(X\4\0\0\0nameK\1ub"
        yield Case(f"{kind} that changes a class", wrap(function.bytes()))
        for code in (b"}", b"(", b"N", b"", b"0", b"u", b"t", b"R", b"Q", b"b", b"s", b"h\7", b"}(K\1u", b"]K\1s",
                     b"\x95" + b"\xff" * 8, b"I1" * 5000,
                     b"\x8f", b"\x93", b"\x81", b"X\xff\xff\xff\xff", b"\x8a\xff", b"c\n\n", b"cos\n", b"K\1Q", b")Q"):
            yield Case(f"{kind} with the program {code[:6]!r}", wrap((Program() + code).bytes()))
        yield Case(f"{kind} without an end", wrap(b"\x80\x02}"))
    special = {"sparse": torch.eye(3).to_sparse(), "complex": torch.ones(2, dtype=torch.complex64),
               "meta": torch.ones(2, device="meta")}
    for kind, tensor in special.items():
        yield Case(f"{kind} tensor", saved({"w": tensor}), says="special form")
    for function in ("_rebuild_qtensor", "_rebuild_device_tensor_from_cpu_tensor", "_rebuild_wrapper_subclass"):
        made = Program().name("torch._utils", function) + b"("
        made.tensor("0", 16, (10**5, 10**5), (0, 0)) + b"tR"
        yield Case(function, zipped(state_dict(made)), says="special form")
    yield Case("legacy with no storages read", legacy(state_dict(Program().tensor("0", 16, (4, 4), (4, 1))), {}), says="damaged")
    for lie in (0, 15, 2**40, -5, 2**62):
        program = state_dict(Program().tensor("0", 16, (4, 4), (4, 1)))
        yield Case(f"legacy with {lie} numbers", legacy(program, lengths={"0": lie}), says="damaged")
    for content in ([1, 2], torch.ones(3), 3, None, {"epoch": 3}, {0: torch.ones(2)}, {"state_dict": {}}, {"model": {"a": 1}}, "text"):
        yield Case(f"what holds {str(content)[:20]}", saved(content))


def _zips() -> Iterator[Case]:
    program = state_dict(Program().tensor("0", 16, (4, 4), (4, 1)))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", program)
        archive.writestr("a/data/0", bytes(2 * 10**6))
        archive.filelist += [archive.filelist[-1]] * 5000  # one member under 5000 entries of the directory: 10 GB to be read
    yield Case("a zip over itself", buffer.getvalue(), says="damaged")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", program)
        archive.writestr("a/data/0", bytes(10**8))
    yield Case("a compressed zip", buffer.getvalue(), says="compressed")
    yield Case("a zip of 30000 members", zipped(program, {str(key): b"" for key in range(30_000)}))
    yield Case("a zip of TorchScript", zipped(program).replace(b"a/version", b"a/code/xx"), says="needs code")
    yield Case("a zip of another kind", zipped(program).replace(b"data.pkl", b"data.pdf"), says="not a checkpoint")
    yield Case("a zip behind a zip", zipped(program) + zipped(program))


def _values() -> Iterator[Case]:
    for value in (float("nan"), float("inf"), -float("inf")):
        for kind, data in _formats({"w": torch.tensor([1.0, value])}).items():
            yield Case(f"{kind} with {value}", data, says="NaN or infinite")
    weights = network()
    for name, scale in (("classifier.1.weight", 1e38), ("features.0.weight", 3e38)):
        grown = {key: tensor.sign() * scale if key == name else tensor for key, tensor in weights.items()}
        yield Case(f"{name} of {scale}", safetensors.torch.save(grown), json.dumps({"input_size": 64}).encode(), outcome="either")


# Cards


def _cards(draw: random.Random) -> Iterator[Case]:
    data = safetensors.torch.save(small())
    wholes = [b"[]", b"3", b'"text"', b"null", b"true", b"", b"{", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"\0" * 100,
              b"NaN", b"1e999", b"9" * 100_000,
              str(DIGITS).encode(), b'{"x' + b"x" * 10**7 + b'": 1}', b'{"title": "' + b"x" * 10**7 + b'"}',
              b"[" + b"1," * 10**6 + b"1]", b'{"mean": [' + b"0," * 10**6 + b"0]}"]
    for whole in wholes:
        yield Case(f"card {whole[:12]!r} of {len(whole)}", data, whole, says="card")
    for field in FIELDS:
        for value in ("null!", "NaN", "Infinity", "-Infinity", "1e400", str(DIGITS), "-1", "0", "0.5", "true", '""', '"\\ud800"',
                      '"a\\nb"', "[]", "{}", "[[]]", '[{"a": 1}]', "[null]", f"[{DIGITS}, 0, 0]", "[NaN, 0, 0]", '["a", "b", "c"]', '"![x](http://x)"'):
            yield Case(f"card {field}: {value[:12]}", data, f'{{"{field}": {value}}}'.encode())
        twice = f'{{"{field}": 1, "{field}": 1}}'.encode()
        yield Case(f"card with {field} twice", data, twice, says="twice")
    for name in ("inputsize", "", "\u202e", "x" * 10**5, "__proto__", "<b>"):
        yield Case(f"card with a field {name[:12]!r}", data, json.dumps({name: 1}).encode(), says="unknown field")
    text = json.dumps({"categories": ["a", "b", "c"], "input_size": 64, "mean": [0.5, 0.5, 0.5], "title": "Mine"}).encode()
    for _ in range(30):
        changed = bytearray(text)
        changed[draw.randrange(len(text))] = draw.randrange(256)
        yield Case("card with a changed byte", data, bytes(changed))
