"""README and RESULTS: what they show runs, what they name exists, and what they state was measured."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import explainers as ex
from tests.benchmarks import results, summaries

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
RESULTS = ROOT / "tests" / "benchmarks" / "RESULTS.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"^    (pip install .*)$", README, re.MULTILINE)
MODULES = sorted(module.name for module in pkgutil.walk_packages(ex.__path__, "explainers."))


def anchor(heading: str) -> str:
    """The address that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_snippets_run_one_after_the_other(tmp_path, monkeypatch):
    scene = next(sample for sample in ex.samples() if sample.kind == "scenes")
    scene.load().convert("RGB").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    assert '"efficientnet_lite0"' in SNIPPETS[0]
    for snippet in SNIPPETS:  # on a small network, because the default one takes a minute for them
        exec(compile(snippet.replace('"efficientnet_lite0"', '"scenes_vgg"'), "README.md", "exec"), names)
    assert names["a"].heatmap().shape == names["net"].input_size
    assert 0 <= names["r"].deletion_auc <= 1
    assert names["other"].target.plain == 7 and names["question"].target.plain == 3
    assert list((tmp_path / "maps").iterdir()), "the engine's cache lies in the folder that the README names"


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_ci_runs_the_commands_that_the_readme_names():
    parts = [part.strip() for command in COMMANDS for part in command.split("&&")]
    assert len(parts) == 4
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    for part in parts:
        words = r"\b.*\s".join(map(re.escape, part.split()))  # CI may add options and settings of the environment
        assert any(re.search(rf"^\s*(\w+=\S+ )*{words}\b", line) for line in lines), part


def test_every_method_and_metric_stands_in_its_table():
    tables = {title: text for title, text in re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE)}
    named = {title: re.findall(r"`([a-z_]+)`", "\n".join(re.findall(r"^\|.*$", tables[title], re.MULTILINE)))
             for title in ("Methods", "Metrics")}
    assert sorted(named["Methods"]) == sorted(ex.methods())
    assert set(named["Metrics"]) >= set(ex.metrics())


def test_every_network_that_is_named_is_there():
    embedded = {entry.name for entry in ex.models() if entry.name.startswith(("scenes_", "digits_"))}
    assert set(re.findall(r"`((?:scenes|digits)_\w+)`", README)) == embedded


def test_files_and_anchors_that_the_readme_names_exist():
    paths = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README) + re.findall(r"`((?:explainers|tests|pages|components)/[\w./]+)`", README)
    assert len(paths) > 10
    for path in paths:
        assert (ROOT / path).exists(), path
    headings = {anchor(line[3:]) for line in RESULTS.read_text().splitlines() if line.startswith("## ")}
    assert set(re.findall(r"RESULTS\.md#([^)]+)", README)) <= headings


def test_errors_that_the_readme_states_stand_in_results():
    stated = re.findall(r"\d\.\d+ ± \d\.\d+", README)
    assert len(stated) >= 6
    text = RESULTS.read_text()
    assert not [number for number in stated if number not in text]


def test_results_are_what_the_command_writes():
    assert RESULTS.read_text() == results.document()


def test_every_kept_result_is_shown():
    tables = results.tables()
    for path in summaries.FOLDER.glob("*.jsonl"):
        shown = [row["of"] for table in tables for column in table["columns"] if column["from"] == path.stem
                 for row in results.matching(column, table["rows"]).values()]
        assert all(row["of"] in shown for row in summaries.read(path)), path.name


def test_a_benchmark_replaces_its_own_rows(tmp_path):
    file = tmp_path / "kept.jsonl"
    summaries.keep(file, {"method": "iba"}, auc=summaries.cell([0.5, 0.7]))
    summaries.keep(file, {"method": "iba", "minus": "random"}, auc=summaries.cell([0.1]))
    summaries.keep(file, {"method": "iba"}, auc=summaries.cell([0.6, None]))
    first, second = summaries.read(file)
    assert first == {"of": {"method": "iba"}, "auc": {"mean": 0.6, "error": None, "n": 1}, "source": "measured"}
    assert second["of"] == {"method": "iba", "minus": "random"}


def test_the_doctests_pass():
    outcomes = {name: doctest.testmod(importlib.import_module(name)) for name in MODULES}
    assert not [name for name, outcome in outcomes.items() if outcome.failed]
    assert sum(outcome.attempted for outcome in outcomes.values()) > 0
