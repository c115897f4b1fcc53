"""Strangers' picture files: each is a picture or one sentence, within bounds of time and memory, whatever becomes of the worker."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support import corpus_pictures
from support.corpus_pictures import encoded, many_scans, photo, png, sound

from explainers import decoding
from explainers.decoding import Decoders
from explainers.errors import ExplainerError
from explainers.picture_limits import CostlyPicture, PictureError
from explainers.pictures import picture_digest, read_picture

SLOW = many_scans(1500, 4000)  # half a minute of computing in 220 kB
LARGE = png(5000, 4000, 8, 2, bytes(15_001 * 4000))  # 20 million pixels in 60 kB
SMALL = sound()["rgb.png"]
ON_LINUX = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads what Linux says about processes")


@pytest.fixture(scope="module")
def decoders():
    """Far stricter than the server's."""
    workers = Decoders(most=1, seconds=2, memory=400_000_000)
    yield workers
    workers.close()


def process_of(decoders: Decoders):
    """The process of the worker that is free, None where there is none."""
    worker = decoders._places.get(timeout=10)
    decoders._places.put(worker)
    return worker and worker._process


def outcome(decoders: Decoders, data: bytes) -> str:
    """What uploading this file comes to: a digest, or a sentence."""
    try:
        return decoders.check(data).digest
    except PictureError as error:
        assert not isinstance(error, CostlyPicture)
        return str(error)


def test_every_file_of_the_corpus_is_a_picture_or_one_sentence(decoders):
    files = list(corpus_pictures.light())
    assert len({data for _, data in files}) >= 1200
    assert outcome(decoders, SMALL) == picture_digest(read_picture(SMALL))
    process = process_of(decoders)
    pictures = 0
    for name, data in files:
        result = outcome(decoders, data)
        if " " not in result:
            pictures += 1
        else:
            assert result.endswith(".") and result.count(". ") == 0 and len(result) < 250 and "Error" not in result, name
    assert pictures > 300 and len(files) - pictures > 600
    assert process_of(decoders) is process and process.poll() is None


def test_a_worker_decodes_what_this_process_would(decoders):
    for name, data in sound().items():
        here, there = read_picture(data), decoders.picture(data)
        assert there == here and there.image.tobytes() == here.image.tobytes(), name
        assert np.array_equal(there.values, here.values, equal_nan=True) if here.values is not None else there.values is None, name
        assert outcome(decoders, data) == picture_digest(here), name


@ON_LINUX
def test_a_worker_has_no_torch_and_gives_memory_back(decoders):
    assert outcome(decoders, LARGE)
    process = process_of(decoders)
    assert "torch" not in Path(f"/proc/{process.pid}/maps").read_text()
    assert resident(process.pid) < 100e6


def resident(process_id: int) -> float:
    """The memory of a process in bytes."""
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_file_that_takes_too_long_ends_its_worker_and_the_next_file_gets_another():
    decoders = Decoders(most=1, seconds=1)
    outcome(decoders, SMALL)
    process = process_of(decoders)
    with pytest.raises(CostlyPicture, match="more than 1 s of computing"):
        decoders.check(SLOW)
    assert process.poll() == -signal.SIGXCPU
    assert outcome(decoders, SMALL) == picture_digest(read_picture(SMALL)) and process_of(decoders).pid != process.pid
    decoders.close()


@ON_LINUX
def test_a_file_that_needs_too_much_memory_is_refused():
    decoders = Decoders(most=1, memory=100_000_000)
    with pytest.raises(CostlyPicture, match="memory"):
        decoders.check(LARGE)
    assert outcome(decoders, SMALL) == picture_digest(read_picture(SMALL))
    decoders.close()


class Left(BaseException):
    """As Streamlit's own exception that ends a script."""


def test_a_worker_is_ended_when_nobody_waits_for_it():
    decoders = Decoders(most=1)
    outcome(decoders, SMALL)
    process, began = process_of(decoders), time.monotonic()

    def leave() -> None:
        raise Left

    with pytest.raises(Left):
        decoders.check(SLOW, leave)
    assert process.poll() == -signal.SIGKILL and time.monotonic() - began < 3
    assert process_of(decoders) is None and outcome(decoders, SMALL)
    decoders.close()


@pytest.mark.parametrize(("number", "word"), [(signal.SIGSEGV, "damaged"), (signal.SIGKILL, "memory")])
def test_a_worker_that_crashes_takes_only_its_file_along(number, word):
    decoders = Decoders(most=1)
    outcome(decoders, SMALL)
    process = process_of(decoders)
    with pytest.raises(CostlyPicture, match=word):
        decoders.check(SLOW, lambda: process.send_signal(number))
    assert outcome(decoders, SMALL)
    process_of(decoders).kill()  # while it is idle, as when the system is short of memory
    process_of(decoders).wait()
    assert outcome(decoders, SMALL) == picture_digest(read_picture(SMALL))
    decoders.close()


@pytest.mark.parametrize(("name", "value"), [("SCRIPT", "no such file"), ("sys", None)])
def test_a_worker_that_cannot_start_is_no_fault_of_the_file(monkeypatch, name, value):
    monkeypatch.setattr(decoding, name, value or SimpleNamespace(executable="/no such program"))
    with pytest.raises(ExplainerError, match="cannot start the process") as caught:
        Decoders(most=1).check(SMALL)
    assert not isinstance(caught.value, PictureError)


def test_no_more_workers_than_the_server_has_places(monkeypatch):
    alive = []
    started = []
    start = decoding._Worker.__init__

    def counted(worker) -> None:
        start(worker)
        started.append(worker)
        alive.append(sum(not each.has_ended() for each in started))

    monkeypatch.setattr(decoding._Worker, "__init__", counted)
    decoders = Decoders(most=2)
    files = [encoded(photo(seed=seed), "PNG") for seed in range(8)]
    digests: dict[int, str] = {}

    def upload(number: int) -> None:
        digests[number] = outcome(decoders, files[number])

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert digests == {number: picture_digest(read_picture(data)) for number, data in enumerate(files)}
    assert max(alive) <= 2
    decoders.close()
    assert all(worker.has_ended() for worker in started)


@ON_LINUX
def test_this_process_keeps_nothing_of_what_was_decoded():
    """A WebP of 40 million pixels, of which decoding takes 840 MB."""
    decoders = Decoders()
    outcome(decoders, SMALL)
    webp = corpus_pictures.COSTLY["WebP of 40 million pixels"]()
    before = resident(os.getpid())
    assert len(outcome(decoders, webp)) == 64
    assert resident(os.getpid()) - before < 20e6
    decoders.close()
