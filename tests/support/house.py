"""Who imports whom in this project, read from the sources, and which of these arrows are forbidden.

All functions take the sources as a dict from a file's place (``explainers/passes.py``) to its text, so that a test can plant a
fault without writing a file. Every import counts: those inside functions and under ``TYPE_CHECKING`` too.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch

from support.paths import ROOT

Sources = Mapping[str, str]
Arrows = dict[str, set[str]]

PROJECT = ("explainers", "components", "pages", "app")

FLOORS = (  # of explainers, from the ground up: a file may import what is below it or on its own floor
    ("cache_folder.py", "encoding.py", "errors.py", "idle_threads.py", "keys.py", "line.py",
     "memory.py", "parameters.py", "passes.py", "progress.py", "resampling.py",
     "segments.py", "target.py", "turns.py"),
    ("cache.py", "decoding.py", "decoding_worker.py", "dicom.py", "picture_limits.py", "pictures.py", "windowing.py",
     "data/__init__.py", "data/backgrounds.py",
     "data/cifar10.py", "data/digits.py", "data/gallery.py", "data/glyphs.py", "data/outlines.py", "data/palettes.py", "data/pen.py",
     "data/photographs.py", "data/sample.py", "data/samples.py", "data/scenes.py"),
    ("networks/*.py",),
    ("baselines.py", "data/class_pairs.py", "data/labelled.py", "data/pools.py", "data/reference.py", "data/shipped_statistics.py",
     "data/train.py"),
    ("attribution.py",),
    ("context.py",),
    ("requirements.py",),
    ("contract.py",),
    ("methods/*.py",),
    ("ensembles.py", "question.py", "attack.py", "data/statistics.py"),
    ("metrics/*.py",),
    ("measurement.py",),
    ("engine.py", "memos.py"),
    ("__init__.py",),
)
SHARED_ROOMS = ("state", "shell", "sidebar", "compute", "drawing")
PAGE_ROOMS = ("compare", "be_the_mask", "faithfulness", "class_sensitivity", "sanity_checks", "attribution_mask", "adversarial_attack",
              "methods")
LIBRARIES = {  # which libraries the files of a room must not import
    "explainers": {"streamlit", "plotly", "pandas"},
    "components": {"torch", "torchvision"},
    "pages": {"torch", "torchvision"},
    "app.py": {"torch", "torchvision"},
}


def project_sources() -> dict[str, str]:
    """All files of the app and the library."""
    paths = [path for room in ("explainers", "components", "pages") for path in sorted((ROOT / room).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in [*paths, ROOT / "app.py"]}


@functools.cache  # planted sources differ from the project's in one file
def _tree(text: str) -> ast.Module:
    return ast.parse(text)


@functools.cache
def imported_names(place: str, text: str) -> frozenset[str]:
    """The dotted names that a file imports: of ``from a.b import c`` it is ``a.b.c``."""
    names: set[str] = set()
    for node in ast.walk(_tree(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = place.split("/")[: -node.level] if node.level else []
            start = ".".join([*package, *([node.module] if node.module else [])])
            names |= {f"{start}.{alias.name}" for alias in node.names}
    return frozenset(names)


def libraries(place: str, text: str) -> frozenset[str]:
    """The top-level packages from outside that a file imports."""
    return frozenset(name.split(".")[0] for name in imported_names(place, text)) - set(PROJECT)


def arrows(sources: Sources) -> Arrows:
    """For each file the files of the project that it imports. A name that is no module of its own is in the module, or package,
    before it; what is in neither stands as a place without ``.py``, and has no floor and no room."""
    modules = {place.removesuffix(".py").removesuffix("/__init__"): place for place in sources}

    def file_of(name: str) -> str:
        path = name.replace(".", "/")
        return modules.get(path) or modules.get(path.rpartition("/")[0]) or path

    return {place: {file_of(name) for name in imported_names(place, text) if name.split(".")[0] in PROJECT}
            for place, text in sources.items()}


def circles(graph: Arrows) -> list[list[str]]:
    """The groups of files that import each other, directly or over others; also a file that imports itself."""
    reach = {place: _reachable(graph, place) for place in graph}
    groups = {tuple(sorted(other for other in reach[place] if place in reach[other])) for place in graph if place in reach[place]}
    return [list(group) for group in sorted(groups)]


def _reachable(graph: Arrows, place: str) -> set[str]:
    seen: set[str] = set()
    waiting = list(graph[place])
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting += graph.get(current, ())
    return seen


def floor_of(place: str) -> int | None:
    """The floor of a file of explainers, 0 for the ground; None for a file that no floor names."""
    own = place.removeprefix("explainers/")
    return next((level for level, names in enumerate(FLOORS) if any(fnmatch(own, name) for name in names)), None)


def faults_of_explainers(sources: Sources) -> Iterator[str]:
    """Files without a floor, arrows to a higher floor, and arrows out of explainers."""
    for place, targets in arrows(sources).items():
        if not place.startswith("explainers/"):
            continue
        floor = floor_of(place)
        if floor is None:
            yield f"{place} has no floor"
            continue
        for target in sorted(targets):
            above = floor_of(target) if target.startswith("explainers/") else None
            if above is None or above > floor:
                yield f"{place} imports {target}"


def rooms_of(place: str) -> set[str] | None:
    """The rooms, as beginnings of places, that a file of the app may import from; None for a file in no known room."""
    shared = {f"components/{room}/" for room in SHARED_ROOMS}
    parts = place.removesuffix(".py").split("/")
    if place == "app.py":
        return shared
    if parts[0] == "pages" and parts[1] in PAGE_ROOMS:
        return shared | {f"components/{parts[1]}/"}
    if parts[0] == "components" and len(parts) == 3 and parts[1] in SHARED_ROOMS:
        return shared | {"explainers/"}
    if parts[0] == "components" and len(parts) == 3 and parts[1] in PAGE_ROOMS:
        return shared | {"explainers/", f"components/{parts[1]}/"}
    return None


def faults_of_app(sources: Sources) -> Iterator[str]:
    """Files of the app in no known room, and arrows into a room that is not theirs to import."""
    for place, targets in arrows(sources).items():
        if place.startswith("explainers/"):
            continue
        rooms = rooms_of(place)
        if rooms is None:
            yield f"{place} is in no known room"
            continue
        yield from (f"{place} imports {target}" for target in sorted(targets) if not target.startswith(tuple(rooms)))


def faults_of_libraries(sources: Sources) -> Iterator[str]:
    """Files that import a library which their room must not know."""
    for place, text in sources.items():
        for library in sorted(libraries(place, text) & LIBRARIES[place.split("/")[0]]):
            yield f"{place} imports {library}"


def long_parts(sources: Sources, most_lines: int = 400, most_in_function: int = 60) -> Iterator[str]:
    """Files of more than ``most_lines`` lines, and functions of more than ``most_in_function``."""
    for place, text in sources.items():
        if (lines := text.count("\n")) > most_lines:
            yield f"{place} has {lines} lines"
        for node in ast.walk(_tree(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = node.end_lineno - node.lineno + 1
                if length > most_in_function:
                    yield f"{place}: {node.name} has {length} lines"
