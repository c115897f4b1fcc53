"""The folder of the cache: who can read it, what is planted in it, and what happens where it fails."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
from support.cached import attribution, entry_of, key, on_disk
from support.equality import same

from explainers.cache import MapCache

# A folder that fails


def goes_on_in_memory(cache: MapCache, caplog) -> bool:
    for number in range(3):
        cache.put(key(number), attribution(number))
    found = [cache.get(key(number)) for number in range(3)]
    return all(same(found[n], attribution(n)) for n in range(3)) and len(caplog.records) == 1


def test_a_folder_that_cannot_be_made(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    cache = MapCache(tmp_path / "file" / "cache")
    assert goes_on_in_memory(cache, caplog) and cache.sizes()[1] == 0
    cache.clear()
    assert key(0) not in cache


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path, caplog):
    tmp_path.chmod(0o500)
    try:
        assert goes_on_in_memory(MapCache(tmp_path), caplog)
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("reason", [errno.EROFS, errno.ENOSPC])
def test_a_read_only_or_full_disk(tmp_path, caplog, monkeypatch, reason):
    cache = MapCache(tmp_path)

    def refuse(*_):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "replace", refuse)
    assert goes_on_in_memory(cache, caplog) and os.strerror(reason) in caplog.text
    monkeypatch.undo()
    assert on_disk(tmp_path) == 0  # no temporary file stays behind
    cache.put(key(9), attribution(9))  # the disk has room again
    assert entry_of(tmp_path, 9).exists()


def test_an_entry_that_cannot_be_read_is_a_miss(tmp_path, caplog):
    entry_of(tmp_path, 1).mkdir(parents=True)
    assert MapCache(tmp_path).get(key(1)) is None and len(caplog.records) == 1


# Who can read it, and what is planted in it


def modes(*paths: Path) -> list[str]:
    return [f"{path.stat().st_mode & 0o7777:04o}" for path in paths]


@pytest.fixture()
def open_umask():
    """As where every new file and folder may be read by everybody."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_folders_and_their_new_parents_are_closed_and_entries_too(tmp_path, open_umask):
    folder = tmp_path / "new" / "parent" / "maps"
    MapCache(folder).put(key(1), 1)
    assert modes(tmp_path / "new", folder.parent, folder, entry_of(folder, 1).parent) == ["0700"] * 4
    assert modes(entry_of(folder, 1)) == ["0600"]


def test_folders_that_are_there_already_are_closed_but_not_what_else_is_in_them(tmp_path, open_umask):
    folder, mixed = tmp_path / "maps", tmp_path / "mixed"
    for each in (folder, mixed):
        (each / "ab").mkdir(parents=True)
    (mixed / "photographs").mkdir()
    for each in (folder, mixed):
        MapCache(each)
    assert modes(folder, folder / "ab", mixed / "ab") == ["0700"] * 3
    assert modes(mixed, mixed / "photographs") == ["0777"] * 2  # not the cache's alone, so perhaps for others too


def test_a_folder_that_cannot_be_closed_is_not_used(tmp_path, caplog, monkeypatch, open_umask):
    folder = tmp_path / "maps"
    folder.mkdir()

    def refuse(*_):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "chmod", refuse)
    assert goes_on_in_memory(MapCache(folder), caplog) and "cannot be used" in caplog.text and not list(folder.iterdir())


def test_a_cache_folder_that_is_a_link_is_refused(tmp_path, caplog):
    target, link = tmp_path / "target", tmp_path / "link"
    MapCache(target).put(key(1), 1)
    link.symlink_to(target)
    cache = MapCache(link)
    assert key(1) not in cache and cache.get(key(1)) is None and cache.contents().entries == 0
    assert goes_on_in_memory(cache, caplog) and "link" in caplog.text
    cache.clear()
    cache.remove([key(1)])
    assert MapCache(target).get(key(1)) == 1 and on_disk(target) == entry_of(target, 1).stat().st_size


def test_a_subfolder_that_is_a_link_is_not_followed(tmp_path):
    foreign, folder = tmp_path / "foreign", tmp_path / "maps"
    MapCache(folder).put(key(1), 1)
    entry_of(folder, 1).parent.rename(foreign)
    before = (foreign / entry_of(folder, 1).name).stat()
    entry_of(folder, 1).parent.symlink_to(foreign)
    cache = MapCache(folder)
    assert key(1) not in cache and cache.get(key(1)) is None and cache.contents().entries == 0
    cache.put(key(1), 2)
    assert cache.get(key(1)) == 2  # from memory
    cache.remove([key(1)])
    cache.clear()
    assert [path.stat() for path in foreign.iterdir()] == [before]


def test_an_entry_that_is_a_link_is_not_followed_and_makes_room(tmp_path):
    foreign = tmp_path / "foreign"
    folder = tmp_path / "maps"
    MapCache(folder).put(key(1), 1)
    entry_of(folder, 1).rename(foreign)
    before = foreign.stat()
    entry_of(folder, 1).symlink_to(foreign)
    cache = MapCache(folder)
    assert key(1) not in cache and cache.get(key(1)) is None and cache.contents().entries == 0
    cache.remove([key(1)])
    assert foreign.stat() == before
    cache.put(key(1), 2)  # replaces the link, not what it points to
    assert not entry_of(folder, 1).is_symlink() and MapCache(folder).get(key(1)) == 2 and foreign.stat() == before


def test_a_pipe_in_an_entrys_place_is_a_miss_and_nobody_waits_for_it(tmp_path, caplog):
    entry_of(tmp_path, 1).parent.mkdir()
    os.mkfifo(entry_of(tmp_path, 1))
    assert MapCache(tmp_path).get(key(1)) is None and key(1) not in MapCache(tmp_path)


def test_entries_from_the_future_go_first(tmp_path):
    cache = MapCache(tmp_path)
    for number in range(20):
        cache.put(key(number), attribution(number))
        os.utime(entry_of(tmp_path, number), (1000 + number,) * 2)
    for number in (3, 12):
        os.utime(entry_of(tmp_path, number), (time.time() + 10 * 365 * 86400,) * 2)
    full = on_disk(tmp_path)
    MapCache(tmp_path, disk_bytes=full - 1)
    assert [number for number in range(20) if not entry_of(tmp_path, number).exists()] == [0, 3, 12]  # and the oldest


def test_entries_of_former_versions_are_removed(tmp_path):
    """They may be results of uploaded pictures, which former versions wrote to disk."""
    former = entry_of(tmp_path, 1).with_suffix(".map")
    former.parent.mkdir()
    former.write_bytes(b"x")
    (tmp_path / "notes.map").write_bytes(b"x")
    MapCache(tmp_path)
    assert not former.exists() and (tmp_path / "notes.map").exists()
