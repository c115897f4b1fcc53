"""Memory that has run out, and memory that is given back to the system.

Where memory runs out, every layer below says so in its own way: torch's allocators, the libraries of its convolutions and of its
linear algebra, numpy, Python and the operating system. ``ran_out`` knows them all; ``in_one_sentence`` makes one sentence of them.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from explainers.errors import ExplainerError

_MESSAGES = (  # in lower case
    "allocate memory",  # torch on the CPU and the operating system: "DefaultCPUAllocator: can't allocate memory"
    "not enough memory",  # torch on Windows
    "insufficient memory",
    "out of memory",  # CUDA and Apple's MPS, also where they raise no torch.OutOfMemoryError
    "alloc_failed",  # cuBLAS, cuDNN and cuSOLVER: "CUBLAS_STATUS_ALLOC_FAILED"
    "bad_alloc",  # C++
    "failed to map segment",  # the loader of libraries: an ImportError
    "could not create a ", "could not execute a ",  # oneDNN, which names what it could not make: a primitive, a memory object
)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_NEVER, _TRIMMING = (1 << 31) - 1, 1 << 17  # bytes that an arena's free end may have: any, and those that glibc leaves by default
_THREADS = 32  # several times the arenas that a server has when it calls ``keep_large_blocks``, so that each gets a thread
_kept = threading.Event()  # set once glibc keeps what is freed; never with another C library


class OutOfMemory(ExplainerError):
    """A computation needed more memory than there was."""


def ran_out(error: BaseException) -> bool:
    """Whether this exception says that there was too little memory."""
    if isinstance(error, ExplainerError):
        return isinstance(error, OutOfMemory)
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    message = str(error).lower()
    return any(words in message for words in _MESSAGES)


@contextmanager
def in_one_sentence(what: str = "this computation") -> Iterator[None]:
    """Raises OutOfMemory, which says what to do, where memory runs out. what: what needs it, such as a network's title."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ExplainerError) or not ran_out(error):
            raise
        raise OutOfMemory(f"There is too little free memory for {what}: close other programs, or choose cheaper settings, a smaller "
                          "network or another device.") from error


def free_bytes() -> int | None:
    """The memory that this process can still take without pushing out others (Linux): of the machine, or of its container or under its
    own limit (``ulimit -v``) where these have less. None where the system does not say."""
    with suppress(OSError, StopIteration):
        available = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable:"))
        machine = int(available.split()[1]) * 1024
        return min(machine, _free_in_container(Path("/sys/fs/cgroup"), machine), _free_under_the_limit(machine))
    return None


def _free_under_the_limit(otherwise: int) -> int:
    """The same of the limit on this process's addresses: what it may still add to them, and what it has freed but kept."""
    import resource  # there is none on Windows

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return otherwise
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    return max(0, limit - taken) + _kept_bytes()


def _kept_bytes() -> int:
    """The bytes that glibc has kept of what was freed, for the next to ask; 0 with another C library."""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return 0
    mallinfo.restype = _MallInfo
    return int(mallinfo().fordblks)


class _MallInfo(ctypes.Structure):
    """What glibc's mallinfo2 tells, in its order; fordblks is the number of free bytes in all arenas."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks",
                                                         "uordblks", "fordblks", "keepcost"))


def _free_in_container(group: Path, otherwise: int) -> int:
    """The same of a control group (version 2): its bound less what is used, without files that are kept to be read again."""
    try:
        bound, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except OSError:  # no such group
        return otherwise
    return otherwise if bound == "max" else max(0, int(bound) - used + int(statistics.get("inactive_file", 0)))


def keep_large_blocks() -> None:
    """Make glibc keep freed memory for the next pass, in one place for all threads.

    By default it returns every block above 32 MiB to the kernel, which must clear the same memory again for each layer of each
    pass. With batches of images that took longer than the convolutions. And it gives each thread an arena of its own, made of
    pieces of 64 MiB into which the tensors of the next pass may not fit: what many threads free is then held several times over.
    """
    _glibc("mallopt", _M_MMAP_THRESHOLD, 1 << 30)
    _glibc("mallopt", _M_TRIM_THRESHOLD, _NEVER)
    if _glibc("mallopt", _M_ARENA_MAX, 1):
        _kept.set()


def give_back(ends: bool = True) -> None:
    """Return the memory that is kept for the next pass to the system, and to the device's other programs.

    ends: also what is free at the ends of other threads' arenas, for which threads are started: not where memory has just run out.

    Objects that refer to each other in a circle, such as a network and its graph, are removed first: they hold weights and maps, and
    Python alone looks for them so seldom that it took hundreds of megabytes more.
    """
    gc.collect()
    _glibc("malloc_trim", 0)
    if ends and _kept.is_set():
        _trim_ends()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _trim_ends() -> None:
    """Return the free ends of the arenas, too.

    Threads that were there before ``keep_large_blocks`` have arenas of their own, which later threads take over. ``malloc_trim``
    returns what is free in the middle of an arena, but its end only for the first one: up to 64 MB of each other arena would stay.
    glibc returns such an end when a thread of that arena frees a block and the end is above the threshold. Which thread has which
    arena nobody can choose, but threads that live at the same time take one arena after another.
    """
    all_have_freed = threading.Event()

    def free_a_block() -> None:
        _free_block(_TRIMMING)
        all_have_freed.wait()

    threads: list[threading.Thread] = []
    _glibc("mallopt", _M_TRIM_THRESHOLD, _TRIMMING)
    try:
        with suppress(RuntimeError):  # the system allows no more threads, and fewer ends are returned
            for _ in range(_THREADS):
                thread = threading.Thread(target=free_a_block)
                thread.start()
                threads.append(thread)
    finally:
        all_have_freed.set()
        for thread in threads:
            thread.join()
        _glibc("mallopt", _M_TRIM_THRESHOLD, _NEVER)


def _free_block(size: int) -> None:
    """Take so many bytes from this thread's arena, and free them."""
    library = ctypes.CDLL(None)
    library.malloc.restype, library.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
    library.free(library.malloc(size))


def _glibc(function: str, *arguments: int) -> bool:
    """Call a function of glibc, and say whether there is one; nothing happens with another C library."""
    call = getattr(ctypes.CDLL(None), function, None) if sys.platform == "linux" else None
    if call is not None:
        call(*arguments)
    return call is not None
