"""Decodes the picture files of strangers in worker processes, so that none of them can hold up, fill or crash this one.

A worker (``decoding_worker``) is ended when a file costs more than ``picture_limits`` allows, and when nobody waits for it any more;
the next file then gets a new one. There are at most MOST_DECODERS of them, whatever the number of people who upload.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from explainers.decoding_worker import CHECK, DECODE, Message, receive, send
from explainers.errors import ExplainerError
from explainers.picture_limits import (
    DECODING_BYTES,
    DECODING_SECONDS,
    DECODING_WAIT_SECONDS,
    MOST_DECODERS,
    CostlyPicture,
    PictureError,
    damaged,
    needs_memory,
    refuse_size,
    too_slow,
)
from explainers.pictures import Picture

SCRIPT = Path(__file__).with_name("decoding_worker.py")
TICK = 0.1  # seconds between two calls of ``waiting``
GRACE = 2.0  # seconds until a process that has closed its pipe has ended
NO_WORKER = "The server cannot start the process that decodes pictures; its log says why."
MEMORY_SETTINGS = {  # of glibc: a worker keeps up to 64 MB for its next file, which saves a fifth of the time, and gives back the rest
    "MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**26), "MALLOC_TOP_PAD_": str(2**24), "MALLOC_ARENA_MAX": "1",
    "OPENBLAS_NUM_THREADS": "1"}  # numpy's threads would only reserve memory

Waiting = Callable[[], object]
"""Called every 0.1 s while somebody waits; an exception that it raises ends the decoding, and goes to the caller."""


@dataclass(frozen=True)
class Checked:
    """A file that can be read. digest: of what it shows, see ``pictures.picture_digest``. data: the file, of a DICOM file without
    the patient's data."""

    digest: str
    data: bytes


def _nobody_leaves() -> None:
    """Wait for as long as decoding takes."""


class Decoders:
    """The workers of one server. Any number of threads may use it at once; they wait for their turns.

    most: how many workers there are. seconds, memory: what one file may cost a worker, in seconds of one core and in bytes.
    """

    def __init__(self, most: int = MOST_DECODERS, seconds: int = DECODING_SECONDS, memory: int = DECODING_BYTES) -> None:
        self._seconds, self._memory = seconds, memory
        self._places: queue.LifoQueue[_Worker | None] = queue.LifoQueue()  # last in, first out: a second starts only when needed
        for _ in range(most):
            self._places.put(None)

    def check(self, data: bytes, waiting: Waiting = _nobody_leaves) -> Checked:
        """Decode a file to see whether it can be used. Raises ExplainerError, and what ``waiting`` raises."""
        answer = self._ask(CHECK, data, waiting, self._seconds)
        return Checked(str(answer.head["digest"]), answer.parts[0] if answer.parts else data)

    def picture(self, data: bytes, waiting: Waiting = _nobody_leaves) -> Picture:
        """The picture in a file, equal to what ``read_picture`` returns. Raises ExplainerError, and what ``waiting`` raises.

        It may take twice as long as ``check``, so that no file near the limit is first accepted and then refused.
        """
        return _picture(self._ask(DECODE, data, waiting, 2 * self._seconds))

    def close(self) -> None:
        """End the workers that decode nothing now."""
        free = [self._places.get() for _ in range(self._places.qsize())]
        for worker in free:
            if worker is not None:
                worker.end()
            self._places.put(None)

    def _ask(self, job: str, data: bytes, waiting: Waiting, seconds: int) -> Message:
        worker = self._turn(waiting)
        try:
            if worker is not None and worker.has_ended():
                worker.end()  # which closes its pipes
                worker = None
            worker = worker or _started()
            answer = worker.ask({"job": job, "seconds": seconds, "memory": self._memory}, data, waiting)
        except BaseException:  # also the one by which Streamlit ends a script
            if worker is not None:
                worker.end()
            worker = None
            raise
        finally:
            self._places.put(worker)
        if "refused" in answer.head:
            refused = CostlyPicture if answer.head.get("costly") else PictureError
            raise refused(str(answer.head["refused"]))
        return answer

    def _turn(self, waiting: Waiting) -> _Worker | None:
        """A worker that is free, or None for a place in which to start one."""
        while True:
            try:
                return self._places.get(timeout=TICK)
            except queue.Empty:
                waiting()


def _started() -> _Worker:
    try:
        return _Worker()
    except OSError as error:  # the system has no memory or no place for another process
        raise ExplainerError(NO_WORKER) from error


class _Worker:
    """One process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **MEMORY_SETTINGS})
        self._is_ready = False

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def ask(self, question: dict[str, Any], data: bytes, waiting: Waiting) -> Message:
        """Send a file, and wait for the answer. Raises CostlyPicture, and what ``waiting`` raises; the worker must then be ended."""
        answer: Future[Message | None] = Future()
        threading.Thread(target=self._exchange, args=(question, data, answer), name="decoding", daemon=True).start()
        until = time.monotonic() + DECODING_WAIT_SECONDS
        while not wait([answer], TICK).done:
            waiting()
            if time.monotonic() > until:
                raise CostlyPicture(too_slow(DECODING_WAIT_SECONDS))
        try:
            message = answer.result()
        except (OSError, ValueError):  # the pipe broke, or what came is no message
            message = None
        if message is None:
            raise CostlyPicture(self._why_it_ended(question["seconds"]))
        return message

    def _exchange(self, question: dict[str, Any], data: bytes, answer: Future[Message | None]) -> None:
        """In a thread of its own, because only one that blocks can use pipes on every system."""
        questions, answers = self._pipes()
        try:
            if not self._is_ready:
                self._is_ready = receive(answers) is not None
            send(questions, question, data)
            answer.set_result(receive(answers))
        except BaseException as error:  # whoever waits for the answer raises it
            answer.set_exception(error)

    def _pipes(self) -> tuple[BinaryIO, BinaryIO]:
        assert self._process.stdin and self._process.stdout
        return self._process.stdin, self._process.stdout  # type: ignore[return-value]

    def _why_it_ended(self, seconds: int) -> str:
        """The sentence for a file during which the worker ended; ``seconds``: how long it was allowed to compute."""
        try:
            code = self._process.wait(GRACE)
        except subprocess.TimeoutExpired:  # it has not ended, and sent nonsense
            return damaged()
        if not self._is_ready:
            raise ExplainerError(NO_WORKER)
        if code == -getattr(signal, "SIGXCPU", 0):
            return too_slow(seconds)
        return needs_memory() if code == -getattr(signal, "SIGKILL", 0) else damaged()

    def end(self) -> None:
        """End the process now, whatever it does."""
        self._process.kill()
        self._process.wait()
        for pipe in self._pipes():
            try:
                pipe.close()
            except OSError:  # what was not sent is lost with the process
                pass


def _picture(answer: Message) -> Picture:
    """A worker's answer as a picture."""
    head = answer.head
    width, height = (int(side) for side in head["size"])
    refuse_size(width, height)
    image = Image.frombytes("RGB", (width, height), answer.parts[0])
    notes = tuple(str(note) for note in head["notes"])
    if len(answer.parts) == 1:
        return Picture(image, notes)
    level, window_width = (float(number) for number in head["window"])
    values = np.frombuffer(answer.parts[1], np.float32).reshape(height, width)
    return Picture(image, notes, values, (level, window_width), bool(head["inverted"]))
