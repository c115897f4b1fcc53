"""The picker of methods in the sidebar: presets with undo, families, times, and what the network cannot run."""

from __future__ import annotations

import dataclasses
import functools

import pytest
from support import page
from support.networks import APP_NETWORK
from support.page import choose, click, has, maps, value, widget

import explainers as ex
from components.sidebar import method_picker
from components.sidebar.method_picker import PRESETS, grouped, roughly
from explainers.methods import FAMILIES
from explainers.requirements import Requirement

OFFERED = {key: method for key, method in ex.methods().items() if not method.is_control}
GRADIENT = {"methods": ["Gradient"]}
NEVER = Requirement("never", "feathers", lambda network: "feathers, and this network has none")
ADDED = 24


@functools.cache
def running() -> list[str]:
    """The methods that the tests' network can run."""
    network = ex.load_model(APP_NETWORK)
    return [key for key, method in OFFERED.items() if not method.lacks(network)]


def in_link(app, key: str = "methods") -> list[str]:
    values = app.query_params.get(key, [])
    return [values] if isinstance(values, str) else list(values)


def pressed(app) -> set[str]:
    """The methods whose buttons in the families are pressed."""
    return {key for each in page.keys(app) if each.startswith("family-") for key in value(app, each)}


@pytest.fixture()
def many(monkeypatch) -> dict[str, ex.Method]:
    """A longer list: more methods beside the present ones, of which every third cannot run."""
    declared, real = ex.methods(), list(OFFERED.items())
    for number in range(ADDED):
        key, method = real[number % len(real)]
        needs = (NEVER,) if number % 3 == 0 else method.needs
        declared[f"{key}_{number}"] = dataclasses.replace(method, key=f"{key}_{number}", title=f"{method.title} {number}", needs=needs)
    ordered = dict(sorted(declared.items(), key=lambda item: (FAMILIES.index(item[1].family), item[1].title)))
    monkeypatch.setattr(ex, "methods", lambda: ordered)
    return ordered


def test_every_family_lists_its_methods_and_presses_the_chosen_ones(open_app):
    app = open_app(query={"methods": ["Gradient", "Occlusion"]})
    listed = [option for each in sorted(page.keys(app)) if each.startswith("family-") for option in widget(app, each).options]
    assert len(listed) == len(running())
    assert pressed(app) == {"gradient", "occlusion"}


def test_a_button_of_a_family_adds_its_method_last_and_takes_it_away(open_app):
    app = open_app(query={"methods": ["Occlusion", "Gradient"]})
    app = choose(app, "family-gradient", ["gradient", "gradient_x_input"])
    assert value(app, "methods") == ["occlusion", "gradient", "gradient_x_input"] and len(maps(app)) == 3
    app = choose(app, "family-gradient", ["gradient_x_input"])
    assert value(app, "methods") == ["occlusion", "gradient_x_input"] and pressed(app) == {"occlusion", "gradient_x_input"}


def test_a_family_follows_the_field_above(open_app):
    app = choose(open_app(query=GRADIENT), "methods", ["guided_backprop", "rise"])
    assert pressed(app) == {"guided_backprop", "rise"}


def test_what_is_chosen_and_cannot_run_stays_chosen_when_its_family_changes(open_app, monkeypatch):
    real = ex.Method.lacks
    monkeypatch.setattr(ex.Method, "lacks", lambda self, net: "It needs feathers." if self.key == "deconvnet" else real(self, net))
    app = open_app(query={"methods": ["Deconvnet", "Gradient"]})
    app = choose(app, "family-gradient", ["gradient_x_input"])
    assert value(app, "methods") == ["deconvnet", "gradient_x_input"]


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.key)
def test_a_preset_chooses_its_methods_and_undo_brings_the_former_ones_back(open_app, preset):
    app = open_app(query=GRADIENT)
    assert widget(app, "undo_preset").disabled
    app = click(app, f"preset-{preset.key}")
    assert value(app, "methods") == preset.running(running()) and len(value(app, "methods")) >= 3
    assert in_link(app) == [OFFERED[key].title for key in value(app, "methods")]
    app = click(app, "undo_preset")
    assert value(app, "methods") == ["gradient"] and in_link(app) == ["Gradient"] and len(maps(app)) == 1
    assert widget(app, "undo_preset").disabled


def test_several_presets_are_undone_one_after_another(open_app):
    app = open_app(query=GRADIENT)
    quick, own = (value(click(app, f"preset-{key}"), "methods") for key in ("quick", "own"))
    assert quick != own
    app = click(app, "preset-own")  # again: nothing changes, and there is nothing more to undo
    assert value(click(app, "undo_preset"), "methods") == quick
    assert value(click(app, "undo_preset"), "methods") == ["gradient"] and widget(app, "undo_preset").disabled


def test_undo_brings_back_copies_and_settings(open_app):
    link = {"methods": ["SmoothGrad"], "smoothgrad.samples": "2", "copies": "smoothgrad~2", "smoothgrad~2.samples": "3", "seed": "7"}
    app = open_app(query=link)
    before = maps(app)
    app = click(app, "preset-quick")
    assert not has(app, "smoothgrad~2.samples") and not in_link(app, "copies")
    app = click(app, "undo_preset")
    assert (value(app, "smoothgrad.samples"), value(app, "smoothgrad~2.samples")) == (2, 3)
    assert in_link(app, "copies") == ["smoothgrad~2"] and in_link(app, "smoothgrad~2.samples") == ["3"]
    assert maps(app) == before


def test_a_preset_says_what_it_holds(open_app):
    text = page.section(open_app(query=GRADIENT), "method_list")
    for preset in PRESETS:
        assert preset.title in text and preset.about in text


def test_presets_name_methods_that_exist():
    assert {key for preset in PRESETS for key in preset.methods} <= set(OFFERED)


def test_what_a_network_cannot_run_comes_last_and_is_explained_by_reason(open_app, many):
    app = open_app(query=GRADIENT)
    network = ex.load_model(APP_NETWORK)
    off = {key for key, method in many.items() if method.lacks(network)}
    options, offered = widget(app, "methods").options, len(OFFERED) + ADDED
    assert len(off) > 5 and len(options) == offered and set(options[-len(off):]) == {many[key].title for key in off}
    assert page.section(app, "methods_off").count("feathers") == 1, "the reason stands once, not once for each method"
    assert f"Off for this network: {len(off)} of {offered} methods. Presets and families says why." in page.captions(app)
    assert all(many[key].title in page.section(app, "methods_off") for key in off)
    assert not any(many[key].title in option for each in page.keys(app) if each.startswith("family-")
                   for option in widget(app, each).options for key in off)


def test_an_old_link_to_a_method_that_is_off_still_chooses_it(open_app, many):
    title = next(method.title for method in many.values() if NEVER in method.needs)
    assert in_link(open_app(query={"methods": ["Gradient", title]})) == ["Gradient", title]


def test_a_network_that_runs_everything_has_no_line_about_it(open_app, monkeypatch):
    monkeypatch.setattr(ex.Method, "lacks", lambda self, network: None)
    assert not has(open_app(query=GRADIENT), "methods_off")


def test_methods_of_one_reason_share_a_line():
    assert grouped({"A": "A needs wings, and it has none.", "B": "B needs wings, and it has none.", "C": "It needs feathers."}) == [
        "**A, B**: needs wings, and it has none.", "**C**: It needs feathers."]
    assert grouped({"A": "A needs ReLU activations."}) == ["**A**: needs ReLU activations."], "also before a capital"


def test_the_times_are_those_of_the_declared_passes(monkeypatch):
    network = ex.load_model(APP_NETWORK)
    monkeypatch.setattr(type(network), "pass_seconds", lambda self: ex.Passes(forward=1.0, backward=10.0))
    times = method_picker.seconds(network, ["gradient", "rise", "integrated_gradients"])
    assert times == {"gradient": 11.0, "rise": 4000.0, "integrated_gradients": 550.0}


def test_a_network_that_cannot_be_timed_has_a_list_without_times(open_app, monkeypatch):
    def refused(self):
        raise ex.ExplainerError("It cannot be run.")

    network = ex.load_model(APP_NETWORK)
    monkeypatch.setattr(type(network), "pass_seconds", refused)
    assert method_picker.seconds(network, ["gradient"]) == {}


@pytest.mark.parametrize(("seconds", "words"), [
    (0.0, "< 0.1 s"), (0.094, "< 0.1 s"), (0.115, "0.1 s"), (0.96, "1 s"), (5.75, "6 s"), (16.9, "20 s"), (57.0, "60 s"),
    (61.0, "1 min"), (455.0, "8 min"), (1234.0, "20 min")])
def test_times_have_one_digit(seconds, words):
    assert roughly(seconds) == words


def test_the_list_runs_no_pass(open_app, engine, many):
    app = open_app(query=GRADIENT)
    network = ex.load_model(APP_NETWORK)
    before, forwards = engine.runs, []
    real = type(network).logits
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(network), "logits", lambda self, *args, **rest: forwards.append(1) or real(self, *args, **rest))
        app.run()
    assert engine.runs == before and not forwards


@pytest.mark.parametrize("key", OFFERED)
def test_typing_a_word_of_the_short_name_finds_the_method(key):
    """The field shows the titles that have the typed letters in their order."""
    for word in OFFERED[key].short_title.lower().split():
        letters = iter(OFFERED[key].title.lower())
        assert all(letter in letters for letter in word)
