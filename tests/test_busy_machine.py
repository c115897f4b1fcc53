"""What keeps the app quick beside other programs: how torch's threads wait, and when memory is given back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
from support.paths import ROOT

from components.shell import idle_memory
from explainers import context, memory


def policy(first: str, **environment: str) -> str:
    """OMP_WAIT_POLICY in a fresh process when torch is asked for, after an import of ``first``; torch is not really loaded."""
    looked = f"""
import os, sys
class Look:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT"))
            os._exit(0)
sys.meta_path.insert(0, Look())
import {first}
"""
    kept = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    return subprocess.run([sys.executable, "-c", looked], cwd=ROOT, env={**kept, **environment}, capture_output=True, text=True,
                          check=True).stdout.strip()


@pytest.mark.parametrize("first", ["explainers", "explainers.networks.device", "explainers.data.statistics", "components.state.engine",
                                   "tests.benchmarks.time_over_floor"])
def test_torchs_threads_sleep_while_they_wait_whatever_is_imported_first(first):
    assert policy(first) == "PASSIVE None"


def test_what_a_person_has_set_stays():
    assert policy("explainers", OMP_WAIT_POLICY="ACTIVE") == "ACTIVE None"
    assert policy("explainers", GOMP_SPINCOUNT="5000") == "PASSIVE 5000"  # OpenMP takes the count before the policy


def rests(*spent: float) -> int:
    """How often memory is given back in a server that spends so many seconds on the processor in each period of rest."""
    stop, given = threading.Event(), []
    readings = iter([sum(spent[:count]) for count in range(len(spent) + 1)])

    def clock() -> float:
        reading = next(readings)
        if reading == sum(spent):
            stop.set()
        return reading

    idle_memory.return_when_idle(stop, lambda: given.append(1), clock, rest_seconds=0.001)
    return len(given)


def test_memory_is_given_back_once_after_each_time_of_work():
    busy, some = 0.001, 1e-6
    assert rests(busy, busy, some, some, some, busy, some, busy, some) == 3
    assert rests(some, some, some) == 0
    assert rests(busy, busy, busy) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_freed_memory_is_kept_for_the_next_pass_and_then_given_back():
    """256 blocks of 1 MB that a thread frees, with one that stays above them: glibc alone returns nothing of it."""
    script = """
import threading, torch
from pathlib import Path
from explainers.memory import give_back, keep_large_blocks
def rss(): return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
keep_large_blocks()
held = []
def work():
    blocks = [torch.ones(2**18) for _ in range(256)]
    held.append(torch.ones(2**18))
work()
kept = rss()
give_back()
print(kept - rss())
"""
    returned = float(subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert 240 <= returned <= 300


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_free_ends_of_other_threads_heaps_are_given_back():
    """Six threads that were there before free 40 MB each, with nothing above them: malloc_trim alone returns nothing of it."""
    script = """
import ctypes, threading, torch
from pathlib import Path
from explainers.memory import give_back, keep_large_blocks
def rss(): return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
before, after, end = threading.Barrier(7), threading.Barrier(7), threading.Event()
def work():
    library.free(library.malloc(2**17))
    before.wait()
    before.wait()
    blocks = [library.malloc(2**20) for _ in range(40)]
    for block in blocks: ctypes.memset(ctypes.c_void_p(block), 1, 2**20)
    for block in reversed(blocks): library.free(block)
    after.wait()
    end.wait()
for _ in range(6): threading.Thread(target=work).start()
before.wait()
keep_large_blocks()
before.wait()
after.wait()
kept = rss()
give_back()
print(kept - rss())
end.set()
"""
    returned = float(subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert 200 <= returned <= 300


@pytest.mark.skipif(sys.platform != "linux", reason="glibc keeps memory on Linux alone")
@pytest.mark.parametrize("allowed", [0, 3])
def test_where_threads_cannot_be_started_memory_is_given_back_without_them(monkeypatch, allowed):
    started, start = [], threading.Thread.start

    def limited(thread):
        if len(started) == allowed:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    memory.keep_large_blocks()
    monkeypatch.setattr(threading.Thread, "start", limited)
    memory.give_back()
    assert len(started) == allowed and not any(thread.is_alive() for thread in started)


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", "win32")
    monkeypatch.setattr(memory, "_kept", threading.Event())
    monkeypatch.setattr(memory.ctypes, "CDLL", None)  # which raises TypeError when it is called
    memory.keep_large_blocks()
    memory.give_back()


def test_little_free_memory_makes_smaller_batches_and_none_a_sentence(toy, monkeypatch):
    usual = context.fitting_batch(toy)
    image = toy.activation_bytes
    monkeypatch.setattr(context, "free_bytes", lambda: 3 * image * 5)
    assert context.fitting_batch(toy) == 5 < usual
    monkeypatch.setattr(context, "free_bytes", lambda: image - 1)
    with pytest.raises(memory.OutOfMemory, match="GB of memory are free: close other programs"):
        context.fitting_batch(toy)
    monkeypatch.setattr(context, "free_bytes", lambda: None)  # a system that does not say
    assert context.fitting_batch(toy) == usual


@pytest.mark.parametrize(("bound", "free"), [("max", 2000), ("1000", 1000 - 600 + 100), ("500", 0)])
def test_a_containers_bound_counts(bound, free, tmp_path):
    (tmp_path / "memory.max").write_text(f"{bound}\n")
    (tmp_path / "memory.current").write_text("600\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 100\n")
    assert memory._free_in_container(tmp_path, 2000) == free
    assert memory._free_in_container(tmp_path / "none", 2000) == 2000


@pytest.mark.skipif(sys.platform != "linux", reason="sets a limit of Linux")
def test_a_limit_on_the_process_counts_with_what_it_has_kept():
    """Without it, a batch near the limit (ulimit -v) ended the process inside a library instead of raising an error."""
    script = """
import resource, torch
from explainers.memory import free_bytes, keep_large_blocks
torch.set_num_threads(1)  # another thread would take addresses for its stack
keep_large_blocks()
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 2**29, taken + 2**29))
before = free_bytes()
block = torch.zeros(2**26)
during = free_bytes()
del block
print(before / 2**20, during / 2**20, free_bytes() / 2**20)
"""
    before, during, after = map(float, subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True,
                                                      check=True).stdout.split())
    assert 500 <= before <= 700 and 250 <= before - during <= 260 and abs(after - before) <= 2
