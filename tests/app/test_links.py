"""A link brings a colleague to the same view. These links are old promises: a change that breaks one breaks theirs."""

from __future__ import annotations

import explainers as ex
from app.reading import chosen_picture, maps, page_html, words

PROMISED = {
    "network": "Scenes: VGG with biases", "class": "umbrella", "against": "heart", "seed": "7", "controls": "true",
    "methods": ["Gradient", "SmoothGrad"], "smoothgrad.samples": "3", "gradient.times_input": "true",
    "values": "Positive", "scale": "Shared", "backdrop": "Colour", "hide": "20",
}


def test_an_old_link_restores_the_view(open_app):
    app = open_app(query=PROMISED)
    state = app.session_state
    assert (state["network"], state["class"], state["against"], state["seed"]) == ("scenes_vgg", "umbrella", "heart", 7)
    assert state["methods"] == ["gradient", "smoothgrad"] and state["controls"] is True
    assert state["smoothgrad.samples"] == 3 and state["gradient.times_input"] is True
    assert (state["values"], state["scale"], state["backdrop"], state["hide"]) == ("Positive", "Shared", "Colour", 20)
    assert "umbrella rather than heart" in page_html(app) and "3 F + 3 B" in words(app)


def test_every_default_method_and_control_has_a_map(open_app):
    app = open_app(query={"controls": "true", "methods": ["Gradient"]})
    assert len(maps(app)) == 1 + sum(method.family == "control" for method in ex.methods().values())


def test_a_picture_is_chosen_by_a_link_and_kept_in_it(open_app):
    scenes = [sample for sample in ex.samples() if sample.kind == "scenes"]
    first = maps(open_app(query={"methods": ["Gradient"], "picture": scenes[0].name}))
    app = open_app(query={"methods": ["Gradient"], "picture": scenes[1].name})
    assert maps(app) != first
    button = next(b for b in app.button if b.label == scenes[0].title)
    app = button.click().run()
    assert maps(app) == first and chosen_picture(app) == scenes[0].name


def test_nonsense_in_a_link_falls_back_to_the_defaults(open_app):
    app = open_app(query={"network": "no such network", "class": "unicorn", "against": "x", "seed": "-5", "clip": "purple",
                          "methods": ["Astrology"], "smoothgrad.samples": "100000", "picture": "../../etc/passwd"})
    assert not app.exception and app.session_state["network"] == "scenes_vgg" and app.session_state["seed"] == 0


def test_every_page_opens_by_its_own_link(open_app):
    assert "What is each method?" in page_html(open_app("methods"))
    assert "Where did it look?" in page_html(open_app("compare"))
