"""An uploaded picture, and all that shows it, is gone from memory soon after its tab was closed; it never is on the disk.

A process of its own serves the sessions (see ``support.one_session``), with a short ``disconnectedSessionTTL``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.paths import ROOT

SECONDS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("maps")


@pytest.fixture(scope="module")
def moments(folder) -> dict[str, Any]:
    """What ``one_session`` counts at each moment."""
    command = [sys.executable, "-m", "support.one_session", str(SECONDS), str(folder), "--come-back"]
    process = subprocess.run(command, cwd=ROOT / "tests", capture_output=True, text=True, timeout=150)
    assert process.returncode == 0, process.stderr[-3000:]
    return {line["moment"]: line for line in map(json.loads, process.stdout.splitlines())}


def test_while_the_tab_is_open_the_picture_is_held_so_the_search_can_find_it(moments):
    assert moments["before"]["holders"] == {}
    kinds = {name.split(" ")[0] for name in moments["open"]["holders"]}
    assert {"bytes", "Tensor", "Image"} <= kinds and "bytes in Upload" in moments["open"]["holders"]
    assert moments["open"]["entries"] > moments["before"]["entries"]


def test_a_tab_that_came_back_in_time_keeps_its_picture(moments):
    assert moments["reconnected"]["holders"]
    assert moments["reconnected"]["entries"] >= moments["open"]["entries"]  # busy machines compute a map in the second run


def test_when_the_tab_has_been_closed_nothing_of_the_picture_is_left(moments):
    assert moments["closed"]["holders"] == {}
    assert moments["closed"]["entries"] == moments["before"]["entries"]


def test_nothing_computed_from_the_picture_was_written_to_disk(moments, folder):
    assert {line["disk"] for line in moments.values()} == {moments["before"]["disk"]}
    assert moments["before"]["disk"] == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
