"""The part of the cache that is on disk: a bounded folder of entries that only its owner can read.

Every folder that is made here has the mode 0700 and every entry 0600. Links are never followed: a cache folder, a subfolder or an
entry that is a link counts as not being there, so that whoever can make a link cannot have another file read, changed or removed.
A sha256 precedes the bytes of an entry, and a damaged one counts as missing. Several processes may share a folder: an entry is
written to a temporary file and renamed, and one that was deleted meanwhile counts as missing.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TypeGuard

DIGEST_BYTES = 32
SUFFIX = ".result"
FORMER = ".map"  # entries of former versions, which also held results of uploaded pictures; they are removed
STALE_SECONDS = 600  # a temporary file this old was left behind by a process that died
ROOM = 0.9  # an eviction goes down to this fraction of the bound, so that the next write does not evict again
SCANS_PER_FILL = 20  # the folder is scanned for other processes' entries whenever 1/20 of the bound has been written
OF_OTHERS = 0o077  # the mode bits that let anybody but the owner in

_NO_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # a pipe in an entry's place must not make the reader wait

log = logging.getLogger(__name__)


class CacheFolder:
    """One file for each entry, ``folder/ab/abcdef....result``; its modification time is the time of last use.

    limit: the bound in bytes; the least recently used entries are removed first, and before them those whose time lies in the
    future. A folder that cannot be used is logged once; then nothing is read from it or written to it.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self.total = 0
        self._unscanned = 0  # bytes written since the last scan
        self._lock = Lock()
        self._sweeping = Lock()
        self._warned = False
        self._refused = False
        try:
            self._close_to_others()
        except OSError as error:
            self._refused = True
            self._warn(error)
        self.sweep()

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}{SUFFIX}"

    def __contains__(self, key: str) -> bool:
        path = self.path(key)
        with suppress(OSError):
            return self._is_usable(path.parent) and stat.S_ISREG(os.lstat(path).st_mode)
        return False

    def read(self, key: str) -> bytes | None:
        """The payload if its sha256 is right, else None; a damaged entry is removed."""
        try:
            content = self._content(key)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(error)
            return None
        if content is None:
            return None
        payload = content[DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != content[:DIGEST_BYTES]:
            self.discard(key, "damaged")
            return None
        self.touch(key)
        return payload

    def _content(self, key: str) -> bytes | None:
        """The bytes of an entry's file; None for what is no plain file in a folder of ours. Raises OSError where it cannot be read."""
        path = self.path(key)
        if not self._is_usable(path.parent) or path.is_symlink():
            return None
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _NO_LINKS)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "an entry is no file")
            if status.st_size > self.limit:
                self.discard(key, "larger than the whole cache may be")
                return None
            return file.read()

    def write(self, key: str, payload: bytes) -> None:
        """Write an entry atomically. A disk that is full or read-only is logged once and otherwise ignored."""
        size = DIGEST_BYTES + len(payload)
        if size > self.limit:
            return
        path = self.path(key)
        try:
            if self._is_refused():
                return
            _make(path.parent)
            if not self._is_usable(path.parent):
                return
            replaced = _size(path)
            _write_atomically(path, hashlib.sha256(payload).digest() + payload)
        except OSError as error:
            self._warn(error)
            return
        with self._lock:
            self.total += size - replaced
            self._unscanned += size
            due = self.total > self.limit or self._unscanned > self.limit / SCANS_PER_FILL
        if due:
            self.sweep()

    def touch(self, key: str) -> None:
        now = time.time_ns()  # set explicitly, because a file system's own clock may advance only every few milliseconds
        if key in self:
            with suppress(OSError):
                os.utime(self.path(key), ns=(now, now), follow_symlinks=False)

    def discard(self, key: str, fault: str) -> None:
        log.warning("The cached result %s is %s; it is removed and will be computed again.", key[:12], fault)
        self.remove(key)

    def remove(self, key: str) -> None:
        if key not in self:
            return
        with suppress(OSError):  # another process may have removed it
            size = os.lstat(self.path(key)).st_size
            self.path(key).unlink()
            with self._lock:
                self.total -= size

    def sweep(self) -> None:
        """Count the entries, remove old temporary files and entries of former versions, and evict entries down to the bound."""
        with self._sweeping:  # a writer that waited here sweeps again, because the sweep before may have missed its entry
            with self._lock:
                self._unscanned = 0
            now = time.time_ns()
            entries = sorted(self.entries(), key=lambda entry: (entry[0] <= now, entry))  # from the future, then the oldest first
            total = sum(size for _, size, _ in entries)
            goal = self.limit * ROOM if total > self.limit else total
            for _, size, path in entries:
                if total <= goal:
                    break
                with suppress(OSError):  # another process may have removed it
                    os.unlink(path)
                total -= size
            with self._lock:
                self.total = total

    def clear(self) -> None:
        """Remove all entries. Temporary files stay, unless they are old: another process may be about to rename its own."""
        with self._sweeping:
            for _, _, path in self.entries():
                with suppress(OSError):
                    os.unlink(path)
        self.sweep()

    def entries(self) -> Iterator[tuple[int, int, str]]:
        """(last use in ns, bytes, path) of each entry. Temporary files that a dead process left behind are removed, and so are
        entries of former versions."""
        for subfolder in self._subfolders():
            for file in self._list(subfolder):
                kind = _kind(file.name)
                with suppress(OSError):
                    status = file.stat(follow_symlinks=False)
                    if kind == "entry" and stat.S_ISREG(status.st_mode):
                        yield status.st_mtime_ns, status.st_size, file.path
                    elif kind == "former" or kind == "temporary" and time.time() - status.st_mtime >= STALE_SECONDS:
                        os.unlink(file.path)

    def _subfolders(self) -> list[str]:
        """The subfolders of entries. Links are none."""
        if self._is_refused():
            return []
        named = [each for each in self._list(self.folder) if re.fullmatch("[0-9a-f]{2}", each.name)]
        return [each.path for each in named if each.is_dir(follow_symlinks=False)]

    def _is_usable(self, subfolder: Path) -> bool:
        """Whether a subfolder may be used: neither it nor the cache folder is a link. Raises OSError where there is none."""
        return not self._is_refused() and stat.S_ISDIR(os.lstat(subfolder).st_mode)

    def _is_refused(self) -> bool:
        return self._refused or self.folder.is_symlink()

    def _close_to_others(self) -> None:
        """Take everybody else's rights to what is there already: the subfolders of entries, and the folder itself if there is
        nothing else in it. Raises OSError for a folder that is a link, or whose rights only another user may change."""
        if self.folder.is_symlink():
            raise OSError(errno.ELOOP, "it is a link: name the folder itself")
        if not self.folder.is_dir():
            return
        folders = self._subfolders()
        if len(folders) == len(self._list(self.folder)) and not os.lstat(self.folder).st_mode & stat.S_ISVTX:
            folders.append(str(self.folder))
        for each in folders:
            mode = stat.S_IMODE(os.lstat(each).st_mode)
            if mode & OF_OTHERS:
                os.chmod(each, mode & ~OF_OTHERS)

    def _list(self, folder: str | Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                return list(entries)
        except FileNotFoundError:
            return []
        except OSError as error:
            self._warn(error)
            return []

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            log.warning("The folder of cached results cannot be used (%s); results are kept in memory.", error.strerror)


def is_key(key: object) -> TypeGuard[str]:
    """Whether this can be the key of an entry: 4 to 128 lower-case hexadecimal digits."""
    return isinstance(key, str) and re.fullmatch("[0-9a-f]{4,128}", key) is not None


def _make(folder: Path) -> None:
    """Make a folder and the parents that are missing, all of them for the owner alone (``Path.mkdir`` gives parents other modes)."""
    for each in reversed([folder, *folder.parents]):
        if not each.is_dir():
            each.mkdir(mode=0o700, exist_ok=True)  # another process may make it at the same time


def _size(path: Path) -> int:
    """The bytes of an entry; 0 where there is none, also if another process has just removed it."""
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0


def _write_atomically(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)  # with the mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        now = time.time_ns()
        os.utime(temporary, ns=(now, now))
        os.replace(temporary, path)
    except BaseException:  # also KeyboardInterrupt and the like
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _kind(name: str) -> str:
    """The kind of a file: "entry", "former", "temporary" or "foreign". Foreign files are never touched."""
    for kind, suffix in (("entry", SUFFIX), ("former", FORMER)):
        if name.endswith(suffix) and is_key(name.removesuffix(suffix)):
            return kind
    return "temporary" if re.fullmatch(r"\.\w+\.tmp", name) else "foreign"
