"""The process that decodes the picture files of strangers; ``decoding`` starts this file as a script, and talks with it over pipes.

A file of a few kB can make a decoder compute for a minute, take gigabytes, or crash. Here that ends this process, whose time and
memory the system limits, and not the server. It decodes one file after another, because starting takes 0.2 s, and it ends when the
server closes the pipe. It never imports torch. What it sends back is plain JSON and numbers, never objects, so that even a decoder
that was taken over can give the server nothing but a wrong picture.

A message on a pipe: the length of its JSON part (4 bytes), that part, and the bytes of each of its parts, whose lengths the JSON
part lists under "parts".
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import signal
import struct
import sys
import time
import types
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

CHECK, DECODE = "check", "decode"
HEAD = struct.Struct(">I")
MAX_HEAD = 65536  # bytes of a message's JSON part
KEPT_BYTES = 120_000_000  # of memory, which a worker may keep for its next file
MAX_PART = 250_000_000  # bytes: a file, or the pixels or the values of the largest picture


class Message(NamedTuple):
    """``head``: what JSON can hold. ``parts``: the bytes that come with it."""

    head: dict[str, Any]
    parts: list[bytes]


def send(pipe: BinaryIO, head: dict[str, Any], *parts: bytes | memoryview) -> None:
    """Write a message. Raises OSError where the other process has gone."""
    text = json.dumps({**head, "parts": [len(part) for part in parts]}).encode()
    pipe.write(HEAD.pack(len(text)) + text)
    for part in parts:
        pipe.write(part)
    pipe.flush()


def receive(pipe: BinaryIO) -> Message | None:
    """Wait for a message; None where the other process has closed the pipe. Raises ValueError for what is no message."""
    begin = pipe.read(HEAD.size)
    if not begin:
        return None
    length, = HEAD.unpack(_exactly(pipe, HEAD.size, begin))
    head = json.loads(_exactly(pipe, length)) if length <= MAX_HEAD else None
    lengths = head.pop("parts", None) if isinstance(head, dict) else None
    if head is None or not isinstance(lengths, list) or not all(type(each) is int and 0 <= each <= MAX_PART for each in lengths):
        raise ValueError("a process that decodes pictures has sent what is no message")
    return Message(head, [_exactly(pipe, each) for each in lengths])


def _exactly(pipe: BinaryIO, length: int, begin: bytes = b"") -> bytes:
    content = begin + pipe.read(length - len(begin)) if begin else pipe.read(length)
    if len(content) < length:
        raise ValueError("a process that decodes pictures has ended within a message")
    return content


def main() -> None:
    """Answer until there is no further question."""
    _enter_without_torch()
    from explainers import dicom, pictures  # noqa: F401  before the first file comes

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches every process; the server ends this one
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # what the decoders' C libraries write
    os.dup2(nowhere, 2)
    send(answers, {"ready": True})
    while (question := receive(questions)) is not None:
        _limit(question.head["seconds"], question.head["memory"])
        _answer(answers, question.head["job"], question.parts.pop())
        _give_back()


def _enter_without_torch() -> None:
    """Let ``explainers`` be imported without what its ``__init__`` imports, which takes seconds and 300 MB."""
    folder = Path(__file__).resolve().parent
    sys.path[:] = [str(folder.parent), *(place for place in sys.path if Path(place or ".").resolve() != folder)]
    package = types.ModuleType("explainers")
    package.__path__ = [str(folder)]
    sys.modules["explainers"] = package


def _limit(seconds: int, memory: int) -> None:
    """Let the system end this process when it computes for longer than so many further seconds, refuse it more memory than so many
    bytes, and let it write no file. Without effect where the system has no such limits."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limits = {resource.RLIMIT_CPU: math.ceil(time.process_time()) + seconds, resource.RLIMIT_DATA: memory, resource.RLIMIT_FSIZE: 0,
              resource.RLIMIT_CORE: 0}
    for kind, limit in limits.items():
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _give_back() -> None:
    """After a large picture return its memory to the system; without effect where that is not Linux with glibc."""
    try:
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim and resident > KEPT_BYTES:
        trim(0)


def _answer(answers: BinaryIO, job: str, data: bytes) -> None:
    """Decode a file, and send what ``job`` asks for, or the sentence that says why the file cannot be used."""
    from explainers.picture_limits import CostlyPicture, PictureError, needs_memory

    try:
        if job == CHECK:
            _send_digest(answers, data)
        else:
            _send_picture(answers, data)
    except PictureError as error:
        send(answers, {"refused": str(error), "costly": isinstance(error, CostlyPicture)})
    except MemoryError:
        send(answers, {"refused": needs_memory(), "costly": True})


def _send_digest(answers: BinaryIO, data: bytes) -> None:
    """Send the digest of what the file shows, and of a DICOM file the bytes without the patient's data."""
    from explainers.dicom import is_dicom, without_header
    from explainers.pictures import picture_digest, read_picture

    digest = picture_digest(read_picture(data))
    send(answers, {"digest": digest}, *([without_header(data)] if is_dicom(data) else []))


def _send_picture(answers: BinaryIO, data: bytes) -> None:
    """Send the picture: its pixels, and its grey values where it has them."""
    import numpy as np

    from explainers.pictures import read_picture

    picture = read_picture(data)
    head = {"size": picture.image.size, "notes": picture.notes, "window": picture.window, "inverted": picture.inverted}
    pixels = picture.image.tobytes()
    if picture.values is None:
        send(answers, head, pixels)
    else:
        send(answers, head, pixels, np.ascontiguousarray(picture.values).data.cast("B"))


if __name__ == "__main__":
    main()
