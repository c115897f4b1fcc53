"""The page of the attack: what is attacked, what is said of it, and the maps and curves of both pictures."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from support import page
from support.page import choose, errors, section

import explainers as ex
from components.adversarial_attack import before_after, map_rows
from components.adversarial_attack.attack_choice import TOWARDS, Choice
from components.compute import asked
from components.state.engine import network as shared_network
from explainers.attack import attack
from explainers.metrics import insertion_deletion, map_distances

PAGE = "adversarial_attack"
FIRST = "star-heart"  # the picture that the app shows first for the network of the tests
QUICK = {"methods": ["Gradient"], "attack_steps": "3"}


@pytest.fixture()
def free(monkeypatch) -> None:
    """Everything runs by itself, because the machine that runs the tests may be busy."""
    monkeypatch.setattr(asked, "FREE_SECONDS", float("inf"))


@pytest.fixture()
def scene():
    """What the app shows first: the network, its input and the top-1 class."""
    network = shared_network("scenes_vgg")
    x = network.preprocess(next(sample for sample in ex.samples() if sample.name == FIRST).load())
    return network, x, network.target(x, None).first


def percent(value: float) -> str:
    return f"{100 * value:.1f} %" if value >= 0.0005 else "< 0.1 %"


def test_the_page_shows_what_the_attack_did(open_app, free, scene):
    network, x, target = scene
    app = open_app(PAGE, {**QUICK, "attack_change": "16"})
    attacked = attack(network, x, target, epsilon=16 / 255, steps=3)
    assert not errors(app) and attacked.is_lost
    name, now = network.categories[target], network.categories[attacked.first_after]
    words = section(app, "attack-verdict")
    assert f"{name} goes from {percent(float(attacked.before[target]))} to {percent(float(attacked.after[target]))}" in words
    assert f"now sees {now}" in words
    assert len(page.pictures(app, "attack-pictures")) == 3 and f"{now} {percent(float(attacked.after.max()))}" in section(
        app, "attack-pictures")
    (line,) = page.chart(app, "attack-steps")["data"]
    assert np.allclose(page.numbers(line["y"]), 100 * np.array(attacked.trace), atol=1e-3)


def test_maps_and_curves_are_those_of_both_pictures(open_app, free, scene):
    network, x, target = scene
    app = open_app(PAGE, {**QUICK, "attack_change": "16"})
    attacked = attack(network, x, target, epsilon=16 / 255, steps=3)
    views = [(x, target), (attacked.x, target), (attacked.x, attacked.first_after)]
    maps = [ex.explain(network, picture, "gradient", target=index) for picture, index in views]
    curves = [insertion_deletion.measure(network, picture, map_, target=index, protocol="i_gos", resolution=28, most_steps=32)
              for (picture, index), map_ in zip(views, maps, strict=True)]
    ranks = [map_distances.rank(maps[0].heatmap(), other.heatmap()) for other in maps[1:]]
    head, row = page.table(app, "attack-summary")
    expected = [*ranks, *(result.insertion_auc for result in curves), *(result.deletion_auc for result in curves)]
    assert row[0] == "Gradient" and [float(cell.replace("\u2212", "-")) for cell in row[1:]] == pytest.approx(expected, abs=6e-4)
    assert len(head) == 9 and len(page.pictures(app, "attack-row-gradient")) == 3
    lines = [trace for trace in page.chart(app, "attack-curves-gradient")["data"] if trace.get("name")]
    assert len(lines) == 6 and np.allclose(page.numbers(lines[2]["y"]), curves[2].insertion, atol=1e-5)


def test_an_attack_that_fails_says_so_and_leaves_two_maps(open_app, free):
    """A change of 1 of 255 is too little for a digit, of which the network is certain."""
    app = open_app(PAGE, {**QUICK, "network": "Digits: CNN-M of MIP-IN", "attack_change": "1", "attack_steps": "1"})
    assert "The attack failed" in section(app, "attack-verdict") and "did not change" in section(app, "attack-summary")
    assert len(page.pictures(app, "attack-row-gradient")) == 2


def test_no_change_is_no_attack(open_app, free):
    app = open_app(PAGE, {**QUICK, "attack_change": "0"})
    assert "No pixel may change" in section(app, "attack-verdict") and "Nothing changed." in section(app, "attack-pictures")
    assert page.table(app, "attack-summary")[1][1] == "1.000"


def test_a_class_that_was_not_first_is_named(open_app, free, scene):
    network, x, _ = scene
    last = network.categories[int(network.predict(x)[0].argmin())]
    app = open_app(PAGE, {**QUICK, "class": last})
    assert "It was not the first choice to begin with" in section(app, "attack-verdict") and not errors(app)


def test_towards_a_class(open_app, free, scene):
    network, x, target = scene
    app = open_app(PAGE, {**QUICK, "attack_direction": TOWARDS, "attack_change": "32", "attack_steps": "10"})
    likeliest = int(network.predict(x)[0].argsort(descending=True)[1])
    led = attack(network, x, target, epsilon=32 / 255, towards=likeliest)
    assert led.is_reached and f"now sees {network.categories[likeliest]}" in section(app, "attack-verdict")
    assert len(page.chart(app, "attack-steps")["data"]) == 2
    app = choose(app, "attack_towards", network.categories[target])  # the attacked class itself: the likeliest other one is taken
    assert not errors(app) and f"now sees {network.categories[likeliest]}" in section(app, "attack-verdict")


def test_nothing_costly_runs_unasked(open_app, monkeypatch):
    monkeypatch.setattr(asked, "FREE_SECONDS", 0.0)
    app = open_app(PAGE, {**QUICK, "attack_steps": "7"})
    assert page.has(app, "run-attack") and not page.has(app, "attack-verdict")
    app = page.click(app, "run-attack")
    assert page.has(app, "attack-verdict") and page.has(app, "run-attack-maps")


def test_without_methods_the_attack_is_still_shown(open_app, free):
    app = open_app(PAGE, {"methods": [], "attack_steps": "3", "controls": "false"})
    assert page.has(app, "attack-verdict") and not errors(app)


def test_small_grey_pictures_and_contrasts_are_taken(open_app, free):
    app = open_app(PAGE, {**QUICK, "network": "Digits: CNN-M of MIP-IN", "against": "9"})
    assert not errors(app) and any("first of the contrast" in caption for caption in page.captions(app))
    assert page.has(app, "attack-verdict")


def test_the_attacked_picture_is_in_no_cache(engine, open_app, free, monkeypatch):
    """It holds the picture, and uploaded pictures are never stored; maps are."""
    put, kinds = engine.cache.put, []
    monkeypatch.setattr(engine.cache, "put", lambda key, value: (kinds.append(type(value).__name__), put(key, value)))
    app = open_app(PAGE, {**QUICK, "attack_change": "5"})
    assert page.has(app, "attack-verdict") and "Attribution" in kinds and "Attack" not in kinds


def planted_row(title: str, similarity: float | None, reason: str = "") -> SimpleNamespace:
    """A row with this rank correlation of its last map with its first."""
    return SimpleNamespace(entry=SimpleNamespace(title=title), similarities=(1.0, similarity), reason=reason)


def test_nothing_is_said_of_all_methods_while_a_map_is_missing():
    views = [SimpleNamespace(name=name) for name in ("umbrella", "umbrella", "star")]
    different, alike, missing = planted_row("Different", 0.1), planted_row("Alike", 0.9), planted_row("Missing", None)
    refused = planted_row("Refused", None, "It cannot.")
    assert map_rows.summary([different, refused], views).startswith("No method gives star")
    assert map_rows.summary([different, missing], views) == "" == map_rows.summary([refused], views)
    assert "Alike (0.90)" in map_rows.summary([different, alike, missing], views)


def test_the_step_from_which_on_the_class_has_lost_half_is_not_one_after_which_it_recovers(scene):
    network, x, target = scene
    attacked = replace(attack(network, x, target, epsilon=16 / 255, steps=4), trace=(0.9, 0.3, 0.8, 0.4, 0.1))
    workspace, choice = SimpleNamespace(network=network), Choice(target, None, 16, 4)
    assert attacked.is_lost and "from step 3 of 4 on" in before_after.verdict(workspace, choice, attacked)[0]
    assert "half" not in before_after.verdict(workspace, choice, replace(attacked, trace=(0.9, 0.3, 0.8, 0.4, 0.5)))[0]
