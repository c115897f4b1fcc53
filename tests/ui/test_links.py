"""A link brings a colleague to the same view. These links are old promises: a change that breaks one breaks theirs."""

from __future__ import annotations

import pytest
from support.page import choose, chosen_picture, click, errors, has, heading, maps, value, words
from support.paths import ROOT

import explainers as ex
from components.drawing import display_controls

PROMISED = {
    "network": "Scenes: VGG with biases", "class": "umbrella", "against": "heart", "seed": "7", "controls": "true",
    "methods": ["Gradient", "SmoothGrad"], "smoothgrad.samples": "3", "gradient.times_input": "true",
    "values": "Positive", "scale": "Shared", "backdrop": "Colour", "hide": "20",
}


def test_an_old_link_restores_the_view(open_app):
    app = open_app(query=PROMISED)
    expected = {"network": "scenes_vgg", "class": "umbrella", "against": "heart", "seed": 7, "methods": ["gradient", "smoothgrad"],
                "controls": True, "smoothgrad.samples": 3, "gradient.times_input": True, "values": "Positive", "scale": "Shared",
                "backdrop": "Colour", "hide": 20}
    assert {key: value(app, key) for key in expected} == expected
    assert "umbrella rather than heart" in heading(app) and "3 F + 3 B" in words(app)


def test_every_default_method_and_control_has_a_map(open_app):
    app = open_app(query={"controls": "true", "methods": ["Gradient"]})
    assert len(maps(app)) == 1 + sum(method.is_control for method in ex.methods().values())


def test_a_picture_is_chosen_by_a_link_and_kept_in_it(open_app):
    scenes = [sample for sample in ex.samples() if sample.kind == "scenes"]
    first = maps(open_app(query={"methods": ["Gradient"], "picture": scenes[0].name}))
    app = open_app(query={"methods": ["Gradient"], "picture": scenes[1].name})
    assert maps(app) != first
    app = click(app, f"picture-{scenes[0].name}")
    assert maps(app) == first and chosen_picture(app) == scenes[0].name


def test_a_network_of_another_kind_brings_its_own_picture_and_the_former_one_comes_back(open_app):
    app = open_app(query={"methods": ["Gradient"], "picture": "star-heart"})
    app = click(app, "picture-cat-crown")
    kinds = {sample.name: sample.kind for sample in ex.samples()}
    app = choose(app, "network", "digits_mlp")
    assert kinds[chosen_picture(app)] == "digits" and maps(app)
    assert chosen_picture(choose(app, "network", "scenes_vgg")) == "cat-crown"


def test_nonsense_in_a_link_falls_back_to_the_defaults(open_app):
    app = open_app(query={"class": "unicorn", "against": "x", "seed": "-5", "clip": "purple", "methods": ["Astrology"],
                          "smoothgrad.samples": "100000"})
    assert not app.exception and value(app, "network") == "scenes_vgg" and value(app, "seed") == 0


def test_the_link_always_names_picture_and_network(open_app):
    app = open_app(query={"methods": ["Gradient"]})
    names = {name: value if isinstance(value, str) else value[-1] for name, value in app.query_params.items()}
    assert names["picture"] == "star-heart" and names["network"] == "scenes_vgg"
    assert ex.load_model("scenes_vgg").fingerprint.startswith(names["network_id"]) and len(names["network_id"]) == 12


PAGES = {  # each page's own settings as they stand in a link, and as the page reads them; nothing here takes long
    "compare": ({"scale": "Shared"}, {"scale": "Shared"}),
    "methods": ({}, {}),
    "be_the_mask": (
        {"mask_start": "Everything visible", "mask_baseline": "Blurred", "boxes": "hide 10,20,50,60"},
        {"mask_start": "Everything visible", "mask_baseline": "Blurred", "mask_left": 10, "mask_bottom": 60}),
    "faithfulness": (
        {"measurement": "Insertion and deletion", "protocol": "I-GOS", "cells": "7 \u00d7 7", "step": "12", "deletion": "black",
         "output": "Sigmoid", "order": "Magnitudes", "share": "30"},
        {"protocol": "I-GOS", "cells": "7 \u00d7 7", "step": 12, "deletion": "black", "order": "Magnitudes", "share": 30}),
    "class_sensitivity": (
        {"held_against": ["star", "heart", "cat"], "compared_by": "SSIM"},
        {"held_against": ["star", "heart", "cat"], "compared_by": "ssim"}),
    "sanity_checks": (
        {"randomise": "Last layer only", "drawn": "Permuted", "draw_seed": "3", "likeness": "HOG"},
        {"randomise": "Last layer only", "drawn": "Permuted", "draw_seed": 3, "likeness": "HOG"}),
    "attribution_mask": (
        {"bases": ["Guided Backpropagation"], "mask_iterations": "4", "mask_step": "2", "mask_line": "Logit", "mask_stretch": "false",
         "mask_reader": "Scenes: residual network"},
        {"bases": ["guided_backprop"], "mask_iterations": 4, "mask_step": 2, "mask_line": "Logit", "mask_stretch": False,
         "mask_reader": "Scenes: residual network"}),
    "adversarial_attack": (
        {"attack_direction": "Towards another class", "attack_change": "4", "attack_steps": "5", "attack_towards": "star"},
        {"attack_direction": "Towards another class", "attack_change": 4, "attack_steps": 5, "attack_towards": "star"}),
}
QUESTIONS = {
    "compare": "Where did it look?", "methods": "What is each method?", "faithfulness": "Does the network agree?",
    "class_sensitivity": "Does the map follow the class?", "sanity_checks": "Does the map follow the weights?",
    "attribution_mask": "What does a map leave of it?", "be_the_mask": "What if it saw only that?",
    "adversarial_attack": "Does the map follow an attack?"}


@pytest.mark.parametrize("name", PAGES)
def test_a_link_to_each_page_restores_its_settings(open_app, name):
    link, state = PAGES[name]
    app = open_app(name, {"methods": ["Gradient"], "seed": "7", **link})
    assert QUESTIONS[name] in heading(app) and value(app, "seed") == 7
    assert {key: value(app, key) for key in state} == state
    assert not errors(app)


def test_every_page_has_a_promised_link():
    assert set(PAGES) == {path.stem for path in (ROOT / "pages").glob("*.py")}


DRAWN = {"values": "Positive", "scale": "Shared", "backdrop": "Colour", "clip": 95.0, "hide": 20, "smoothing": 1.5}


@pytest.mark.parametrize(("name", "controls"), [("class_sensitivity", 5), ("sanity_checks", 6), ("adversarial_attack", 5)])
def test_maps_are_drawn_alike_on_every_page(open_app, name, controls):
    """From page to page and back. That the address keeps the values, too, only a browser shows (tests/browser)."""
    assert set(DRAWN) == set(display_controls.KEYS)
    app = open_app(query={"methods": ["Gradient"], "attack_steps": "1"})
    for key, chosen in DRAWN.items():
        app = choose(app, key, chosen)
    app.switch_page(f"pages/{name}.py").run()
    app.run()  # what was carried to a page stays there when that runs again
    shown = {key: value(app, key) for key in DRAWN if has(app, key)}
    assert shown == {key: DRAWN[key] for key in shown} and len(shown) == controls
    app = choose(app, "values", "Magnitude")
    assert value(app.switch_page("pages/compare.py").run(), "values") == "Magnitude"
