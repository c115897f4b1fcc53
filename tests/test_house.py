"""The house itself: which room may import which, how long a room and a function may be."""

from __future__ import annotations

import ast
import re

import pytest
from conftest import ROOT

SOURCES = sorted(p for folder in ("explainers", "components", "pages") for p in (ROOT / folder).rglob("*.py")) + [ROOT / "app.py"]
FORBIDDEN = {  # what a room must not import
    "explainers": r"(streamlit|plotly|components|pages|app)\b",
    "components": r"(torch|torchvision|pages|app)\b",
    "pages": r"(torch|torchvision|app)\b",
    "explainers/methods": r"explainers\.(running|caching|metrics)\b",
    "explainers/metrics": r"explainers\.(running|caching)\b",
    "explainers/networks": r"explainers\.(running|caching|methods|metrics|context)\b",
    "explainers/data": r"explainers\.(running|caching|methods|metrics|context)\b",
}


def imports(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_run_one_way(path):
    place = str(path.relative_to(ROOT))
    for room, forbidden in FORBIDDEN.items():
        if place.startswith(room + "/"):
            wrong = [name for name in imports(path.read_text()) if re.match(forbidden, name)]
            assert not wrong, f"{place} imports {wrong}"


def test_the_reader_of_imports_sees_them():
    assert imports("import streamlit as st\nfrom a.b import c") == {"streamlit", "a.b", "a.b.c"}


def test_torchvision_has_one_door():
    doors = [p for p in SOURCES if any(re.match(r"torchvision\b", name) for name in imports(p.read_text()))]
    assert [p.name for p in doors] == ["torchvision_guard.py"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_short(path):
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < 60, f"{node.name} has {node.end_lineno - node.lineno + 1} lines"
