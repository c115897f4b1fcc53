"""The map cache: the same bits come back, nothing wrong ever does, and the bounds hold under all hands at once."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import logging
import os
import random
import struct
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import safetensors.torch
import torch
from support.cached import attribution, entry_of, key, on_disk
from support.equality import same
from support.paths import ROOT
from support.threads import run_in_threads

from explainers.attribution import Attribution
from explainers.cache import MapCache
from explainers.encoding import FORMAT, decode, encode
from explainers.passes import Passes
from explainers.target import Target


def everything() -> Attribution:
    """One value of every kind that a field or an extra may hold."""
    noise = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(1))
    noise[0, 0, :4] = torch.tensor([float("nan"), float("inf"), -0.0, 1e-45])
    extras = {
        "mask": noise.transpose(0, 2),  # not contiguous
        "same memory": [noise, noise, noise[1:]],
        "kinds": [noise.half(), noise.bfloat16(), noise.double(), torch.arange(4), torch.tensor([True, False])],
        "scalar": torch.tensor(2.5),
        "arrays": [noise.numpy().transpose(2, 0, 1), np.arange(4), np.zeros((0, 2), bool)],
        "none left": torch.zeros(0, 3),
        "trace": [0.1, 1 / 3, 1e308, float("inf"), float("nan"), -0.0, 2**70, 7],
        "nested": {"a": {"b": [None, True, False, "höhe \ud800 \0", (1, (2.0, [noise[0]]))]}, 3: "number as key"},
        "tensor": "no marker", "empty": {}, "list": [], "tuple": (),
    }  # fmt: skip
    flags = ("the map is the same everywhere", "another")
    return attribution(target=Target((3, 5)), flags=flags, extras=extras, passes=Passes(1.5, 0), params={"layer": "auto"})


@pytest.mark.parametrize("fresh", [False, True], ids=["memory", "disk"])
def test_round_trip(tmp_path, fresh):
    cache = MapCache(tmp_path)
    cache.put(key(1), everything())
    found = (MapCache(tmp_path) if fresh else cache).get(key(1))
    assert same(found, everything())
    assert type(found.target) is Target and type(found.passes) is Passes and type(found.input_size) is tuple
    assert not same(found, attribution())


def test_same_can_tell_a_difference():
    a, b = everything(), everything()
    b.extras["mask"][0, 0, 0] = 0.0
    assert not same(a, b) and not same(torch.tensor(0.0), torch.tensor(-0.0))
    assert not same((1,), [1]) and not same(1, 1.0)


def test_numpy_numbers_and_read_only_params_come_back_plain():
    given = attribution(params=MappingProxyType({"n": np.int64(3)}), seed=np.int64(4), extras={"x": np.float32(0.5)})
    found = decode(encode(given))
    assert same(found.params, {"n": 3}) and same(found.seed, 4) and same(found.extras, {"x": 0.5})


def test_misses():
    cache = MapCache(None)
    assert cache.get(key(1)) is None and key(1) not in cache and cache.sizes() == (0, 0)


@pytest.mark.parametrize("bad", ["../../etc/passwd", "ABCDEF", "", "abc", "ab/cdef", "abcd\n", "a" * 200, None])
def test_keys_must_be_hex(tmp_path, bad):
    cache = MapCache(tmp_path)
    assert bad not in cache
    with pytest.raises(ValueError):
        cache.get(bad)
    with pytest.raises(ValueError):
        cache.put(bad, attribution())


@dataclasses.dataclass(frozen=True)
class Foreign:
    """No dataclass of the package."""


@pytest.mark.parametrize(("value", "named"), [({1, 2}, "set"), (object(), "object"), (Foreign(), "Foreign"), (print, "function")])
def test_what_cannot_be_kept_is_named(value, named):
    with pytest.raises(TypeError, match=named):
        MapCache(None).put(key(1), attribution(extras={"x": [value]}))


@pytest.mark.parametrize("value", [None, 1.5, "text", (1, [2.0]), {"curve": torch.arange(3.0)}, np.arange(3), Passes(1, 2)])
def test_any_packable_value_can_be_kept(tmp_path, value):
    MapCache(tmp_path).put(key(1), value)
    assert key(1) in MapCache(tmp_path) and same(MapCache(tmp_path).get(key(1)), value)


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_callers_may_change_what_they_put_and_got(tmp_path, place):
    cache = MapCache(tmp_path, memory_bytes=0 if place == "disk" else 10**6)
    mine = everything()
    cache.put(key(1), mine)
    for copy in (mine, cache.get(key(1))):
        copy.native.zero_()
        copy.native.sub_(7)
        copy.extras["mask"].zero_()
        copy.extras["nested"]["a"] = None
    assert same(cache.get(key(1)), everything())


# Damage


def is_a_logged_miss(folder: Path, caplog) -> bool:
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        missed = MapCache(folder).get(key(1)) is None
    return missed and len(caplog.records) == 1 and not entry_of(folder, 1).exists()


def test_a_flipped_bit_anywhere_is_a_miss(tmp_path, caplog):
    MapCache(tmp_path).put(key(1), everything())
    path = entry_of(tmp_path, 1)
    whole = path.read_bytes()
    for position in {*range(0, 48), *range(48, len(whole), 37), len(whole) - 1}:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        assert is_a_logged_miss(tmp_path, caplog), position
    path.write_bytes(whole)
    assert same(MapCache(tmp_path).get(key(1)), everything())


@pytest.mark.parametrize("length", [0, 1, 31, 32, 33, 40, 500, -1])
def test_a_truncated_entry_is_a_miss(tmp_path, caplog, length):
    MapCache(tmp_path).put(key(1), everything())
    path = entry_of(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:length])
    assert is_a_logged_miss(tmp_path, caplog)


def safetensor(about: dict[str, str]) -> bytes:
    return safetensors.torch.save({"0": torch.zeros(2)}, metadata=about)


@pytest.mark.parametrize(
    "payload",
    [
        b"not safetensors",
        struct.pack("<Q", 2**60),
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 4) + b"null",
        safetensor({"other": "program"}),
        safetensor({"format": FORMAT, "key": key(1), "value": "[1"}),
        safetensor({"format": FORMAT, "key": key(1), "value": json.dumps({"tensor": "1"})}),
        safetensor({"format": FORMAT, "key": key(1), "value": json.dumps({"unknown": 1})}),
        safetensor({"format": FORMAT, "key": key(1), "value": json.dumps({"dataclass": ["pathlib", "Path", {}]})}),
        safetensor({"format": FORMAT, "key": key(1), "value": json.dumps({"dataclass": ["explainers.engine", "Engine", {}]})}),
        safetensor({"format": FORMAT, "key": key(1), "value": json.dumps({"dataclass": ["explainers.passes", "Passes", {"x": 1}]})}),
        safetensor({"format": FORMAT, "key": key(1), "value": "[" * 100_000}),
        encode(attribution(), key(1)).replace(FORMAT.encode(), FORMAT.replace("2", "1").encode()),
        encode(attribution(), key(2)),  # a good entry under the wrong name would be the wrong map
    ],
)
def test_a_whole_file_of_a_foreign_format_is_a_miss(tmp_path, caplog, payload):
    path = entry_of(tmp_path, 1)
    path.parent.mkdir()
    path.write_bytes(hashlib.sha256(payload).digest() + payload)
    assert is_a_logged_miss(tmp_path, caplog)


def test_nothing_but_our_own_files_is_ever_removed(tmp_path):
    cache = MapCache(tmp_path, disk_bytes=20_000)
    foreign = [tmp_path / name for name in ("notes.result", "ab/notes.txt", "ab/photo.map", "abcd/abcdef.map", ".x.tmp")]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("precious")
        os.utime(path, (0, 0))
    for number in range(40):
        cache.put(key(number), attribution(number))
    cache.clear()
    assert all(path.read_text() == "precious" for path in foreign)
    assert not list(tmp_path.glob("??/" + "?" * 64 + ".result"))


def test_leftover_temporary_files_are_cleaned(tmp_path):
    room = tmp_path / "ab"
    room.mkdir()
    old, young = room / ".dead.tmp", room / ".busy.tmp"
    old.write_bytes(b"x")
    young.write_bytes(b"x")
    os.utime(old, (time.time() - 3600,) * 2)
    cache = MapCache(tmp_path)
    assert not old.exists() and young.exists()
    cache.clear()
    assert young.exists()  # another process may be about to rename it


# Bounds


def test_memory_forgets_the_least_recently_used():
    size = len(encode(attribution(0), key(0)))
    cache = MapCache(None, memory_bytes=3 * size + size // 2)
    for number in range(3):
        cache.put(key(number), attribution(number))
    assert cache.sizes() == (3 * size, 0)
    cache.get(key(0))
    cache.put(key(3), attribution(3))
    assert [key(n) in cache for n in range(4)] == [True, False, True, True]
    assert cache.get(key(0)).seed == 0 and cache.get(key(1)) is None
    cache.put(key(3), attribution(3))  # a second time: counted once
    assert cache.sizes() == (3 * size, 0)
    cache.put(key(4), attribution(4, side=200))  # larger than all: not kept, and pushes nobody out
    assert key(4) not in cache and cache.sizes() == (3 * size, 0)
    cache.clear()
    assert cache.sizes() == (0, 0) and key(0) not in cache


@pytest.mark.parametrize("memory_bytes", [0, 10**6])
def test_disk_forgets_the_least_recently_used(tmp_path, memory_bytes):
    size = 32 + len(encode(attribution(0), key(0)))
    cache = MapCache(tmp_path, memory_bytes, disk_bytes=4 * size + size // 2)
    for number in range(4):
        cache.put(key(number), attribution(number))
    assert cache.sizes()[1] == on_disk(tmp_path) == 4 * size
    cache.get(key(0))  # also a hit in memory counts as use
    cache.put(key(4), attribution(4))
    assert [n for n in range(5) if entry_of(tmp_path, n).exists()] == [0, 2, 3, 4]
    assert cache.sizes()[1] == on_disk(tmp_path) == 4 * size
    cache.put(key(4), attribution(4))  # a second time: counted once
    assert cache.sizes()[1] == on_disk(tmp_path) == 4 * size
    cache.put(key(5), attribution(5, side=200))
    assert not entry_of(tmp_path, 5).exists() and on_disk(tmp_path) == 4 * size


def test_a_smaller_bound_holds_from_the_start(tmp_path):
    cache = MapCache(tmp_path)
    for number in range(20):
        cache.put(key(number), attribution(number))
    full = on_disk(tmp_path)
    assert MapCache(tmp_path, disk_bytes=full // 2).sizes()[1] == on_disk(tmp_path) <= full // 2


def test_scans_are_rare(tmp_path, monkeypatch):
    """Below the bound only a twentieth of it, written, makes the cache look at its folder again."""
    size = 32 + len(encode(attribution(0), key(0)))
    cache = MapCache(tmp_path, disk_bytes=1000 * size)
    scans = itertools.count()
    monkeypatch.setattr(cache._disk, "sweep", lambda: next(scans))
    for number in range(50):
        cache.put(key(number), attribution(number))
    assert next(scans) == 0


# Many at once

HAMMER = """
import random, sys
sys.path.insert(0, sys.argv[4])
from support.cached import attribution, key
from support.equality import same
from explainers.cache import MapCache
folder, limit, start = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
cache, hits, dice = MapCache(folder, memory_bytes=0, disk_bytes=limit), 0, random.Random(start)
for step in range(400):
    number = dice.randrange(25)
    found = cache.get(key(number))
    hits += found is not None
    assert found is None or same(found, attribution(number)), number
    cache.put(key(number), attribution(number))
    if step == 200 and start:
        cache.clear()
print(hits)
"""


def test_two_processes_share_a_folder(tmp_path):
    limit = 15 * len(encode(attribution(0), key(0)))
    command = [sys.executable, "-W", "error", "-c", HAMMER, str(tmp_path), str(limit)]
    here = str(Path(__file__).parent)
    workers = [
        subprocess.Popen([*command, str(start), here], cwd=ROOT, stdout=-1, stderr=-1, text=True) for start in (0, 1)
    ]
    for worker in workers:
        out, err = worker.communicate(timeout=60)
        assert worker.returncode == 0 and err == "", err  # no damage was seen, so nothing was logged
        assert int(out) > 0
    assert 0 < on_disk(tmp_path) <= limit * 1.1 and not list(tmp_path.rglob("*.tmp"))
    assert MapCache(tmp_path, disk_bytes=limit).sizes()[1] <= limit


def test_threads_share_a_cache(tmp_path, caplog):
    size = len(encode(attribution(0), key(0)))
    cache = MapCache(tmp_path, memory_bytes=5 * size, disk_bytes=15 * size)

    def hammer(start: int) -> int:
        dice, hits = random.Random(start), 0
        for _ in range(150):
            number = dice.randrange(25)
            value = cache.get(key(number))
            hits += value is not None
            assert value is None or same(value, attribution(number)), number
            cache.put(key(number), attribution(number))
        return hits

    hits = run_in_threads([partial(hammer, start) for start in range(4)])
    assert caplog.records == [] and sum(hits) > 100
    assert cache.sizes()[0] <= 5 * size and cache.sizes()[1] == on_disk(tmp_path) <= 15 * size


def test_an_entry_that_another_process_removes_while_it_is_replaced_is_written(tmp_path, caplog, monkeypatch):
    cache, look = MapCache(tmp_path), os.lstat
    cache.put(key(0), attribution(0))

    def look_and_remove(path, **more):
        status = look(path, **more)
        if str(path).endswith(".result"):
            monkeypatch.undo()
            os.unlink(path)
        return status

    monkeypatch.setattr(os, "lstat", look_and_remove)
    cache.put(key(0), attribution(1))
    assert caplog.records == [] and same(MapCache(tmp_path).get(key(0)), attribution(1))


@pytest.mark.parametrize("place", ["memory", "disk"])
@pytest.mark.parametrize("planted", [5, None, "text", [1], Passes(1, 2), torch.zeros(3)])
def test_an_entry_of_another_type_is_a_miss(tmp_path, caplog, place, planted):
    cache = MapCache(tmp_path)
    cache.put(key(1), planted)
    cache = cache if place == "memory" else MapCache(tmp_path)
    assert cache.unrecorded.get(key(1), Attribution) is None and key(1) not in cache and len(caplog.records) == 1


@pytest.mark.parametrize("change", [
    {"native": 5}, {"native": [1.0]}, {"method": 5}, {"target": 3}, {"target": Passes(1, 2)}, {"params": [1]}, {"seed": "x"},
    {"input_size": (32,)}, {"input_size": (32, "x")}, {"signed": "yes"}, {"passes": None}, {"seconds": "x"}, {"flags": "text"},
    {"flags": (1,)}, {"extras": None}, {"target": Target(("x",))}, {"passes": Passes("x", 2)}])
def test_an_entry_with_a_field_of_another_type_is_a_miss(tmp_path, change):
    MapCache(tmp_path).put(key(1), dataclasses.replace(attribution(), **change))
    assert MapCache(tmp_path).get(key(1)) is None
    MapCache(tmp_path).put(key(1), dataclasses.replace(attribution(), seconds=1, passes=Passes(1, 2)))  # whole numbers are floats
    assert MapCache(tmp_path).get(key(1)) is not None


# What is in it, and whose


def test_contents_count_each_entry_once(tmp_path):
    cache = MapCache(tmp_path)
    assert (cache.contents().entries, cache.contents().oldest) == (0, None)
    for number in range(3):
        cache.put(key(number), attribution(number))
    os.utime(entry_of(tmp_path, 1), (1000, 1000))
    contents = cache.contents()
    assert contents.entries == 3 and contents.oldest == 1000
    assert (contents.memory_bytes, contents.disk_bytes) == (cache.sizes()[0], on_disk(tmp_path))
    assert MapCache(tmp_path).contents().entries == 3  # all on disk, none in memory


def test_only_the_given_keys_are_removed(tmp_path):
    cache = MapCache(tmp_path)
    for number in range(3):
        cache.put(key(number), attribution(number))
    cache.remove([key(0), key(2), key(7)])
    assert [key(number) in cache for number in range(3)] == [False, True, False]
    assert cache.sizes()[1] == on_disk(tmp_path) and MapCache(tmp_path).contents().entries == 1


def test_keys_are_recorded_by_each_thread_for_itself_and_not_for_fits():
    cache, keys = MapCache(None), set()
    with cache.recorded(keys):
        cache.put(key(0), 0)
        cache.get(key(1))
        cache.unrecorded.put(key(2), 2)
        assert cache.unrecorded.get(key(2)) == 2
        run_in_threads([lambda: cache.put(key(3), 3)])
    cache.put(key(4), 4)
    assert keys == {key(0), key(1)}


def test_copies_of_what_is_on_disk_do_not_fill_the_memory_and_push_out_nothing_private(tmp_path):
    """What is private lies in memory alone, so losing it costs its computation, while the others are read again."""
    cache, tensor = MapCache(tmp_path, memory_bytes=80_000), torch.zeros(250)
    keys = [f"{number:064x}" for number in range(100)]
    with cache.in_memory():
        for key in keys[:20]:
            cache.put(key, tensor)
    private = cache.sizes()[0]
    for key in keys[20:]:
        cache.put(key, tensor)
        assert cache.sizes()[0] <= private + 10_000
    assert private > 20_000 and all(torch.equal(cache.get(key), tensor) for key in keys)
    assert cache.sizes()[0] <= private + 10_000 and cache.contents().entries == 100


def test_what_a_full_disk_refuses_is_kept_in_memory(tmp_path):
    cache = MapCache(tmp_path, disk_bytes=0)
    cache.put("ab" * 32, torch.ones(10))
    assert on_disk(tmp_path) == 0 and torch.equal(cache.get("ab" * 32), torch.ones(10))
