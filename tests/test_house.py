"""Which file may import which, how long files and functions may be, and that the checks see what they forbid."""

from __future__ import annotations

import pytest
from support.house import (
    FLOORS,
    arrows,
    circles,
    faults_of_app,
    faults_of_explainers,
    faults_of_libraries,
    floor_of,
    imported_names,
    libraries,
    long_parts,
    project_sources,
)

SOURCES = project_sources()


@pytest.mark.parametrize("room", ["explainers", "components"])
def test_no_files_import_each_other_in_a_circle(room):
    assert circles(arrows({place: text for place, text in SOURCES.items() if place.startswith(f"{room}/")})) == []


def test_no_file_of_explainers_imports_upward():
    assert list(faults_of_explainers(SOURCES)) == []


def test_pages_import_their_own_room_and_rooms_import_shared_ones():
    assert list(faults_of_app(SOURCES)) == []


def test_the_library_draws_nothing_and_the_app_computes_nothing():
    assert list(faults_of_libraries(SOURCES)) == []


def test_torchvision_has_one_door():
    doors = [place for place, text in SOURCES.items() if "torchvision" in libraries(place, text)]
    assert doors == ["explainers/networks/torchvision_guard.py"]


def test_files_and_functions_stay_short():
    assert list(long_parts(SOURCES)) == []


# Whether the checks see what they forbid


def planted(place: str, line: str) -> dict[str, str]:
    """The project's sources with one more line in one of the files, or with one more file."""
    return {**SOURCES, place: f"{SOURCES.get(place, '')}\n{line}\n"}


UNDER_TYPE_CHECKING = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from {} import {}"
IN_A_FUNCTION = "def late():\n    from {} import {}"
PLAIN = "from {} import {}"


@pytest.mark.parametrize("form", [PLAIN, UNDER_TYPE_CHECKING, IN_A_FUNCTION], ids=["plain", "type checking", "in a function"])
class TestPlantedArrows:
    @pytest.mark.parametrize(("place", "module", "name"), [
        ("explainers/passes.py", "explainers.context", "Context"),
        ("explainers/errors.py", "explainers", "networks"),
        ("explainers/methods/rise.py", "explainers.metrics.maps", "Map"),
        ("explainers/methods/rise.py", "explainers", "engine"),
        ("explainers/networks/classifier.py", "explainers.data.reference", "ReferenceSet"),
        ("explainers/metrics/maps.py", "explainers.engine", "Engine"),
        ("explainers/question.py", "components.state", "session"),
        ("explainers/engine.py", "explainers", "explain"),
    ])
    def test_an_upward_arrow(self, form, place, module, name):
        new = set(faults_of_explainers(planted(place, form.format(module, name)))) - set(faults_of_explainers(SOURCES))
        assert any(fault.startswith(f"{place} imports ") for fault in new)

    @pytest.mark.parametrize(("place", "module", "name"), [
        ("components/faithfulness/extra.py", "components.compare", "comparison"),
        ("components/state/extra.py", "components.compare.comparison", "anything"),
        ("components/drawing/extra.py", "components.methods", "cards"),
        ("components/drawing/extra.py", "pages", "compare"),
        ("pages/compare.py", "components.faithfulness", "rankings"),
        ("pages/compare.py", "explainers", "Engine"),
        ("app.py", "components.compare", "comparison"),
    ])
    def test_an_arrow_into_another_pages_room(self, form, place, module, name):
        new = set(faults_of_app(planted(place, form.format(module, name)))) - set(faults_of_app(SOURCES))
        assert any(fault.startswith(f"{place} imports ") for fault in new)

    @pytest.mark.parametrize(("place", "module", "name"), [
        ("components/drawing/extra.py", "torch.nn", "functional"), ("pages/compare.py", "torch", "Tensor"),
        ("app.py", "torchvision.models", "resnet18"), ("explainers/passes.py", "streamlit", "cache_data"),
        ("explainers/methods/rise.py", "plotly.graph_objects", "Figure"),
    ])
    def test_a_forbidden_library(self, form, place, module, name):
        fault = f"{place} imports {module.split('.')[0]}"
        assert fault in set(faults_of_libraries(planted(place, form.format(module, name)))) - set(faults_of_libraries(SOURCES))

    @pytest.mark.parametrize("first", [PLAIN, UNDER_TYPE_CHECKING, IN_A_FUNCTION])
    def test_a_circle_of_two_and_of_three(self, form, first):
        two = {"explainers/a.py": first.format("explainers.b", "B"), "explainers/b.py": form.format("explainers", "a")}
        assert circles(arrows(two)) == [["explainers/a.py", "explainers/b.py"]]
        three = {"components/x/a.py": first.format("components.x", "b"), "components/x/b.py": form.format("components.x.c", "C"),
                 "components/x/c.py": "import components.x.a as start", "components/x/d.py": "import components.x.a"}
        assert circles(arrows(three)) == [["components/x/a.py", "components/x/b.py", "components/x/c.py"]]


def test_relative_imports_and_packages_are_resolved():
    sources = {"explainers/m/__init__.py": "from .one import F", "explainers/m/one.py": "from . import two\nfrom .. import errors",
               "explainers/m/two.py": "from explainers.m import F", "explainers/errors.py": ""}
    assert arrows(sources) == {"explainers/m/__init__.py": {"explainers/m/one.py"},
                               "explainers/m/one.py": {"explainers/m/two.py", "explainers/errors.py"},
                               "explainers/m/two.py": {"explainers/m/__init__.py"}, "explainers/errors.py": set()}
    assert circles(arrows(sources)) == [["explainers/m/__init__.py", "explainers/m/one.py", "explainers/m/two.py"]]


def test_a_chain_is_no_circle():
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert circles({"a": {"a"}}) == [["a"]]


def test_names_are_read_from_every_form_of_import():
    text = "import a.b as c, d\nfrom e.f import g, h as i\ndef f():\n    import j\n"
    assert imported_names("explainers/x.py", text) == {"a.b", "d", "e.f.g", "e.f.h", "j"}


def test_a_file_without_a_place_is_a_fault():
    assert "explainers/new.py has no floor" in list(faults_of_explainers(planted("explainers/new.py", "")))
    for place in ("components/new.py", "components/new/file.py", "pages/new.py"):
        assert f"{place} is in no known room" in list(faults_of_app(planted(place, "")))


def test_every_floor_is_used_and_each_file_has_one():
    used = {floor_of(place) for place in SOURCES if place.startswith("explainers/")}
    assert used == set(range(len(FLOORS)))


def test_a_long_file_and_a_long_function_are_faults():
    body = "def long():\n" + "    pass\n" * 60
    assert list(long_parts({"pages/x.py": body})) == ["pages/x.py: long has 61 lines"]
    assert list(long_parts({"pages/x.py": "def short():\n" + "    pass\n" * 59})) == []
    assert list(long_parts({"pages/x.py": "\n" * 401})) == ["pages/x.py has 401 lines"]
