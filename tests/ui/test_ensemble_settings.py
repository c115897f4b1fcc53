"""Ensembles on the pages: their settings, their name, and how much the members differ."""

from __future__ import annotations

import pytest
from support.page import charts, choose, has, run_all, section, unfold, words

from components.compute import naming

GRADIENT = {"methods": ["Gradient"]}
NOISY = {**GRADIENT, "gradient.ensemble": "vargrad", "gradient.ensemble_samples": "3"}


def test_members_and_noise_are_asked_for_where_they_have_an_effect(open_app):
    app = open_app(query=GRADIENT)
    members, noise = "gradient.ensemble_samples", "gradient.ensemble_noise"
    assert has(app, "gradient.ensemble") and not has(app, members) and not has(app, noise)
    shown = {kind: tuple(has(choose(app, "gradient.ensemble", kind), name) for name in (members, noise))
             for kind in ("smoothgrad", "seeds", "flips", "none")}
    assert shown == {"smoothgrad": (True, True), "seeds": (True, False), "flips": (False, False), "none": (False, False)}


def test_a_link_opens_an_ensemble_which_is_named_and_says_how_its_members_differ(open_app):
    app = run_all(open_app(query=NOISY))
    assert "Gradient \u00b7 VarGrad of 3" in words(app) and "3 F + 3 B" in words(app)
    app = unfold(app, "extras.gradient")
    text = section(app, "extras.gradient")
    assert "Spread of the members" in text and "Agreement of two members" in text and "Least agreement" in text
    assert [line["name"] for line in charts(app, "extras.gradient")[0]["data"]] == [
        "Mean + spread", "Mean of the members", "Mean \u2212 spread"]


def test_a_kind_that_does_not_exist_is_ignored(open_app):
    app = open_app(query={**GRADIENT, "gradient.ensemble": "bagging"})
    assert not app.exception and "Gradient" in words(app) and not has(app, "gradient.ensemble_samples")


def test_a_control_has_no_ensemble(open_app):
    app = open_app(query={**GRADIENT, "controls": "true"})
    assert not has(app, "random.ensemble") and has(app, "gradient.ensemble")


@pytest.mark.parametrize(("settings", "title"), [({"ensemble": "none", "ensemble_samples": 3}, "Gradient"),
                                                 ({"ensemble": "flips"}, "Gradient \u00b7 flips"),
                                                 ({"ensemble": "seeds", "ensemble_samples": 3}, "Gradient \u00b7 seeds of 3")])
def test_the_only_entry_of_a_method_is_named_by_its_ensemble(settings, title):
    assert naming.names({"gradient": settings})["gradient"].title == title


def test_two_entries_are_told_apart_by_their_ensembles():
    names = naming.names({"gradient": {"ensemble": "none"}, "gradient~2": {"ensemble": "vargrad"}})
    assert [name.title for name in names.values()] == ["Gradient \u00b7 ensemble none", "Gradient \u00b7 ensemble vargrad"]
