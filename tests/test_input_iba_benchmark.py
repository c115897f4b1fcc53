"""The benchmark of InputIBA's claims: what is measured in which order, what a second run leaves alone, and its table's numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.benchmarks import input_iba as benchmark
from tests.benchmarks.photographs import Ledger


def test_the_adversarial_game_is_recognised():
    assert benchmark.trains("input_iba") and benchmark.trains("input_iba:beta=60")
    quick = ("iba", "random", "input_iba:epochs=0", "input_iba:prior=iba", "input_iba:prior=none", "input_iba:prior=sharpened,beta=60")
    assert not any(map(benchmark.trains, quick))


def test_the_most_important_parts_come_first_and_nothing_comes_twice():
    methods = ("iba", "input_iba", "input_iba:prior=none", "grad_cam")
    parts = list(benchmark.rounds(methods, [0, 1, 2], subjects=6, game=2, seeded=3))
    maps = [(subject, method, seed) for part in parts for subject in range(part.start, part.stop)
            for seed in part.seeds for method in part.methods]
    assert len(maps) == len(set(maps)) == 2 * 4 + 4 * 3 + 3 * 2 * 2
    assert [subject for subject, method, _ in maps if method == "input_iba"] == [0, 1]
    assert {seed for _, method, seed in maps if method == "grad_cam"} == {0}
    assert {seed for subject, method, seed in maps if method == "iba" and subject < 3} == {0, 1, 2}
    assert [part.stop for part in benchmark.rounds(methods, [0], subjects=1, game=10, seeded=10)] == [1, 1, 1, 1]


def test_differences_are_paired_over_the_means_of_seeds():
    ours, others = {"a": [1.0, 3.0], "b": [5.0], "c": [9.0]}, {"a": [0.5], "b": [1.0, 2.0]}
    assert benchmark.differences(ours, others) == [1.5, 3.5]
    assert benchmark.between_seeds({"a": [1.0, 3.0], "b": [5.0]}) == pytest.approx(math.sqrt(2))
    assert math.isnan(benchmark.between_seeds({"b": [5.0]}))


def test_a_second_run_of_scenes_computes_nothing_and_prints_the_same(tmp_path, capsys, monkeypatch):
    words = ["scenes", "--images", "1", "--seeds", "0", "1", "--game-images", "0", "--seed-images", "2", "--results",
             str(tmp_path / "rows.jsonl"), "--summary", str(tmp_path / "summary.jsonl"), "--methods",
             "input_iba:prior=none,steps=2,copies=1", "grad_cam", "random"]
    benchmark.main(words)
    rows, table = Ledger(tmp_path / "rows.jsonl").rows, capsys.readouterr().out.partition("scenes_vgg, ehr")[2]
    assert len(rows) == 2 * (3 + 2) and all(0 <= row["ehr"] <= 1 and 0 <= row["bounding_box"] <= 1 for row in rows)
    monkeypatch.setattr(benchmark, "localised", None)  # nothing is left to measure
    benchmark.main(words)
    assert Ledger(tmp_path / "rows.jsonl").rows == rows and capsys.readouterr().out.partition("scenes_vgg, ehr")[2] == table
    mean = np.mean([row["ehr"] for row in rows if row["method"] == "grad_cam"])
    assert f"{mean:.3f}" in table and "grad_cam" in (tmp_path / "summary.jsonl").read_text()
