"""Reading files of ``torch.save`` as data: which tensors they hold, and then their values, without running what they ask for.

Such a file is a pickle, a small program that builds objects, beside the raw numbers of its storages. ``torch.load`` runs the
program, even with ``weights_only``: it then allocates whatever sizes are claimed, and a key that is nested deeply enough ends the
process. Here the program's few instructions are followed with plain values instead. A tensor becomes a ``Stored``, so that all
that a file claims can be compared with its length before memory is taken.
"""

from __future__ import annotations

import pickletools
import struct
import zipfile
from dataclasses import dataclass
from io import BytesIO
from math import prod
from typing import Any

import torch
from torch import Tensor

from explainers.networks.checkpoint_files import MAX_TENSORS

MAX_STEPS = 40 * MAX_TENSORS  # torch.save writes about 30 instructions for each tensor
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # files of torch.save before 1.6 begin with this pickled number

_STORAGES = {"Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16, "Long": torch.int64,
             "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8, "Bool": torch.bool}
_LITERALS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = ("BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING")
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch.nn.parameter.Parameter")
_PLAIN = ("torch.Size", "torch.device", "torch.serialization._get_layout", "torch.per_tensor_affine", "torch.per_channel_affine",
          *map(str, _STORAGES.values()))  # what may stand beside tensors
_REBUILDS = ("torch._utils._rebuild_", "torch._tensor._rebuild_")
_KEYS = (str, int, float, bool, type(None))
_MOST_DIMENSIONS = 8


class NeedsCode(Exception):
    """The file asks for a class or a function that is no part of plain tensors; the message is its name."""


class Damaged(Exception):
    """The file is cut off, contradicts itself, or is of a kind that torch.save does not write."""


class TooMuch(Exception):
    """The file's program has more instructions than the largest networks need."""


@dataclass(frozen=True)
class Storage:
    """A row of numbers in the file. dtype: None for one that holds no ordinary numbers (quantised or complex ones)."""

    dtype: torch.dtype | None
    key: str
    numbers: int


@dataclass(frozen=True)
class Stored:
    """A tensor in the file: which numbers of which storage it shows. storage: None for a sparse, quantised or other special tensor."""

    storage: Storage | None
    offset: int = 0
    size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()

    @property
    def numbers(self) -> int:
        """How many values the tensor has."""
        return prod(self.size)


@dataclass(frozen=True)
class _Name:
    """A class or function that the program names."""

    dotted: str


class TorchFile:
    """The content of a file: dicts, lists and numbers, with a ``Stored`` for each tensor. Raises NeedsCode, Damaged and TooMuch."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._values: dict[str, Tensor] = {}  # each storage's numbers, read when a tensor first needs them
        self._starts: dict[str, tuple[int, int]] = {}  # where a storage's bytes start in the file, and how many there are
        self._swapped = False
        self.content = self._of_legacy() if data.startswith(LEGACY) else self._of_zip()

    def tensor(self, stored: Stored) -> Tensor:
        """The values of a tensor with a storage; a view, where several tensors share one. Raises Damaged where it leaves it."""
        storage = stored.storage
        if storage is None or storage.dtype is None:
            raise ValueError("this tensor has no ordinary numbers")
        if stored.numbers == 0:
            return torch.empty(stored.size, dtype=storage.dtype)
        if storage.key not in self._values:
            self._values[storage.key] = self._read(storage)
        values = self._values[storage.key]
        last = stored.offset + sum((side - 1) * step for side, step in zip(stored.size, stored.stride, strict=True))
        if last >= len(values):
            raise Damaged("a tensor reaches beyond its storage")
        return torch.as_strided(values, stored.size, stored.stride, stored.offset)

    def _read(self, storage: Storage) -> Tensor:
        dtype = storage.dtype
        start, length = self._starts.get(storage.key, (0, -1))
        if dtype is None or not 0 < storage.numbers * dtype.itemsize <= length:
            raise Damaged("a storage is missing or shorter than it says")
        raw = torch.frombuffer(bytearray(memoryview(self._data)[start:start + storage.numbers * dtype.itemsize]), dtype=torch.uint8)
        return (raw.view(-1, dtype.itemsize).flip(1).contiguous() if self._swapped else raw).view(-1).view(dtype)

    def _of_zip(self) -> object:
        """The program of a zip, and where its storages are. Its checksums were compared before (see ``checkpoints``)."""
        with zipfile.ZipFile(BytesIO(self._data)) as archive:
            program = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            root = program.removesuffix("data.pkl")
            for member in archive.infolist():
                if member.filename == f"{root}byteorder":
                    self._swapped = archive.read(member).strip() == b"big"
                if member.filename.startswith(f"{root}data/"):
                    start = _start_in_zip(self._data, member)
                    self._starts[member.filename.removeprefix(f"{root}data/")] = start, member.file_size
            return _followed(BytesIO(archive.read(program)))

    def _of_legacy(self) -> object:
        """The five programs of the older format, and where the storages behind them are: for each its length and its numbers."""
        stream = BytesIO(self._data)
        _followed(stream), _followed(stream), _followed(stream)  # the magic number, the protocol, the machine
        storages: dict[str, Storage] = {}
        content = _followed(stream, storages)
        keys = _followed(stream)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise Damaged("the list of storages is none")
        place = stream.tell()
        for key in keys:
            storage = storages.get(key)
            if storage is None or place + 8 > len(self._data):
                raise Damaged("a storage is missing")
            numbers = struct.unpack_from("<q", self._data, place)[0]
            item = storage.dtype.itemsize if storage.dtype is not None else 1
            if numbers != storage.numbers or numbers < 0 or place + 8 + numbers * item > len(self._data):
                raise Damaged("a storage is not as long as it says")
            self._starts[key] = place + 8, numbers * item
            place += 8 + numbers * item
        return content


def _start_in_zip(data: bytes, member: zipfile.ZipInfo) -> int:
    """Where a member's content starts: behind its own header, the name and a padding."""
    name, extra = struct.unpack_from("<HH", data, member.header_offset + 26)
    return member.header_offset + 30 + int(name) + int(extra)


# The program


def _followed(stream: BytesIO, storages: dict[str, Storage] | None = None) -> object:
    """What the program at the stream's place builds. storages: takes every storage that it names, by key."""
    machine = _Machine(storages if storages is not None else {})
    try:
        for step, (operation, argument, _) in enumerate(pickletools.genops(stream)):
            if step >= MAX_STEPS:
                raise TooMuch
            if operation.name == "STOP":
                return machine.stack.pop()
            machine.run(operation.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, struct.error, OverflowError) as error:
        raise Damaged(type(error).__name__) from error
    raise Damaged("the program has no end")


class _Machine:
    """The instructions that torch.save writes, with plain values: nothing that a file names is looked up or called."""

    def __init__(self, storages: dict[str, Storage]) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages = storages

    def run(self, operation: str, argument: Any) -> None:
        stack = self.stack
        match operation:
            case "PROTO":
                pass
            case "MARK":
                self.marks.append(len(stack))
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(self.marked()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(operation[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "APPEND":
                _list(stack[-2]).append(stack.pop())
            case "APPENDS":
                items = self.marked()
                _list(stack[-1]).extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _put(stack[-1], key, value)
            case "SETITEMS":
                items = self.marked()
                for key, value in zip(items[::2], items[1::2], strict=True):
                    _put(stack[-1], key, value)
            case "GLOBAL":
                stack.append(_named(argument.replace(" ", ".", 1)))
            case "REDUCE":
                arguments = stack.pop()
                stack[-1] = _called(stack[-1], arguments)
            case "BUILD":  # attributes, such as a state dict's versions, which nothing here needs
                stack.pop()
            case "BINPERSID":
                stack.append(self.storage(stack.pop()))
            case _ if operation in _LITERALS:
                stack.append(_LITERALS[operation])
            case _ if operation in _VALUES:
                stack.append(argument)
            case "NEWOBJ" | "INST" | "OBJ" | "STACK_GLOBAL" | "NEWOBJ_EX" | "EXT1" | "EXT2" | "EXT4":
                raise NeedsCode("objects")
            case _:
                raise Damaged(f"torch.save does not write {operation}")

    def marked(self) -> list[Any]:
        """Take what was put on the stack since the last mark."""
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def storage(self, given: Any) -> Storage:
        kind, name, key, _, numbers, *view = given
        plain = kind == "storage" and isinstance(name, _Name) and type(key) is str and type(numbers) is int and numbers >= 0
        if not plain or view not in ([], [None]):
            raise Damaged("a storage is described in another way")
        dtype = _STORAGES.get(name.dotted.removeprefix("torch.").removesuffix("Storage"))
        storage = Storage(torch.uint8 if name.dotted.endswith("UntypedStorage") else dtype, key, numbers)
        return self.storages.setdefault(key, storage)


def _list(value: Any) -> list[Any]:
    if type(value) is not list:
        raise Damaged("something is added to what is no list")
    return value


def _put(container: Any, key: Any, value: Any) -> None:
    """A dict's key is never a tuple: Python follows one into any depth to compare it, and ends when that is too deep."""
    if type(container) is not dict or type(key) not in _KEYS:
        raise Damaged("a dict has another kind of key")
    container[key] = value


def _named(dotted: str) -> _Name:
    known = dotted in {"collections.OrderedDict", *_PARAMETERS, *_PLAIN} or dotted.startswith(_REBUILDS)
    if known or (dotted.startswith("torch.") and dotted.endswith("Storage")):
        return _Name(dotted)
    raise NeedsCode(dotted.removeprefix("__builtin__.").removeprefix("builtins."))


def _called(function: Any, arguments: Any) -> Any:
    """What a call gives, where it makes a dict or a tensor. A tensor of another kind is a ``Stored`` without a storage."""
    if not isinstance(function, _Name) or type(arguments) is not tuple:
        raise Damaged("something is called that is no function")
    if function.dotted == "collections.OrderedDict" and not arguments:
        return {}
    if function.dotted in _PARAMETERS:
        return arguments[0]
    if function.dotted in {"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"}:
        return _stored(*arguments[:4])
    return function if function.dotted in _PLAIN else Stored(None)


def _stored(storage: Any, offset: Any, size: Any, stride: Any) -> Stored:
    shaped = type(size) is tuple and type(stride) is tuple and len(size) == len(stride) <= _MOST_DIMENSIONS
    if not isinstance(storage, Storage) or not shaped or not all(type(n) is int and 0 <= n < 2**63 for n in (offset, *size, *stride)):
        raise Damaged("a tensor is described in another way")
    if prod(max(side, 1) for side in size) >= 2**63:  # torch cannot count so many values, also where there are none
        raise Damaged("a tensor is larger than any")
    return Stored(storage, offset, size, stride)
